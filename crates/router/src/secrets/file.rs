//! A secret in a file, read where a slow read delays nothing else.
//!
//! A path of a configuration may lead to a FIFO, a device, or a file system that has stopped to answer. So opening
//! never waits for a writer, only a regular file of some length is read, and each read has a thread of its own, which
//! may hang for ever without any effect on the rest: a thread of a runtime's pool would hold up the end of the runtime.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Secret;

/// A secret is short; a longer file is not the file that was meant.
const BYTES_MAX: u64 = 1 << 20;
/// Reads at the same time. More reads wait, within their limit.
const READS_MAX: usize = 64;
/// A read thread calls a handful of functions.
const STACK: usize = 128 << 10;

/// Why a file has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    #[error("{0}")]
    Io(io::ErrorKind),
    #[error("it is {0}; expected a regular file")]
    NotRegular(&'static str),
    #[error("it is longer than {} MiB", BYTES_MAX >> 20)]
    TooLong,
    #[error("not UTF-8 text")]
    NotText,
    #[error("it was not read within {}; does its file system answer?", model::units::in_words(*.0))]
    TimedOut(Duration),
    #[error("it was not asked for")]
    NotRead,
}

type Outcome = Result<Secret, FileFault>;
/// Empty until the read has ended.
type Reading = watch::Receiver<Option<Outcome>>;

/// The content of a file without its last line break. Callers that ask for the same path meanwhile share the same read:
/// a path that hangs costs one thread, however often it is requested.
pub(super) async fn read(path: &str, limit: Duration) -> Outcome {
    let read = async {
        let mut reading = match under_way(path) {
            Some(reading) => reading,
            None => begin(path).await?,
        };
        let ended = reading.wait_for(Option::is_some).await;
        let outcome = ended.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or(Err(FileFault::Io(io::ErrorKind::Other)))
    };
    tokio::time::timeout(limit, read).await.unwrap_or(Err(FileFault::TimedOut(limit)))
}

static READS: Mutex<BTreeMap<String, Reading>> = Mutex::new(BTreeMap::new());

fn reads() -> MutexGuard<'static, BTreeMap<String, Reading>> {
    READS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn under_way(path: &str) -> Option<Reading> {
    reads().get(path).cloned()
}

async fn begin(path: &str) -> Result<Reading, FileFault> {
    static SLOTS: std::sync::OnceLock<std::sync::Arc<Semaphore>> = std::sync::OnceLock::new();
    let slots = SLOTS.get_or_init(|| std::sync::Arc::new(Semaphore::new(READS_MAX)));
    let slot = slots.clone().acquire_owned().await.map_err(|_| FileFault::Io(io::ErrorKind::Other))?;
    let mut reads = reads();
    if let Some(reading) = reads.get(path) {
        return Ok(reading.clone());
    }
    let (ended, reading) = watch::channel(None);
    spawn(path.to_owned(), ended, slot).map_err(|error| FileFault::Io(error.kind()))?;
    reads.insert(path.to_owned(), reading.clone());
    Ok(reading)
}

fn spawn(path: String, ended: watch::Sender<Option<Outcome>>, slot: OwnedSemaphorePermit) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("secret file".into()).stack_size(STACK);
    // Not joined: it may hang for as long as the process lives.
    thread
        .spawn(move || {
            let outcome = content(&path);
            reads().remove(&path);
            ended.send_replace(Some(outcome));
            drop(slot);
        })
        .map(drop)
}

fn content(path: &str) -> Outcome {
    let io = |error: io::Error| FileFault::Io(error.kind());
    // Without O_NONBLOCK, opening a FIFO waits until a writer opens it.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(FileFault::NotRegular(kind(metadata.file_type())));
    }
    if metadata.len() > BYTES_MAX {
        return Err(FileFault::TooLong);
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(FileFault::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| FileFault::NotText)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

fn kind(file: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if file.is_dir() => "a directory",
        () if file.is_fifo() => "a FIFO",
        () if file.is_socket() => "a socket",
        () => "a device",
    }
}
