//! Log lines on stderr. `ONLY1MCP_LOG` filters them (`info` by default, else as `warn,router=debug`);
//! `ONLY1MCP_LOG_FORMAT` is `pretty` (default) or `json`, one object per line.

use std::{
    env,
    io::{IsTerminal, stderr},
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

const FILTER: &str = "ONLY1MCP_LOG";
const FORMAT: &str = "ONLY1MCP_LOG_FORMAT";

/// Installs the subscriber unless the process has one already.
pub(super) fn init() {
    let (filter, filter_fault) = filter();
    let format = env::var(FORMAT).unwrap_or_default();
    let subscriber = tracing_subscriber::registry().with(lines(&format)).with(filter);
    if subscriber.try_init().is_err() {
        return;
    }
    if let Some(fault) = filter_fault {
        tracing::warn!(variable = FILTER, fault, "not a log filter; using info");
    }
    if !["", "pretty", "json"].contains(&format.as_str()) {
        tracing::warn!(variable = FORMAT, format, "unknown log format, expected pretty or json; using pretty");
    }
}

fn filter() -> (EnvFilter, Option<String>) {
    let text = env::var(FILTER).unwrap_or_default();
    if text.trim().is_empty() {
        return (EnvFilter::new("info"), None);
    }
    match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    }
}

fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(format: &str) -> Box<dyn Layer<S> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    if format == "json" {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(stderr().is_terminal()).boxed()
    }
}
