//! The report of a panic: its place and its reason, in characters that are safe for a terminal.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    thread,
};

use crate::escape::{self, say};

/// The most of a message that is shown: the fault is named at its start, the rest may be input data.
const SHOWN: usize = 500;
/// The standard library quotes a text that was cut at a wrong place. The text may be anything; the position is enough.
const BEFORE_TEXTS: [&str; 2] = [" of `", " slicing `"];

/// From now on panics of this process are written to stderr as log lines are: on one line, escaped.
pub fn escape() {
    std::panic::set_hook(Box::new(|panic| say(&report(panic))));
}

fn report(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let mut report = format!("thread '{name}' panicked at {place}: {}\n", escape::line(&message(panic.payload())));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        report += &format!("{trace}\n");
    }
    report
}

/// The message of a panic, without the values that can be recognised in it.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(no message)");
    let end = BEFORE_TEXTS.iter().filter_map(|mark| Some(text.find(mark)? + mark.len() - 1)).min();
    let kept: String = text[..end.unwrap_or(text.len())].chars().take(SHOWN).collect();
    if kept.len() < text.len() { kept + "…" } else { kept }
}

#[cfg(test)]
mod tests;
