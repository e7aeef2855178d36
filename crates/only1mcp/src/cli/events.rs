//! `watch`: what happens to configurations, as it happens.

use std::{
    io::{self, Write},
    time::Duration,
};

use backoff::Backoff;
use runtime::{Clock, escape, exit, fault, shutdown};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use wire::pb::config::v1::{GetStatusRequest, WatchRequest, WatchResponse};

use super::{Lines, Output, render};
use crate::{
    admin::Admin,
    args::{Format, WatchArgs},
    failure::Failure,
};

/// Prints events until interrupted. After a lost connection, it reconnects when the service is back, and prints both.
/// If the first connection fails, the command fails.
pub(crate) async fn run(args: &WatchArgs) -> Result<Output, Failure> {
    let failed = |source| Failure::System { what: "cannot catch signals", source };
    let mut signals = shutdown::signals().map_err(failed)?;
    let mut watch = Watch { args, clock: Clock::start(), was_connected: false, lost_at: None };
    tokio::select! {
        ended = watch.run() => ended,
        _ = signals.recv() => Ok(nothing_more()),
    }
}

/// All there was to say has been said.
fn nothing_more() -> Output {
    Output::done(Lines::default(), Value::Null)
}

struct Watch<'a> {
    args: &'a WatchArgs,
    clock: Clock,
    was_connected: bool,
    /// When the connection was lost, in milliseconds since 1970.
    lost_at: Option<u64>,
}

/// The reader of our output is gone.
struct Unread;

impl Watch<'_> {
    async fn run(&mut self) -> Result<Output, Failure> {
        let (backoff, mut failures) = (Backoff::default(), 0);
        loop {
            let failure = match self.follow(&mut failures).await {
                Ok(Unread) => return Ok(nothing_more()),
                Err(failure) => failure,
            };
            // Never connected, or refused: a retry would change nothing.
            if !self.was_connected || failure.exit_code() != exit::UNAVAILABLE {
                return Err(failure);
            }
            if self.lost_at.is_none() {
                self.lost_at = Some(self.clock.unix_millis());
                if self.say("disconnected", 0, &fault::chain(&failure)).is_err() {
                    return Ok(nothing_more());
                }
            }
            tokio::time::sleep(backoff.ceiling(failures)).await;
            failures += 1;
        }
    }

    /// Until the connection is lost.
    async fn follow(&mut self, failures: &mut u32) -> Result<Unread, Failure> {
        let admin = Admin::find(&self.args.admin).await?;
        let mut config = admin.config()?;
        // Listening first, so that nothing falls between.
        let mut events = admin.ask(&config.target, config.client.watch(WatchRequest {})).await?;
        let status = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await?;
        let message = self.lost_at.take().map_or_else(String::new, |lost_at| {
            let away = Duration::from_millis(self.clock.unix_millis().saturating_sub(lost_at));
            format!("again after {}; what happened meanwhile is in `only1mcp history`", render::duration(away))
        });
        self.was_connected = true;
        *failures = 0;
        if self.say("connected", status.revision, &message).is_err() {
            return Ok(Unread);
        }
        while let Some(event) = events.next().await {
            let event = event.map_err(|status| Failure::of(&config.target, status))?;
            if self.print(&event).is_err() {
                return Ok(Unread);
            }
        }
        Err(Failure::of(&config.target, tonic::Status::unavailable("it ended the stream")))
    }

    /// Something about the connection, in the form of all events.
    fn say(&self, kind: &str, revision: u64, message: &str) -> io::Result<()> {
        let time_unix_ms = self.clock.unix_millis();
        let (kind, message) = (kind.to_owned(), message.to_owned());
        self.print(&WatchResponse { time_unix_ms, kind, revision, message, ..WatchResponse::default() })
    }

    fn print(&self, event: &WatchResponse) -> io::Result<()> {
        let text = match self.args.admin.output.output {
            Format::Text => Lines::of(line(event)).as_str().to_owned(),
            Format::Json => format!("{}\n", escape::json(&as_json(event).to_string())),
        };
        io::stdout().write_all(text.as_bytes())
    }
}

pub(super) fn line(event: &WatchResponse) -> String {
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

pub(super) fn as_json(event: &WatchResponse) -> Value {
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
