//! The last lines a child wrote to stderr, and those on stdout that are no MCP: always read, so that no child blocks on
//! a full pipe, and kept for operators.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::secrets::{Echo, Said};

const MAX_LINES: usize = 64;
const MAX_BYTES: usize = 16 << 10;
/// Bytes of one line; the rest of the line is cut off.
const MAX_LINE: usize = 2 << 10;
/// Lines of a reason; the status has more.
const SHOWN: usize = 8;

/// The last lines of all children that an endpoint has had, one after the other.
#[derive(Debug, Default)]
pub(crate) struct StderrTail {
    kept: Mutex<Kept>,
    /// Secrets in it are not kept.
    echo: Arc<Echo>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Lines of the earlier children.
    earlier: VecDeque<String>,
    /// Lines of the present child, or of the last one.
    run: VecDeque<String>,
    /// What that child has written of an unfinished line.
    begun: Option<String>,
}

impl StderrTail {
    pub(crate) fn without(echo: &Arc<Echo>) -> Arc<Self> {
        Arc::new(Self { echo: Arc::clone(echo), ..Self::default() })
    }

    /// A new child begins. A child that repeats the lines of the child before, as one that cannot start does, adds
    /// nothing.
    pub(crate) fn begin(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let run = std::mem::take(&mut kept.run);
        kept.begun = None;
        if !ends_with(&kept.earlier, &run) {
            kept.earlier.extend(run);
            kept.trim();
        }
    }

    pub(crate) fn push(&self, line: &[u8]) {
        let line = self.shown(line).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.run.push_back(line);
        kept.trim();
    }

    /// Notes the unfinished line, or that there is none any more.
    pub(crate) fn begun(&self, line: Option<&[u8]>) {
        let line = line.map(|line| self.shown(line));
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).begun = line;
    }

    /// The line as operators may see it.
    pub(crate) fn shown(&self, line: &[u8]) -> String {
        self.echo.beginning(line, MAX_LINE)
    }

    /// Like [`Self::shown`], for words that become a part of another text.
    pub(crate) fn said(&self, words: impl AsRef<[u8]>) -> Said {
        self.echo.said(words)
    }

    /// The end of what the present child wrote, if it wrote anything: on one line, for operators.
    pub(crate) fn told(&self) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<_> = kept.run.iter().skip(kept.run.len().saturating_sub(SHOWN)).cloned().collect();
        last.extend(kept.begun.as_ref().map(|begun| format!("{begun} (without a line end)")));
        (!last.is_empty()).then(|| last.join(" | "))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let run = if ends_with(&kept.earlier, &kept.run) { None } else { Some(&kept.run) };
        kept.earlier.iter().chain(run.into_iter().flatten()).cloned().collect()
    }
}

impl Kept {
    fn trim(&mut self) {
        let mut bytes: usize = self.earlier.iter().chain(&self.run).map(String::len).sum();
        while self.earlier.len() + self.run.len() > MAX_LINES || bytes > MAX_BYTES {
            let first = self.earlier.pop_front().or_else(|| self.run.pop_front());
            bytes -= first.map_or(0, |line| line.len());
        }
    }
}

fn ends_with(lines: &VecDeque<String>, end: &VecDeque<String>) -> bool {
    lines.len() >= end.len() && lines.iter().skip(lines.len() - end.len()).eq(end)
}

/// Lines out of chunks. What a chunk leaves unfinished waits for the next, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.begun.len()).min(piece.len());
            self.begun.extend_from_slice(&piece[..room]);
            if piece.ends_with(b"\n") {
                line(&self.begun);
                self.begun.clear();
            }
        }
    }

    /// What was written without a line break at the end.
    pub(crate) fn finish(&mut self, line: impl FnOnce(&[u8])) {
        if !self.begun.is_empty() {
            line(&std::mem::take(&mut self.begun));
        }
    }
}

#[cfg(test)]
mod tests;
