//! Systems without subreapers: the child's process group is ended, and processes that left it are not found.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::poll::PollTimeout;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

pub(in crate::upstream::stdio::keeper) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// The keeper polls for ended children instead of waiting for a signal.
pub(in crate::upstream::stdio::keeper) struct ChildSignals;

impl ChildSignals {
    pub(in crate::upstream::stdio::keeper) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    pub(in crate::upstream::stdio::keeper) fn patience(&self) -> PollTimeout {
        PollTimeout::from(50_u8)
    }

    pub(in crate::upstream::stdio::keeper) fn clear(&self) {}
}

pub(in crate::upstream::stdio::keeper) fn become_reaper() -> Result<ChildSignals, String> {
    SigSet::all().thread_block().map_err(|error| format!("the keeper cannot block signals: {error}"))?;
    Ok(ChildSignals)
}

pub(in crate::upstream::stdio::keeper) fn before_exec() -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    || Ok(())
}

pub(in crate::upstream::stdio::keeper) fn children_of_this_process() -> Vec<Pid> {
    Vec::new()
}
