//! Subreaper, signalfd, parent-death signal and /proc.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::poll::PollTimeout;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid, getppid};

/// This very program, also after its file was replaced by another.
pub(in crate::upstream::stdio::keeper) fn own_program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// Says when a child has ended.
pub(in crate::upstream::stdio::keeper) struct ChildSignals(SignalFd);

impl ChildSignals {
    pub(in crate::upstream::stdio::keeper) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    /// How long to wait for something to happen.
    pub(in crate::upstream::stdio::keeper) fn patience(&self) -> PollTimeout {
        PollTimeout::NONE
    }

    /// Pending signals count once.
    pub(in crate::upstream::stdio::keeper) fn clear(&self) {
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

/// From here on, orphaned descendants come to this process, and no signal but SIGKILL ends it: a signal to the group of
/// the router is not meant for the keeper.
pub(in crate::upstream::stdio::keeper) fn become_reaper() -> Result<ChildSignals, String> {
    let failed = |what: &'static str| move |error: nix::Error| format!("the keeper cannot {what}: {error}");
    SigSet::all().thread_block().map_err(failed("block signals"))?;
    prctl::set_child_subreaper(true).map_err(failed("become a subreaper"))?;
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&wanted, flags).map(ChildSignals).map_err(failed("wait for signals"))
}

/// Run by the child before it becomes another program: the child asks for SIGKILL when this process dies, which then
/// cannot end the child in any other way.
pub(in crate::upstream::stdio::keeper) fn before_exec() -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let keeper = getpid();
    move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The keeper may have died before: then the signal would never be sent.
        if getppid() == keeper { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    }
}

/// All processes whose parent is now this process.
pub(in crate::upstream::stdio::keeper) fn children_of_this_process() -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let this = getpid();
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| parent_of(*pid) == Some(this)).collect()
}

/// The fourth field of `stat`; the second is a name in parentheses that may contain anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}
