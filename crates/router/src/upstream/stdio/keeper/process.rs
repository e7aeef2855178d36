//! The keeper process itself: one thread, no runtime, nothing but waiting and killing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use runtime::descriptors;

use super::launch::Orders;
use super::platform::{self, ChildSignals};
use super::report::{Ending, Report};

/// The command to send SIGTERM to the child's process group.
pub(super) const TERMINATE: u8 = b'T';

/// The variable with the limit of open files for a child: the router's own limit is higher.
pub(super) const DESCRIPTORS: &str = "ONLY1MCP_KEEPER_DESCRIPTORS";

/// A report cannot be sent when the router is dead; its death is noticed by other means.
fn say(reports: &mut File, report: &Report) {
    drop(reports.write_all(report.line().as_bytes()));
}

/// `arguments`: the two descriptors. What to start is said over the first of them.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut number = || arguments.next()?.to_str()?.parse::<i32>().ok();
    let (Some(control), Some(reports)) = (number(), number()) else { return ExitCode::from(64) };
    // Before anything is opened here: other inherited descriptors belong to other programs, and no child may get them.
    platform::close_all_but(&[control, reports]);
    // Opened anew rather than adopted by number, and before anything is started: if the router is dead already, the
    // reports have no reader and cannot be opened.
    let (Ok(control), Ok(mut reports)) = (platform::reopen(control, false), platform::reopen(reports, true)) else {
        return ExitCode::FAILURE;
    };
    let mut control = control;
    let Ok(orders) = Orders::read(&mut Patient(&mut control)) else { return ExitCode::FAILURE };
    let started = platform::become_reaper().and_then(|signals| {
        enter(&orders)?;
        // Entering the directory may have taken long.
        if !is_wanted(&mut control) {
            return Err("it is not wanted any more".to_owned());
        }
        let child = start(&orders)?;
        Ok((signals, child))
    });
    match started {
        Ok((signals, child)) => {
            say(&mut reports, &Report::Started(child.as_raw().unsigned_abs()));
            // Otherwise the router would never see the end of a pipe that the child has closed.
            let let_go = let_go_of_standard_streams();
            let ending = match let_go {
                Ok(()) => keep(child, control, &reports, &signals),
                Err(_) => end_descendants(Some(child)),
            };
            say(&mut reports, &Report::Ended(ending));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut reports, &Report::Refused(error));
            ExitCode::FAILURE
        }
    }
}

fn enter(orders: &Orders) -> Result<(), String> {
    let directory = &orders.directory;
    if directory.is_empty() {
        return Ok(());
    }
    std::env::set_current_dir(directory)
        .map_err(|error| format!("cannot enter the directory that `cwd` names: {error}"))
}

/// Whether the router lives and has not ordered the end.
fn is_wanted(control: &mut File) -> bool {
    matches!(control.read(&mut [0]), Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

fn start(orders: &Orders) -> Result<Pid, String> {
    let Orders { command, arguments, .. } = orders;
    if let Some(soft) = std::env::var(DESCRIPTORS).ok().and_then(|soft| soft.parse().ok()) {
        descriptors::lower(soft);
    }
    let mut child = Command::new(command);
    child.args(arguments).env_remove(DESCRIPTORS).process_group(0);
    platform::prepare(&mut child);
    let child = child.spawn().map_err(|error| error.to_string())?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())
}

/// Reads a pipe that does not block, waiting for what is still to come.
struct Patient<'a>(&'a mut File);

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                done => return done,
            }
        }
    }
}

fn let_go_of_standard_streams() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}

/// Waits until the child has ended, the router orders the end, or the router has died.
fn keep(child: Pid, mut control: File, reports: &File, signals: &ChildSignals) -> Ending {
    loop {
        let (commands, router_gone) = {
            let mut watched = vec![
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
                PollFd::new(reports.as_fd(), PollFlags::empty()), // an error once the reader is gone
            ];
            watched.extend(signals.descriptor().map(|signals| PollFd::new(signals, PollFlags::POLLIN)));
            match poll(&mut watched, signals.patience()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return end_descendants(Some(child)),
            }
            (watched[0].any().unwrap_or(false), watched[1].any().unwrap_or(false))
        };
        signals.clear();
        if let Some(ending) = reap(child) {
            end_descendants(None);
            return ending;
        }
        if router_gone {
            return end_descendants(Some(child));
        }
        if commands {
            let mut command = [0];
            match control.read(&mut command) {
                Ok(1) if command[0] == TERMINATE => {
                    let _gone_already = killpg(child, Signal::SIGTERM);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // Closed: the child is to end, or the router is gone.
                Ok(_) | Err(_) => return end_descendants(Some(child)),
            }
        }
    }
}

/// Reaps every process that has ended. Returns how the child ended, if it is among them.
fn reap(child: Pid) -> Option<Ending> {
    let mut ending = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return ending,
            Ok(status) => {
                if status.pid() == Some(child) {
                    ending = how(status);
                }
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "which others there are depends on the system")]
fn how(status: WaitStatus) -> Option<Ending> {
    match status {
        WaitStatus::Exited(_, code) => Some(Ending::Exited(code)),
        WaitStatus::Signaled(_, signal, _) => Some(Ending::Killed(signal as i32)),
        _ => None,
    }
}

/// Kills until nothing is left to wait for. A killed process leaves its own children to this process, which kills them
/// in the next round. So the whole tree is reached, however it was rearranged.
fn end_descendants(child: Option<Pid>) -> Ending {
    let mut ending = Ending::Killed(Signal::SIGKILL as i32);
    let mut group = child;
    loop {
        if let Some(group) = group {
            let _gone_already = killpg(group, Signal::SIGKILL);
        }
        for descendant in platform::children_of_this_process() {
            let _gone_already = kill(descendant, Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(status) => {
                if let Some(child) = child.filter(|child| status.pid() == Some(*child)) {
                    ending = how(status).unwrap_or(ending);
                    // The pid may belong to another process from now on.
                    group = group.filter(|group| *group != child);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return ending, // ECHILD: nothing is left
        }
    }
}
