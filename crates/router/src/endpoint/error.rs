//! Why an endpoint could not be brought up, listed or pinged: the step that failed, and what arrived instead.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mcp::initialize::InitializeError;
use mcp::tool::ToolListError;

use crate::call::CallError;
use crate::secrets::SecretError;

/// An endpoint that is not up, with the last lines its process wrote to stderr.
#[derive(Debug, thiserror::Error)]
#[error("{failure}{}", Tail(stderr))]
pub struct BringUpError {
    pub failure: BringUpFailure,
    pub stderr: Vec<String>,
}

struct Tail<'a>(&'a [String]);

/// Lines shown in an error; the state of the endpoint has more.
const SHOWN: usize = 8;

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = &self.0[self.0.len().saturating_sub(SHOWN)..];
        if !lines.is_empty() {
            write!(f, "; its stderr ends with: {}", lines.join(" | "))?;
        }
        Ok(())
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
    #[error("initialize: {0}")]
    Initialize(AskError),
    #[error("tools/list: {0}")]
    List(AskError),
    #[error("not connected, initialised and listed within {} ms", limit.as_millis())]
    TimedOut { limit: Duration },
    #[error("{reason}")]
    Elsewhere {
        /// Of an attempt that somebody else had made meanwhile.
        reason: Arc<str>,
    },
    #[error("the endpoint has been shut down")]
    Ended,
}

/// Why a request of the gateway's own has no usable result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the server refused with error {code}: {message}")]
    Refused { code: i64, message: String },
    #[error("the answer cannot be read: {reason}")]
    Malformed { reason: String },
    #[error(transparent)]
    Initialize(#[from] InitializeError),
    #[error(transparent)]
    Tools(#[from] ToolListError),
    #[error("the list has more than {limit} {unit}")]
    TooLong { limit: usize, unit: &'static str },
    #[error("not connected: {reason}")]
    Down { reason: Arc<str> },
    #[error("no answer within {} ms", limit.as_millis())]
    TimedOut { limit: Duration },
}

/// Why a ping did not come back.
#[derive(Debug, thiserror::Error)]
#[error("ping: {0}")]
pub struct PingError(#[from] pub AskError);
