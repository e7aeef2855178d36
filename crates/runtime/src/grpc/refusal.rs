//! Refusals that a program can act on: a status with the details of `google.rpc`. Every service makes its own here, so
//! that equal faults look alike everywhere.
//!
//! Each carries an `ErrorInfo` with a reason (a word that never changes), and the details that fit its code.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Characters of any text in a refusal: all of it travels in headers, and clients give up on headers beyond 16 KiB.
const TEXT_MAX: usize = 300;
/// The domain of all reasons.
pub const DOMAIN: &str = "only1mcp";
/// In the metadata of an `ErrorInfo`: what to do about the refusal.
const NEXT: &str = "next";
/// The delay that a client is told to wait before it retries a temporary refusal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// `INVALID_ARGUMENT`: `field` of the request, as `server` or `without[2]`, is wrong, and why.
#[must_use]
pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Status {
    let (field, problem) = (short(field), short(problem));
    let message = format!("`{field}`: {problem}");
    let mut details = because("INVALID_FIELD");
    details.add_bad_request_violation(field, problem);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// `NOT_FOUND`: there is no `kind` of that name.
#[must_use]
pub fn not_found(reason: &str, kind: &str, name: impl Into<String>, message: impl Into<String>) -> Status {
    let message = short(message);
    let mut details = because(reason);
    details.set_resource_info(kind, short(name), "", message.clone());
    Status::with_error_details(Code::NotFound, message, details)
}

/// `FAILED_PRECONDITION`: `subject` is not as the call needs it, and trying again changes nothing.
#[must_use]
pub fn precondition(reason: &str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    unmet(Code::FailedPrecondition, reason, subject, message)
}

/// `ABORTED`: another change came first; the caller reads the state again and decides anew.
#[must_use]
pub fn aborted(reason: &str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    unmet(Code::Aborted, reason, subject, message)
}

/// `RESOURCE_EXHAUSTED`: too many of `subject` at once; worth another try.
#[must_use]
pub fn exhausted(reason: &str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    let message = short(message);
    let mut details = because(reason);
    details.add_quota_failure_violation(short(subject), message.clone()).set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// `RESOURCE_EXHAUSTED`: `subject` is too large, and will be the next time.
#[must_use]
pub fn too_large(reason: &str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    let message = short(message);
    let mut details = because(reason);
    details.add_quota_failure_violation(short(subject), message.clone());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// `UNAVAILABLE`: not now; nothing was done.
#[must_use]
pub fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    let mut details = because(reason);
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::Unavailable, short(message), details)
}

/// A status of any other code, with a reason only.
#[must_use]
pub fn other(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, short(message), because(reason))
}

/// The same with what to do about it, which a program finds in the metadata of the `ErrorInfo`.
#[must_use]
pub fn with_next(refused: &Status, next: impl Into<String>) -> Status {
    let mut details = refused.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    details.set_error_info(reason, DOMAIN, HashMap::from([(NEXT.to_owned(), short(next))]));
    Status::with_error_details(refused.code(), refused.message(), details)
}

/// What to do about a refusal, if it says so.
pub fn next_of(refused: &Status) -> Option<String> {
    refused.get_error_details().error_info()?.metadata.get(NEXT).cloned()
}

fn unmet(code: Code, reason: &str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    let message = short(message);
    let mut details = because(reason);
    details.add_precondition_failure_violation(reason, short(subject), message.clone());
    Status::with_error_details(code, message, details)
}

fn because(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

/// Shortens a text; it may quote what a caller sent, at any length.
fn short(text: impl Into<String>) -> String {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_sent_fits_into_headers_at_any_length() {
        let long = "\u{1f9ea}".repeat(100_000);
        let refused = not_found("DRAIN_UNKNOWN", "drain", long.as_str(), format!("there is no drain {long}"));
        assert!(refused.message().len() + refused.details().len() < 8 << 10, "{refused:?}");
        assert!(invalid("filter", long.as_str()).message().ends_with('…'));
    }
}
