//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::fault::{Fault, fault};

/// Folder of the programs; by default the one that the running test was built into.
const FOLDER: &str = "ONLY1MCP_BIN_DIR";

/// The path of the program `name`.
///
/// # Errors
/// When it is not there, saying how to build it.
pub fn path(name: &str) -> Result<PathBuf, Fault> {
    let folder = folder()?;
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(fault(format!(
        "{name} is not in {}; build it with `cargo build --release --workspace --bins`, or set {FOLDER}",
        folder.display()
    )))
}

/// The folder of the programs.
///
/// # Errors
/// When the place of the running program is unknown.
pub fn folder() -> Result<PathBuf, Fault> {
    if let Some(folder) = env::var_os(FOLDER) {
        return Ok(folder.into());
    }
    let own = env::current_exe()?;
    let folder = own.parent().ok_or_else(|| fault("this program has no folder"))?;
    // Tests are in `deps`, beside the programs.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

/// Whether the programs may be of other code than the running test.
#[must_use]
pub fn are_elsewhere() -> bool {
    env::var_os(FOLDER).is_some()
}

/// The root of the checkout that these tests were built from.
#[must_use]
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
