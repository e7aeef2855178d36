//! Which TCP connections a process holds, as `/proc` says.

use std::{collections::BTreeSet, fs};

/// State of an established connection in `/proc/PID/net/tcp`.
const ESTABLISHED: &str = "01";

/// Local ports of the established connections that `pid` holds toward `remote_port` on this machine.
pub fn toward(pid: i32, remote_port: u16) -> BTreeSet<u16> {
    let held = inodes(pid);
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, remote, state, inode) = (fields.get(1)?, fields.get(2)?, fields.get(3)?, fields.get(9)?);
            let wanted = *state == ESTABLISHED && port(remote)? == remote_port && held.contains(*inode);
            wanted.then(|| port(local)).flatten()
        })
        .collect()
}

/// `0100007F:1F90` is an address and a port in hex.
fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

fn inodes(pid: i32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}
