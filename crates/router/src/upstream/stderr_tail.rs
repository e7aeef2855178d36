//! The last lines a child wrote to stderr: always read, so that no child blocks on a full pipe, and kept for people.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const MAX_LINES: usize = 64;
const MAX_BYTES: usize = 16 << 10;
/// Of one line; the rest of it is cut off.
const MAX_LINE: usize = 2 << 10;
/// Lines of a reason; the status has more.
const SHOWN: usize = 8;

/// Of all children an endpoint has had, one after the other.
#[derive(Debug, Default)]
pub(crate) struct StderrTail {
    lines: Mutex<VecDeque<String>>,
}

impl StderrTail {
    pub(crate) fn push(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        let mut bytes: usize = lines.iter().map(String::len).sum();
        while lines.len() > MAX_LINES || bytes > MAX_BYTES {
            bytes -= lines.pop_front().map_or(0, |line| line.len());
        }
    }

    /// Its end, for operators who read why it failed.
    pub(crate) fn told(&self) -> String {
        let lines = self.lines();
        let last = &lines[lines.len().saturating_sub(SHOWN)..];
        if last.is_empty() { String::new() } else { format!("its stderr ends with: {}", last.join(" | ")) }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
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
