//! What a process has to hand over.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{inherited::Inherited, socket_file::Ours};

/// Duplicates of the descriptors that a successor would get, each with its name. A listening socket lives as long as one
/// of its duplicates: they are cleared when the process is asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Of the socket files.
    pub(crate) ours: Ours,
    all: Arc<Mutex<Vec<(String, OwnedFd)>>>,
}

impl Held {
    /// # Errors
    /// When the process has no descriptor left.
    pub fn add(&self, name: &str, descriptor: impl AsFd) -> io::Result<()> {
        let descriptor = descriptor.as_fd().try_clone_to_owned()?;
        self.all().push((name.to_owned(), descriptor));
        Ok(())
    }

    /// Takes out those with these names, as if this process had inherited them.
    #[must_use]
    pub fn take(&self, names: &[&str]) -> Inherited {
        Inherited::of(self.all().extract_if(.., |(name, _)| names.contains(&name.as_str())).collect())
    }

    pub fn clear(&self) {
        self.all().clear();
    }

    pub(crate) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.all().iter().map(|(name, descriptor)| Ok((name.clone(), descriptor.try_clone()?))).collect()
    }

    /// A poisoned lock is taken over: each change is a single call.
    fn all(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
