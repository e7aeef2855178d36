//! The reader of our output: whether it is still there, which a command that has nothing to say would not notice.

use std::{io, os::fd::AsFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often a command that waits for news looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Returns when the reader of stdout has gone. A file has no reader that could go.
pub(super) async fn gone() {
    let mut due = tokio::time::interval(LOOK_EVERY);
    while !is_unread(io::stdout()) {
        due.tick().await;
    }
}

/// Whether it is a pipe, a socket or a terminal whose other end is closed.
fn is_unread(output: impl AsFd) -> bool {
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    // Both are told without being asked for.
    let mut asked = [PollFd::new(output.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO).is_ok() && asked[0].revents().is_some_and(|told| told.intersects(closed))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_noticed_without_a_write() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_unread(&writer));
        drop(reader);
        assert!(is_unread(&writer));
        let (reader, writer) = UnixStream::pair().unwrap();
        assert!(!is_unread(&writer));
        drop(reader);
        assert!(is_unread(&writer));
        assert!(!is_unread(File::create("/dev/null").unwrap()));
        assert!(!is_unread(tempfile::tempfile().unwrap()));
    }
}
