//! Why a command could not do what was asked, what its exit code is, and what to try next.

use std::{error::Error, io, path::PathBuf};

use model::units::in_words;
use runtime::{
    exit,
    grpc::{DialError, refusal},
    token::TokenError,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::place::{PlaceError, Running, choices};

/// Ends a command. Refusals that are answers (a configuration with violations) are output, not failures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("nothing runs for {place} (no answer on {})", socket.display())]
    NotRunning { place: String, socket: PathBuf, others: Vec<Running> },
    #[error("no access to the gateway at {}: {source}", socket.display())]
    NoAccess { socket: PathBuf, source: io::Error },
    #[error("{service} is not among the services at {}", targets.join(", "))]
    Lacks { service: &'static str, targets: Vec<String> },
    #[error("{target} cannot be reached: {}", reason(.status))]
    Unreachable { target: String, status: Box<Status> },
    #[error("the gateway for {place} does not start: {said}")]
    NotStarted { place: String, said: String, log: PathBuf },
    #[error("there is no server `{server}`")]
    NoServer { server: String },
    #[error("server {server} is disabled in the configuration, so no router has it")]
    ConfiguredOff { server: String },
    #[error("{target} does not let us in: {}", .status.message())]
    Credential { target: String, status: Box<Status> },
    #[error("{}", said(.status))]
    Refused { status: Box<Status> },
    #[error("--admin {url:?}: {reason}")]
    AdminUrl { url: String, reason: String },
    #[error(transparent)]
    ClearText(DialError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Read(#[from] config_file::ReadError),
    #[error("{} is empty", path.display())]
    EmptyLayer { path: PathBuf },
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} was changed while this was decided; nothing is written", path.display())]
    ChangedMeanwhile { path: PathBuf },
    #[error("{}: there is no place for more servers in the way this file is laid out; nothing is written", path.display())]
    Layout { path: PathBuf },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the arguments of the tool are not a JSON object: {reason}")]
    Arguments { reason: String },
    #[error("{url} cannot be called: {reason}")]
    Mcp { url: String, reason: String },
    #[error("--url {url:?}: {reason}")]
    McpUrl { url: String, reason: &'static str },
    #[error("there is no revision 0: they count from 1")]
    NoRevision,
    #[error("the content of revision {revision} is not kept any more")]
    NotKept { revision: u64 },
    #[error("{target} sent a configuration that this program cannot read: {reason}")]
    Content { target: String, reason: String },
    #[error("{url} answered {reason}")]
    McpRefused { url: String, reason: String },
    #[error("no answer from {target} within {seconds} s")]
    Timeout { target: String, seconds: f64 },
    #[error("{server} has not come up within {seconds} s")]
    NotUpYet { server: String, seconds: f64 },
}

impl Failure {
    /// The failure of a call of the service at `target`.
    pub(crate) fn of(target: &str, status: Status) -> Self {
        let (target, status) = (target.to_owned(), Box::new(status));
        let lost = status.source().is_some_and(|source| source.is::<tonic::transport::Error>());
        if lost || [Code::Unavailable, Code::DeadlineExceeded].contains(&status.code()) {
            Self::Unreachable { target, status }
        } else if [Code::Unauthenticated, Code::PermissionDenied].contains(&status.code()) {
            Self::Credential { target, status }
        } else {
            Self::Refused { status }
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotRunning { .. }
            | Self::NoAccess { .. }
            | Self::Lacks { .. }
            | Self::Unreachable { .. }
            | Self::Mcp { .. }
            | Self::Timeout { .. }
            | Self::NotUpYet { .. } => exit::UNAVAILABLE,
            Self::AdminUrl { .. }
            | Self::ClearText(_)
            | Self::McpUrl { .. }
            | Self::NoRevision
            | Self::Arguments { .. }
            | Self::EmptyLayer { .. }
            | Self::Place(PlaceError::NoHome | PlaceError::TwoConfigs { .. } | PlaceError::Several { .. }) => {
                exit::USAGE
            }
            // The service says that an argument makes no sense.
            Self::Refused { status } if status.code() == Code::InvalidArgument => exit::USAGE,
            Self::Place(PlaceError::NoConfig { .. })
            | Self::Credential { .. }
            | Self::NoServer { .. }
            | Self::ConfiguredOff { .. }
            | Self::NotStarted { .. }
            | Self::Refused { .. }
            | Self::Token(_)
            | Self::Read(_)
            | Self::Write { .. }
            | Self::ChangedMeanwhile { .. }
            | Self::Layout { .. }
            | Self::System { .. }
            | Self::NotKept { .. }
            | Self::Content { .. }
            | Self::McpRefused { .. } => exit::REFUSED,
        }
    }

    /// Further details from the service, a line each.
    pub(crate) fn details(&self) -> Vec<String> {
        let Self::Refused { status } = self else { return Vec::new() };
        let details = status.get_error_details();
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let more = fields.iter().filter(|one| !status.message().contains(&one.description));
        more.map(|one| format!("{}: {}", one.field, one.description)).collect()
    }

    /// What to do about it, as one or more lines.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::NotRunning { others, .. } if others.is_empty() => {
                Some("start it with `only1mcp up`, or name the services with --admin URL".to_owned())
            }
            Self::NotRunning { others, .. } => Some(format!(
                "start it with `only1mcp up`, or name one that runs; these run:{}",
                choices(others)
            )),
            Self::NoAccess { .. } => Some("run this as the user who started it: the socket and the state directory are that user's alone".to_owned()),
            Self::Lacks { service, .. } => Some(format!("add --admin URL with the address of {service}")),
            Self::Unreachable { .. } => Some("check that it runs and that --admin names its gRPC address".to_owned()),
            Self::Timeout { .. } => Some("wait longer with --timeout, or look at its log".to_owned()),
            Self::NotUpYet { server, .. } => Some(not_up(server)),
            Self::AdminUrl { .. } => Some("write it as http://HOST:PORT".to_owned()),
            Self::McpUrl { .. } => Some("write it as http://HOST:PORT/mcp".to_owned()),
            Self::NoRevision | Self::NotKept { .. } => {
                Some("see `only1mcp history` for those that can be compared".to_owned())
            }
            Self::NotStarted { log, .. } => Some(format!("see {} for all that it said", log.display())),
            Self::NoServer { .. } => Some("`only1mcp status` lists those that there are".to_owned()),
            Self::ConfiguredOff { .. } => Some("to switch it on, take `enabled: false` out of it there".to_owned()),
            Self::ChangedMeanwhile { .. } => Some("import again".to_owned()),
            Self::Layout { .. } => Some(
                "write `servers` as a list in which each server begins on a line of its own, or name another file with --config"
                    .to_owned(),
            ),
            Self::Content { .. } => Some("use the program of the same release as the service".to_owned()),
            Self::Arguments { .. } => Some(r#"write them as '{"text": "hello"}'"#.to_owned()),
            Self::Mcp { .. } => Some("start the gateway with `only1mcp up`, or name another one with --url".to_owned()),
            Self::EmptyLayer { .. } => Some("take a layer away with --remove".to_owned()),
            Self::Place(error) => error.next_step(),
            Self::Refused { status } => {
                let details = status.get_error_details();
                let delay = details.retry_info().and_then(|retry| retry.retry_delay);
                let again = delay.map(|delay| format!("try again in {}", in_words(delay)));
                again.or_else(|| refusal::next_of(status))
            }
            Self::Credential { .. }
            | Self::ClearText(_)
            | Self::Token(_)
            | Self::Read(_)
            | Self::Write { .. }
            | Self::System { .. }
            | Self::McpRefused { .. } => None,
        }
    }
}

/// What to do about a server that has not come up.
pub(crate) fn not_up(server: &str) -> String {
    format!(
        "the gateway goes on trying: `only1mcp status` says how far it is, `only1mcp logs {server}` what the server said"
    )
}

fn said(status: &Status) -> &str {
    let text = status.message();
    if text.is_empty() { status.code().description() } else { text }
}

/// The innermost cause: "transport error" alone explains nothing.
fn reason(status: &Status) -> String {
    let mut cause: &dyn Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if status.source().is_some() { cause.to_string() } else { status.message().to_owned() }
}
