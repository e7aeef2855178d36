//! A folder of one test: configurations, state, count files, logs.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;

/// Set to keep the folders of tests that passed, too.
const KEEP: &str = "ONLY1MCP_KEEP_SCRATCH";

thread_local! {
    /// Folders of a scenario that may yet turn out to have failed; `None` outside of [`judged`].
    static UNDECIDED: RefCell<Option<Vec<PathBuf>>> = const { RefCell::new(None) };
}

/// Plays a scenario on this thread, and keeps its folders when the result is not `good`. Returns those that were kept.
pub fn judged<T>(play: impl FnOnce() -> T, good: impl FnOnce(&T) -> bool) -> (T, Vec<PathBuf>) {
    UNDECIDED.set(Some(Vec::new()));
    let result = play();
    let mut folders = UNDECIDED.take().unwrap_or_default();
    if good(&result) {
        for folder in folders.drain(..) {
            // A folder that cannot be removed stays in the system's temporary folder.
            fs::remove_dir_all(folder).ok();
        }
    }
    (result, folders)
}

/// Removed when dropped, unless the test is failing or [`judged`] will decide: then it is kept, and its path is said.
#[derive(Debug)]
pub struct Scratch(Option<TempDir>);

impl Scratch {
    pub fn new(name: &str) -> io::Result<Self> {
        // Short, because the path of a Unix socket in it may have no more than 107 bytes.
        tempfile::Builder::new().prefix(&format!("o1-{name}-")).tempdir().map(|dir| Self(Some(dir)))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only by drop").path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.file(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Keeps the folder, so that a failure can be examined.
    pub fn keep(&mut self) -> PathBuf {
        self.0.take().map(TempDir::keep).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let undecided = UNDECIDED.with_borrow(Option::is_some);
        if undecided && let Some(folder) = self.0.take() {
            UNDECIDED.with_borrow_mut(|folders| folders.get_or_insert_default().push(folder.keep()));
            return;
        }
        if thread::panicking() || std::env::var_os(KEEP).is_some() {
            let path = self.keep();
            crate::process::say(&format!("kept {}", path.display()));
        }
    }
}
