//! How many files and sockets this process may have open.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit as this process found it: for the programs it starts, some of which do not work with a higher one.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the limit to what the system allows: the lower one is for programs that use `select`, which this is not.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let first = BEFORE.set(soft).is_ok();
    if first
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, soft, hard, "the limit of open files cannot be raised");
    }
}

/// The present limit.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// The limit before [`raise`]; `None` if that was not called.
pub fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Takes [`raise`] back in a process that will become another program.
pub fn lower(soft: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _no_worse_than_before = setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard);
    }
}
