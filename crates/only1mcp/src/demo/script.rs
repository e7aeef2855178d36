//! What a tool call sends and when: progress notifications at their times, then the answer.

use std::time::Duration;

use super::message;

/// A call in progress, as a sequence of waits and messages. A call that answers at once is a script without steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Progress token as written, when the client asked for progress.
    token: Option<String>,
    steps: u64,
    done: u64,
    interval: Duration,
    /// The response; taken by the last step.
    answer: Option<String>,
}

/// Wait for `after`, then send `message`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) message: String,
}

impl Script {
    pub(crate) fn at_once(answer: String) -> Self {
        Self { token: None, steps: 0, done: 0, interval: Duration::ZERO, answer: Some(answer) }
    }

    /// `steps` waits of `interval` each, one progress notification after each when there is a token, then `answer`.
    pub(crate) fn in_steps(steps: u64, interval: Duration, token: Option<&str>, answer: String) -> Self {
        Self { token: token.map(str::to_owned), steps, done: 0, interval, answer: Some(answer) }
    }

    /// Whether the next step is the answer and needs no wait.
    pub(crate) fn is_immediate(&self) -> bool {
        self.steps == self.done
    }

    /// Whether anything precedes the answer.
    pub(crate) fn has_notifications(&self) -> bool {
        self.token.is_some() && self.done < self.steps
    }
}

impl Iterator for Script {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(token) = self.token.as_deref().filter(|_| self.done < self.steps) {
            self.done += 1;
            return Some(Step { after: self.interval, message: message::progress(token, self.done, self.steps) });
        }
        let waits = u32::try_from(self.steps - self.done).unwrap_or(u32::MAX);
        let answer = self.answer.take()?;
        self.done = self.steps;
        Some(Step { after: self.interval.saturating_mul(waits), message: answer })
    }
}
