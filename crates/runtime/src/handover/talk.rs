//! What the two processes say: words of JSON, one a line. A descriptor travels with the word that names it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, net::UnixStream};

/// Of the words below.
pub(super) const FORMAT: u32 = 1;
/// More than any word has.
const LINE_MAX: usize = 4096;
/// More than any process has listening sockets.
const DESCRIPTORS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub(super) enum Word {
    /// The predecessor begins.
    Hello { format: u32, version: String },
    /// A descriptor comes with this word.
    Descriptor { name: String },
    /// There are no more descriptors.
    All,
    /// The successor has started what it can start beside its predecessor.
    Warm,
    /// The predecessor has let go.
    Yours,
    /// The successor is ready to serve.
    Ready,
    /// The predecessor lets no more clients in.
    Leaves,
    /// The predecessor keeps its place; the successor is to end.
    Keeps,
    /// The successor cannot serve, and is about to end.
    Failed,
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) stream: UnixStream,
    unread: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    /// The other end has closed.
    closed: bool,
}

impl Talk {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, unread: Vec::new(), descriptors: VecDeque::new(), closed: false }
    }

    pub(super) async fn say(&self, word: &Word, with: Option<&OwnedFd>) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        let (mut sent, mut with) = (0, with.map(OwnedFd::as_fd));
        while sent < line.len() {
            let (rest, along) = (&line[sent..], with.as_slice());
            sent += self.stream.async_io(Interest::WRITABLE, || send(&self.stream, rest, along)).await?;
            with = None;
        }
        Ok(())
    }

    /// The next word. May be dropped: nothing is lost.
    pub(super) async fn hear(&mut self) -> io::Result<Word> {
        let Self { stream, unread, descriptors, closed } = self;
        loop {
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if unread.len() > LINE_MAX || descriptors.len() > DESCRIPTORS_MAX {
                return Err(io::Error::other("it says more than any process of ours would"));
            }
            let mut piece = [0; 1024];
            let read = stream.async_io(Interest::READABLE, || receive(stream, &mut piece, descriptors)).await;
            *closed = !read.as_ref().is_ok_and(|read| *read > 0);
            let read = read?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
            }
            unread.extend_from_slice(&piece[..read]);
        }
    }

    /// # Errors
    /// Also when it says another word.
    pub(super) async fn expect(&mut self, word: &Word) -> io::Result<()> {
        let heard = self.hear().await?;
        if heard == *word {
            return Ok(());
        }
        Err(io::Error::other(match heard {
            Word::Keeps => "it was asked to stop, or has waited too long".to_owned(),
            Word::Failed => "it could not take over".to_owned(),
            Word::Hello { .. }
            | Word::Descriptor { .. }
            | Word::All
            | Word::Warm
            | Word::Yours
            | Word::Ready
            | Word::Leaves => format!("it said {heard:?} in place of {word:?}"),
        }))
    }

    /// The descriptor that came with the last word.
    pub(super) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        self.descriptors.pop_front().ok_or_else(|| io::Error::other("a descriptor did not come with its name"))
    }

    /// Returns when the other end has closed, whatever it says before.
    pub(super) async fn until_closed(&mut self) {
        while !self.closed {
            drop(self.hear().await);
        }
    }
}

fn send(stream: &UnixStream, bytes: &[u8], with: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())?)
}

fn receive(stream: &UnixStream, into: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::empty())?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(all) = part {
            for descriptor in all {
                // Children must not inherit it; none is started before all descriptors are here.
                fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
                descriptors.push_back(descriptor);
            }
        }
    }
    Ok(message.bytes)
}
