//! Everything that a path depends on: each symlink on the way to the file, and the file itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// More symlinks than that are a loop, as for the kernel.
const LINKS_MAX: usize = 40;

/// Names whose change can change the content behind the path, each in its real directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    pub(super) names: BTreeSet<(PathBuf, OsString)>,
    /// The end of the chain; absent when it leads nowhere.
    pub(super) target: Option<PathBuf>,
}

impl Chain {
    /// Blocks on the disk. Reads as far as the path leads.
    pub(super) fn of(path: &Path) -> Self {
        let mut chain = Self::default();
        let mut links = 0;
        // What is left to walk, the next component last.
        let mut rest: Vec<OsString> = components(path);
        let mut at = PathBuf::from("/");
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let here = at.join(&name);
            match std::fs::read_link(&here) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    chain.names.insert((at.clone(), name));
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    rest.extend(components(&target));
                }
                Ok(_) => return chain,
                Err(_) if rest.is_empty() || !here.is_dir() => {
                    chain.names.insert((at, name));
                    chain.target = (rest.is_empty() && here.exists()).then_some(here);
                    return chain;
                }
                Err(_) => at = here,
            }
        }
        chain
    }

    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        self.names.iter().map(|(directory, _)| directory.clone()).collect()
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.names.contains(&(directory.to_owned(), name.to_owned()))
    }
}

/// In the order in which they are popped.
fn components(path: &Path) -> Vec<OsString> {
    let normal = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    normal.collect()
}
