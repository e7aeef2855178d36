//! `watch`: what happens to configurations, as it happens.

use std::io::{self, Write};

use serde_json::{Value, json};
use tokio_stream::StreamExt;
use wire::pb::config::v1::{WatchRequest, WatchResponse};

use super::{Output, render};
use crate::{
    admin::Admin,
    args::{Format, WatchArgs},
    failure::Failure,
};

/// Prints until the stream ends, which is a failure: the service stopped. Interrupting is how the user ends it.
pub(crate) async fn run(args: &WatchArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let mut events = admin.ask(&config.target, config.client.watch(WatchRequest {})).await?;
    while let Some(event) = events.next().await {
        let event = event.map_err(|status| Failure::of(&config.target, status))?;
        let line = match args.admin.output.output {
            Format::Text => line(&event),
            Format::Json => as_json(&event).to_string(),
        };
        if writeln!(io::stdout(), "{line}").is_err() {
            return Ok(Output::done(String::new(), Value::Null));
        }
    }
    let status = tonic::Status::unavailable("it ended the stream");
    Err(Failure::of(&config.target, status))
}

fn line(event: &WatchResponse) -> String {
    let mut line = format!("{}  {:<16}", render::time(event.time_unix_ms), event.kind);
    for (name, value) in [("attempt", &event.attempt), ("router", &event.node)] {
        if !value.is_empty() {
            line.push_str(&format!(" {name} {value}"));
        }
    }
    if event.revision != 0 {
        line.push_str(&format!(" revision {}", event.revision));
    }
    if !event.message.is_empty() {
        line.push_str(&format!("  {}", event.message));
    }
    line
}

fn as_json(event: &WatchResponse) -> Value {
    json!({
        "time": render::time(event.time_unix_ms),
        "kind": event.kind,
        "attempt": render::some(&event.attempt),
        "revision": (event.revision != 0).then_some(event.revision),
        "router": render::some(&event.node),
        "message": render::some(&event.message),
        "traceparent": render::some(&event.traceparent),
    })
}
