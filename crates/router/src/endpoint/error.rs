//! Why an endpoint could not be brought up, listed or pinged: the step that failed, and what arrived instead.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fleet::Reason;
use mcp::Kind;
use model::units::in_words;
use model::{Transport, may_download};
use nix::errno::Errno;

use crate::call::{CallError, Cause, Detail};
use crate::secrets::{Said, SecretError};

/// An endpoint that is not up. The `Display` text is for operators.
#[derive(Debug, thiserror::Error)]
#[error("{failure}{}", Rest { failure, output })]
pub struct BringUpError {
    pub failure: BringUpFailure,
    /// What its process wrote in this attempt.
    pub output: Arc<Detail>,
}

/// The error of a failed call in the attempt includes the output already.
struct Rest<'a> {
    failure: &'a BringUpFailure,
    output: &'a Detail,
}

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failure.detail().is_some() { Ok(()) } else { self.output.fmt(f) }
    }
}

impl BringUpError {
    /// `output` is what the process of the attempt wrote, as a person reads it.
    pub(super) fn new(failure: BringUpFailure, output: impl FnOnce() -> String) -> Self {
        let output = failure.detail().cloned().unwrap_or_else(|| Detail::new(output()));
        Self { failure, output }
    }

    pub(crate) fn reason(&self) -> Reason {
        let reference = Some(self.output.reference);
        Reason { plain: self.failure.plain().into(), full: self.to_string().into(), reference }
    }
}

/// The step at which bringing up failed.
#[derive(Debug, thiserror::Error)]
pub enum BringUpFailure {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("`{url}` is no usable URL: {reason}")]
    Url { url: String, reason: String },
    #[error("header `{name}` cannot be sent: its name or value is not allowed in HTTP")]
    Header { name: String },
    #[error("the process that keeps `{command}` could not be started: {source}")]
    Keeper { command: String, source: io::Error },
    #[error("`{command}` could not be started: {reason}")]
    Start { command: String, reason: String },
    #[error(
        "its last process has not ended within {}, and a server has one process at a time: the next attempt waits for it again",
        in_words(*waited)
    )]
    Lingers { waited: Duration },
    #[error("initialize: {}{}", .0, wanted(.0))]
    Initialize(AskError),
    #[error(transparent)]
    List(ListError),
    /// Connecting, initialising and listing took too long. `hint`: where the limit is set, or what to do about it.
    #[error("not ready within {}{hint}", in_words(*limit))]
    TimedOut { limit: Duration, hint: String },
    #[error("{reason}")]
    Elsewhere {
        /// The reason of an attempt that another task made meanwhile.
        reason: Reason,
    },
    #[error("the endpoint has been shut down")]
    Ended,
}

impl BringUpFailure {
    /// A missing program may have been written as a line for a shell: the reason then says so.
    pub(crate) fn start(command: String, mut reason: String) -> Self {
        let is_missing = reason.contains(&io::Error::from_raw_os_error(Errno::ENOENT as i32).to_string());
        if let Some(advice) = model::command_not_found(&command).filter(|_| is_missing) {
            reason = format!("{reason}; {advice}");
        }
        Self::Start { command, reason }
    }

    /// `key`: where the limit is set.
    pub(crate) fn timed_out(limit: Duration, key: &str, transport: &Transport) -> Self {
        let program = match transport {
            Transport::Stdio { command, .. } if key == CONNECT => may_download(command),
            Transport::Stdio { .. } | Transport::Http { .. } => None,
        };
        let hint = program.map_or_else(
            || format!(" ({key})"),
            |program| {
                let set = if limit < FIRST_RUN { "set `connect: 60s`" } else { "set a longer `connect`" };
                format!("; the first run of `{program}` may download for longer: {set}")
            },
        );
        Self::TimedOut { limit, hint }
    }

    /// For MCP clients: nothing that the server said, and nothing of the machine it runs on.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Secret(_) => "a reference in its configuration cannot be resolved".to_owned(),
            Self::Url { .. } => "its URL cannot be used".to_owned(),
            Self::Keeper { .. } | Self::Start { .. } => "its process could not be started".to_owned(),
            Self::Initialize(error) => format!("initialize: {}", error.plain()),
            Self::List(ListError { kind, error }) => format!("{}: {}", kind.list(), error.plain()),
            Self::Elsewhere { reason } => reason.plain.to_string(),
            Self::Header { .. } | Self::Lingers { .. } | Self::TimedOut { .. } | Self::Ended => self.to_string(),
        }
    }

    pub(crate) fn detail(&self) -> Option<&Arc<Detail>> {
        match self {
            Self::Initialize(AskError::Call(error)) | Self::List(ListError { error: AskError::Call(error), .. }) => {
                error.detail.as_ref()
            }
            Self::Secret(_)
            | Self::Url { .. }
            | Self::Header { .. }
            | Self::Keeper { .. }
            | Self::Start { .. }
            | Self::Lingers { .. }
            | Self::Initialize(_)
            | Self::List(_)
            | Self::TimedOut { .. }
            | Self::Elsewhere { .. }
            | Self::Ended => None,
        }
    }

    /// For an attempt whose output says nothing about it.
    pub(crate) fn reason(&self, context: &str) -> Reason {
        let reference = self.detail().map(|detail| detail.reference);
        let (plain, full) = (format!("{context}: {}", self.plain()), format!("{context}: {self}"));
        Reason { plain: plain.into(), full: full.into(), reference }
    }
}

/// What the server would have to be given, where its refusal tells that.
fn wanted(error: &AskError) -> &'static str {
    let unauthorized = matches!(error, AskError::Call(error) if error.cause == Cause::Status(401));
    if unauthorized {
        "; it wants credentials: give it an `Authorization` under `headers`, as a reference (to sign in by OAuth is not \
         available in this release)"
    } else {
        ""
    }
}

/// Why a server's list of one kind cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", kind.list())]
pub struct ListError {
    pub kind: Kind,
    pub error: AskError,
}

/// Why a request of the gateway's own has no usable result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the server refused with error {code}: {message}")]
    Refused { code: i64, message: Said },
    #[error("the answer cannot be read: {0}")]
    Malformed(Said),
    /// The answer lacks what was asked for.
    #[error("{0}")]
    Unusable(Said),
    #[error("not connected: {reason}")]
    Down { reason: Arc<str> },
    #[error("no answer within {}{}", in_words(*limit), key.map(|key| format!(" ({key})")).unwrap_or_default())]
    TimedOut {
        limit: Duration,
        /// Where the limit is set.
        key: Option<&'static str>,
    },
}

impl AskError {
    /// For MCP clients: nothing that the server said.
    fn plain(&self) -> String {
        match self {
            Self::Call(error) => error.message.clone(),
            Self::Refused { code, .. } => format!("the server refused with error {code}"),
            Self::Down { .. } => "not connected".to_owned(),
            Self::Malformed(_) => "the answer cannot be read".to_owned(),
            Self::Unusable(_) => "the answer cannot be used".to_owned(),
            Self::TimedOut { .. } => self.to_string(),
        }
    }
}

/// Enough for most servers that are downloaded before they first run.
const FIRST_RUN: Duration = Duration::from_secs(60);

/// Where the limit for connecting is set.
pub(crate) const CONNECT: &str = "limits.connect, or `connect` of the server alone";

impl AskError {
    /// The limit that ran out, if one did, is the one for connecting.
    pub(crate) fn under_connect(self) -> Self {
        match self {
            Self::TimedOut { limit, key } => Self::TimedOut { limit, key: key.or(Some(CONNECT)) },
            Self::Call(_) | Self::Refused { .. } | Self::Malformed(_) | Self::Unusable(_) | Self::Down { .. } => self,
        }
    }
}

/// Why a ping did not come back.
#[derive(Debug, thiserror::Error)]
#[error("ping: {0}")]
pub struct PingError(#[from] pub AskError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_a_shell_is_named_when_it_is_no_program() {
        let said = |command: &str, errno| {
            let reason = io::Error::from(errno).to_string();
            BringUpFailure::start(command.into(), reason).to_string()
        };
        let missing = said("npx -y pkg --token=secret", Errno::ENOENT);
        assert!(
            missing.contains("os error 2") && missing.ends_with("put arguments under `args`, and leave `npx` here")
        );
        assert!(said("~/bin/x", Errno::ENOENT).ends_with("write `${env:HOME}` for it"));
        assert!(said("npx", Errno::ENOENT).ends_with("(os error 2)"));
        assert!(said("npx -y pkg", Errno::EACCES).ends_with("(os error 13)"));
    }

    #[test]
    fn a_program_that_downloads_before_its_first_run_needs_more_time_to_connect() {
        let stdio = |command: &str| Transport::Stdio {
            command: command.into(),
            args: Vec::new(),
            env: Default::default(),
            cwd: None,
        };
        let said = |seconds, key, command| {
            BringUpFailure::timed_out(Duration::from_secs(seconds), key, &stdio(command)).to_string()
        };
        let first = "not ready within 10 s; the first run of `npx` may download for longer: set `connect: 60s`";
        assert_eq!(said(10, CONNECT, "/usr/bin/npx"), first);
        assert!(
            said(90, CONNECT, "uvx")
                .ends_with("the first run of `uvx` may download for longer: set a longer `connect`")
        );
        assert_eq!(said(10, CONNECT, "node"), format!("not ready within 10 s ({CONNECT})"));
        assert_eq!(said(5, "hot_reload", "npx"), "not ready within 5 s (hot_reload)", "another limit");
    }
}
