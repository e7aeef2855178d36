//! How a process ended: the last that it says, and its exit code. A part that hangs is named, and keeps no other part
//! from its end.

use std::{collections::BTreeMap, fmt, process::ExitCode};

use crate::{escape::say, exit, shutdown::WoundDown, tasks::Joined};

/// Everything that did not end by itself and in time, a line each.
#[derive(Debug, Default)]
#[must_use]
pub struct Ending {
    forced: Vec<String>,
}

impl Ending {
    /// `cut_off` are the calls that were cut off, by what they were waiting for.
    pub fn of(wound_down: WoundDown, cut_off: &BTreeMap<String, usize>) -> Self {
        let forced = match wound_down {
            WoundDown::Drained => None,
            WoundDown::Forced if cut_off.is_empty() => Some("what was in flight was cut off".to_owned()),
            WoundDown::Forced => Some(format!("calls in flight were cut off: {}", listed(cut_off.iter()))),
        };
        Self { forced: forced.into_iter().collect() }
    }

    /// A part beside the tasks.
    pub fn part(&mut self, in_peace: bool, name: &str) {
        if !in_peace {
            self.forced.push(format!("{name} did not end in time, or failed"));
        }
    }

    pub fn joined(&mut self, joined: &Joined) {
        self.forced.extend(joined.failures.iter().map(ToString::to_string));
        if !joined.aborted.is_empty() {
            let tasks = joined.aborted.iter().fold(BTreeMap::new(), |mut tasks: BTreeMap<_, usize>, name| {
                *tasks.entry(*name).or_default() += 1;
                tasks
            });
            self.forced.push(format!("tasks did not end in time: {}", listed(tasks.iter())));
        }
    }

    pub fn is_clean(&self) -> bool {
        self.forced.is_empty()
    }

    /// Writes a line to stderr for each of them.
    #[must_use]
    pub fn tell(&self, program: &str) -> ExitCode {
        for line in &self.forced {
            say(&format!("{program}: {line}\n"));
        }
        exit::of(self.is_clean())
    }
}

fn listed<'a>(all: impl Iterator<Item = (impl fmt::Display, &'a usize)>) -> String {
    all.map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forced_is_named() {
        let mut ending = Ending::of(WoundDown::Drained, &BTreeMap::new());
        ending.part(true, "the router");
        ending.joined(&Joined::default());
        assert!(ending.is_clean());

        let cut_off = BTreeMap::from([("slow".to_owned(), 3), ("other".to_owned(), 1)]);
        let mut ending = Ending::of(WoundDown::Forced, &cut_off);
        ending.part(false, "the router");
        ending.joined(&Joined { failures: Vec::new(), aborted: vec!["grpc", "list tools", "grpc"] });
        let expected = [
            "calls in flight were cut off: other (1), slow (3)",
            "the router did not end in time, or failed",
            "tasks did not end in time: grpc (2), list tools (1)",
        ];
        assert_eq!(ending.forced, expected);
        let nothing = Ending::of(WoundDown::Forced, &BTreeMap::new());
        assert_eq!(nothing.forced, ["what was in flight was cut off"]);
    }
}
