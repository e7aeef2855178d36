//! Log lines on stderr. `ONLY1MCP_LOG` filters them (`info` by default, else as `warn,router=debug`);
//! `ONLY1MCP_LOG_FORMAT` is `pretty` (default), `logfmt` (`time=… level=… target=… msg=…`, then the fields), or `json`,
//! one object per line. Invalid values are refused at start. On a terminal `pretty` has colours, unless `NO_COLOR` is
//! set.
//!
//! The filter can be changed while the process runs, for ever or for a while.

mod fields;
mod filter;
mod logfmt;

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io::{IsTerminal, stderr},
    sync::OnceLock,
    time::Duration,
};

use http::Extensions;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status};
use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry::LookupSpan,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

pub use filter::{BRING_UP, Filter, FilterError};

use crate::grpc::{Actor, refusal};

const FILTER: &str = "ONLY1MCP_LOG";
const FORMAT: &str = "ONLY1MCP_LOG_FORMAT";
const FORMATS: [&str; 4] = ["", "pretty", "logfmt", "json"];
/// The longest time for a temporary filter.
const LASTING_MAX: Duration = Duration::from_secs(7 * 86_400);

/// The environment asks for a filter or format that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{FILTER}={text:?} is no log filter")]
    Filter { text: String, source: FilterError },
    #[error("{FORMAT}={format:?} is no format; expected pretty, logfmt or json")]
    Format { format: String },
}

/// The one log of this process.
struct Log {
    handle: Handle<Targets, Registry>,
    held: watch::Sender<Held>,
}

struct Held {
    filter: Filter,
    /// The filter that applies again from that instant on.
    fallback: Option<(Filter, Instant)>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Installs the subscriber unless the process has one already.
///
/// # Errors
/// When the environment has an invalid value; the log then has its default filter and format.
pub fn init() -> Result<(), LogError> {
    let text = env::var(FILTER).unwrap_or_default();
    let filter = Filter::or_default(&text).map_err(|source| LogError::Filter { text, source });
    init_with(filter.as_ref().map_or_else(|_| Filter::default(), Clone::clone));
    filter?;
    let format = format();
    if FORMATS.contains(&format.as_str()) { Ok(()) } else { Err(LogError::Format { format }) }
}

/// The same with a filter that was chosen otherwise: a later [`init`] only checks the environment.
pub fn init_with(filter: Filter) {
    let (layer, handle) = reload::Layer::new(filter.targets());
    if tracing_subscriber::registry().with(layer).with(lines(&format())).try_init().is_ok() {
        LOG.get_or_init(|| Log { handle, held: watch::Sender::new(Held { filter, fallback: None }) });
    }
}

fn format() -> String {
    env::var(FORMAT).unwrap_or_default()
}

fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(format: &str) -> Box<dyn Layer<S> + Send + Sync> {
    lines_to(stderr, format, colours(stderr().is_terminal(), env::var_os("NO_COLOR").as_deref()))
}

/// By <https://no-color.org>: the variable counts when it is set and not empty.
fn colours(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Values in them are escaped: see [`fields`].
fn lines_to<S, W>(to: W, format: &str, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer();
    match format {
        "json" => lines.with_writer(fields::Json(to)).json().flatten_event(true).boxed(),
        "logfmt" => {
            lines.fmt_fields(fields::Fields).with_ansi(false).event_format(logfmt::Logfmt).with_writer(to).boxed()
        }
        _ => lines.fmt_fields(fields::Fields).with_writer(to).with_ansi(colours).boxed(),
    }
}

/// The current filter; and if it is temporary, the filter that follows it, and after how long.
pub fn read() -> (String, Option<(String, Duration)>) {
    let Some(log) = LOG.get() else { return (LevelFilter::current().to_string().to_lowercase(), None) };
    let held = log.held.borrow();
    let left = |at: &Instant| at.saturating_duration_since(Instant::now());
    (held.filter.to_string(), held.fallback.as_ref().map(|(filter, at)| (filter.to_string(), left(at))))
}

/// Applies `filter` from now on, or for the time `lasting`; returns the one before. `request` are the extensions of the
/// call that asks for it; they name the actor.
///
/// # Errors
/// `INVALID_ARGUMENT` when the filter or the time is invalid, with the allowed set; nothing has changed then.
pub fn change(request: &Extensions, filter: &str, lasting: Option<Duration>) -> Result<String, Status> {
    let Actor(actor) = Actor::among(request)?;
    let filter: Filter = filter.parse().map_err(|error: FilterError| refusal::invalid("filter", error.to_string()))?;
    if lasting.is_some_and(|lasting| lasting.is_zero() || lasting > LASTING_MAX) {
        return Err(refusal::invalid("lasting", "expected more than nothing and at most 7 days; absent: for ever"));
    }
    let elsewhere = || refusal::other(Code::Internal, "LOG_ELSEWHERE", "a program around this one keeps its log");
    let log = LOG.get().ok_or_else(elsewhere)?;
    let mut previous = String::new();
    log.held.send_modify(|held| {
        previous = held.filter.to_string();
        // If the earlier filter is temporary, the new one falls back to the earlier one's fallback.
        let before = held.fallback.take().map_or_else(|| held.filter.clone(), |(before, _)| before);
        held.fallback = lasting.map(|lasting| (before, Instant::now() + lasting));
        held.filter = filter.clone();
    });
    let say = || tracing::info!(actor, filter = %filter, previous, ?lasting, "the log filter was changed");
    // The line is written under whichever of the two filters lets it through.
    let seen = tracing::enabled!(Level::INFO);
    if seen {
        say();
    }
    log.apply(&filter);
    if !seen {
        say();
    }
    Ok(previous)
}

/// Restores the previous filter when a temporary one expires. Never returns.
pub async fn fall_back() {
    let Some(log) = LOG.get() else { return std::future::pending().await };
    let mut changes = log.held.subscribe();
    loop {
        let at = changes.borrow_and_update().fallback.as_ref().map(|(_, at)| *at);
        let over = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => log.put_back(),
            changed = changes.changed() => changed.expect("the log is never dropped"),
        }
    }
}

impl Log {
    /// If two callers race, the second one finds nothing to do.
    fn put_back(&self) {
        let mut back = None;
        self.held.send_if_modified(|held| {
            let due = held.fallback.as_ref().is_some_and(|(_, at)| *at <= Instant::now());
            if due && let Some((filter, _)) = held.fallback.take() {
                held.filter = filter.clone();
                back = Some(filter);
            }
            due
        });
        if let Some(filter) = back {
            self.apply(&filter);
            tracing::info!(%filter, "the log filter of before holds again");
        }
    }

    fn apply(&self, filter: &Filter) {
        let complain = |error: &dyn Display| tracing::error!(%error, "the log filter cannot be changed");
        if let Err(error) = self.handle.reload(filter.targets()) {
            complain(&error);
        }
    }
}

#[cfg(test)]
mod tests;
