//! Rules of the reconciler, as conversations.

use std::time::Duration;

use model::LogId;

use crate::script::{check, content, duration};
use crate::{Exclusions, Findings, Refusal, Source};

use super::*;

mod managers;
mod trials;
mod voterless;

struct Bench {
    now: Time,
    core: Rollout<()>,
    links: BTreeMap<NodeId, Link>,
    names: BTreeMap<Digest, String>,
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Separated by commas.
fn nodes(names: &str) -> BTreeSet<NodeId> {
    names.split(',').filter(|name| !name.is_empty()).map(node).collect()
}

fn attempt(text: &str) -> AttemptId {
    AttemptId { epoch: 7, sequence: text.strip_prefix('#').unwrap().parse().unwrap() }
}

fn layers(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

fn refusal(name: &str) -> Refusal {
    match name {
        "secret" => Refusal::Secret("${env:X}".into()),
        "names" => Refusal::Names("read".into()),
        "not-held" => Refusal::NotHeld,
        "feature" => Refusal::Feature("x".into()),
        "stale" => Refusal::Stale { epoch: 9 },
        other => panic!("no refusal {other}"),
    }
}

impl Bench {
    fn new() -> Self {
        let sender = Sender { log: LogId("log".into()), epoch: 7 };
        Self { now: Time::ZERO, core: Rollout::new(sender, None), links: BTreeMap::new(), names: BTreeMap::new() }
    }

    fn content(&mut self, name: &str) -> Content {
        let content = content(name);
        self.names.insert(content.digest, name.into());
        content
    }

    fn step(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| Revision(text.parse().unwrap());
        match words[0] {
            "head" => {
                let head = Head { revision: number(words[1]), content: self.content(words[2]), layers: layers("") };
                self.core = Rollout::new(self.core.sender().clone(), Some(head));
            }
            "wait" => return self.wait(duration(words[1])),
            "propose" => {
                let proposal = self.proposal(&words);
                self.core.handle(self.now, Event::Proposed(proposal));
            }
            "join" => {
                let without = nodes(words[2].strip_prefix("without=").unwrap());
                self.core.handle(self.now, Event::Joined { proposal: ProposalId(words[1].parse().unwrap()), without });
            }
            "withdraw" => {
                let proposal = ProposalId(words[1].parse().unwrap());
                self.core.handle(self.now, Event::Withdrawn { proposal });
            }
            "appended" => {
                let event = Event::Appended { attempt: attempt(words[1]), revision: number(words[2]) };
                self.core.handle(self.now, event);
            }
            "epoch" => {
                let event = Event::EpochRaised { epoch: words[1].parse().ok() };
                self.core.handle(self.now, event);
            }
            "append-failed" => {
                let event = Event::AppendFailed { attempt: attempt(words[1]), reason: "disk full".into() };
                self.core.handle(self.now, event);
            }
            "detach" => {
                let node = node(words[1]);
                let link = self.links[&node];
                self.core.handle(self.now, Event::RouterDetached { node, link });
            }
            said => {
                let node = node(words[1]);
                let report = match said {
                    "hello" => {
                        let link = Link(1 + self.links.values().map(|link| link.0).max().unwrap_or(0));
                        self.links.insert(node.clone(), link);
                        Report::Hello {
                            node: node.clone(),
                            boot: "b".into(),
                            applied: number(words[2]),
                            digest: words.get(3).map(|name| self.content(name).digest),
                            features: vec![],
                        }
                    }
                    "yes" => Report::Vote { attempt: attempt(words[2]), verdict: Ok(()), found: Findings::default() },
                    "no" => Report::Vote {
                        attempt: attempt(words[2]),
                        verdict: Err(refusal(words[3])),
                        found: Findings::default(),
                    },
                    "ack" => Report::Ack { revision: number(words[2]), digest: self.content(words[3]).digest },
                    "nack" => Report::Nack { revision: number(words[2]), refusal: refusal(words[3]) },
                    other => panic!("no such line: {other}"),
                };
                let link = self.links[&node];
                self.core.handle(self.now, Event::Report { node, link, report });
            }
        }
        self.drain()
    }

    fn proposal(&mut self, words: &[&str]) -> Proposal<()> {
        let option = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let number = |text: &str| Revision(text.parse().unwrap());
        Proposal {
            id: ProposalId(words[1].parse().unwrap()),
            source: Source { owner: Owner(words[2].into()), actor: "u".into() },
            kind: match (option("to="), words.contains(&"restore")) {
                (Some(to), _) => Kind::Rollback { to: number(to) },
                (None, true) => Kind::Restore,
                (None, false) => Kind::Change,
            },
            base: option("base=").map(number),
            content: self.content(words[3]),
            layers: layers(option("layers=").unwrap_or_default()),
            payload: (),
            cursors: BTreeMap::new(),
            without: Exclusions::of(option("without=").map(nodes).unwrap_or_default()),
            trial: words.contains(&"trial"),
        }
    }

    fn wait(&mut self, wait: Duration) -> Vec<String> {
        let end = self.now + wait;
        let mut lines = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            assert!(at > self.now, "a deadline that has passed would spin");
            self.now = at;
            self.core.handle(at, Event::Woke);
            let at = at.since(Time::ZERO).as_secs_f64();
            lines.extend(self.drain().into_iter().map(|line| format!("{at:.1}: {line}")));
        }
        self.now = end;
        lines
    }

    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            lines.extend(self.line(effect));
        }
        lines
    }

    fn line(&self, effect: Effect<()>) -> Option<String> {
        let name = |digest: &Digest| &self.names[digest];
        Some(match effect {
            Effect::Send { node, directive, .. } => match directive {
                Directive::Prepare { attempt, content, .. } => {
                    format!("{node}: prepare #{} {}", attempt.sequence, name(&content.digest))
                }
                Directive::Renew { attempt, .. } => format!("{node}: renew #{}", attempt.sequence),
                Directive::Abort { attempt } => format!("{node}: abort #{}", attempt.sequence),
                Directive::Commit { attempt, revision, .. } => {
                    format!("{node}: commit #{} as {revision}", attempt.sequence)
                }
                Directive::Offer { revision, content } => format!("{node}: offer {revision} {}", name(&content.digest)),
            },
            Effect::Append(record) => format!(
                "append #{} {} after {}: {}{}",
                record.attempt.sequence,
                record.revision,
                record.parent,
                name(&record.content.digest),
                record.without.iter().map(|node| format!(" without {node}")).collect::<String>()
            ),
            Effect::RaiseEpoch { above } => format!("raise above {above}"),
            Effect::Resolve { proposal, outcome } => format!(
                "{} {}",
                proposal.0,
                match outcome {
                    Outcome::Applied(applied) => {
                        format!("is {} on {:?}, not on {:?}", applied.revision, applied.routers, applied.missing)
                    }
                    Outcome::Tried(votes) => format!("was tried by {:?}", votes.keys().collect::<BTreeSet<_>>()),
                    Outcome::NoChange { revision } => format!("is {revision} already"),
                    Outcome::Refused(reason) => format!("refused (heals: {}): {reason}", reason.heals()),
                }
            ),
            Effect::Notice(notice) => match notice {
                Notice::Waiting { proposal } => format!("{} waits for a voter", proposal.0),
                Notice::AttemptDropped { attempt, .. } => format!("#{} dropped", attempt.sequence),
                Notice::Behind { node, refusal, retry_in, .. } => format!("{node} behind for {retry_in:?}: {refusal}"),
                Notice::CaughtUp { node, revision } => format!("{node} caught up with {revision}"),
                Notice::NumbersAbove { node, revision } => format!("{node} has {revision}"),
                Notice::Deposed { epoch, raised: false } => format!("deposed by {epoch}"),
                Notice::Deposed { epoch, raised: true } => format!("an epoch of {epoch} was there"),
                Notice::AttemptStarted { .. }
                | Notice::Voted { .. }
                | Notice::LeftRound { .. }
                | Notice::AttemptEnded { .. }
                | Notice::Tried { .. }
                | Notice::Committed { .. }
                | Notice::Applied(_)
                | Notice::Attached { .. }
                | Notice::Detached { .. }
                | Notice::Acked { .. } => return None,
            },
        })
    }
}

#[track_caller]
fn says(script: &str) {
    let mut bench = Bench::new();
    check(script, |line| bench.step(line));
}

#[test]
fn a_change_is_voted_appended_committed_and_acked() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         yes r1 #1
         yes r1 #1
         yes r2 #1
         > append #1 2 after 1: ab
         # what comes too late changes nothing
         no r2 #1 secret
         appended #1 2
         > r1: commit #1 as 2
         > r2: commit #1 as 2
         ack r1 2 ab
         ack r2 2 ab
         > 1 is 2 on {r1, r2}, not on {}
         propose 2 file ab base=2
         > 2 is 2 already",
    );
}

#[test]
fn one_no_ends_it_and_uses_no_number() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         no r1 #1 names
         > r2: abort #1
         > 1 refused (heals: false): router r1: tool names collide: read
         propose 2 file ac base=1
         > r1: prepare #2 ac
         > r2: prepare #2 ac
         yes r2 #2
         yes r1 #1
         yes r1 #2
         > append #2 2 after 1: ac
         append-failed #2
         > r1: abort #2
         > r2: abort #2
         > 2 refused (heals: true): the log could not be written: disk full
         propose 3 api:x ad base=1
         > r1: prepare #3 ad
         > r2: prepare #3 ad
         yes r1 #3
         yes r2 #3
         > append #3 2 after 1: ad",
    );
}

#[test]
fn silence_is_a_no_and_leases_are_renewed_until_then() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         yes r1 #1
         wait 7s
         > 3.3: r1: renew #1
         > 3.3: r2: renew #1
         > 6.7: r1: renew #1
         > 6.7: r2: renew #1
         # from now on it is renewed nine seconds more, and then a manager that lived would have the votes
         detach r1
         wait 4s
         > 10.0: r2: renew #1
         yes r2 #1
         > append #1 2 after 1: ab",
    );
    let mut bench = Bench::new();
    let mut step = |line: &str| bench.step(line);
    for line in ["head 1 a", "hello r1 1 a", "propose 1 file ab base=1"] {
        step(line);
    }
    let mut lines = step("wait 30s");
    let last = lines.split_off(lines.len() - 2);
    assert_eq!(
        last,
        ["30.0: r1: abort #1", "30.0: 1 refused (heals: true): router r1: no vote arrived in time"],
        "at the deadline and not before"
    );
}

#[test]
fn equal_contents_of_unequal_layers_are_two_revisions() {
    says(
        "head 1 a
         hello r1 1 a
         propose 1 api:x a base=1
         > 1 is 1 already
         propose 2 api:x a base=1 layers=x
         > r1: prepare #1 a
         yes r1 #1
         > append #1 2 after 1: a
         # what was made of the layers before
         propose 3 api:y a base=1 layers=y
         appended #1 2
         > r1: commit #1 as 2
         ack r1 2 a
         > 2 is 2 on {r1}, not on {}
         > 3 refused (heals: true): it was made for revision 1, and revision 2 is live
         propose 4 rollback a to=1 layers=x
         > 4 is 2 already
         propose 5 rollback a to=1
         > append #2 3 after 2: a",
    );
}

#[test]
fn who_leaves_the_round_does_not_hold_it_up() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         yes r1 #1
         detach r2
         > append #1 2 after 1: ab
         # back on another stream before it is decided: no voter, so it is offered what was decided
         hello r2 1 a
         appended #1 2
         > r1: commit #1 as 2
         > r2: offer 2 ab
         nack r2 2 feature
         > r2 behind for 1s: this router lacks x, which the snapshot needs
         ack r1 2 ab
         > 1 is 2 on {r1}, not on {r2}",
    );
}

#[test]
fn a_router_that_is_behind_is_asked_again_and_has_no_vote() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 0
         > r2: offer 1 a
         nack r2 1 secret
         > r2 behind for 1s: a secret cannot be resolved here: ${env:X}
         propose 1 file ab base=1
         > r1: prepare #1 ab
         yes r1 #1
         > append #1 2 after 1: ab
         appended #1 2
         > r1: commit #1 as 2
         > r2: offer 2 ab
         ack r1 2 ab
         > 1 is 2 on {r1}, not on {r2}
         wait 30s
         > 10.0: r2 behind for 2s: no vote arrived in time
         > 12.0: r2: offer 2 ab
         > 22.0: r2 behind for 4s: no vote arrived in time
         > 26.0: r2: offer 2 ab
         ack r2 2 ab
         > r2 caught up with 2",
    );
}

#[test]
fn one_attempt_at_a_time_newest_of_a_source_rollbacks_and_removals_first() {
    says(
        "head 4 abc
         hello r1 4 abc
         propose 1 api:x abcd base=4
         > r1: prepare #1 abcd
         propose 2 file abce base=4
         propose 3 file abcf base=4
         > 2 refused (heals: false): a newer proposal of the same source took its place
         propose 4 api:y ab base=4
         > r1: abort #1
         > 1 refused (heals: true): another change went first
         > r1: prepare #2 ab
         propose 5 op x to=2
         > r1: abort #2
         > 4 refused (heals: true): another change went first
         > append #3 5 after 4: x
         # a rollback asks nobody, and neither waits for acks of the one before it
         propose 6 op2 y to=1
         appended #3 5
         > r1: offer 5 x
         > 5 is 5 on {}, not on {r1}
         > append #4 6 after 5: y
         appended #4 6
         > r1: offer 6 y
         ack r1 5 x
         ack r1 6 y
         > 6 is 6 on {r1}, not on {}
         > 3 refused (heals: true): it was made for revision 4, and revision 6 is live",
    );
}

#[test]
fn first_revision_restores_and_one_phase_ask_nobody() {
    says(
        "hello r1 0
         propose 1 file ab
         > append #1 1 after 0: ab
         appended #1 1
         > r1: offer 1 ab
         ack r1 1 ab
         > 1 is 1 on {r1}, not on {}
         propose 2 file ac1 base=1
         > append #2 2 after 1: ac1
         appended #2 2
         > r1: offer 2 ac1
         nack r1 2 secret
         > r1 behind for 1s: a secret cannot be resolved here: ${env:X}
         > 2 is 2 on {}, not on {r1}",
    );
}

#[test]
fn a_head_that_everybody_refused_is_no_dead_end() {
    says(
        "propose 1 file a
         > append #1 1 after 0: a
         appended #1 1
         > 1 is 1 on {}, not on {}
         hello r1 0
         > r1: offer 1 a
         propose 2 file b base=1
         > 2 waits for a voter
         nack r1 1 secret
         > r1 behind for 1s: a secret cannot be resolved here: ${env:X}
         > r1: prepare #2 b
         yes r1 #2
         > append #2 2 after 1: b",
    );
}

#[test]
fn what_was_prepared_and_lost_is_offered() {
    says(
        "head 1 a
         hello r1 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         yes r1 #1
         > append #1 2 after 1: ab
         appended #1 2
         > r1: commit #1 as 2
         nack r1 2 not-held
         > r1: offer 2 ab
         ack r1 2 ab
         > 1 is 2 on {r1}, not on {}",
    );
}
