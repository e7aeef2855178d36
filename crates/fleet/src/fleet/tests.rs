//! What goes from one part to another, and in which order.

use model::{Instructions, LogId, NodeId, Policy, ReplaceMode};

use super::*;
use crate::plan::tests::{backend, layout};

struct Case {
    fleet: Fleet,
    now: Time,
    attempts: u64,
}

impl Case {
    fn new(copy: Option<DiskCopy>) -> Self {
        let identity = Identity { node: NodeId::new("r").unwrap(), boot: "b".into(), features: Vec::new() };
        Self { fleet: Fleet::new(Time::ZERO, identity, 7, copy), now: Time::ZERO, attempts: 0 }
    }

    fn does(&mut self, event: Event) -> Vec<String> {
        self.fleet.handle(self.now, event);
        self.effects()
    }

    /// What it wants done, in words. All servers come up at once, before anything is published; nothing is in flight.
    fn effects(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(effect) = self.fleet.poll_effect() {
            let (word, answer) = self.word(effect);
            words.push(word);
            if let Some(answer) = answer {
                self.fleet.handle(self.now, answer);
            }
        }
        words
    }

    fn word(&self, effect: Effect) -> (String, Option<Event>) {
        let of = |endpoint: &EndpointKey| endpoint.backend.to_string();
        match effect {
            Effect::Tell(Report::Hello { applied, .. }) => (format!("hello at {applied}"), None),
            Effect::Tell(Report::Vote { verdict: Ok(()), .. }) => ("yes".into(), None),
            Effect::Tell(Report::Vote { verdict: Err(refusal), .. }) => (format!("no: {refusal}"), None),
            Effect::Tell(Report::Ack { revision, .. }) => (format!("ack {revision}"), None),
            Effect::Tell(Report::Nack { refusal, .. }) => (format!("nack: {refusal}"), None),
            Effect::FindReferences { attempt, endpoints, .. } => {
                let missing = endpoints.iter().any(|(id, _)| id.as_str() == "secretless").then(|| "none".to_owned());
                let names: Vec<_> = endpoints.iter().map(|(id, _)| id.as_str()).collect();
                (format!("references of {}", names.join(" ")), Some(Event::References { attempt, missing }))
            }
            Effect::Swapping { revision } => (format!("swap to {revision}"), None),
            Effect::Act(Act::Create { key, .. }) => (format!("create {}", of(&key)), None),
            Effect::Act(Act::BringUp { serial, .. }) => {
                ("bring up".into(), Some(Event::BroughtUp { serial, result: Ok(Offered::default()) }))
            }
            Effect::Act(Act::ShutDown { .. }) => ("end".into(), None),
            Effect::Act(_) => ("tell".into(), None),
            Effect::Publish { .. } => ("publish".into(), None),
            Effect::Depart(departures::Effect::Cordon { endpoint }) => {
                let word = format!("cordon {}", of(&endpoint));
                (word, Some(Event::Counted { endpoint, seen: Seen::default() }))
            }
            Effect::Depart(departures::Effect::TryClose { endpoint }) => {
                (format!("close {}", of(&endpoint)), Some(Event::Closed { endpoint }))
            }
            Effect::Depart(departures::Effect::Weigh { endpoint, weight }) => {
                (format!("{weight} for {}", of(&endpoint)), None)
            }
            Effect::Depart(departures::Effect::LetGo { endpoint, .. }) => {
                (format!("sessions leave {}", of(&endpoint)), None)
            }
            Effect::Depart(departures::Effect::Uncordon { endpoint }) => (format!("open {}", of(&endpoint)), None),
            Effect::Depart(departures::Effect::Count { endpoint }) => {
                ("count".into(), Some(Event::Counted { endpoint, seen: Seen::default() }))
            }
            Effect::Depart(departures::Effect::Evict { endpoint }) => (format!("evict {}", of(&endpoint)), None),
            Effect::Depart(departures::Effect::Report(_)) => ("report".into(), None),
        }
    }

    fn direct(&mut self, directive: Directive) -> Vec<String> {
        self.does(Event::Directed { sender: sender(), directive })
    }

    fn prepare(&mut self, names: &[&str]) -> (AttemptId, Vec<String>) {
        self.attempts += 1;
        let attempt = AttemptId { epoch: 1, sequence: self.attempts };
        let prepare = Directive::Prepare { attempt, content: content(names), lease: Duration::from_secs(60) };
        (attempt, self.direct(prepare))
    }

    fn commit(&mut self, revision: u64, attempt: AttemptId, names: &[&str]) -> Vec<String> {
        let (revision, digest) = (Revision(revision), content(names).digest);
        self.direct(Directive::Commit { attempt, revision, digest })
    }
}

fn sender() -> Sender {
    Sender { log: LogId("l".into()), epoch: 1 }
}

fn content(names: &[&str]) -> Content {
    let backends: Vec<_> =
        names.iter().map(|name| backend(name, &[&format!("http://{name}")], ReplaceMode::Beside)).collect();
    layout(&backends.iter().collect::<Vec<_>>()).content.clone()
}

#[test]
fn a_swap_opens_what_comes_back_then_publishes_then_cordons_what_leaves_and_is_acknowledged_last() {
    let mut case = Case::new(None);
    assert_eq!(case.does(Event::ManagerAttached), ["hello at 0"]);
    let (attempt, words) = case.prepare(&["a", "b"]);
    let brought = ["references of a b", "create a", "bring up", "create b", "bring up", "tell", "tell", "yes"];
    assert_eq!(words, brought);
    assert_eq!(case.commit(1, attempt, &["a", "b"]), ["swap to 1", "publish", "ack 1"]);

    // What leaves is kept for an attempt that wants it back, and opened before calls can come by the new generation.
    let (attempt, _) = case.prepare(&["a"]);
    let (back, words) = {
        case.commit(2, attempt, &["a"]);
        case.prepare(&["a", "b"])
    };
    assert_eq!(words.last().map(String::as_str), Some("yes"));
    case.commit(3, back, &["a", "b"]);
    let (attempt, _) = case.prepare(&["a", "c"]);
    let words = case.commit(4, attempt, &["a", "c"]);
    assert_eq!(words, ["swap to 4", "publish", "cordon b", "ack 4", "close b", "end"]);
}

#[test]
fn what_waits_to_be_published_does_not_show_a_new_layout_before_it_is_ready() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    let offer =
        |revision: u64, names: &[&str]| Directive::Offer { revision: Revision(revision), content: content(names) };
    case.direct(offer(1, &["a"]));
    let now = case.now;
    let (_, member) = case.fleet.roster().members().iter().next().expect("a member");
    let result = Ok(Offered { instructions: Some("new".into()), ..Offered::default() });
    let listed = Event::Listed { serial: member.serial, result: result.map_err(|never: String| never) };
    case.fleet.handle(now, listed);
    let words = case.direct(offer(2, &["a", "b"]));
    let first = words.iter().position(|word| word == "publish");
    assert!(first > words.iter().position(|word| word == "create b"), "{words:?}");
}

#[test]
fn what_leaves_stays_open_for_an_attempt_that_wants_it_and_only_so_long() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    let offer =
        |revision: u64, names: &[&str]| Directive::Offer { revision: Revision(revision), content: content(names) };
    case.direct(offer(1, &["a", "b"]));
    let (attempt, _) = case.prepare(&["b"]);
    let sequel = AttemptId { sequence: attempt.sequence + 1, ..attempt };
    case.attempts += 1;
    // It is wanted before it is found to be empty.
    let prepare = Directive::Prepare { attempt: sequel, content: content(&["a"]), lease: Duration::from_secs(60) };
    let commit = Directive::Commit { attempt, revision: Revision(2), digest: content(&["b"]).digest };
    let now = case.now;
    case.fleet.handle(now, Event::Directed { sender: sender(), directive: commit });
    case.fleet.handle(now, Event::Directed { sender: sender(), directive: prepare });
    let words = case.effects();
    assert!(words.contains(&"cordon a".to_owned()) && !words.contains(&"close a".to_owned()), "{words:?}");
    assert_eq!(case.fleet.attempt().map(|(attempt, _)| attempt), Some(sequel));
    assert_eq!(case.direct(Directive::Abort { attempt: sequel }), ["count", "close a", "end"]);
}

#[test]
fn a_missing_reference_is_a_no_to_a_change_and_none_to_what_is_decided() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    let (_, words) = case.prepare(&["secretless"]);
    assert_eq!(words[0], "references of secretless");
    assert!(words[1].starts_with("no: ") && words.len() == 2, "{words:?}");
    assert_eq!(case.fleet.attempt(), None);
    let words = case.direct(Directive::Offer { revision: Revision(1), content: content(&["secretless"]) });
    assert_eq!(words, ["swap to 1", "create secretless", "bring up", "publish", "ack 1", "tell"]);
}

#[test]
fn a_start_from_disk_serves_at_once_and_says_what_it_serves() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    case.direct(Directive::Offer { revision: Revision(7), content: content(&["a"]) });
    let copy = case.fleet.take_copy(case.now).expect("something is live");
    assert!(case.fleet.take_copy(case.now).is_none(), "it was taken");
    let overlay = drain::Directive::Overlay { entries: Vec::new() };
    case.does(Event::CoordinatorSaid(overlay));
    assert!(case.fleet.take_copy(case.now).is_some(), "the overlay is part of it");

    let mut case = Case::new(Some(copy));
    assert_eq!(case.effects(), ["create a", "bring up", "publish", "tell"]);
    assert_eq!(case.does(Event::ManagerAttached), ["hello at 7"]);
    let (live, other) = (content(&["a"]), content(&["b"]));
    assert_eq!(case.fleet.held(&live.digest), Some(&live.snapshot));
    assert_eq!(case.fleet.held(&other.digest), None);
    case.prepare(&["b"]);
    assert_eq!(case.fleet.held(&other.digest), Some(&other.snapshot));
}

#[test]
fn a_verdict_is_of_one_life() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    case.direct(Directive::Offer { revision: Revision(1), content: content(&["a"]) });
    let (endpoint, member) = case.fleet.roster().members().iter().next().expect("a member");
    let (endpoint, ups) = (endpoint.clone(), member.ups);
    let judged = |ups| Event::Judged { endpoint: endpoint.clone(), verdict: Verdict::Unhealthy, ups, reason: None };
    assert!(case.does(judged(ups + 1)).is_empty());
    assert_eq!(case.does(judged(ups)), ["tell"]);
}

#[test]
fn what_is_replaced_stays_in_the_table_while_a_weight_lies_on_it() {
    let mut case = Case::new(None);
    let overlay = |case: &Case, weights: &[u16]| {
        let old = case.fleet.roster().members().keys().next().map(|key| key.digest);
        let entry = |permille: &u16| OverlayEntry {
            drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
            backend: BackendId::new("a").unwrap(),
            endpoint: old,
            weight: model::Weight::of(*permille).unwrap(),
            remaining: Duration::from_secs(60),
            disabled: false,
            rate: 0,
        };
        Event::CoordinatorSaid(drain::Directive::Overlay { entries: weights.iter().map(entry).collect() })
    };
    let at = |revision: u64, url: &str| {
        let content = layout(&[&backend("a", &[url], ReplaceMode::Beside)]).content.clone();
        Directive::Offer { revision: Revision(revision), content }
    };
    let leaving = |case: &Case| {
        let turn = case.fleet.turn(false, None, Some).expect("something is live");
        turn.table.backends()[0].variants[0].staying.len()
    };
    case.direct(at(1, "http://old"));
    assert_eq!(case.does(overlay(&case, &[250])), ["25% for a"]);
    let words = case.direct(at(2, "http://new"));
    assert!(!words.contains(&"cordon a".to_owned()), "{words:?}");
    assert_eq!(leaving(&case), 1);
    // Calls go by what it lists meanwhile.
    let old = case.fleet.roster().members().values().find(|member| member.leaving).expect("it is there").serial;
    let listed = Offered { instructions: Some("new".into()), ..Offered::default() };
    assert_eq!(case.does(Event::Listed { serial: old, result: Ok(listed) }), ["publish"]);
    let words = case.does(overlay(&case, &[]));
    assert_eq!(words, ["publish", "cordon a", "close a", "end"]);
    assert_eq!(leaving(&case), 0);
}

#[test]
fn what_operators_switch_off_need_not_come_up_until_they_switch_it_on() {
    let mut case = Case::new(None);
    let overlay = |disabled: &[bool]| {
        let entry = |disabled: &bool| OverlayEntry {
            drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
            backend: BackendId::new("a").unwrap(),
            endpoint: None,
            weight: model::Weight::NONE,
            remaining: Duration::from_secs(60),
            disabled: *disabled,
            rate: 0,
        };
        Event::CoordinatorSaid(drain::Directive::Overlay { entries: disabled.iter().map(entry).collect() })
    };
    case.does(overlay(&[true]));
    case.direct(Directive::Offer { revision: Revision(1), content: content(&["a", "b"]) });
    let off = |case: &Case| case.fleet.roster().members().values().map(|member| member.disabled).collect::<Vec<_>>();
    assert_eq!(off(&case), [true, false]);
    for (laid, expected) in [(&[false][..], false), (&[true], true), (&[], false)] {
        case.does(overlay(laid));
        assert_eq!(off(&case), [expected, false], "{laid:?}");
    }
}

#[test]
fn what_leaves_step_by_step_has_its_share_while_its_successor_is_not_well() {
    let mut case = Case::new(None);
    let at = |revision: u64, url: &str| {
        let mut one = model::Backend::clone(&backend("a", &[url], ReplaceMode::Beside));
        one.policy.drain.strategy = Some(model::DrainStrategy::Progressive);
        let snapshot = Snapshot { backends: vec![Arc::new(one.into())], ..Snapshot::default() };
        Directive::Offer { revision: Revision(revision), content: Content::new(Arc::new(snapshot)) }
    };
    case.direct(at(1, "http://old"));
    let words = case.direct(at(2, "http://new"));
    assert!(words.contains(&"sessions leave a".to_owned()) && !words.contains(&"cordon a".to_owned()), "{words:?}");
    case.now = case.now + Duration::from_secs(3);
    assert!(case.does(Event::Tick).contains(&"70% for a".to_owned()));
    let (endpoint, ups) = {
        let mut members = case.fleet.roster().members().iter();
        let (endpoint, member) = members.find(|(_, member)| !member.leaving).expect("the new one");
        (endpoint.clone(), member.ups)
    };
    let judged = |verdict| Event::Judged { endpoint: endpoint.clone(), verdict, ups, reason: None };
    let words = case.does(judged(Verdict::Unhealthy));
    assert!(words.contains(&"100% for a".to_owned()), "{words:?}");
    case.now = case.now + Duration::from_secs(9);
    assert!(!case.does(Event::Tick).iter().any(|word| word.ends_with("% for a")), "it waits");
    case.does(judged(Verdict::Healthy));
    case.now = case.now + Duration::from_secs(1);
    assert!(case.does(Event::Tick).contains(&"90% for a".to_owned()), "from the beginning");
}

#[test]
fn a_successor_whose_calls_fail_is_not_well_whatever_its_pings_say() {
    let mut case = Case::new(None);
    let at = |revision: u64, url: &str| {
        let mut one = model::Backend::clone(&backend("a", &[url], ReplaceMode::Beside));
        one.policy.drain.strategy = Some(model::DrainStrategy::Progressive);
        let snapshot = Snapshot { backends: vec![Arc::new(one.into())], ..Snapshot::default() };
        Directive::Offer { revision: Revision(revision), content: Content::new(Arc::new(snapshot)) }
    };
    case.direct(at(1, "http://old"));
    case.direct(at(2, "http://new"));
    case.now = case.now + Duration::from_secs(3);
    assert!(case.does(Event::Tick).contains(&"70% for a".to_owned()));
    let mut members = case.fleet.roster().members().iter();
    let new = members.find(|(_, member)| !member.leaving).expect("the new one").0.clone();
    let stands = |standing| Event::Stands { endpoint: new.clone(), standing };
    assert!(case.does(stands(Standing::Ejected)).contains(&"100% for a".to_owned()));
    case.now = case.now + Duration::from_secs(3);
    assert!(case.does(Event::Tick).is_empty() && case.does(stands(Standing::OnTrial)).is_empty(), "it waits");
    case.does(stands(Standing::Growing(model::Weight::TENTH)));
    case.now = case.now + Duration::from_secs(1);
    assert!(case.does(Event::Tick).contains(&"90% for a".to_owned()), "from the beginning");
}

#[test]
fn a_step_of_a_falling_share_is_on_disk_before_calls_go_by_it() {
    let mut case = Case::new(None);
    let overlay = |case: &Case, permille: u16, rate| {
        let digest = case.fleet.roster().members().keys().next().map(|key| key.digest);
        let entry = OverlayEntry {
            drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
            backend: BackendId::new("a").unwrap(),
            endpoint: digest,
            weight: model::Weight::of(permille).unwrap(),
            remaining: Duration::from_secs(60),
            disabled: false,
            rate,
        };
        Event::CoordinatorSaid(drain::Directive::Overlay { entries: vec![entry] })
    };
    let urls = ["http://one", "http://two"];
    let content = layout(&[&backend("a", &urls, ReplaceMode::Beside)]).content.clone();
    case.direct(Directive::Offer { revision: Revision(1), content });
    assert_eq!(case.does(overlay(&case, 1000, 50)), ["sessions leave a"]);
    for (permille, word) in [(900, "90% for a"), (800, "80% for a")] {
        assert!(case.does(overlay(&case, permille, 50)).is_empty());
        let copy = case.fleet.take_copy(case.now).expect("it goes to the disk");
        // A router that is killed from here on starts with it.
        assert_eq!(copy.overlay[0].weight.permille(), permille);
        assert_eq!(case.does(Event::Copied { overlay: copy.overlay }), [word]);
    }
    assert!(case.does(overlay(&case, 700, 50)).is_empty());
    assert!(case.does(Event::Copied { overlay: Vec::new() }).is_empty(), "that was an older copy");
    assert_eq!(case.does(overlay(&case, 1000, 0)), ["100% for a", "sessions leave a"], "nothing falls any more");
    case.does(overlay(&case, 1000, 50));
    assert!(case.does(overlay(&case, 600, 50)).is_empty());
    case.now = case.now + Duration::from_secs(1);
    assert!(
        case.does(Event::Tick).contains(&"60% for a".to_owned()),
        "a disk that takes nothing does not stop a drain"
    );
}

#[test]
fn a_restart_strains_no_drain_by_servers_that_are_only_coming_up() {
    let urls = ["http://one", "http://two"];
    let content = layout(&[&backend("a", &urls, ReplaceMode::Beside)]).content.clone();
    let mut case = Case::new(None);
    case.direct(Directive::Offer { revision: Revision(1), content });
    let digest = case.fleet.roster().members().keys().next().map(|key| key.digest);
    let entry = OverlayEntry {
        drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
        backend: BackendId::new("a").unwrap(),
        endpoint: digest,
        weight: model::Weight::of(500).unwrap(),
        remaining: Duration::from_secs(60),
        disabled: false,
        rate: 50,
    };
    let mut copy = case.fleet.take_copy(case.now).expect("something is live");
    copy.overlay = vec![entry];
    let mut case = Case::new(Some(copy));
    case.fleet.handle(case.now, Event::CoordinatorAttached);
    let mut said = Vec::new();
    while let Some(effect) = case.fleet.poll_effect() {
        if let Effect::Depart(departures::Effect::Report(drain::Count::Live { endpoints, .. })) = effect {
            said.push(endpoints.iter().filter(|one| one.strained).count());
        }
    }
    assert!(!said.is_empty() && said.iter().all(|strained| *strained == 0), "{said:?}");
}

/// A server of each name, some switched off.
fn switched(servers: &[(&str, bool)], instructions: Instructions) -> Content {
    let one = |(name, enabled): &(&str, bool)| {
        let mut one = model::Backend::clone(&backend(name, &[&format!("http://{name}")], ReplaceMode::Beside));
        one.policy.enabled = *enabled;
        Arc::new(one.into())
    };
    let policy = Policy { instructions, ..Policy::default() };
    Content::new(Arc::new(Snapshot { policy, backends: servers.iter().map(one).collect() }))
}

#[test]
fn a_server_that_is_switched_off_leaves_like_one_that_is_removed() {
    let mut case = Case::new(None);
    case.does(Event::ManagerAttached);
    let at = |revision: u64, b: bool| Directive::Offer {
        revision: Revision(revision),
        content: switched(&[("b", b), ("a", true)], Instructions::Merge),
    };
    let served = |case: &Case| {
        let turn = case.fleet.turn(false, None, Some).expect("something is live");
        let names = turn.table.backends().iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
        (names.join(" "), turn.arrivals.len())
    };
    assert!(!case.direct(at(1, false)).contains(&"create b".to_owned()));
    assert_eq!(served(&case), ("a".to_owned(), 1));
    assert!(case.direct(at(2, true)).contains(&"create b".to_owned()));
    assert_eq!(served(&case), ("b a".to_owned(), 2));
    assert_eq!(case.direct(at(3, false)), ["swap to 3", "publish", "cordon b", "ack 3", "close b", "end"]);
    assert_eq!(served(&case), ("a".to_owned(), 1));
}

#[test]
fn clients_are_told_what_servers_say_or_nothing_or_what_the_configuration_says() {
    let own = "Ask us first.";
    for (instructions, expected) in [
        (Instructions::Merge, Some("# a\n\nuse a__read_it")),
        (Instructions::Off, None),
        (Instructions::Text(own.into()), Some(own)),
    ] {
        let mut case = Case::new(None);
        case.does(Event::ManagerAttached);
        let content = switched(&[("a", true)], instructions);
        case.direct(Directive::Offer { revision: Revision(1), content });
        let member = case.fleet.roster().members().values().next().expect("a member").serial;
        let tool = mcp::Item::parse(mcp::Kind::Tool, r#"{"name":"read_it","inputSchema":{}}"#).unwrap();
        let said = Offered { instructions: Some("use read_it".into()), ..Offered::of(mcp::Kind::Tool, [tool]) };
        case.does(Event::Listed { serial: member, result: Ok(said) });
        let turn = case.fleet.turn(false, None, Some).expect("something is live");
        assert_eq!(turn.instructions.as_deref(), expected);
    }
}
