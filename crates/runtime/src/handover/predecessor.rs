//! The successor's end.

use std::{
    future::Future,
    io,
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
    pin::pin,
};

use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::{
    LINE,
    talk::{FORMAT, Talk, Word},
};
use crate::{held::Held, inherited::Inherited};

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    talk: Talk,
    /// To the processes before it that have not ended yet.
    earlier: Vec<Talk>,
    stop: CancellationToken,
    held: Held,
}

/// Why this process takes no other one's place.
#[derive(Debug, thiserror::Error)]
pub enum SucceedError {
    #[error("there is no process to take over from: nothing answers at {path}; start without --upgrade")]
    Absent { path: PathBuf, source: io::Error },
    #[error("{path} is served by uid {uid}, not by uid {own} or root")]
    Foreign { path: PathBuf, uid: u32, own: u32 },
    #[error(
        "the process that runs (version {version}) hands over in format {format}, which this release does not know; \
         stop it, then start this one"
    )]
    Format { format: u32, version: String },
    #[error("the process that runs keeps its place")]
    Kept(#[from] io::Error),
}

impl Predecessor {
    /// Asks the process that waits there for its descriptors. It serves on.
    pub(crate) async fn find(
        path: &Path,
        stop: CancellationToken,
        held: Held,
    ) -> Result<(Self, Inherited), SucceedError> {
        let found = stop.run_until_cancelled(Self::equipped(path)).await;
        let (talk, mut inherited) = found.unwrap_or_else(|| Err(stopped().into()))?;
        let mut earlier = Vec::new();
        while let Some(line) = inherited.descriptor(LINE) {
            earlier.push(Talk::new(UnixStream::from_std(line.into())?));
        }
        for line in earlier.iter().chain([&talk]) {
            held.add(LINE, &line.stream)?;
        }
        // Until this process takes over.
        held.ours.set(false);
        Ok((Self { talk, earlier, stop, held }, inherited))
    }

    async fn equipped(path: &Path) -> Result<(Talk, Inherited), SucceedError> {
        let absent = |source| SucceedError::Absent { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).await.map_err(absent)?;
        let (uid, own) = (stream.peer_cred()?.uid(), nix::unistd::geteuid().as_raw());
        if uid != own && uid != 0 {
            return Err(SucceedError::Foreign { path: path.to_owned(), uid, own });
        }
        let mut talk = Talk::new(stream);
        let Word::Hello { format, version } = talk.hear().await? else {
            return Err(io::Error::other("it did not say which format it speaks").into());
        };
        if format != FORMAT {
            return Err(SucceedError::Format { format, version });
        }
        let mut all = Vec::new();
        loop {
            let said = talk.hear().await?;
            if said == Word::All {
                return Ok((talk, Inherited::of(all)));
            }
            let Word::Descriptor { name } = said else {
                return Err(io::Error::other("it did not send its descriptors").into());
            };
            all.push((name, talk.descriptor()?));
        }
    }

    /// Tells the predecessor when this process is `warm`. Returns when the predecessor has let go of what one process
    /// alone may write. If it has ended without a word, this process goes on alone: it has the sockets.
    ///
    /// # Errors
    /// When it keeps its place.
    pub async fn lets_go(&mut self, warm: impl Future<Output = ()>) -> Result<(), SucceedError> {
        let Self { talk, stop, .. } = self;
        let let_go = async {
            let mut warm = pin!(warm);
            let said = tokio::select! {
                () = &mut warm => Ok(None),
                said = talk.hear() => said.map(Some),
            };
            match said {
                Ok(None) => {}
                Ok(Some(word)) => return Err(io::Error::other(format!("it said {word:?} too early"))),
                Err(error) => {
                    warm.await;
                    return Err(error);
                }
            }
            talk.say(&Word::Warm, None).await?;
            talk.expect(&Word::Yours).await
        };
        unless_ended(stop.run_until_cancelled(let_go).await.unwrap_or_else(|| Err(stopped())))
    }

    /// This process is ready. Returns when the predecessor lets no more clients in, so that this process may. If the
    /// predecessor has ended meanwhile, that is as well.
    ///
    /// # Errors
    /// When it keeps its place.
    pub async fn leaves(&mut self) -> Result<(), SucceedError> {
        let Self { talk, stop, .. } = self;
        if stop.is_cancelled() {
            return Err(stopped().into());
        }
        let left = async {
            talk.say(&Word::Ready, None).await?;
            talk.expect(&Word::Leaves).await
        };
        unless_ended(stop.run_until_cancelled(left).await.unwrap_or_else(|| Err(stopped())))?;
        self.held.ours.set(true);
        Ok(())
    }

    /// This process does not take over. The predecessor waits for its end.
    pub async fn gives_up(self) {
        // It may have ended.
        drop(self.talk.say(&Word::Failed, None).await);
        if let Ok(line) = self.talk.stream.into_std() {
            // It is closed by the end of this process, and by nothing else.
            let _open = line.into_raw_fd();
        }
    }

    /// Returns when the predecessor has ended, and those before it as well.
    pub async fn gone(mut self) {
        for line in self.earlier.iter_mut().chain([&mut self.talk]) {
            line.until_closed().await;
        }
        drop(self.held.take(&[LINE]));
    }
}

/// The end of a predecessor that kept its place until then is no failure of its successor.
fn unless_ended(done: io::Result<()>) -> Result<(), SucceedError> {
    match done {
        Err(error) if is_end(&error) => tracing::warn!("the process before this one has ended early"),
        done => done?,
    }
    Ok(())
}

/// Whether the other process is no more.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn stopped() -> io::Error {
    io::Error::other("this process was asked to stop")
}
