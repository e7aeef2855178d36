//! Rate-limited log lines, for lines that a peer can cause as often as it likes: a burst first, then one per interval.
//! The next line says how many were left out.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The start of time for callers that have no clock of their own.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How often one kind of line is written.
#[derive(Debug)]
pub struct Sparing {
    /// As the metric has it: `only1mcp_log_lines_left_out_total{line}`.
    line: &'static str,
    burst: u32,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since the beginning of the clock: the time that the lines so far have used up.
    used: Duration,
    left_out: u64,
}

impl Sparing {
    /// `burst` lines at once, and one `every` so often for ever.
    pub const fn new(line: &'static str, burst: u32, every: Duration) -> Self {
        Self { line, burst, every, state: Mutex::new(State { used: Duration::ZERO, left_out: 0 }) }
    }

    /// Whether to write the line now, and then how many were left out before it.
    pub fn line(&self) -> Option<u64> {
        self.line_at(BEGUN.elapsed())
    }

    /// As [`Self::line`], by the caller's clock; a [`Sparing`] is asked by one clock only.
    pub fn line_at(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let used = state.used.max(now) + self.every;
        if used > now + self.every.saturating_mul(self.burst) {
            state.left_out += 1;
            drop(state);
            metrics::counter!("only1mcp_log_lines_left_out_total", "line" => self.line).increment(1);
            return None;
        }
        state.used = used;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_that_say_how_many_are_missing() {
        let sparing = Sparing::new("test", 3, Duration::from_secs(10));
        let at = |millis| sparing.line_at(Duration::from_millis(millis));
        let lines: Vec<_> = (0..60_000).filter_map(at).collect();
        assert_eq!(lines.len(), 3 + 5, "three at once, and one each ten seconds");
        assert_eq!((&lines[..3], lines[3]), (&[0, 0, 0][..], 9_997));
        assert_eq!(at(1_000_000).map(|left_out| left_out > 0), Some(true));
        assert_eq!(
            (at(1_000_000), at(1_000_000), at(1_000_000)),
            (Some(0), Some(0), None),
            "a calm gives the burst back"
        );
    }
}
