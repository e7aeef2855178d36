//! What a keeper needs of its operating system. Linux has all of it; elsewhere only the process group is ended.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(super) use linux::{ChildSignals, become_reaper, before_exec, children_of_this_process, own_program};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{ChildSignals, become_reaper, before_exec, children_of_this_process, own_program};

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;

/// Opens an inherited pipe anew and closes the inherited descriptor. Never blocks, neither here nor later; opening for
/// writing fails if there is no reader.
pub(super) fn reopen(number: i32, write: bool) -> io::Result<File> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened =
        File::options().read(!write).write(write).custom_flags(nonblocking).open(format!("/dev/fd/{number}"))?;
    nix::unistd::close(number)?;
    Ok(opened)
}

/// Closes what this process inherited beside its standard streams and `kept`. A router inherits the descriptors of a
/// program that leaves them open over an exec (a shell, a service manager, a library), and its keepers would hand them
/// on.
pub(super) fn close_all_but(kept: &[i32]) {
    let Ok(open) = std::fs::read_dir("/dev/fd") else { return };
    let numbers: Vec<i32> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && !kept.contains(number)) {
        // The descriptor of the directory is closed already.
        let _closed_already = nix::unistd::close(number);
    }
}

/// What must be set in the child itself: that it dies with its keeper, and that it blocks none of the signals which the
/// keeper blocks (a child inherits that).
#[expect(unsafe_code, reason = "both can only be said by the child itself, between fork and exec")]
pub(super) fn prepare(child: &mut Command) {
    let mut dies_with_keeper = before_exec();
    let set = move || {
        dies_with_keeper()?;
        SigSet::empty().thread_set_mask()?;
        Ok(())
    };
    // SAFETY: `set` makes three system calls and allocates nothing on its way to success; the keeper has one thread, so
    // no lock can be held by another one at the time of the fork.
    unsafe {
        child.pre_exec(set);
    }
}
