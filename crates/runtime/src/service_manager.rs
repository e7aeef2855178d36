//! Tells the service manager that started this process how it is: systemd's notification protocol (`Type=notify`).
//!
//! READY=1 when the process is ready, STATUS= whenever its readiness changes, STOPPING=1 when a stop was requested, and
//! a sign of life for `WatchdogSec=`. While the process starts or stops, it asks for more time with each sign of life:
//! starting and stopping may take longer than the service manager's timeouts. MAINPID= when a successor has taken over.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram as StdDatagram},
    },
    time::Duration,
};

use tokio::{
    net::UnixDatagram,
    time::{MissedTickBehavior, interval},
};

use crate::{
    escape,
    readiness::{Readiness, Report},
    shutdown::Phase,
};

/// The longest time between two signs of life.
const BEAT: Duration = Duration::from_secs(10);
/// The extra time asked for with each sign of life, while starting or stopping.
const MORE_MICROS: u128 = 3 * BEAT.as_micros();

/// The way to the service manager.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    /// Without a sign of life for this long, the service manager restarts us.
    watchdog: Option<Duration>,
}

impl NotifySocket {
    /// The socket that `NOTIFY_SOCKET` names, if it is set and listens. Must be called within a runtime.
    pub fn of_environment() -> Option<Self> {
        let socket = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())?;
        match connect(&socket) {
            Ok(connected) => Some(Self { socket: connected, watchdog: watchdog() }),
            Err(error) => {
                tracing::warn!(?socket, %error, "the service manager that NOTIFY_SOCKET names cannot be reached");
                None
            }
        }
    }

    /// Notifies the service manager until the process is `Closing`, and of that.
    pub async fn follow(self, readiness: Readiness) {
        let mut beat = interval(self.watchdog.map_or(BEAT, |watchdog| BEAT.min(watchdog / 2)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut moves) = (Told::default(), readiness.moves());
        loop {
            if readiness.shutdown().is_succeeded() {
                // From here on the service manager listens to the successor. The service does not stop.
                let main = readiness.shutdown().successor().map_or_else(String::new, |pid| format!("MAINPID={pid}\n"));
                return self.send(main).await;
            }
            let report = readiness.report();
            // Before the first gate exists, there is nothing to report.
            if !report.gates.is_empty() || report.phase > Phase::Starting {
                self.send(told.news(&report)).await;
            }
            if report.phase >= Phase::Closing {
                return;
            }
            tokio::select! {
                () = moves.next() => {}
                _ = beat.tick() => self.send(self.sign_of_life(report.phase)).await,
            }
        }
    }

    fn sign_of_life(&self, phase: Phase) -> String {
        let alive = self.watchdog.map_or("", |_| "WATCHDOG=1\n");
        let more = if phase == Phase::Ready { String::new() } else { format!("EXTEND_TIMEOUT_USEC={MORE_MICROS}\n") };
        format!("{alive}{more}")
    }

    async fn send(&self, message: String) {
        if message.is_empty() {
            return;
        }
        if let Err(error) = self.socket.send(message.as_bytes()).await {
            tracing::warn!(%error, message, "the service manager cannot be told");
        }
    }
}

/// What the service manager has been told already.
#[derive(Debug, Default)]
struct Told {
    ready: bool,
    stopping: bool,
    status: String,
}

impl Told {
    /// What is new in `report`, as a message; empty when nothing is.
    fn news(&mut self, report: &Report) -> String {
        let mut news = String::new();
        if report.phase == Phase::Ready && !self.ready {
            self.ready = true;
            news.push_str("READY=1\n");
        }
        if report.phase >= Phase::Unready && !self.stopping {
            self.stopping = true;
            news.push_str("STOPPING=1\n");
        }
        // A message has a line for each assignment.
        let status = format!("STATUS={}\n", escape::line(&report.to_string()));
        if status != self.status {
            news.push_str(&status);
            self.status = status;
        }
        news
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(&address(name)?)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// A path, or after `@` a name that is no file.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

/// The watchdog interval of this process, if there is one.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
