//! Every child process of a router lives under a keeper: a small process of the same program that ends all descendants
//! of the child when the child ends, when it is told to, or when the router dies, however that dies.
//!
//! A router cannot do that itself: killed, it does nothing any more, and grandchildren that ignore the end of their
//! stdin would live on. The keeper is the reaper of whatever its descendants leave behind, so it finds them wherever
//! they moved to (other sessions, other process groups), and nothing becomes a zombie. If the keeper itself is killed,
//! the child gets SIGKILL by the parent-death signal, and the router kills the process group it knows: what had left
//! that group lives on.
//!
//! The program's `main` must call [`main`] before anything else, when [`is_keeper`] says so: a program that does not
//! cannot have children on stdio.

mod launch;
mod platform;
mod process;
mod report;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use runtime::descriptors;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

pub(crate) use launch::Launch;
pub(crate) use report::Ending;
use report::{Report, Reports};

/// The first argument of a process that is to be a keeper. Internal: not part of the command line users see.
const ROLE: &str = "__keeper";

/// How long a keeper that is to end may go on starting its child.
const STARTING: Duration = Duration::from_secs(1);

/// Whether this process was started to keep a child. `arguments` are those of the process, its own name included.
pub fn is_keeper(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.nth(1).is_some_and(|role| role == ROLE)
}

/// Keeps the child that the router names over the control pipe, and returns when all its descendants are gone.
#[must_use]
pub fn main() -> ExitCode {
    runtime::panics::escape();
    process::run(std::env::args_os().skip(2))
}

/// A child under its keeper. Dropped, the keeper ends child and descendants.
pub(crate) struct Kept {
    pub(crate) streams: Streams,
    pub(crate) keeper: Keeper,
}

/// The pipes of the child.
pub(crate) struct Streams {
    /// Taken to close the pipe.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// The keeper, as its router sees it.
pub(crate) struct Keeper {
    /// The pipe for commands; once it is closed, the keeper ends everything.
    control: Option<pipe::Sender>,
    /// What to start, until it was sent.
    orders: Vec<u8>,
    reports: Reports<pipe::Receiver>,
    process: Child,
    pid: Option<u32>,
    ending: Option<Ending>,
}

impl Kept {
    /// Starts a keeper, which starts the child once [`Keeper::started`] is asked. Must be called within a runtime,
    /// always on the same thread: in between, two descriptors can be inherited, and a keeper started at the same time
    /// would hold them open.
    pub(crate) fn start(launch: &Launch) -> io::Result<Self> {
        let (keepers_control, control) = io::pipe()?;
        let (reports, keepers_reports) = io::pipe()?;
        inheritable(&keepers_control)?;
        inheritable(&keepers_reports)?;
        let mut process = Command::new(platform::own_program()?)
            .arg(ROLE)
            .arg(keepers_control.as_raw_fd().to_string())
            .arg(keepers_reports.as_raw_fd().to_string())
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value.expose())))
            .envs(descriptors::before().map(|soft| (process::DESCRIPTORS, soft.to_string())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What a terminal sends to the router's group (Ctrl-C) is for the router alone, which then ends its
            // children.
            .process_group(0)
            .spawn()?;
        drop((keepers_control, keepers_reports));
        let piped = "all three were asked for as pipes";
        let streams = Streams {
            stdin: process.stdin.take(),
            stdout: process.stdout.take().expect(piped),
            stderr: process.stderr.take().expect(piped),
        };
        let keeper = Keeper {
            control: Some(pipe::Sender::from_owned_fd(control.into())?),
            reports: Reports::new(pipe::Receiver::from_owned_fd(reports.into())?),
            orders: launch.orders(),
            process,
            pid: None,
            ending: None,
        };
        Ok(Self { streams, keeper })
    }
}

impl Keeper {
    /// Has the child started: its pid, or why it could not be.
    pub(crate) async fn started(&mut self) -> Result<u32, String> {
        let orders = std::mem::take(&mut self.orders);
        if let Some(control) = &mut self.control {
            // If the orders cannot be sent, the keeper is gone, and its reports end.
            drop(control.write_all(&orders).await);
        }
        match self.reports.next().await {
            Some(Report::Started(pid)) => {
                self.pid = Some(pid);
                Ok(pid)
            }
            Some(Report::Refused(reason)) => Err(reason),
            Some(Report::Ended(_)) | None => Err("its keeper ended without a word".to_owned()),
        }
    }

    /// Returns when the child, and all it left behind, has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Ending {
        if let Some(ending) = self.ending {
            return ending;
        }
        loop {
            match self.reports.next().await {
                Some(Report::Ended(ending)) => {
                    self.ending = Some(ending);
                    return ending;
                }
                Some(Report::Started(pid)) => self.pid = Some(pid),
                Some(Report::Refused(_)) => {}
                None => {
                    self.kill_group();
                    self.ending = Some(Ending::KeeperLost);
                    return Ending::KeeperLost;
                }
            }
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ending.is_some()
    }

    /// Asks the child's process group to end: SIGTERM.
    pub(crate) fn terminate(&mut self) {
        if let Some(control) = &self.control {
            // One byte in an otherwise unused pipe has room; if its reader is gone, so is what it kept.
            drop(control.try_write(&[process::TERMINATE]));
        }
    }

    /// Ends child and descendants at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.control = None;
    }

    /// Waits for the keeper itself, so that it is no zombie. Ends whatever still runs.
    pub(crate) async fn reap(mut self) -> Ending {
        self.ended_and_reaped().await
    }

    pub(crate) async fn ended_and_reaped(&mut self) -> Ending {
        self.kill();
        // The keeper reads no commands while it starts the child, which lasts for ever on a file system that does not
        // answer. When the keeper is killed, the process that was to become the child dies with it.
        if self.pid.is_none() && timeout(STARTING, self.ended()).await.is_err() && self.pid.is_none() {
            drop(self.process.start_kill());
        }
        let ending = self.ended().await;
        if let Err(error) = self.process.wait().await {
            tracing::warn!(%error, "a keeper cannot be waited for");
        }
        ending
    }

    /// The keeper is dead, and with it the child by the parent-death signal: this is for what the child had started.
    fn kill_group(&self) {
        let group = self.pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        if let Some(group) = group {
            let _gone_already = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Descriptors are closed on exec unless this is called, just before the exec.
fn inheritable(descriptor: &impl AsFd) -> io::Result<()> {
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}
