//! The file in which sessions outlive their process: appended to, and replaced by a shorter one that says the same.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use runtime::state_dir::{open_private, write_private};

use super::record::Past;

/// Where records are written.
pub(super) trait Journal: Send + 'static {
    /// All of it or nothing; on disk, not only on its way there, if `durable`.
    fn append(&mut self, lines: &str, durable: bool) -> io::Result<()>;

    /// From now on it says this and nothing else.
    fn replace(&mut self, lines: &str) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    file: Option<File>,
    /// How much of it are whole records.
    length: u64,
    /// Something that is no record may stand at its end: the next one begins on a line of its own.
    torn: bool,
}

/// What the file says, and the file. A missing one is made, readable by its owner alone.
pub(super) fn open(path: PathBuf) -> io::Result<(JournalFile, Past)> {
    let mut content = Vec::new();
    open_private(&path).map_err(io::Error::other)?.read_to_end(&mut content)?;
    let past = Past::read(&content);
    if past.broken > 0 {
        tracing::warn!(lines = past.broken, "the journal of sessions has lines that are no records; they are left out");
    }
    let file = OpenOptions::new().append(true).open(&path)?;
    let (length, torn) = (content.len() as u64, content.last().is_some_and(|last| *last != b'\n'));
    Ok((JournalFile { path, file: Some(file), length, torn }, past))
}

impl JournalFile {
    fn write(&mut self, lines: &str, durable: bool) -> io::Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        let separate = if self.torn { "\n" } else { "" };
        let text = [separate, lines].concat();
        file.write_all(text.as_bytes())?;
        if durable {
            file.sync_data()?;
        }
        Ok(text.len() as u64)
    }
}

impl Journal for JournalFile {
    fn append(&mut self, lines: &str, durable: bool) -> io::Result<()> {
        match self.write(lines, durable) {
            Ok(written) => {
                self.length += written;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                // What was written of it was not promised, and must not be found later.
                let length = self.length;
                let cut = self.file.as_ref().is_some_and(|file| file.set_len(length).is_ok());
                self.torn |= !cut;
                Err(error)
            }
        }
    }

    fn replace(&mut self, lines: &str) -> io::Result<()> {
        // Another file has the name after this, even if it could not be made sure.
        self.file = None;
        let replaced = write_private(&self.path, lines.as_bytes());
        let file = OpenOptions::new().append(true).open(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = Some(file);
        self.torn &= replaced.is_err();
        replaced
    }
}
