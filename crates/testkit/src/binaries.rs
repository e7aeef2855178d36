//! Where the programs under test are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::SystemTime,
};

use crate::fault::{Fault, fault};

#[cfg(test)]
mod tests;

/// Folder of the programs; by default the one that the running test was built into.
const FOLDER: &str = "ONLY1MCP_BIN_DIR";

const BUILD: &str = "build it with `cargo build --release --workspace --bins`";

/// The path of the program `name`. A program older than its sources, or built from those of another checkout, is
/// refused: a test of it would say nothing of this code. In the folder that the caller has named, any program will do.
pub fn path(name: &str) -> Result<PathBuf, Fault> {
    let folder = folder()?;
    let path = folder.join(name);
    if !path.is_file() {
        return Err(fault(format!("{name} is not in {}; {BUILD}, or set {FOLDER}", folder.display())));
    }
    if !are_elsewhere() {
        built_from_this(&path)?;
    }
    Ok(path)
}

/// Where `cargo build --profile dist` puts the program `name`, which is what users install. In a folder that the caller
/// has named, it is the program there.
pub fn shipped(name: &str) -> Result<PathBuf, Fault> {
    let folder = folder()?;
    Ok(if are_elsewhere() { folder } else { folder.with_file_name("dist") }.join(name))
}

/// Fails unless `program` was built from this checkout as it was when this process began.
pub fn built_from_this(program: &Path) -> Result<(), Fault> {
    #[expect(clippy::disallowed_methods, reason = "compared with times of files")]
    static BEGAN: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);
    // An edit made while the test runs is not what this test is about.
    let began = *BEGAN;
    let list = program.with_extension("d");
    let text = fs::read_to_string(&list).map_err(|error| fault(format!("{}: {error}; {BUILD}", list.display())))?;
    let built = fs::metadata(program)?.modified()?;
    let target = folder()?;
    for source in sources(&text).filter(|source| !source.starts_with(&target)) {
        let stale =
            |why: &str| Err(fault(format!("{} is stale: {} {why}; {BUILD}", program.display(), source.display())));
        if !source.starts_with(checkout()) {
            return stale("is not of this checkout");
        }
        let Ok(changed) = fs::metadata(&source).and_then(|file| file.modified()) else { return stale("is gone") };
        if changed > built && changed <= began {
            return stale("is newer");
        }
    }
    Ok(())
}

/// The sources in a dependency list of Make: `PROGRAM: SOURCE…`, a space in a name written with a backslash before it.
fn sources(list: &str) -> impl Iterator<Item = PathBuf> {
    let named = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let joined = named.replace("\\ ", "\0");
    let names: Vec<_> = joined.split_whitespace().map(|name| PathBuf::from(name.replace('\0', " "))).collect();
    names.into_iter()
}

/// The folder of the programs.
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
pub fn are_elsewhere() -> bool {
    env::var_os(FOLDER).is_some()
}

/// The root of the checkout that these tests were built from.
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
