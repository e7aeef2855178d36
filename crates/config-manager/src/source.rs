//! The watched file: this task looks at it, reads it and is woken by the file system. [`rollout::SourceCore`], which
//! the engine owns, decides what any of it means.

mod chain;
mod signals;
mod watcher;

#[cfg(test)]
mod tests;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config_file::{Format, ReadError};
use model::Digest;
use rollout::cursor::{Event, Found, Stamp, Write};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use signals::Signals;

use crate::log::Layer;

use chain::Chain;
use watcher::Watcher;

/// How often symlinks that move during the walk are walked again at once.
const ARMING_MAX: usize = 4;

/// Where the layer of the owner `file` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file to follow. Relative paths are taken from the working directory at the start.
    File(PathBuf),
    /// A text that is built in: read once, never changes.
    Text { name: String, text: String },
    /// Nothing: all layers come over the API.
    None,
}

/// How changes of the file are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Notify,
    /// The file system gives no events; the file is looked at from time to time.
    Polling,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Polling => "polling",
        }
    }
}

/// From the source's task to the engine.
#[derive(Debug)]
pub(crate) enum FromSource {
    Event(Event),
    /// The text comes with the event that carries its digest.
    Read {
        event: Event,
        text: Option<String>,
    },
    Method(Method),
}

impl Origin {
    /// The prefix of positions in the text.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
            Self::None => String::new(),
        }
    }

    pub(crate) fn layer(&self, text: String) -> Layer {
        let name = self.name();
        Layer { format: Format::of(&name), name, text }
    }
}

/// Serves the requests of the engine and the events of the file system until `stop`.
pub(crate) async fn follow(
    origin: Origin,
    signals: Arc<Signals>,
    engine: mpsc::Sender<FromSource>,
    stop: CancellationToken,
) {
    let mut eye = Eye::new(origin, Arc::clone(&signals));
    while let Some(wished) = stop.run_until_cancelled(signals.wished()).await {
        // The disk may be a network file system.
        let looked = tokio::task::spawn_blocking(move || {
            let said = eye.serve(wished);
            (eye, said)
        });
        let Ok((back, said)) = looked.await else {
            tracing::error!("looking at the configuration file panicked; it is followed no longer");
            return;
        };
        eye = back;
        for said in said {
            if engine.send(said).await.is_err() {
                return;
            }
        }
    }
}

/// The part that looks at the file.
struct Eye {
    origin: Origin,
    watcher: Watcher,
    chain: Option<Chain>,
    method: Option<Method>,
}

impl Eye {
    fn new(origin: Origin, signals: Arc<Signals>) -> Self {
        Self { origin, watcher: Watcher::new(signals), chain: None, method: None }
    }

    fn serve(&mut self, wished: signals::Wished) -> Vec<FromSource> {
        let path = match &self.origin {
            Origin::File(path) => path.clone(),
            Origin::Text { text, .. } => return Self::built_in(text, wished),
            Origin::None => return Vec::new(),
        };
        let mut said = Vec::new();
        // The watch begins before the look: a change after the look is an event.
        let moved = self.follow_chain(&path, &mut said);
        let mut noticed = |write| said.push(FromSource::Event(Event::Noticed { write, stamp: stamp(&path) }));
        if wished.whole || moved {
            noticed(Write::Complete);
        } else if wished.look {
            noticed(Write::Polled);
        }
        // This comes last, because the order of the events is not known: a write that may go on is looked at once more.
        if let Some(write) = wished.in_place {
            noticed(write);
        }
        if wished.read {
            said.push(read(&path));
        }
        said
    }

    fn built_in(text: &str, wished: signals::Wished) -> Vec<FromSource> {
        let found = Found::Digest(Digest::of_bytes(text.as_bytes()));
        let event = Event::Read { stamp: None, torn: false, found };
        let read = wished.read.then(|| FromSource::Read { event, text: Some(text.to_owned()) });
        read.into_iter().collect()
    }

    /// Whether the symlinks lead elsewhere than at the last look.
    fn follow_chain(&mut self, path: &Path, said: &mut Vec<FromSource>) -> bool {
        let (chain, method) = self.arm(path);
        if self.method != Some(method) {
            self.method = Some(method);
            said.push(FromSource::Method(method));
        }
        let target = chain.target.clone();
        let before = self.chain.replace(chain).and_then(|before| before.target);
        before.is_some() && target.is_some() && before != target
    }

    /// Watches what the path depends on, as it is after the watch has begun.
    fn arm(&mut self, path: &Path) -> (Chain, Method) {
        for _ in 0..ARMING_MAX {
            let chain = Chain::of(path);
            match self.watcher.arm(&chain) {
                Ok(false) => return (chain, Method::Notify),
                Ok(true) => {}
                Err(error) => {
                    if self.method != Some(Method::Polling) {
                        tracing::warn!(path = %path.display(), %error, "no events for the configuration file; polling");
                    }
                    return (chain, Method::Polling);
                }
            }
        }
        // The chain moves faster than it can be watched: the next look tries again.
        (Chain::of(path), Method::Notify)
    }
}

/// The present content of the file, read without telling the engine.
pub(crate) fn text_of(origin: &Origin) -> Option<(Digest, Layer)> {
    let text = match origin {
        Origin::File(path) => config_file::read(path).ok()?,
        Origin::Text { text, .. } => text.clone(),
        Origin::None => return None,
    };
    Some((Digest::of_bytes(text.as_bytes()), origin.layer(text)))
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|metadata| stamp_of(&metadata))
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    let nanos = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Stamp {
        size: metadata.len(),
        modified: u64::try_from(nanos).unwrap_or(0),
        identity: metadata.dev().rotate_left(32) ^ metadata.ino(),
    }
}

fn read(path: &Path) -> FromSource {
    let before = stamp(path);
    let text = config_file::read(path);
    let after = stamp(path);
    let torn = before != after;
    let (found, text) = match text {
        Ok(text) => (Found::Digest(Digest::of_bytes(text.as_bytes())), Some(text)),
        Err(ReadError::Missing { .. }) => (Found::Missing, None),
        Err(error) => (Found::Unreadable(error.to_string()), None),
    };
    FromSource::Read { event: Event::Read { stamp: after, torn, found }, text }
}
