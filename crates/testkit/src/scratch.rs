//! A folder of one test: configurations, state, count files, logs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;

/// Set to keep the folders of tests that passed, too.
const KEEP: &str = "ONLY1MCP_KEEP_SCRATCH";

/// Removed when dropped, unless the test is failing: then it is kept, and its path is said.
#[derive(Debug)]
pub struct Scratch(Option<TempDir>);

impl Scratch {
    /// # Errors
    /// As the operating system says.
    pub fn new(name: &str) -> io::Result<Self> {
        // Short, because the path of a Unix socket in it may have no more than 107 bytes.
        tempfile::Builder::new().prefix(&format!("o1-{name}-")).tempdir().map(|dir| Self(Some(dir)))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only by drop").path()
    }

    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A folder in it.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.file(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Keeps the folder for whoever looks into a failure.
    pub fn keep(&mut self) -> PathBuf {
        self.0.take().map(TempDir::keep).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() || std::env::var_os(KEEP).is_some() {
            let path = self.keep();
            crate::process::say(&format!("kept {}", path.display()));
        }
    }
}
