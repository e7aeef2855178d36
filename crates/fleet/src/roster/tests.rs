//! The life of members over attempts, swaps, losses and returns.

use model::{FixedBackend, ReplaceMode};

use super::*;
use crate::plan::tests::{backend, layout};

struct Case {
    roster: Roster,
    now: Time,
}

const fn attempt(sequence: u64) -> AttemptId {
    AttemptId { epoch: 1, sequence }
}

impl Case {
    fn new() -> Self {
        Self { roster: Roster::new(7), now: Time::ZERO }
    }

    /// What it wants done, as words: `create a`, `bring a`, `list a`, `a is unknown`, `publish`, `swap`, `end a`, and
    /// the outcomes of an attempt.
    fn does(&mut self, event: Event) -> Vec<String> {
        self.roster.handle(self.now, event);
        self.effects()
    }

    fn wait(&mut self, by: Duration) -> Vec<String> {
        self.now = self.now + by;
        self.roster.tick(self.now);
        self.effects()
    }

    fn effects(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(effect) = self.roster.poll_effect() {
            words.push(match effect {
                Effect::Act(Act::Create { serial, .. }) => format!("create {serial}"),
                Effect::Act(Act::BringUp { serial, .. }) => format!("bring {serial}"),
                Effect::Act(Act::List { serial }) => format!("list {serial}"),
                Effect::Act(Act::NotListed { serial, reason }) => format!("{serial} is not listed: {reason}"),
                Effect::Act(Act::Limit { .. }) => continue,
                Effect::Act(Act::Verdict { serial, verdict }) => format!("{serial} is {verdict}"),
                Effect::Publish { swap, by_file } => {
                    format!("{}{}", if swap { "swap" } else { "publish" }, if by_file { " by file" } else { "" })
                }
                Effect::Act(Act::ShutDown { serial }) => format!("end {serial}"),
                Effect::Act(Act::Restart { serial, unhealthy }) => {
                    format!("restart {serial}{}", if unhealthy { ", unhealthy" } else { "" })
                }
                Effect::Prepared { attempt, outcomes } => {
                    let outcome = |one: &CandidateOutcome| match &one.result {
                        CandidateResult::Ready { .. } => "ready",
                        CandidateResult::Failed { .. } => "failed",
                        CandidateResult::Unprobed => "unprobed",
                    };
                    let outcomes: Vec<_> = outcomes.iter().map(outcome).collect();
                    format!("attempt {}: {}", attempt.sequence, outcomes.join(" "))
                }
            });
        }
        words
    }

    /// The names of the tools of a backend, if anything is known of it.
    fn offers(&self, backend: &Arc<FixedBackend>) -> Option<String> {
        let layout = layout(&[backend]);
        let merged = self.roster.offer(&layout.backends[0])?.merged(mcp::Kind::Tool);
        Some(merged.items.iter().map(|item| item.name()).collect::<Vec<_>>().join(" "))
    }

    fn up(&mut self, serial: Serial) -> Vec<String> {
        self.does(Event::BroughtUp { serial, result: Ok(tool("t")) })
    }

    fn down(&mut self, serial: Serial) -> Vec<String> {
        self.does(Event::BroughtUp { serial, result: Err(Reason::own("no")) })
    }

    fn live(&mut self, revision: u64, backends: &[&Arc<FixedBackend>]) -> Vec<String> {
        self.does(Event::Live { revision: Revision(revision), layout: layout(backends), prepared: None })
    }

    fn commit(&mut self, revision: u64, sequence: u64, backends: &[&Arc<FixedBackend>]) -> Vec<String> {
        let prepared = Some(attempt(sequence));
        self.does(Event::Live { revision: Revision(revision), layout: layout(backends), prepared })
    }

    fn prepare(&mut self, sequence: u64, backends: &[&Arc<FixedBackend>]) -> Vec<String> {
        self.does(Event::Prepare { attempt: attempt(sequence), layout: layout(backends), within: Duration::MAX })
    }

    fn abort(&mut self, sequence: u64) -> Vec<String> {
        self.does(Event::Abort { attempt: attempt(sequence), keep_until: self.now + SPARE })
    }
}

fn tool(name: &str) -> Offered {
    let tool = mcp::Item::parse(mcp::Kind::Tool, &format!(r#"{{"name":"{name}","inputSchema":{{}}}}"#)).unwrap();
    Offered::of(mcp::Kind::Tool, [tool])
}

fn at(id: &str, url: &str) -> Arc<FixedBackend> {
    backend(id, &[url], ReplaceMode::Beside)
}

#[test]
fn a_restore_serves_at_once_and_a_change_waits_for_what_it_changes() {
    let mut case = Case::new();
    let (a, b, b2) = (at("a", "http://a"), at("b", "http://b"), at("b", "http://b2"));
    assert_eq!(case.live(1, &[&a, &b]), ["create 1", "bring 1", "create 2", "bring 2", "swap by file"]);
    // Names go to the first server of the file, whichever comes up first, until all had their chance.
    assert_eq!(case.up(1), ["1 is unknown", "publish by file"]);
    assert_eq!(case.down(2), ["publish by file"]);
    assert_eq!(case.does(Event::Listed { serial: 1, result: Ok(tool("u")) }), ["publish"]);
    assert_eq!(case.prepare(1, &[&a, &b2]), ["create 3", "bring 3"]);
    assert_eq!(case.up(3), ["3 is unknown", "attempt 1: ready"]);
    // The old copy is cordoned by the swap, and ends when nothing is in flight on it.
    assert_eq!(case.commit(2, 1, &[&a, &b2]), ["swap"]);
    assert_eq!(case.does(Event::Closed { serial: 2 }), ["end 2"]);
    assert_eq!(case.roster.members().len(), 2);
}

#[test]
fn a_failed_candidate_that_is_committed_is_tried_again() {
    let mut case = Case::new();
    let (a, b) = (at("a", "http://a"), at("b", "http://b"));
    case.live(1, &[&a]);
    case.up(1);
    case.prepare(1, &[&a, &b]);
    assert_eq!(case.down(2), ["attempt 1: failed"]);
    assert_eq!(case.wait(Duration::from_secs(60)), [""; 0], "nobody lives by it yet");
    assert_eq!(case.commit(2, 1, &[&a, &b]), ["swap"]);
    assert_eq!(case.wait(Duration::ZERO), ["bring 2"]);
    assert_eq!(case.up(2), ["2 is unknown", "publish"]);
}

#[test]
fn what_an_abort_leaves_serves_an_equal_attempt_for_a_while() {
    let mut case = Case::new();
    let (a, b, c) = (at("a", "http://a"), at("b", "http://b"), at("c", "http://c"));
    case.live(1, &[&a]);
    case.up(1);
    case.prepare(1, &[&a, &b, &c]);
    case.up(2);
    case.down(3);
    assert_eq!(case.abort(1), [""; 0]);
    // The one that is up is ready at once, the one that failed gets another chance.
    assert_eq!(case.prepare(2, &[&a, &b, &c]), ["bring 3"]);
    assert_eq!(case.down(3), ["attempt 2: ready failed"]);
    case.abort(2);
    assert_eq!(case.wait(SPARE - Duration::from_millis(1)), [""; 0]);
    assert_eq!(case.wait(Duration::from_millis(1)), ["end 2", "end 3"]);
    assert_eq!(case.prepare(3, &[&a, &b]), ["create 4", "bring 4"]);
}

#[test]
fn what_leaves_and_is_wanted_again_stays_as_it_is() {
    let mut case = Case::new();
    let (a, b) = (at("a", "http://a"), at("b", "http://b"));
    case.live(1, &[&a, &b]);
    case.up(1);
    case.up(2);
    case.live(2, &[&a]);
    let key = b.endpoints().next().unwrap().0;
    assert!(!case.roster.is_wanted(&key));
    assert_eq!(case.prepare(1, &[&a, &b]), ["attempt 1: ready"]);
    assert!(case.roster.is_wanted(&key), "or it might be closed before the commit");
    assert_eq!(case.commit(3, 1, &[&a, &b]), ["swap"]);
    assert_eq!(case.roster.members()[&key].serial, 2);
}

#[test]
fn what_is_lost_on_its_way_out_is_tried_when_it_is_wanted_again() {
    let mut case = Case::new();
    let (a, b) = (at("a", "http://a"), at("b", "http://b"));
    case.live(1, &[&a, &b]);
    case.up(1);
    case.up(2);
    case.wait(STABLE);
    case.live(2, &[&a]);
    assert_eq!(case.does(Event::Lost { serial: 2, reason: Reason::own("exit 1") }), ["2 is starting"]);
    assert_eq!(case.prepare(1, &[&a, &b]), ["bring 2"]);
    assert_eq!(case.down(2), ["attempt 1: failed"]);
}

#[test]
fn what_an_attempt_found_out_outlives_another_revision() {
    let mut case = Case::new();
    let (a, b, c) = (at("a", "http://a"), at("b", "http://b"), at("c", "http://c"));
    case.live(1, &[&a]);
    case.up(1);
    case.prepare(1, &[&a, &b]);
    case.up(2);
    case.abort(1);
    case.live(2, &[&a, &c]);
    case.live(3, &[&a, &b]);
    assert_eq!(case.offers(&b).as_deref(), Some("t"));
}

#[test]
fn one_that_cannot_run_twice_starts_when_its_old_copy_has_ended() {
    let mut case = Case::new();
    let alone = |url| backend("a", &[url], ReplaceMode::StopFirst);
    case.live(1, &[&alone("http://1")]);
    case.up(1);
    assert_eq!(case.prepare(1, &[&alone("http://2")]), ["attempt 1: unprobed"]);
    assert_eq!(case.commit(2, 1, &[&alone("http://2")]), ["create 2", "swap"]);
    let now = layout(&[&alone("http://2")]);
    assert!(case.roster.look(&now.backends[0]).arrival(false).is_pending());
    assert_eq!(case.does(Event::Closed { serial: 1 }), ["end 1"]);
    assert_eq!(case.does(Event::Ended { serial: 1 }), ["bring 2", "publish"]);
    assert_eq!(case.up(2), ["2 is unknown", "publish"]);
}

#[test]
fn what_may_not_run_twice_waits_for_the_end_of_the_predecessor() {
    let mut case = Case { roster: Roster::new(7).beside_predecessor(), now: Time::ZERO };
    let alone = |url| backend("a", &[url], ReplaceMode::StopFirst);
    let swapped = case.live(1, &[&alone("http://1"), &at("b", "http://b")]);
    assert_eq!(swapped, ["create 1", "bring 1", "create 2", "swap by file"]);
    // What a change brings waits as well.
    case.live(2, &[&alone("http://2"), &at("b", "http://b")]);
    let now = layout(&[&alone("http://2")]);
    assert!(case.roster.look(&now.backends[0]).arrival(false).is_pending());
    case.does(Event::Closed { serial: 2 });
    assert_eq!(case.does(Event::Ended { serial: 2 }), [""; 0]);
    assert_eq!(case.does(Event::PredecessorEnded), ["bring 3", "publish by file"]);
}

#[test]
fn a_call_that_waits_has_what_is_down_tried_sooner_and_not_more_often_than_after_a_first_failure() {
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    let wanted = || Event::Wanted { serial: 1 };
    for _ in 0..20 {
        case.down(1);
        case.now = case.roster.next_deadline().expect("it will be tried again");
        assert!(case.wait(Duration::ZERO).contains(&"bring 1".to_owned()));
        assert_eq!(case.does(wanted()), [""; 0], "it is being tried");
    }
    for _ in 0..20 {
        case.down(1);
        let failed = case.now;
        case.does(wanted());
        let due = case.roster.next_deadline().expect("it will be tried again");
        assert!(due <= failed + RETRY.base, "{:?}", due.since(failed));
        if case.wait(RETRY.base / 4).is_empty() {
            case.does(wanted());
            assert_eq!(case.roster.next_deadline(), Some(due), "however many calls wait");
            assert_eq!(case.wait(due - case.now), ["bring 1"]);
        }
    }
    case.up(1);
    assert_eq!(case.does(wanted()), [""; 0], "it is up");
}

#[test]
fn whoever_is_lost_is_brought_back_unless_it_crashes_in_a_row() {
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    case.up(1);
    let lost = || Event::Lost { serial: 1, reason: Reason::own("exit 1") };
    case.wait(STABLE);
    assert_eq!(case.does(lost()), ["bring 1", "1 is starting", "publish"]);
    assert_eq!(case.does(lost()), [""; 0], "said twice");
    case.up(1);
    assert_eq!(case.does(lost()), ["1 is starting", "publish"], "no hot loop");
    let due = case.roster.next_deadline().expect("it will be tried again");
    assert_eq!(case.wait(due - case.now), ["bring 1"]);
    // Health has no say while it is not there.
    let key = at("a", "http://a").endpoints().next().unwrap().0;
    let judged = |verdict| Event::Judged { key: key.clone(), verdict, reason: Some("ping".into()) };
    assert_eq!(case.does(judged(Verdict::Healthy)), [""; 0]);
    case.up(1);
    case.now = case.now + Duration::from_secs(3);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy"]);
    let reason = |case: &Case| case.roster.members()[&key].reason().map(ToString::to_string);
    assert_eq!((reason(&case).as_deref(), case.roster.members()[&key].since), (Some("ping"), case.now));
    let began = case.now;
    case.now = case.now + Duration::from_secs(3);
    case.does(judged(Verdict::Unhealthy));
    assert_eq!(case.roster.members()[&key].since, began, "no other verdict");
    case.does(judged(Verdict::Healthy));
    assert_eq!((reason(&case), case.roster.members()[&key].since), (None, case.now));
    case.does(lost());
    case.down(1);
    assert_eq!(reason(&case).as_deref(), Some("no"));
}

#[test]
fn what_is_switched_off_is_not_tried_again_until_it_is_switched_on() {
    let mut case = Case::new();
    let off = |names: &[&str]| {
        let backends = names.iter().map(|name| BackendId::new(name).unwrap()).collect();
        Event::Disabled { backends }
    };
    case.live(1, &[&at("a", "http://a"), &at("b", "http://b")]);
    case.up(1);
    case.down(2);
    assert_eq!(case.does(off(&["a", "b"])), [""; 0], "what is up stays up");
    assert_eq!(case.wait(Duration::from_secs(3600)), [""; 0], "there is no other attempt");
    let lost = Event::Lost { serial: 1, reason: Reason::own("exit 1") };
    assert_eq!(case.does(lost), ["1 is starting", "publish"]);
    assert_eq!(case.wait(Duration::from_secs(3600)), [""; 0]);
    // An operator may have it tried all the same.
    assert_eq!(case.does(Event::Restart { serial: 2 }), ["bring 2"]);
    case.down(2);
    // A revision that changes it has its new endpoint tried once.
    case.live(2, &[&at("a", "http://a"), &at("b", "http://b2")]);
    case.down(3);
    assert_eq!(case.wait(Duration::from_secs(3600)), [""; 0]);
    case.does(off(&["b"]));
    assert_eq!(case.wait(Duration::ZERO), ["bring 1"]);
    case.does(off(&[]));
    assert_eq!(case.wait(Duration::ZERO), ["bring 3"]);
}

#[test]
fn a_burst_of_changed_lists_is_listed_once_and_published_only_if_something_changed() {
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    case.up(1);
    for _ in 0..7 {
        assert_eq!(case.does(Event::ListChanged { serial: 1 }), [""; 0]);
    }
    assert_eq!(case.wait(relist::AFTER.base), ["list 1"]);
    assert_eq!(case.does(Event::Listed { serial: 1, result: Ok(tool("t")) }), [""; 0]);
    assert_eq!(case.does(Event::Listed { serial: 1, result: Ok(tool("u")) }), ["publish"]);
    case.does(Event::Listed { serial: 1, result: Err("no".into()) });
    let due = case.roster.next_deadline().expect("it will be listed again");
    assert_eq!(case.wait(due - case.now), ["list 1"]);
    assert_eq!(case.roster.known().values().next(), Some(&tool("u")), "a failure is no empty list");
}

#[test]
fn a_changed_server_that_is_not_up_shows_the_tools_it_had() {
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    case.up(1);
    let changed = at("a", "http://a2");
    case.live(2, &[&changed]);
    case.down(2);
    assert_eq!(case.offers(&changed).as_deref(), Some("t"));
    case.does(Event::Closed { serial: 1 });
    assert_eq!(case.offers(&changed).as_deref(), Some("t"));
    case.live(3, &[&at("b", "http://b")]);
    assert_eq!(case.roster.known().len(), 0);
}

#[test]
fn what_a_server_was_before_it_changed_is_not_shown_for_ever() {
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    case.up(1);
    let changed = at("a", "http://a2");
    case.live(2, &[&changed]);
    case.does(Event::Closed { serial: 1 });
    let offered = |case: &Case| case.offers(&changed);
    case.down(2);
    assert_eq!(offered(&case).as_deref(), Some("t"), "it may come up yet");
    for _ in 0..2 {
        let due = case.roster.next_deadline().unwrap();
        case.wait(due - case.now);
        assert!(case.down(2).contains(&"2 is failing".to_owned()) == offered(&case).is_none());
    }
    assert_eq!(offered(&case), None, "it is failing");
    let now = layout(&[&changed]);
    assert!(case.roster.look(&now.backends[0]).missing(None).is_some(), "and clients hear why");
    // One that comes up has a word of its own: what was before is forgotten, also for the copy on disk.
    let mut case = Case::new();
    case.live(1, &[&at("a", "http://a")]);
    case.up(1);
    case.live(2, &[&changed]);
    case.does(Event::Closed { serial: 1 });
    case.up(2);
    assert_eq!(case.roster.known().len(), 1);
}

/// One program, with or without the policy that restarts it.
fn program(restart_unhealthy: bool) -> Arc<FixedBackend> {
    let mut program = model::Backend::clone(&at("a", "http://a"));
    program.policy.restart_unhealthy = restart_unhealthy;
    let transport = model::Transport::Stdio { command: "a".into(), args: vec![], env: BTreeMap::new(), cwd: None };
    program.variants[0].endpoints[0].transport = transport;
    Arc::new(program.into())
}

#[test]
fn who_hangs_is_restarted_by_its_policy_more_and_more_seldom() {
    let mut case = Case::new();
    let key = program(true).endpoints().next().unwrap().0;
    let judged = |verdict| Event::Judged { key: key.clone(), verdict, reason: None };
    let lost = || Event::Lost { serial: 1, reason: Reason::own("it hangs") };
    case.live(1, &[&program(false)]);
    case.up(1);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy"], "no policy says so");
    // A change of the policy keeps the process; of one that hangs it is the end.
    assert_eq!(case.live(2, &[&program(true)]), ["restart 1, unhealthy", "swap by file"]);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), [""; 0], "it is being ended");
    assert_eq!(case.does(lost()), ["bring 1", "1 is starting", "publish"], "at once, although it did not last");
    case.up(1);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy"]);
    assert_eq!(case.wait(Duration::from_secs(9)), [""; 0]);
    assert_eq!(case.roster.next_deadline().unwrap().since(case.now), Duration::from_secs(1));
    assert_eq!(case.wait(Duration::from_secs(1)), ["restart 1, unhealthy"]);
    case.does(lost());
    case.up(1);
    // A server that becomes healthy, or leaves, is left alone.
    case.does(judged(Verdict::Unhealthy));
    case.does(judged(Verdict::Healthy));
    assert_eq!(case.wait(Duration::from_secs(60)), [""; 0]);
    case.live(3, &[&at("b", "http://b")]);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy"]);
}

/// A server whose tools are hidden while it is dead, and what is made of it.
fn hidden() -> Arc<FixedBackend> {
    let mut hidden = model::Backend::clone(&at("a", "http://a"));
    hidden.policy.dead = Some(model::DeadServers::Hide);
    Arc::new(hidden.into())
}

#[test]
fn a_verdict_on_a_server_that_is_hidden_while_it_is_dead_makes_another_list() {
    let mut case = Case::new();
    let key = hidden().endpoints().next().unwrap().0;
    let judged = |verdict| Event::Judged { key: key.clone(), verdict, reason: None };
    case.live(1, &[&hidden()]);
    case.up(1);
    let shown = |case: &Case| {
        let turn = crate::turn::make(&case.roster, &[], false, None, Some).unwrap();
        let catalog = &turn.catalogs[mcp::Kind::Tool];
        assert!(!catalog.is_unknown(), "an empty list is a list");
        catalog.entries().len()
    };
    assert_eq!(shown(&case), 1);
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy", "publish"]);
    assert_eq!(shown(&case), 0);
    assert_eq!(case.does(judged(Verdict::Healthy)), ["1 is healthy", "publish"]);
    assert_eq!(shown(&case), 1);
    case.does(Event::Lost { serial: 1, reason: Reason::own("exit 1") });
    assert_eq!(shown(&case), 1, "it is coming up again");
    for _ in 0..2 {
        let due = case.roster.next_deadline().unwrap();
        case.wait(due - case.now);
        case.down(1);
    }
    assert_eq!((case.roster.members()[&key].verdict(), shown(&case)), (Verdict::Failing, 0));
    let due = case.roster.next_deadline().unwrap();
    case.wait(due - case.now);
    assert_eq!(case.up(1), ["1 is unknown", "publish"]);
    assert_eq!(shown(&case), 1);
    assert_eq!(case.live(2, &[&at("a", "http://a")]), ["swap by file"], "the same endpoint, by another policy");
    assert_eq!(case.does(judged(Verdict::Unhealthy)), ["1 is unhealthy"]);
    assert_eq!(shown(&case), 1);
}

#[test]
fn an_operator_restarts_what_runs_and_hurries_what_waits() {
    let mut case = Case::new();
    let restart = || Event::Restart { serial: 1 };
    let lost = || Event::Lost { serial: 1, reason: Reason::own("restarted") };
    case.live(1, &[&program(false)]);
    assert_eq!(case.does(restart()), [""; 0], "it is being started");
    case.up(1);
    assert_eq!(case.does(restart()), ["restart 1"]);
    assert_eq!(case.does(restart()), [""; 0], "once is enough");
    assert_eq!(case.does(lost()), ["bring 1", "1 is starting", "publish"]);
    assert_eq!(case.down(1), ["publish"]);
    assert_eq!(case.does(restart()), ["bring 1"], "not when its back-off is over");
    assert_eq!(case.down(1), ["publish"]);
}

#[test]
fn a_crash_loop_is_failing() {
    let mut case = Case::new();
    let lost = || Event::Lost { serial: 1, reason: Reason::own("exit 1") };
    case.live(1, &[&program(false)]);
    case.up(1);
    let mut told = Vec::new();
    for _ in 0..4 {
        told.extend(case.does(lost()));
        let due = case.roster.next_deadline().unwrap();
        told.extend(case.wait(due - case.now));
        told.extend(case.up(1));
    }
    let verdicts: Vec<_> = told.iter().filter(|word| word.contains(" is ")).map(String::as_str).collect();
    let (starts, fails) = (["1 is starting", "1 is unknown"], ["1 is failing", "1 is unknown"]);
    assert_eq!(verdicts, [starts, starts, fails, fails].concat());
    // It lasts, and is as good as any other.
    case.wait(STABLE);
    assert_eq!(case.does(lost()), ["bring 1", "1 is starting", "publish"]);
}
