//! The file in which sessions outlive their process: appended to, and replaced by a shorter one that says the same.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use runtime::state_dir::{open_private, write_private};

use super::record::Past;

/// Where records are written.
pub(super) trait Journal: Send + 'static {
    /// Appends all lines or none; with `durable` they are on disk when this returns, not only on their way there.
    fn append(&mut self, lines: &str, durable: bool) -> io::Result<()>;

    /// Replaces the content of the journal by `lines`.
    fn replace(&mut self, lines: &str) -> io::Result<()>;

    /// From now on another process appends as well, or no longer does.
    fn share(&mut self, shared: bool);

    /// What the journal says now.
    fn read(&mut self) -> io::Result<Past>;
}

#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// None after a failure that leaves in doubt how long the file of that name is: the next append opens it.
    file: Option<Open>,
    /// A part of a record may stand at the end of the file: the next record begins on a line of its own.
    torn: bool,
    /// Another process appends as well: what stands at the end of the file may be its.
    shared: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// The length to which the file is cut when an append fails: that before the append.
    length: u64,
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    fn write(&mut self, text: &str, durable: bool) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        if durable {
            self.file.sync_data()?;
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Reads the file and opens it. A missing file is made, readable by its owner alone.
pub(super) fn open(path: PathBuf) -> io::Result<(JournalFile, Past)> {
    let mut content = Vec::new();
    open_private(&path).map_err(io::Error::other)?.read_to_end(&mut content)?;
    let past = Past::read(&content);
    if past.broken > 0 {
        tracing::warn!(lines = past.broken, "the journal of sessions has lines that are no records; they are left out");
    }
    let torn = content.last().is_some_and(|last| *last != b'\n');
    let file = Some(Open::at(&path)?);
    Ok((JournalFile { path, file, torn, shared: false }, past))
}

impl Journal for JournalFile {
    fn append(&mut self, lines: &str, durable: bool) -> io::Result<()> {
        let open = match &mut self.file {
            Some(open) => open,
            none => none.insert(Open::at(&self.path)?),
        };
        let separate = if self.torn { "\n" } else { "" };
        let written = open.write(&[separate, lines].concat(), durable);
        if written.is_ok() {
            self.torn = false;
        } else if self.shared || open.file.set_len(open.length).is_err() {
            // The partial write was not promised, and could not be taken back.
            self.torn = true;
            self.file = None;
        }
        written
    }

    fn replace(&mut self, lines: &str) -> io::Result<()> {
        // After this, another file may have the name, even if its rename could not be made durable.
        self.file = None;
        let replaced = write_private(&self.path, lines.as_bytes());
        self.torn &= replaced.is_err();
        replaced
    }

    fn share(&mut self, shared: bool) {
        self.shared = shared;
        // The length that is known is without what the other process appends.
        self.file = None;
    }

    fn read(&mut self) -> io::Result<Past> {
        let content = std::fs::read(&self.path)?;
        // A process that was killed may have left a part of a record.
        self.torn |= content.last().is_some_and(|last| *last != b'\n');
        Ok(Past::read(&content))
    }
}

#[cfg(test)]
mod tests;
