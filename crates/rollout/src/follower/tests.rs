//! Rules of a router, as conversations.

use model::{BackendId, CandidateOutcome, CandidateResult, EndpointKey, LogId, VariantId};

use crate::script::{check, content, duration};

use super::*;

struct Bench {
    now: Time,
    core: Follower,
}

fn attempt(text: &str) -> AttemptId {
    let (epoch, sequence) = text.strip_prefix('#').unwrap().split_once('.').unwrap();
    AttemptId { epoch: epoch.parse().unwrap(), sequence: sequence.parse().unwrap() }
}

impl Bench {
    fn new() -> Self {
        let identity = Identity { node: NodeId::new("r").unwrap(), boot: "b".into(), features: vec![] };
        let saved = Saved {
            sender: Sender { log: LogId("log".into()), epoch: 3 },
            revision: Revision(1),
            content: content("a"),
        };
        Self { now: Time::ZERO, core: Follower::new(identity, Some(&saved)) }
    }

    fn step(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| Revision(text.parse().unwrap());
        let event = match words[0] {
            "attached" => Event::Attached,
            "detached" => Event::Detached,
            "wait" => {
                self.now = self.now + duration(words[1]);
                Event::Woke
            }
            "built" => Event::Built {
                attempt: attempt(words[1]),
                found: Findings {
                    outcomes: words[2..].iter().map(|word| outcome(word)).collect(),
                    ..Findings::default()
                },
                refusal: None,
            },
            "unbuildable" => Event::Built {
                attempt: attempt(words[1]),
                found: Findings::default(),
                refusal: Some(Refusal::Names("read".into())),
            },
            "swapped" => Event::Swapped { revision: number(words[1]) },
            sender => {
                let (log, epoch) = sender.split_once('/').unwrap();
                let lease = Duration::from_secs(10);
                Event::Directive {
                    sender: Sender { log: LogId(log.into()), epoch: epoch.parse().unwrap() },
                    directive: match words[1] {
                        "prepare" => {
                            Directive::Prepare { attempt: attempt(words[2]), content: content(words[3]), lease }
                        }
                        "renew" => Directive::Renew { attempt: attempt(words[2]), lease },
                        "abort" => Directive::Abort { attempt: attempt(words[2]) },
                        "commit" => Directive::Commit {
                            attempt: attempt(words[2]),
                            revision: number(words[3]),
                            digest: content(words[4]).digest,
                        },
                        "offer" => Directive::Offer { revision: number(words[2]), content: content(words[3]) },
                        other => panic!("no such line: {other}"),
                    },
                }
            }
        };
        self.core.handle(self.now, event);
        std::iter::from_fn(|| self.core.poll_effect()).map(answer).collect()
    }
}

/// `a+` came up, `a-` failed, `a?` was not tried.
fn outcome(word: &str) -> CandidateOutcome {
    let result = match &word[1..] {
        "+" => CandidateResult::Ready { tools: 1, took: Duration::ZERO },
        "-" => CandidateResult::Failed { reason: "down".into() },
        _ => CandidateResult::Unprobed,
    };
    let backend = BackendId::new(&word[..1]).unwrap();
    let key = EndpointKey { backend, variant: VariantId::only(), digest: Digest::of_bytes(word.as_bytes()) };
    CandidateOutcome { endpoint: key, result }
}

fn answer(effect: Effect) -> String {
    let servers = |content: &Content| content.snapshot.backends.iter().map(|b| b.id.as_str()).collect::<String>();
    match effect {
        Effect::Build { attempt, content, .. } => format!("build #{attempt} {}", servers(&content)).trim_end().into(),
        Effect::Discard { attempt, .. } => format!("discard #{attempt}"),
        Effect::Swap { revision, content, prepared } => match prepared {
            Some(attempt) => format!("swap {revision} {} from #{attempt}", servers(&content)),
            None => format!("swap {revision} {}", servers(&content)),
        },
        Effect::Save(saved) => format!("save {} of {}/{}", saved.revision, saved.sender.log, saved.sender.epoch),
        Effect::Send(Report::Hello { applied, .. }) => format!("hello {applied}"),
        Effect::Send(Report::Vote { attempt, verdict, .. }) => match verdict {
            Ok(()) => format!("yes #{attempt}"),
            Err(refusal) => format!("no #{attempt}: {refusal}"),
        },
        Effect::Send(Report::Ack { revision, .. }) => format!("ack {revision}"),
        Effect::Send(Report::Nack { revision, refusal }) => format!("nack {revision}: {refusal}"),
    }
}

#[track_caller]
fn says(script: &str) {
    let mut bench = Bench::new();
    check(script, |line| bench.step(line));
}

#[test]
fn prepared_then_committed() {
    says(
        "attached
         > hello 1
         log/3 prepare #3.1 ab
         > build #3.1 ab
         # nothing goes live that is not ready
         log/3 commit #3.1 2 ab
         > nack 2: the attempt is not held here (its lease ended, or this router started after it)
         built #3.1 b+
         > yes #3.1
         log/3 commit #3.1 2 ac
         > nack 2: the attempt is not held here (its lease ended, or this router started after it)
         log/3 commit #3.1 2 ab
         > swap 2 ab from #3.1
         log/3 commit #3.1 2 ab
         swapped 2
         > ack 2
         > save 2 of log/3
         log/3 commit #3.1 2 ab
         > ack 2",
    );
}

#[test]
fn a_refused_attempt_is_over() {
    says(
        "attached
         > hello 1
         log/3 prepare #3.1 abc
         > build #3.1 abc
         built #3.1 b- c-
         > discard #3.1
         > no #3.1: b did not come up: down; c did not come up: down (0 of 2 changed servers came up, at least 50% must)
         log/3 prepare #3.2 a!bc
         > build #3.2 abc
         built #3.2 b- c+
         > discard #3.2
         > no #3.2: b did not come up, and is critical: down
         log/3 prepare #3.3 abc
         > build #3.3 abc
         unbuildable #3.3
         > discard #3.3
         > no #3.3: tool names collide: read
         log/3 prepare #3.4 abcd
         > build #3.4 abcd
         # one that may not run beside its old copy says nothing, and half of the others is exactly enough
         built #3.4 b- c+ d?
         > yes #3.4
         log/3 prepare #3.5 -
         > discard #3.4
         > build #3.5
         built #3.5
         > yes #3.5",
    );
}

#[test]
fn one_attempt_under_a_lease() {
    says(
        "attached
         > hello 1
         log/3 prepare #3.1 ab
         > build #3.1 ab
         log/3 prepare #3.2 ac
         > discard #3.1
         > build #3.2 ac
         built #3.1 b+
         log/3 abort #3.1
         log/3 prepare #3.1 ab
         wait 9s
         log/3 renew #3.2
         wait 9s
         built #3.2 c+
         > yes #3.2
         wait 1s
         > discard #3.2
         log/3 prepare #3.3 ac
         > build #3.3 ac
         log/3 abort #3.3
         > discard #3.3",
    );
}

#[test]
fn an_offer_is_taken_as_it_is_and_uses_what_was_prepared() {
    says(
        "attached
         > hello 1
         log/3 prepare #3.1 ab
         > build #3.1 ab
         built #3.1 b+
         > yes #3.1
         # the manager started anew between append and commit
         detached
         attached
         > hello 1
         log/4 offer 2 ab
         > swap 2 ab from #3.1
         swapped 2
         > ack 2
         > save 2 of log/4
         log/4 prepare #4.1 ac
         > build #4.1 ac
         log/4 offer 3 a
         > discard #4.1
         > swap 3 a
         log/4 offer 4 b
         log/4 offer 5 c
         swapped 3
         > ack 3
         > save 3 of log/4
         > swap 5 c
         swapped 5
         > ack 5
         > save 5 of log/4",
    );
}

#[test]
fn never_back_and_never_an_older_manager() {
    says(
        "attached
         > hello 1
         log/5 offer 7 ab
         > swap 7 ab
         swapped 7
         > ack 7
         > save 7 of log/5
         log/5 offer 6 a
         > ack 7
         log/4 offer 8 a
         > nack 8: a config-manager of epoch 5 was seen on this log; the one that spoke is older
         log/4 prepare #4.9 a
         > no #4.9: a config-manager of epoch 5 was seen on this log; the one that spoke is older
         # another log starts over, but not with lower numbers
         log/5 prepare #5.1 abc
         > build #5.1 abc
         new/1 offer 1 a
         > discard #5.1
         > ack 7
         new/1 offer 8 a
         > swap 8 a",
    );
}

#[test]
fn nothing_is_said_to_nobody() {
    says(
        "log/3 offer 2 ab
         > swap 2 ab
         swapped 2
         > save 2 of log/3
         attached
         > hello 2",
    );
}
