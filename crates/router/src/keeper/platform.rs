//! What a keeper needs of its operating system. Linux has all of it; elsewhere only the process group is ended.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(super) use linux::{ChildSignals, become_reaper, children_of_this_process, die_with_parent, own_program};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{ChildSignals, become_reaper, children_of_this_process, die_with_parent, own_program};

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Opens an inherited pipe anew and closes the inherited descriptor. Never blocks, neither here nor later; to write
/// fails if nobody reads.
pub(super) fn reopen(number: i32, write: bool) -> io::Result<File> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened =
        File::options().read(!write).write(write).custom_flags(nonblocking).open(format!("/dev/fd/{number}"))?;
    nix::unistd::close(number)?;
    Ok(opened)
}
