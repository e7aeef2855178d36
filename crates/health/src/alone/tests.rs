//! One endpoint, with and without a monitor.

use std::time::Duration;

use model::{BackendId, Digest, EndpointKey, HealthPolicy, Time, VariantId, Verdict};

use super::{Alone, Changed, Event};
use crate::Outcome;

fn key() -> EndpointKey {
    EndpointKey { backend: BackendId::new("a").unwrap(), variant: VariantId::only(), digest: Digest::of_bytes(b"a") }
}

struct Router {
    now: Time,
    core: Alone,
}

impl Router {
    fn new() -> Self {
        let mut router = Self { now: Time::ZERO, core: Alone::new(Time::ZERO) };
        router.change(&[key()], &[]);
        router
    }

    fn say(&mut self, event: Event) -> Vec<Verdict> {
        self.core.handle(self.now, event);
        let changes = std::iter::from_fn(|| self.core.poll_effect());
        let changes: Vec<_> = changes.map(|Changed { verdict, .. }| verdict).collect();
        assert!(changes.last().is_none_or(|last| *last == self.core.verdict(&key())));
        changes
    }

    fn change(&mut self, come: &[EndpointKey], gone: &[EndpointKey]) {
        let (come, gone) = (come.to_vec(), gone.to_vec());
        self.say(Event::Change { come, gone, policy: HealthPolicy::default() });
    }

    fn seen(&mut self, outcome: Outcome) -> Vec<Verdict> {
        self.say(Event::Seen { endpoint: key(), outcome })
    }

    fn told(&mut self, verdict: Verdict) -> Vec<Verdict> {
        self.say(Event::Told { endpoint: key(), verdict })
    }

    fn deadline(&mut self) -> Vec<Verdict> {
        self.now = self.core.next_deadline().expect("something ages");
        self.say(Event::Tick)
    }
}

fn ok() -> Outcome {
    Outcome::Ok { latency: Duration::ZERO }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "reset".into() }
}

fn starting() -> Outcome {
    Outcome::Starting { reason: "exit 1".into(), failing: false }
}

#[test]
fn alone_it_judges_by_what_it_sees_and_tries_again_in_time() {
    let mut router = Router::new();
    assert_eq!(router.seen(ok()), [Verdict::Healthy]);
    assert_eq!([router.seen(failed()), router.seen(failed())].concat(), []);
    router.core.handle(router.now, Event::Seen { endpoint: key(), outcome: failed() });
    let changed = router.core.poll_effect().map(|changed| (changed.verdict, changed.reason));
    assert_eq!(changed, Some((Verdict::Unhealthy, Some("reset".to_owned()))));
    assert_eq!(router.core.reason(&key()), Some("reset"));
    assert_eq!(router.deadline(), [Verdict::Unknown], "routable: somebody has to be the first to find out");
    assert_eq!(router.core.next_deadline(), None);
}

#[test]
fn the_reason_of_a_bad_verdict_is_the_present_one() {
    let mut router = Router::new();
    router.say(Event::Attached);
    router.told(Verdict::Degraded);
    let mut said = |count: u32| {
        let outcome = Outcome::Failed { reason: format!("{count} calls without an answer") };
        router.core.handle(router.now, Event::Seen { endpoint: key(), outcome });
        let changes = std::iter::from_fn(|| router.core.poll_effect());
        changes.map(|changed| (changed.verdict, changed.reason.unwrap_or_default())).collect::<Vec<_>>()
    };
    let degraded = |reason: &str| vec![(Verdict::Degraded, reason.to_owned())];
    assert_eq!(said(2), degraded("2 calls without an answer"));
    assert_eq!(said(2), [], "it says the same");
    assert_eq!(said(7), degraded("7 calls without an answer"));
}

#[test]
fn the_monitor_decides_while_it_is_there_and_its_last_word_ages() {
    let mut router = Router::new();
    router.say(Event::Attached);
    assert_eq!(router.told(Verdict::Unhealthy), [Verdict::Unhealthy]);
    assert_eq!(router.seen(ok()), [], "one success of ours does not overrule it");
    assert_eq!(router.say(Event::Detached), [Verdict::Healthy], "alone, what we saw last counts");

    let mut router = Router::new();
    router.say(Event::Attached);
    router.told(Verdict::Unhealthy);
    assert_eq!(router.say(Event::Detached), [], "we saw nothing ourselves");
    assert_eq!(router.deadline(), [Verdict::Unknown]);
}

#[test]
fn what_is_not_up_is_starting_whatever_anybody_says() {
    let mut router = Router::new();
    router.say(Event::Attached);
    router.told(Verdict::Healthy);
    assert_eq!(router.seen(starting()), [Verdict::Starting]);
    assert_eq!(router.told(Verdict::Starting), []);
    assert_eq!(router.seen(ok()), [Verdict::Healthy], "not held back by a word that is older");
}

#[test]
fn a_verdict_is_of_one_life() {
    let mut router = Router::new();
    router.say(Event::Attached);
    router.seen(ok());
    assert_eq!(router.told(Verdict::Unhealthy), [Verdict::Unhealthy]);
    // It is restarted, and the monitor says nothing more: it hangs, or its next words are still on their way.
    assert_eq!(router.seen(starting()), [Verdict::Starting]);
    assert_eq!(router.seen(ok()), [Verdict::Healthy]);
    assert_eq!(router.told(Verdict::Unhealthy), [], "of the life before: it has not heard of this one");
    router.told(Verdict::Starting);
    assert_eq!(router.told(Verdict::Unhealthy), [Verdict::Unhealthy], "of this one");
    // Twice in a row it starts: the monitor has nothing new to say in between.
    router.told(Verdict::Starting);
    router.seen(starting());
    router.seen(starting());
    router.told(Verdict::Starting);
    router.seen(starting());
    router.seen(ok());
    assert_eq!(router.told(Verdict::Unhealthy), [Verdict::Unhealthy]);
}

#[test]
fn what_fails_to_start_is_failing_whoever_says_so() {
    let mut router = Router::new();
    router.say(Event::Attached);
    let failing = Outcome::Starting { reason: "exit 1".into(), failing: true };
    assert_eq!(router.seen(failing), [Verdict::Failing]);
    assert_eq!(router.told(Verdict::Failing), []);
    assert_eq!(router.seen(ok()), [Verdict::Healthy]);
}

#[test]
fn an_endpoint_that_left_is_forgotten() {
    let mut router = Router::new();
    router.say(Event::Attached);
    router.told(Verdict::Unhealthy);
    router.change(&[], &[key()]);
    assert_eq!(router.core.next_deadline(), None);
    router.change(&[key()], &[]);
    assert_eq!(router.core.verdict(&key()), Verdict::Unknown);
}
