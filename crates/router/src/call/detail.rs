//! What a server says about its own failure: operators read it, MCP clients get a reference to it.
//!
//! The last lines of a child's stderr and the body of an HTTP refusal hold what the server's author did not mean for
//! clients: connection strings, paths, tokens. They go into the log and into the status of the endpoint; a client hears
//! the plain reason and the reference by which an operator finds the log line.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::LogReference;
use model::Time;
use runtime::telemetry::Sparing;

/// The server's own words about one failure, under the reference that clients get in their place.
#[derive(Debug, PartialEq, Eq)]
pub struct Detail {
    pub reference: LogReference,
    pub text: String,
}

impl Detail {
    /// The caller also writes the log line that has the reference; [`Noted::note`] does both.
    #[must_use]
    pub fn new(text: String) -> Arc<Self> {
        Arc::new(Self { reference: LogReference(rand::random()), text })
    }
}

/// For operators: after a plain reason, the rest.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.text.is_empty() {
            write!(f, "; {}", self.text)?;
        }
        write!(f, " (reference {})", self.reference)
    }
}

/// The same words again within this time are the same log line.
const SAME_LINE: Duration = Duration::from_secs(60);

/// Log lines of one endpoint at once, and the time to the next one after that: a server that says something else each
/// time must not fill the log.
const LINES: u32 = 20;
const LINE_EVERY: Duration = Duration::from_secs(6);

/// What was logged of one server's words. Locked only by calls that have failed.
#[derive(Debug)]
pub(crate) struct Noted {
    said: Mutex<Said>,
    sparing: Sparing,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<(Arc<Detail>, Time)>,
    /// The reference of the line that says that more is left out, until there is a line again.
    left_out: Option<LogReference>,
}

impl Default for Noted {
    fn default() -> Self {
        Self { said: Mutex::default(), sparing: Sparing::new("server_said", LINES, LINE_EVERY) }
    }
}

impl Noted {
    /// Whether another line about this server may be written now, and how many were left out before it.
    pub(crate) fn line(&self, now: Time) -> Option<u64> {
        self.sparing.line_at(Duration::from_nanos(now.as_nanos()))
    }

    /// The detail for `text` and the reference of its log line: an earlier line, if it is young and says the same; or
    /// the line that says that words are left out, if there were too many lines.
    pub(crate) fn note(&self, server: &str, text: String, now: Time) -> Arc<Detail> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((detail, at)) = &said.last
            && detail.text == text
            && now.since(*at) < SAME_LINE
        {
            return Arc::clone(detail);
        }
        let Some(left_out) = self.line(now) else {
            let reference = *said.left_out.get_or_insert_with(|| {
                let reference = LogReference(rand::random());
                tracing::warn!(server, %reference,
                    "calls fail with too many different words to log each: until the next line they are left out");
                reference
            });
            return Arc::new(Detail { reference, text });
        };
        let detail = Detail::new(text);
        tracing::warn!(server, reference = %detail.reference, said = detail.text, left_out,
            "a call failed; its client was told the reference, not what the server said");
        *said = Said { last: Some((Arc::clone(&detail), now)), left_out: None };
        detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_share_a_reference_while_their_line_is_young() {
        let noted = Noted::default();
        let note =
            |text: &str, seconds: u64| noted.note("small", text.to_owned(), Time::from_nanos(seconds * 1_000_000_000));
        let first = note("no such database", 0);
        assert_eq!(note("no such database", 59), first);
        assert_ne!(note("no such table", 59).reference, first.reference);
        let again = note("no such database", 60);
        assert_ne!(again.reference, first.reference, "another line stands between");
        assert_ne!(note("no such database", 120).reference, again.reference, "the line is old");
        assert_eq!(first.to_string(), format!("; no such database (reference {})", first.reference));
        assert_eq!(first.reference.to_string().len(), 8);
    }

    #[test]
    fn a_server_that_varies_its_words_gets_no_line_for_each() {
        let noted = Noted::default();
        let said: Vec<_> = (0..1_000).map(|n| noted.note("small", format!("error {n}"), Time::ZERO)).collect();
        let mut references: Vec<_> = said.iter().map(|detail| detail.reference.to_string()).collect();
        references.dedup();
        assert_eq!(references.len(), LINES as usize + 1, "and one for all that are left out");
        assert_eq!(said[999].text, "error 999", "operators who see the error itself see its own words");
        let later = noted.note("small", "error 1000".to_owned(), Time::ZERO + LINE_EVERY);
        let next = noted.note("small", "error 1001".to_owned(), Time::ZERO + LINE_EVERY);
        assert!(![&later, &next].iter().any(|detail| references.contains(&detail.reference.to_string())));
    }
}
