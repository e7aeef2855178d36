//! The record of a load.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::distribution::Distribution;

/// Failures whose words are kept; all are counted.
const FAILURES_KEPT: usize = 20;

/// Every call of a load.
#[derive(Debug, Default)]
pub struct Report {
    pub samples: Vec<Sample>,
    /// Connections that the other side closed.
    pub closed: usize,
    /// Calls without a good answer, "unknown tool" aside.
    pub failed: usize,
    /// The first of them, in words.
    pub failures: Vec<String>,
    /// Clients that still waited for an answer long after the end.
    pub unanswered: usize,
    pub duration: Duration,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Sample {
    pub slot: u64,
    /// The text by which the backend counts the call.
    pub text: String,
    pub server: Arc<str>,
    /// As the answer said.
    pub revision: u64,
    /// Since the start of the load.
    pub sent: Duration,
    /// From when it was due until the answer was complete.
    pub latency: Duration,
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Answered,
    /// With an error that says there is no such tool.
    UnknownTool,
    /// Otherwise, in words.
    Failed(Arc<str>),
}

impl Report {
    pub(super) fn fail(&mut self, slot: u64, why: &str) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(format!("call {slot}: {why}"));
        }
    }

    /// The texts of the calls that were answered with a result.
    pub fn answered(&self) -> BTreeSet<String> {
        self.texts(|outcome| *outcome == Outcome::Answered)
    }

    /// The texts of the calls of which it is unknown whether they were carried out.
    pub fn uncertain(&self) -> BTreeSet<String> {
        self.texts(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    pub fn latency(&self) -> Distribution {
        Distribution::of(self.samples.iter().map(|sample| sample.latency))
    }

    fn texts(&self, wanted: impl Fn(&Outcome) -> bool) -> BTreeSet<String> {
        self.samples.iter().filter(|sample| wanted(&sample.outcome)).map(|sample| sample.text.clone()).collect()
    }
}
