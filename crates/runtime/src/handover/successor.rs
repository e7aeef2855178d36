//! The predecessor's end: it waits for a successor, starts one when a signal asks for it, and leaves once a successor
//! is ready.

use std::{
    future::Future,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    signal::unix,
    time::{Instant, timeout, timeout_at},
};

use super::{
    UPGRADE, WAY,
    talk::{FORMAT, Talk, Word},
};
use crate::{
    Shutdown,
    held::Held,
    inherited::Inherited,
    socket_file::{SocketError, SocketFile, bind_unix},
};

/// How long a successor may take until it is warm.
const WARM: Duration = Duration::from_secs(120);
/// How long it may take to become ready once this process has let go: meanwhile nothing can be changed.
const READY: Duration = Duration::from_secs(30);
/// How long a successor that is not to take over may take to end by itself.
const END: Duration = Duration::from_secs(5);

/// What is asked of the process while a successor comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let go of what one process alone may write, and serve on.
    LetGo,
    /// The successor has ended and failed: take it back.
    TakeBack,
}

/// The way to a successor.
#[derive(Debug)]
pub struct HandOver {
    listener: UnixListener,
    _file: SocketFile,
    upgrade: unix::Signal,
    held: Held,
    shutdown: Shutdown,
    version: &'static str,
    /// The successor that was started here, until it has ended or takes over.
    child: Option<Started>,
}

/// A successor that this process has started.
#[derive(Debug)]
struct Started {
    child: Child,
    /// Until when it has to connect; none once it has.
    connects_by: Option<Instant>,
}

impl Started {
    /// Returns when it has ended. A process that does not connect in time is ended.
    async fn ended(&mut self) -> String {
        if let Some(by) = self.connects_by {
            match timeout_at(by, self.child.wait()).await {
                Ok(ended) => return said(ended),
                Err(_) => {
                    self.connects_by = None;
                    // It may have ended by itself.
                    drop(self.child.start_kill());
                }
            }
        }
        said(self.child.wait().await)
    }
}

fn said(ended: io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

impl HandOver {
    /// Waits at `path`, or on the socket that the predecessor waited on.
    pub(crate) async fn open(
        path: &Path,
        inherited: &mut Inherited,
        upgrade: unix::Signal,
        held: Held,
        shutdown: Shutdown,
        version: &'static str,
    ) -> Result<Self, SocketError> {
        let (listener, file) = bind_unix(path, inherited.unix(WAY), held.ours.clone()).await?;
        held.add(WAY, &listener).map_err(|source| SocketError::Unix { path: path.to_owned(), source })?;
        Ok(Self { listener, _file: file, upgrade, held, shutdown, version, child: None })
    }

    /// Returns when the process is to end: because a stop was requested, or because a successor has taken over, which
    /// `shutdown` knows then. `take` does what each step asks for.
    pub async fn until_left(mut self, mut take: impl AsyncFnMut(Step)) {
        let shutdown = self.shutdown.clone();
        while !shutdown.is_triggered() {
            tokio::select! {
                () = shutdown.triggered() => {}
                _ = self.upgrade.recv() => self.start(),
                ended = ended(&mut self.child) => {
                    tracing::error!(%ended, "the new process has ended before it could take over; this one serves on");
                    self.child = None;
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.meet(stream, &mut take).await,
                    Err(error) => {
                        tracing::warn!(%error, "a new process cannot connect");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.held.clear();
    }

    /// A process of the same command line; its program is looked up anew, so that it may be a newer one.
    fn start(&mut self) {
        if self.child.is_some() {
            tracing::warn!("an upgrade is under way already");
            return;
        }
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_default();
        let mut command = Command::new(&program);
        // The watchdog's process is this one; what is set for no process is for the one that finds it.
        command.args(arguments).env(UPGRADE, "true").env_remove("WATCHDOG_PID").stdin(Stdio::null());
        match command.spawn() {
            Ok(child) => {
                tracing::info!(?program, pid = child.id(), "started a new process, to take the place of this one");
                self.child = Some(Started { child, connects_by: Some(Instant::now() + WARM) });
            }
            Err(error) => tracing::error!(?program, %error, "cannot start a new process; this one serves on"),
        }
    }

    async fn meet(&mut self, stream: UnixStream, take: &mut impl AsyncFnMut(Step)) {
        let peer = match stream.peer_cred() {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(%error, "a new process cannot be told from others"),
        };
        let own = nix::unistd::geteuid().as_raw();
        if peer.uid() != own && peer.uid() != 0 {
            return tracing::warn!(uid = peer.uid(), "a process of another user may not take the place of this one");
        }
        // 0: a process that this one cannot see.
        let pid = peer.pid().filter(|pid| *pid > 0);
        if let Some(started) = &mut self.child
            && started.child.id().and_then(|id| id.try_into().ok()) == pid
        {
            started.connects_by = None;
        }
        let mut successor = Successor { talk: Talk::new(stream), pid };
        tracing::info!(pid, "a new process is to take the place of this one");
        let warm = self.in_time(WARM, "warm", successor.equip(&self.held, self.version)).await;
        if let Err(error) = warm {
            tracing::error!(pid, %error, "the new process has failed; this one serves on");
            return successor.end().await;
        }
        self.held.ours.set(false);
        take(Step::LetGo).await;
        match self.in_time(READY, "ready", successor.give()).await {
            Ok(()) => {
                tracing::info!(pid, "the new process serves; this one finishes what it has");
                // The connection is open until this process ends, and tells the successor of that end.
                self.shutdown.succeed(pid, successor.talk.stream);
            }
            Err(error) => {
                tracing::error!(pid, %error, "the new process has failed; this one takes back what it had let go");
                successor.end().await;
                self.held.ours.set(true);
                if !self.shutdown.is_triggered() {
                    take(Step::TakeBack).await;
                }
            }
        }
    }

    async fn in_time(&self, limit: Duration, what: &str, step: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        tokio::select! {
            // A process that is asked to stop has no other one serve.
            biased;
            () = self.shutdown.triggered() => Err(io::Error::other("this process was asked to stop")),
            done = timeout(limit, step) => done.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("it was not {what} within {} s", limit.as_secs())))
            }),
        }
    }
}

/// Accepting fails while the process is out of descriptors; retrying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Returns when the successor that was started has ended, if there is one.
async fn ended(child: &mut Option<Started>) -> String {
    match child {
        Some(child) => child.ended().await,
        None => std::future::pending().await,
    }
}

struct Successor {
    talk: Talk,
    pid: Option<i32>,
}

impl Successor {
    /// Gives it the descriptors; returns when it is warm.
    async fn equip(&mut self, held: &Held, version: &'static str) -> io::Result<()> {
        self.talk.say(&Word::Hello { format: FORMAT, version: version.to_owned() }, None).await?;
        for (name, descriptor) in held.copies()? {
            self.talk.say(&Word::Descriptor { name }, Some(&descriptor)).await?;
        }
        self.talk.say(&Word::All, None).await?;
        self.talk.expect(&Word::Warm).await
    }

    /// Tells it that this process has let go; returns when it is ready, and may serve.
    async fn give(&mut self) -> io::Result<()> {
        self.talk.say(&Word::Yours, None).await?;
        self.talk.expect(&Word::Ready).await?;
        self.talk.say(&Word::Leaves, None).await
    }

    /// Returns when it has ended: a process that hangs could still write.
    async fn end(mut self) {
        // It may have ended.
        drop(self.talk.say(&Word::Keeps, None).await);
        if timeout(END, self.talk.until_closed()).await.is_ok() {
            return;
        }
        if let Some(pid) = self.pid {
            // Its connection is open, so it is that process still, and no other one has its id.
            if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                tracing::warn!(pid, %error, "the new process cannot be killed");
            }
        }
        if timeout(END, self.talk.until_closed()).await.is_err() {
            tracing::error!(pid = self.pid, "the new process cannot be ended");
        }
    }
}
