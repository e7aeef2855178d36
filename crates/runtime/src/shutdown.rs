//! The phases of a process's life, and the signals that move it through them.
//!
//! A stop has a fixed order. Readiness drops first, so that a load balancer looks elsewhere; listeners stop after the
//! balancer had time for that; work in flight ends; only then are connections closed and state written.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Where a process is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not everything that the process needs is there yet.
    #[default]
    Starting,
    /// It serves.
    Ready,
    /// A stop was requested: the process reports "not ready" but still accepts, so that no client is refused before it
    /// could know.
    Unready,
    /// No new work; what is in flight may end, until a deadline.
    Draining,
    /// Remaining work is cut off; state is written, telemetry flushed.
    Closing,
    /// Nothing runs any more.
    Stopped,
}

impl Phase {
    /// As in `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        }
    }
}

/// A handle on the life of the process: everyone may read the phase and ask it to stop.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
    token: CancellationToken,
    successor: watch::Sender<Option<Successor>>,
    reload: Arc<Notify>,
}

/// The process that has taken the place of this one.
#[derive(Clone, Debug)]
struct Successor {
    pid: Option<i32>,
    /// Open until this process ends, which tells the successor of that end.
    _line: Arc<UnixStream>,
}

/// How [`Shutdown::wind_down`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WoundDown {
    /// All work in flight ended by itself.
    Drained,
    /// The deadline or a second signal came first.
    Forced,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    pub fn new() -> Self {
        let (phase, successor) = (watch::Sender::new(Phase::Starting), watch::Sender::new(None));
        Self { phase, token: CancellationToken::new(), successor, reload: Arc::default() }
    }

    /// Moves forward to `phase`; a phase already passed is ignored. From `Unready` on, `token()` is cancelled.
    pub fn advance(&self, phase: Phase) {
        let moved = self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
        if moved {
            tracing::debug!(?phase, "phase reached");
        }
        if phase >= Phase::Unready {
            self.token.cancel();
        }
    }

    /// Asks the process to stop: `Unready`, and `token()` is cancelled. Any code may call this, any number of times.
    pub fn trigger(&self) {
        self.advance(Phase::Unready);
    }

    /// A successor serves in place of this process, which is to end as after [`Shutdown::trigger`], only that clients
    /// have a place to go to. `line` stays open until then.
    pub(crate) fn succeed(&self, pid: Option<i32>, line: UnixStream) {
        self.successor.send_replace(Some(Successor { pid, _line: Arc::new(line) }));
        self.trigger();
    }

    /// Whether a successor serves in place of this process.
    pub fn is_succeeded(&self) -> bool {
        self.successor.borrow().is_some()
    }

    /// The id of the successor, if there is one and the system tells.
    pub(crate) fn successor(&self) -> Option<i32> {
        self.successor.borrow().as_ref().and_then(|successor| successor.pid)
    }

    /// Returns once a successor serves in place of this process.
    pub(crate) async fn succeeded(&self) {
        self.successor
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .map(drop)
            .expect("self holds the sender, so it cannot be closed");
    }

    /// A token that is cancelled once a stop was requested.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Returns once a stop was requested.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns once `phase` or a later one is reached.
    pub async fn reached(&self, phase: Phase) {
        self.phase
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await
            .map(drop)
            .expect("self holds the sender, so it cannot be closed");
    }

    /// The orderly end, after `trigger`: stays `Unready` for `min_drain`, then `Draining` until `drained` returns or
    /// `grace` is over, then `Closing`. An advance to `Closing` meanwhile (a second signal) cuts it short. With a
    /// successor no client is refused, so there is no `min_drain`.
    pub async fn wind_down(
        &self,
        min_drain: Duration,
        grace: Duration,
        drained: impl Future<Output = ()>,
    ) -> WoundDown {
        self.trigger();
        let orderly = async {
            if !self.is_succeeded() {
                tokio::time::sleep(min_drain).await;
            }
            self.advance(Phase::Draining);
            timeout(grace, drained).await.is_ok()
        };
        let done = tokio::select! {
            done = orderly => done,
            () = self.reached(Phase::Closing) => false,
        };
        // Work that was cut off has ended as well, and `drained` may have seen that end first.
        let cut_short = self.phase() >= Phase::Closing;
        self.advance(Phase::Closing);
        if done && !cut_short { WoundDown::Drained } else { WoundDown::Forced }
    }

    /// Returns when the process was asked to read its configuration again. Any number of requests at once are one.
    pub async fn reload_wanted(&self) {
        self.reload.notified().await;
    }

    /// Follows the signals until `Closing`: the first one that asks for a stop triggers, a later one forces `Closing`. A
    /// signal within a second of the first is the same request: shells and service managers may send two signals for one
    /// stop.
    pub async fn follow(self, signals: Signals) {
        let signals = pin!(stream::unfold(signals, async |mut signals| Some((signals.wish().await, signals))));
        tokio::select! {
            () = self.obey(signals) => {}
            () = self.reached(Phase::Closing) => {}
        }
    }

    async fn obey(&self, wishes: impl Stream<Item = Wish> + Unpin) {
        let mut signals = wishes.filter_map(|wish| std::future::ready(self.to_stop(wish)));
        let Some(name) = signals.next().await else { return };
        tracing::info!(signal = name, "asked to stop");
        self.trigger();
        let asked = Instant::now();
        while let Some(name) = signals.next().await {
            if asked.elapsed() >= ONE_WISH {
                tracing::warn!(signal = name, "asked again: what is in flight will be cut off");
                self.advance(Phase::Closing);
                return;
            }
            tracing::debug!(signal = name, "asked twice at once");
        }
    }

    /// The name of a signal that asks for a stop.
    fn to_stop(&self, wish: Wish) -> Option<&'static str> {
        match wish {
            Wish::Stop(name) => Some(name),
            Wish::Reload => {
                tracing::info!(signal = "SIGHUP", "asked to read the configuration again");
                self.reload.notify_one();
                None
            }
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stop(&'static str),
    Reload,
}

const HANGUP: &str = "SIGHUP";
/// Signals that come this close together are one request.
const ONE_WISH: Duration = Duration::from_secs(1);

/// SIGTERM, SIGINT and SIGHUP, caught from the moment this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// None where SIGHUP is ignored, as under `nohup`.
    hangup: Option<Signal>,
    /// SIGHUP tells of the end of a terminal.
    terminal: bool,
}

/// Starts to catch SIGTERM, SIGINT and SIGHUP, which from then on no longer end the process at once.
pub fn signals() -> io::Result<Signals> {
    caught(!ignores_hangup(), true)
}

/// As [`signals`], for a service: where no terminal can hang up, SIGHUP is a request, and is caught in any case.
pub(crate) fn signals_of_service() -> io::Result<Signals> {
    // Only a process that has one can open it.
    let terminal = std::fs::File::open("/dev/tty").is_ok();
    caught(!terminal || !ignores_hangup(), terminal)
}

fn caught(hangup: bool, terminal: bool) -> io::Result<Signals> {
    let hangup = if hangup { Some(signal(SignalKind::hangup())?) } else { None };
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(Signals { terminate, interrupt, hangup, terminal })
}

/// Reads the mask of ignored signals, see proc(5); without it, SIGHUP counts as not ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SignalKind::hangup().as_raw_value() - 1) != 0)
}

impl Signals {
    /// What the next signal asks a service for. Without a terminal that could have hung up, SIGHUP asks for a reload.
    async fn wish(&mut self) -> Wish {
        match self.recv().await {
            HANGUP if !self.terminal => Wish::Reload,
            name => Wish::Stop(name),
        }
    }

    /// Waits for the next signal and returns its name.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = hung_up(self.hangup.as_mut()) => HANGUP,
        }
    }
}

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
