//! One process takes the place of another without a client being refused: the successor gets the listening sockets of
//! its predecessor, and what both must not write at once passes from one to the other.
//!
//! The predecessor listens on a Unix socket in its state directory. The successor connects to it, and the two take turns:
//!
//! | the predecessor | the successor |
//! |---|---|
//! | sends its descriptors, each with its name | makes itself warm, and accepts nothing |
//! | serves on | says that it is warm |
//! | lets go of what one process alone may write, and serves on | opens that, becomes ready, and says so |
//! | says that it leaves, and finishes what it has | accepts |
//!
//! Until the predecessor says that it leaves, it can take everything back: the sockets never left it, and the successor
//! has let no client in. Either end stays open until its process has ended, and so tells the other one of that.

mod predecessor;
mod successor;
mod talk;

use std::{io, path::PathBuf};

pub use predecessor::{Predecessor, SucceedError};
pub use successor::{HandOver, Step};

/// The environment variable of `--upgrade`.
pub const UPGRADE: &str = "ONLY1MCP_UPGRADE";
/// The name of the socket on which a predecessor waits, in the state directory and among the descriptors.
pub const WAY: &str = "upgrade.sock";
/// The name of each open connection to a process that leaves, among the descriptors: a successor of the successor waits
/// for the end of that process as well.
const LINE: &str = "line to a predecessor";

/// The path of that socket for the process with this state directory.
///
/// # Errors
/// When the path cannot be made absolute.
pub fn way(state_dir: &std::path::Path) -> io::Result<PathBuf> {
    Ok(crate::state_dir::socket_path(&std::path::absolute(state_dir)?, WAY))
}

#[cfg(test)]
mod tests;
