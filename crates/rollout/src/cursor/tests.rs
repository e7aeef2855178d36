//! Rules of a source, as conversations. Times are milliseconds since the start.

use crate::script::check;

use super::*;

mod rolled_back;
mod start;

struct Bench {
    core: SourceCore,
}

fn digest(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

fn stamp(text: &str) -> Option<Stamp> {
    (text != "-").then(|| Stamp { size: text.parse().unwrap(), modified: 0, identity: 0 })
}

impl Bench {
    /// A file that said `a` when it was judged last and is read for the first time, without polling in the way.
    fn new() -> Self {
        Self::judged_before(Some(Judged::Live))
    }

    /// The judgement of `a`, if it was ever judged.
    fn judged_before(judged: Option<Judged>) -> Self {
        let cursor = judged.map(|judged| Cursor { digest: digest("a"), judged });
        let policy = SourcePolicy { poll_interval: Duration::from_secs(3600), ..SourcePolicy::default() };
        let mut core = SourceCore::new(Time::ZERO, policy, cursor);
        assert_eq!(core.poll_effect(), Some(Effect::Read));
        Self { core }
    }

    /// `at` runs deadlines up to then; the rest of the line is the event.
    fn step(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = Time::ZERO + Duration::from_millis(words[0].parse().unwrap());
        let mut lines = Vec::new();
        while let Some(deadline) = self.core.next_deadline().filter(|deadline| *deadline <= at) {
            self.core.handle(deadline, Event::Woke);
            let ms = deadline.since(Time::ZERO).as_millis();
            lines.extend(self.drain().into_iter().map(|line| format!("{ms} {line}")));
        }
        let event = match words[1] {
            "moved" => Event::Noticed { write: Write::Complete, stamp: stamp(words[2]) },
            "written" => Event::Noticed { write: Write::InPlace, stamp: stamp(words[2]) },
            "writes" => Event::Noticed { write: Write::Open, stamp: stamp(words[2]) },
            "closed" => Event::Noticed { write: Write::Closed, stamp: stamp(words[2]) },
            "looks" => Event::Noticed { write: Write::Polled, stamp: stamp(words[2]) },
            "read" | "torn" => Event::Read {
                stamp: stamp(words[2]),
                torn: words[1] == "torn",
                found: match words.get(3) {
                    None => Found::Missing,
                    Some(&"unreadable") => Found::Unreadable("denied".into()),
                    Some(name) => Found::Digest(digest(name)),
                },
            },
            "applied" => self.judged(words[2], Judgement::Applied),
            "same" => self.judged(words[2], Judgement::NoChange),
            "refused" => self.judged(words[2], Judgement::Refused { heals: words.contains(&"heals") }),
            "overtaken" => self.judged(words[2], Judgement::Overtaken),
            "rolled-back" => Event::RolledBack { cursor: digest(words[2]), refused: words.contains(&"refused") },
            "asked" => Event::Asked { force: words.contains(&"force"), sure: !words.contains(&"unsure") },
            "tick" => Event::Woke,
            other => panic!("no such line: {other}"),
        };
        self.core.handle(at, event);
        lines.extend(self.drain());
        lines
    }

    fn judged(&self, turn: &str, judgement: Judgement) -> Event {
        Event::Judged { turn: Turn(turn.parse().unwrap()), judgement }
    }

    fn drain(&mut self) -> Vec<String> {
        let name =
            |digest: &Digest| ["a", "b", "c", "half"].into_iter().find(|name| *digest == self::digest(name)).unwrap();
        let mut lines = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            lines.push(match effect {
                Effect::Look => "look".into(),
                Effect::Read => "read".into(),
                Effect::Propose { turn, digest, retry } => {
                    format!("propose {} {}{}", turn.0, name(&digest), if retry { " again" } else { "" })
                }
                Effect::SaveCursor { digest } => format!("keep {}", name(&digest)),
                Effect::Answer(answer) => match answer {
                    Answer::Unchanged { .. } => "answer: nothing to do".into(),
                    Answer::UnderWay { turn } => format!("answer: see {}", turn.0),
                    Answer::Missing => "answer: missing".into(),
                    Answer::Unreadable(reason) => format!("answer: {reason}"),
                },
                Effect::StateChanged => match self.core.state() {
                    State::Settling { .. } => "settling".into(),
                    State::Missing { .. } => "missing".into(),
                    State::Refused { next_attempt: Some(_), .. } => "refused, will try again".into(),
                    State::Refused { next_attempt: None, .. } => "refused".into(),
                    State::Unread | State::Followed { .. } | State::Judging { .. } | State::Unreadable { .. } => {
                        continue;
                    }
                },
            });
        }
        lines
    }
}

#[track_caller]
fn says(script: &str) {
    let mut bench = Bench::new();
    check(script, |line| bench.step(line));
}

#[test]
fn a_complete_write_is_read_at_once_and_a_burst_once_more() {
    says(
        "0 read 1 a
         1000 moved 2
         > read
         1001 read 2 b
         > propose 1 b
         1002 applied 1
         1003 moved 3
         1008 moved 4
         1017 tick
         1018 tick
         > 1018 read
         1019 read 4 c
         > propose 2 c
         1025 moved 5
         1034 moved 6
         1043 moved 7
         1044 read 7 c
         2000 tick
         > 1053 read",
    );
}

#[test]
fn an_endless_burst_is_read_four_times_a_second() {
    let mut bench = Bench::new();
    bench.step("0 read 1 a");
    let reads: usize = (0..200)
        .map(|i| {
            let at = 1000 + i * 5;
            let mut lines = bench.step(&format!("{at} moved {i}"));
            lines.retain(|line| line.ends_with("read"));
            for _ in &lines {
                bench.step(&format!("{at} read {i} b"));
            }
            lines.len()
        })
        .sum();
    assert_eq!(reads, 4, "once at once, then at 250, 500 and 750 ms");
}

#[test]
fn an_in_place_write_has_to_hold_still() {
    says(
        "0 read 1 a
         1000 written 2
         > settling
         1400 written 2
         1899 tick
         1900 tick
         > 1900 look
         1901 looks 3
         2401 tick
         > 2401 look
         2402 looks 3
         > read
         2403 torn 4 half
         2903 tick
         > 2903 look
         2904 looks 4
         > read
         2905 read 4 b
         > propose 1 b",
    );
}

#[test]
fn what_never_settles_is_judged_as_it_is_after_ten_seconds() {
    let mut bench = Bench::new();
    bench.step("0 read 1 a");
    let mut at = 1000;
    let mut size = 2;
    let first = loop {
        let mut lines = bench.step(&format!("{at} written {size}"));
        lines.extend(bench.step(&format!("{at} looks {size}")));
        if lines.iter().any(|line| line == "read") {
            break at;
        }
        (at, size) = (at + 200, size + 1);
    };
    assert_eq!(first, 11_000);
    assert_eq!(bench.step("11001 torn 99 half"), ["propose 1 half"]);
}

#[test]
fn a_writer_that_stalls_is_waited_for_until_it_closes_the_file() {
    says(
        "0 read 1 a
         1000 writes 2
         > settling
         # what a look finds, and a change of the file's mode, says nothing of the writer
         2000 looks 2
         2500 written 2
         3000 looks 3
         # for longer than the file has to hold still
         5000 tick
         5100 writes 4
         5101 closed 4
         5600 tick
         5601 tick
         > 5601 look
         5602 looks 4
         > read
         5603 read 4 b
         > propose 1 b",
    );
}

#[test]
fn a_file_that_its_writer_never_closes_is_judged_after_ten_seconds() {
    says(
        "0 read 1 a
         1000 writes 2
         > settling
         10999 tick
         11000 tick
         > 11000 look
         11001 looks 2
         > read
         11002 read 2 half
         > propose 1 half
         11003 refused 1
         > keep half
         > refused
         # and what it writes after that has its own time
         12000 writes 3
         > settling
         12100 closed 3
         12600 tick
         > 12600 look
         12601 looks 3
         > read
         12602 read 3 b
         > propose 2 b",
    );
}

#[test]
fn who_asks_does_not_wait_for_a_writer() {
    says(
        "0 read 1 a
         1000 writes 2
         > settling
         1100 asked
         > read
         1101 read 2 b
         > propose 1 b
         # a file that is moved into place ends the wait for a writer of the one before
         1102 applied 1
         2000 writes 3
         2100 moved 4
         > read
         2101 read 4 c
         > propose 2 c
         # a request that had to wait says nothing of the file as it is now
         2102 applied 2
         3000 writes 5
         > settling
         3100 asked unsure
         > read
         3101 read 5 half
         3200 closed 6
         3701 tick
         > 3700 look
         3702 looks 6
         > read
         3703 read 6 c
         > answer: nothing to do",
    );
}

#[test]
fn nothing_half_written_is_judged_by_a_read_for_another_reason() {
    says(
        "0 read 1 a
         100 moved 2
         > read
         101 read 2 b
         > propose 1 b
         102 refused 1 heals
         > refused, will try again
         1000 written 3
         > settling
         1102 tick
         > 1102 read
         1103 read 3 half
         # the read showed that somebody writes on
         1500 tick
         1501 looks 4
         2001 tick
         > 2001 look
         2002 looks 4
         > read
         2003 read 4 b
         > propose 2 b again",
    );
}

#[test]
fn only_another_digest_is_judged_again_unless_it_can_heal() {
    says(
        "0 read 1 a
         0 moved 1
         > read
         1 read 1 b
         > propose 1 b
         1 refused 1
         > keep b
         > refused
         50 moved 2
         > read
         51 read 2 b
         100 asked
         > read
         101 read 2 b
         > propose 2 b again
         102 refused 2 heals
         > refused, will try again
         200 moved 3
         > read
         201 read 3 b
         1102 tick
         > 1102 read
         1103 read 3 b
         > propose 3 b again
         1104 refused 3 heals
         > refused, will try again
         3104 tick
         > 3104 read
         3105 read 3 c
         > propose 4 c
         3106 same 4
         > keep c
         60000 tick",
    );
}

#[test]
fn back_to_what_was_live_while_the_next_one_is_judged() {
    says(
        "0 read 1 a
         0 moved 1
         > read
         1 read 1 b
         > propose 1 b
         50 moved 2
         > read
         51 read 2 a
         > propose 2 a
         52 overtaken 1
         53 overtaken 2
         153 tick
         > 153 read
         154 read 2 b
         > propose 3 b",
    );
}

#[test]
fn a_missing_file_changes_nothing_and_comes_back() {
    says(
        "0 read 1 a
         10 looks -
         > settling
         510 tick
         > 510 look
         511 looks -
         > read
         512 read -
         > missing
         600 looks -
         700 asked
         > read
         701 read -
         > answer: missing
         800 moved 2
         > read
         801 read 2 a",
    );
}

#[test]
fn one_read_at_a_time_and_none_too_few() {
    says(
        "0 asked
         1 read 1 a
         > read
         2 read 1 b
         > propose 1 b
         3 asked
         > read
         4 read 1 b
         > answer: see 1
         # whoever asks gets an answer to the whole of it
         1000 asked
         > read
         1001 torn 2 half
         > settling
         1501 tick
         > 1501 look
         1502 looks 2
         > read
         1503 read 2 b
         > answer: see 1",
    );
}
