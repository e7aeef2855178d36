//! What is said of a panic: where it was and why, in characters that a terminal may be given.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    thread,
};

use crate::{escape, process::say};

/// As much of a message tells what is wrong; the rest is what somebody put in.
const SHOWN: usize = 500;
/// The standard library shows a text that was cut at the wrong place; it may be anything, and where it was cut is enough.
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

/// What was said when something panicked, without the values that can be told from it.
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
