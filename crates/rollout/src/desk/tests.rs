//! What becomes of changes that meet each other.

use std::time::Duration;

use model::LogId;

use super::*;
use crate::cursor::{Found, Stamp, Write};
use crate::script::content;
use crate::{Findings, Refusal, Report};

#[derive(Debug)]
enum Test {}

impl Papers for Test {
    type Text = &'static str;
    type Caller = u8;
    type Payload = ();
    type Fault = String;

    fn bytes(text: &&'static str) -> usize {
        text.len()
    }
}

/// A desk with one router that has what is live and agrees to everything; texts are merged when a test says so.
struct Case {
    desk: Desk<Test>,
    now: Time,
    merging: Vec<ProposalId>,
    ended: Vec<Ended<Test>>,
    /// Directives with a content, and whether each is sent as a difference.
    sent: Vec<(Directive, Option<Digest>)>,
    /// The router votes, appends go through and are acknowledged.
    goes_on: bool,
    refusal: Option<Refusal>,
    turned_away: Vec<TurnedAway>,
}

fn router() -> NodeId {
    NodeId::new("r1").unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of_bytes(text.as_bytes())
}

impl Case {
    /// The first revision is `a`.
    fn new() -> Self {
        Self::with(Judged::Live)
    }

    /// The file says `a`, which was judged like this before.
    fn with(judged: Judged) -> Self {
        let now = Time::from_nanos(1);
        let head = Head { revision: Revision(1), content: content("a"), layers: digest("a") };
        let sender = Sender { log: LogId("log".into()), epoch: 1 };
        let cursor = Some(Cursor { digest: digest("a"), judged });
        let start = Start { sender, head: Some(head), file: true, cursor };
        let desk = Desk::new(now, start);
        let (merging, ended, sent) = (Vec::new(), Vec::new(), Vec::new());
        let turned_away = Vec::new();
        let mut case = Self { desk, now, merging, ended, sent, goes_on: true, refusal: None, turned_away };
        case.reads("a");
        case.hello(1, "a", 1);
        case
    }

    fn does(&mut self, event: Event<Test>) {
        self.desk.handle(self.now, event);
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                Effect::Merge { proposal } => self.merging.push(proposal),
                Effect::Ended(ended) => self.ended.push(*ended),
                Effect::TurnedAway { why, .. } => self.turned_away.push(why),
                Effect::Send { directive, base, .. } => {
                    let base = base.map(|base| base.digest);
                    self.sent.push((directive.clone(), base));
                    self.obeys(directive);
                }
                Effect::Append(record) if self.goes_on => {
                    self.reconciles(reconciler::Event::Appended { attempt: record.attempt, revision: record.revision })
                }
                Effect::Append(_)
                | Effect::Entered { .. }
                | Effect::Joined { .. }
                | Effect::Answered { .. }
                | Effect::Look
                | Effect::Read
                | Effect::SaveCursor { .. }
                | Effect::SourceChanged
                | Effect::RaiseEpoch { .. }
                | Effect::Notice(_) => {}
            }
        }
    }

    fn tries(&mut self, text: &'static str, caller: u8) {
        let want = Want::Trial { of: Owner::api("one"), number: 0 };
        self.does(Event::Wanted { want, text, caller: Caller { without: BTreeSet::new(), handle: caller } });
    }

    fn reconciles(&mut self, event: reconciler::Event<()>) {
        self.does(Event::Reconciler(event));
    }

    fn reports(&mut self, link: u64, report: Report) {
        self.reconciles(reconciler::Event::Report { node: router(), link: Link(link), report });
    }

    fn hello(&mut self, link: u64, holds: &str, revision: u64) {
        let (boot, features) = (String::new(), Vec::new());
        let digest = Some(content(holds).digest);
        self.reports(link, Report::Hello { node: router(), boot, applied: Revision(revision), digest, features });
    }

    fn obeys(&mut self, directive: Directive) {
        if !self.goes_on {
            return;
        }
        match directive {
            Directive::Prepare { attempt, .. } => {
                let verdict = self.refusal.clone().map_or(Ok(()), Err);
                self.reports(1, Report::Vote { attempt, verdict, found: Findings::default() });
            }
            Directive::Commit { revision, digest, .. } => self.reports(1, Report::Ack { revision, digest }),
            Directive::Offer { revision, content } => {
                self.reports(1, Report::Ack { revision, digest: content.digest });
            }
            Directive::Renew { .. } | Directive::Abort { .. } => {}
        }
    }

    /// The only caller of a change of that layer.
    fn wants(&mut self, owner: &str, text: &'static str, base: Option<u64>, caller: u8) {
        let want = Want::Layer { owner: Owner::api(owner), base: base.map(Revision) };
        self.does(Event::Wanted { want, text, caller: Caller { without: BTreeSet::new(), handle: caller } });
    }

    fn reads(&mut self, text: &'static str) {
        let stamp = Some(Stamp { size: 1, modified: self.now.as_nanos(), identity: 1 });
        self.does(Event::Source { event: cursor::Event::Noticed { write: Write::Complete, stamp }, text: None });
        let event = cursor::Event::Read { stamp, torn: false, found: Found::Digest(digest(text)) };
        self.does(Event::Source { event, text: Some(text) });
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now + by;
        self.does(Event::Woke);
    }

    /// The candidate whose turn it is becomes what its text says.
    fn merges(&mut self) -> ProposalId {
        let proposal = self.merging.remove(0);
        let text = self.desk.candidate(proposal).map_or("-", |candidate| candidate.text);
        let merged = if text == "broken" {
            Err(text.to_owned())
        } else {
            let layers = digest(text);
            let (back, actor) = (Revision(1), String::new());
            Ok(Merged { content: content(text), layers, file: None, payload: (), actor, back, over: None })
        };
        self.does(Event::Merged { proposal, merged });
        proposal
    }

    /// The changes that have ended, and their callers.
    fn ends(&mut self) -> Vec<(u64, String, Vec<u8>)> {
        let spelled = |end: &End<String>| match end {
            End::Applied(applied) => format!("revision {}", applied.revision),
            End::NoChange { .. } => "no change".into(),
            End::Tried(votes) => format!("tried by {}", votes.len()),
            End::Superseded => "superseded".into(),
            End::Refused(refused) => refused.to_string(),
        };
        let callers = |ended: &Ended<Test>| ended.candidate.callers.iter().map(|caller| caller.handle).collect();
        self.ended.drain(..).map(|ended| (ended.proposal.0, spelled(&ended.end), callers(&ended))).collect()
    }
}

#[test]
fn one_that_was_overtaken_is_merged_anew_on_top_of_what_went_first() {
    let mut case = Case::new();
    case.wants("one", "b", None, 1);
    case.merges();
    case.ends();
    case.goes_on = false;
    // Two are proposed on one base: while the first is voted on, the second waits.
    case.wants("two", "c", None, 2);
    case.wants("three", "d", None, 3);
    case.merges();
    case.merges();
    case.goes_on = true;
    let (Directive::Prepare { attempt, .. }, _) = case.sent.last().cloned().unwrap() else { panic!() };
    case.reports(1, Report::Vote { attempt, verdict: Ok(()), found: Findings::default() });
    assert_eq!(case.ends(), [(2, "revision 3".into(), vec![2])]);
    assert_eq!(case.merges(), ProposalId(3), "on the new base");
    assert_eq!(case.ends(), [(3, "revision 4".into(), vec![3])]);
}

#[test]
fn one_that_was_overtaken_gives_way_to_a_newer_one_that_is_not_proposed_yet() {
    let mut case = Case::new();
    case.goes_on = false;
    case.wants("one", "b", None, 1);
    case.wants("two", "c", None, 2);
    case.merges();
    case.merges();
    case.wants("two", "d", None, 3);
    case.goes_on = true;
    let (Directive::Prepare { attempt, .. }, _) = case.sent.last().cloned().unwrap() else { panic!() };
    case.reports(1, Report::Vote { attempt, verdict: Ok(()), found: Findings::default() });
    assert_eq!(case.ends(), [(1, "revision 2".into(), vec![1]), (2, "superseded".into(), vec![2])]);
    // The newer one was merged on the old base, too.
    case.merges();
    case.merges();
    assert_eq!(case.ends(), [(3, "revision 3".into(), vec![3])]);
}

#[test]
fn the_newest_of_one_owner_counts_while_none_is_merged_yet_and_others_go_on() {
    let mut case = Case::new();
    for (owner, text, caller) in [("one", "b", 1), ("one", "broken", 2), ("two", "c", 3), ("one", "d", 4)] {
        case.wants(owner, text, None, caller);
    }
    let superseded = |id, caller| (id, "superseded".to_owned(), vec![caller]);
    assert_eq!(case.ends(), [superseded(1, 1), superseded(2, 2)]);
    assert_eq!(case.merging, [ProposalId(1)], "one at a time, whether or not it still counts");
    case.merges();
    assert_eq!((case.merges(), case.merges()), (ProposalId(3), ProposalId(4)));
    case.merges();
    assert_eq!(case.ends(), [(3, "revision 2".into(), vec![3]), (4, "revision 3".into(), vec![4])]);
}

#[test]
fn one_with_a_base_of_its_own_is_never_merged_anew() {
    let mut case = Case::new();
    case.wants("two", "c", Some(7), 1);
    let stale = "it was made for revision 7, and revision 1 is live";
    assert_eq!(case.ends(), [(1, stale.into(), vec![1])]);
    assert!(case.merging.is_empty());
}

#[test]
fn a_rollback_without_a_target_undoes_one_revision_however_often_it_is_asked_for() {
    let mut case = Case::new();
    case.wants("one", "b", None, 1);
    case.merges();
    case.ends();
    for caller in [1, 2] {
        let want = Want::Rollback { to: None, base: None };
        let caller = Caller { without: BTreeSet::new(), handle: caller };
        case.does(Event::Wanted { want, text: "a", caller });
    }
    // The newer request has taken the place of the older one.
    case.merges();
    case.merges();
    assert_eq!(case.ends(), [(2, "superseded".into(), vec![1]), (3, "revision 3".into(), vec![2])]);
}

#[test]
fn only_what_was_refused_before_a_start_is_judged_again() {
    let merging = |judged| Case::with(judged).merging.len();
    assert_eq!([Judged::Live, Judged::RolledBack, Judged::Refused].map(merging), [0, 0, 1]);
}

#[test]
fn a_refusal_that_is_on_record_is_not_recorded_again_by_a_retry() {
    let mut case = Case::new();
    case.refusal = Some(Refusal::Secret("env:KEY".into()));
    let mut recorded = Vec::new();
    for retry in 0..4 {
        case.later(Duration::from_secs(60));
        case.reads("b");
        case.merges();
        let ended = case.ended.pop().unwrap();
        recorded.push(ended.record);
        if ended.record {
            case.does(Event::Recorded { saying: ended.saying, durable: retry != 0 });
        }
    }
    assert_eq!(recorded, [true, true, false, false], "the first record could not be written");
}

#[test]
fn of_several_edits_the_last_one_says_whether_the_file_was_refused() {
    let mut case = Case::new();
    case.goes_on = false;
    case.reads("b");
    case.merges();
    case.later(Duration::from_secs(1));
    case.reads("broken");
    case.merges();
    let (Directive::Prepare { attempt, .. }, _) = case.sent.last().cloned().unwrap() else { panic!() };
    case.goes_on = true;
    case.reports(1, Report::Vote { attempt, verdict: Ok(()), found: Findings::default() });
    assert_eq!(case.ends(), [(2, "broken".into(), vec![]), (1, "revision 2".into(), vec![])]);
    assert_eq!(case.desk.refused(), Some(digest("broken")), "the file still says so");

    case.later(Duration::from_secs(60));
    case.reads("c");
    assert_eq!(case.desk.refused(), None, "it says something else, which is not judged yet");
    case.merges();
    assert_eq!((case.ends(), case.desk.refused()), (vec![(3, "revision 3".into(), vec![])], None));
}

#[test]
fn callers_of_one_file_get_one_answer_from_the_newest_content() {
    let mut case = Case::new();
    case.goes_on = false;
    case.does(Event::Reload { force: false, caller: Caller { without: BTreeSet::new(), handle: 1 } });
    case.reads("b");
    case.merges();
    case.does(Event::Reload { force: false, caller: Caller { without: BTreeSet::new(), handle: 2 } });
    case.reads("c");
    case.merges();
    // The read that the second caller waited for.
    case.reads("c");
    case.goes_on = true;
    assert_eq!(case.ends(), [(1, "superseded".into(), vec![])]);
    let (Directive::Prepare { attempt, .. }, _) = case.sent.last().cloned().unwrap() else { panic!() };
    case.reports(1, Report::Vote { attempt, verdict: Ok(()), found: Findings::default() });
    assert_eq!(case.ends(), [(2, "revision 2".into(), vec![1, 2])]);
}

#[test]
fn a_difference_starts_from_what_the_router_said_last_and_never_during_a_swap() {
    let mut case = Case::new();
    let base = |case: &Case| case.sent.last().and_then(|(_, base)| *base);
    case.wants("one", "b", None, 1);
    case.merges();
    assert!(
        case.sent
            .iter()
            .any(|(sent, base)| { matches!(sent, Directive::Prepare { .. }) && *base == Some(content("a").digest) })
    );
    case.goes_on = false;
    case.wants("one", "c", None, 2);
    case.merges();
    assert_eq!(base(&case), Some(content("b").digest));
    // Another process of that router says hello. The desk does not remember the content that it holds.
    case.hello(2, "z", 0);
    assert!(matches!(case.sent.last(), Some((Directive::Offer { .. }, None))), "{:?}", case.sent.last());
    case.hello(3, "a", 1);
    assert_eq!(base(&case), Some(content("a").digest));
    // It has not said what came of the offer: the next one is whole, whatever an older stream says.
    case.reports(2, Report::Ack { revision: Revision(1), digest: content("a").digest });
    case.reports(3, Report::Nack { revision: Revision(2), refusal: Refusal::NotHeld });
    assert!(matches!(case.sent.last(), Some((Directive::Offer { .. }, None))), "{:?}", case.sent.last());
}

#[test]
fn a_trial_ends_with_what_routers_say_and_leaves_no_record() {
    let mut case = Case::new();
    case.wants("one", "b", None, 1);
    case.merges();
    case.ends();
    let revision = case.desk.head_revision();
    // Two do not take each other's place.
    case.tries("c", 2);
    case.tries("d", 3);
    case.tries("broken", 4);
    for _ in 0..3 {
        case.merges();
    }
    assert!(case.ended.iter().all(|ended| !ended.record));
    assert_eq!(
        case.ends(),
        [(2, "tried by 1".into(), vec![2]), (3, "tried by 1".into(), vec![3]), (4, "broken".into(), vec![4])]
    );
    assert_eq!(case.desk.head_revision(), revision);

    // A change goes first, and the trial is made on top of it.
    case.goes_on = false;
    case.tries("c", 5);
    case.merges();
    case.goes_on = true;
    case.wants("two", "d", None, 6);
    case.merges();
    assert_eq!(case.ends(), [(6, format!("revision {}", revision.0 + 1), vec![6])]);
    // On the head that the change replaced, and then on that of the change.
    case.merges();
    assert_eq!(case.ends(), []);
    case.merges();
    assert_eq!(case.ends(), [(5, "tried by 1".into(), vec![5])]);
}

#[test]
fn few_trials_wait_at_a_time_and_a_change_is_merged_before_them() {
    let mut case = Case::new();
    for caller in 1..=5 {
        case.tries("c", caller);
    }
    assert_eq!(case.turned_away, [TurnedAway::Trials]);
    case.wants("two", "d", None, 9);
    // The trial whose turn had come, and then the change.
    case.merges();
    case.merges();
    let ends = case.ends();
    assert!(ends.iter().any(|(_, end, callers)| end == "revision 2" && *callers == [9]), "{ends:?}");
}

#[test]
fn a_trial_whose_caller_has_gone_gives_its_place_at_once_and_a_change_goes_on() {
    let mut case = Case::new();
    case.goes_on = false;
    for caller in 1..=4 {
        case.tries("c", caller);
    }
    // One is asked of the router, one is being merged, and two wait for that.
    case.merges();
    assert_eq!(case.merging, [ProposalId(2)]);
    for proposal in [4, 2, 1] {
        case.does(Event::Left { proposal: ProposalId(proposal) });
    }
    let gone = |id, caller| (id, "its caller has gone".to_owned(), vec![caller]);
    assert_eq!(case.ends(), [gone(4, 4), gone(2, 2), gone(1, 1)]);
    for caller in 5..=7 {
        case.tries("d", caller);
    }
    assert!(case.turned_away.is_empty(), "{:?}", case.turned_away);
    case.wants("two", "b", None, 9);
    case.does(Event::Left { proposal: ProposalId(8) });
    case.goes_on = true;
    // What is left of the second, and then the change before the trials.
    case.merges();
    case.merges();
    assert_eq!(case.ends(), [(8, "revision 2".into(), vec![9])]);
}
