//! Which configuration is meant, and where the gateway that runs it keeps its state.
//!
//! `up` and the commands that talk to it use the same code here, so that in one directory they mean the same gateway. A
//! directory that has no configuration of its own means the one gateway that runs.

use std::{
    env, fs, io,
    os::unix::{
        fs::{MetadataExt, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process,
};

use clap::Args;
use nix::{
    errno::Errno,
    sys::signal::kill,
    unistd::{Pid, geteuid},
};
use runtime::{
    AdminToken, handover,
    state_dir::{self, create_private, write_private},
};
use serde::{Deserialize, Serialize};

/// In the order in which they are looked for.
const FILE_NAMES: [&str; 2] = ["only1mcp.yaml", "only1mcp.toml"];
const SOCKET_NAME: &str = "admin.sock";
const ADDRESSES_NAME: &str = "up.json";
/// In the user's state directory, a folder with a link to each state directory in use that is not in there.
const ELSEWHERE: &str = "elsewhere";
const DEMO: &str = "the built-in demo";

/// Command line options that say which configuration is meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlaceArgs {
    /// The configuration file, YAML or (.toml) TOML, or that of an MCP client [default: ./only1mcp.yaml or
    /// ./only1mcp.toml, else one of these in the user's configuration directory, else a built-in demo]
    #[arg(long, value_name = "FILE", env = "ONLY1MCP_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where state is kept [default: a directory of its own per configuration, in the user's state directory]
    #[arg(long, value_name = "DIR", env = "ONLY1MCP_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// A configuration file and its state directory, both absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) config: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// The configuration is the built-in demo's, which lives in the state directory.
    pub(crate) is_demo: bool,
}

/// Where a running `up` is reached; written into its state directory once it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) pid: u32,
    pub(crate) config: String,
    /// URL of the MCP endpoint.
    pub(crate) mcp: String,
    /// URL of the admin services.
    pub(crate) admin: String,
    /// URL of `/livez`, `/readyz` and `/metrics`.
    pub(crate) ops: String,
}

/// An `up` that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) state_dir: String,
    /// Its file, or what it serves in place of one, for people.
    pub(crate) config: String,
    pub(crate) pid: u32,
}

impl Running {
    fn place(self) -> Place {
        let is_demo = self.config == DEMO;
        let state_dir = PathBuf::from(self.state_dir);
        let config = if is_demo { state_dir.join(FILE_NAMES[0]) } else { self.config.into() };
        Place { config, state_dir, is_demo }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("neither XDG_STATE_HOME nor HOME is set, so there is no place to keep state")]
    NoHome,
    #[error("there is no configuration at {}: {source}", path.display())]
    NoConfig { path: PathBuf, source: io::Error },
    #[error("both {} and {} are there, and only one can be meant", first.display(), second.display())]
    TwoConfigs { first: PathBuf, second: PathBuf },
    #[error("{} gateways run, and nothing here says which of them is meant", .running.len())]
    Several { running: Vec<Running> },
}

impl PlaceError {
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::NoHome => Some("name a directory with --state-dir".to_owned()),
            Self::TwoConfigs { .. } => Some("name one with --config, or remove the other".to_owned()),
            Self::Several { running } => Some(format!("name one of them:{}", choices(running))),
            Self::NoConfig { .. } => {
                Some("name another file with --config, or leave it out to see the demo".to_owned())
            }
        }
    }
}

/// The flag that leads to each, a line each.
pub(crate) fn choices(running: &[Running]) -> String {
    running.iter().map(|one| format!("\n  --state-dir {}  ({})", one.state_dir, one.config)).collect()
}

impl PlaceArgs {
    /// The gateway that a command talks to: that of this place; or the only one that runs for its file, wherever that
    /// one keeps its state; or, if neither a flag nor a file in this directory says which is meant, the only one that
    /// runs. It need not run.
    pub(crate) fn find_running(&self) -> Result<Place, PlaceError> {
        let is_meant = self.config.is_some() || only_one(Path::new(""))?.is_some();
        self.or_the_only_one(self.find()?, is_meant)
    }

    /// The same for a command that starts the gateway if it does not run: a file in the user's configuration directory
    /// is meant as well.
    pub(crate) fn find_to_start(&self) -> Result<Place, PlaceError> {
        let place = self.find()?;
        let is_meant = !place.is_demo;
        self.or_the_only_one(place, is_meant)
    }

    /// `is_meant`: the file of the place is.
    fn or_the_only_one(&self, place: Place, is_meant: bool) -> Result<Place, PlaceError> {
        // A gateway that refuses us runs as well.
        let runs = || place.knock().map_or_else(|error| error.kind() == io::ErrorKind::PermissionDenied, |()| true);
        if self.state_dir.is_some() || runs() {
            return Ok(place);
        }
        let mut running = running();
        if is_meant {
            running.retain(|one| one.config == place.describe());
        }
        match running.len() {
            0 => Ok(place),
            1 => Ok(running.remove(0).place()),
            _ => Err(PlaceError::Several { running }),
        }
    }

    /// Looks for the file that `up` would serve. A file that is named need not exist: there may be a last good
    /// revision.
    pub(crate) fn find(&self) -> Result<Place, PlaceError> {
        let mut found = self.config.clone();
        for directory in [Some(PathBuf::new()), state_dir::config_home()].into_iter().flatten() {
            if found.is_none() {
                found = only_one(&directory)?;
            }
        }
        let named = self.state_dir.as_deref().map(absolute).transpose()?;
        let Some(config) = found else {
            let state_dir = named.map_or_else(|| home().map(|home| home.join("demo")), Ok)?;
            return Ok(Place { config: state_dir.join(FILE_NAMES[0]), state_dir, is_demo: true });
        };
        let config = absolute(&config)?;
        let state_dir = named.map_or_else(|| home().map(|home| state_dir::for_path(&home, &config)), Ok)?;
        Ok(Place { config, state_dir, is_demo: false })
    }
}

impl Place {
    pub(crate) fn socket(&self) -> PathBuf {
        state_dir::socket_path(&self.state_dir, SOCKET_NAME)
    }

    /// Where its successor connects.
    pub(crate) fn way(&self) -> PathBuf {
        state_dir::socket_path(&self.state_dir, handover::WAY)
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.state_dir.join(AdminToken::FILE)
    }

    fn addresses_file(&self) -> PathBuf {
        self.state_dir.join(ADDRESSES_NAME)
    }

    /// Where this process says that it uses a state directory which commands do not look through. No other process has
    /// a link of that name, so that one that is left behind can be removed at any time.
    fn link(&self) -> Option<PathBuf> {
        let home = state_dir::state_home().filter(|home| self.state_dir.parent() != Some(home.as_path()))?;
        let mut link = state_dir::for_path(&home.join(ELSEWHERE), &self.state_dir).into_os_string();
        link.push(format!("-{}", process::id()));
        Some(link.into())
    }

    /// Tells commands where this process is reached. It must listen already. Without a home that can be written, a
    /// state directory that is not in there has to be named to each command.
    pub(crate) fn announce(&self, addresses: &Addresses) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(addresses)?;
        write_private(&self.addresses_file(), &text)?;
        let linked = self.link().map_or(Ok(()), |link| {
            link.parent().map_or(Ok(()), create_private)?;
            symlink(&self.state_dir, &link)
        });
        if let Err(error) = linked {
            tracing::info!(%error, "commands have to be told the state directory: it cannot be named in the user's");
        }
        Ok(())
    }

    /// Takes back what a killed process has announced, whose ports may belong to another program by now.
    pub(crate) fn tidy(&self) {
        drop(fs::remove_file(self.addresses_file()));
        self.unlink();
    }

    /// Takes back what this process has announced, and leaves what its successor has.
    pub(crate) fn withdraw(&self) {
        if self.announced().is_some_and(|addresses| addresses.pid == process::id()) {
            drop(fs::remove_file(self.addresses_file()));
        }
        self.unlink();
    }

    fn unlink(&self) {
        drop(self.link().map(fs::remove_file));
    }

    /// What the `up` of this place wrote, if one answers.
    pub(crate) fn addresses(&self) -> Option<Addresses> {
        self.knock().ok()?;
        self.announced()
    }

    /// What an `up` of this place wrote last.
    fn announced(&self) -> Option<Addresses> {
        serde_json::from_slice(&fs::read(self.addresses_file()).ok()?).ok()
    }

    /// Connects to the socket and checks which user serves it: every user of the machine may be able to make files in
    /// the socket's directory.
    pub(crate) fn knock(&self) -> io::Result<()> {
        let socket = self.socket();
        let peer = peer_uid(&UnixStream::connect(&socket)?)?;
        let announced_by = fs::metadata(self.addresses_file()).map(|file| file.uid()).ok();
        let own = geteuid().as_raw();
        if is_ours(peer, own, announced_by) {
            return Ok(());
        }
        let reason = format!("{} is served by uid {peer}, not by uid {own} or root", socket.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        if self.is_demo { DEMO.to_owned() } else { self.config.display().to_string() }
    }
}

/// Whether the process at a socket is the gateway it should be. Root talks to the gateways of all users, but to each
/// only about what that user wrote.
fn is_ours(peer: u32, own: u32, announced_by: Option<u32>) -> bool {
    peer == own || peer == 0 || (own == 0 && announced_by == Some(peer))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(stream)?.0.as_raw())
}

/// Every `up` of this user that answers, sorted.
pub(crate) fn running() -> Vec<Running> {
    let Some(home) = state_dir::state_home() else { return Vec::new() };
    let elsewhere = entries(&home.join(ELSEWHERE)).into_iter().filter_map(|link| linked(&link));
    let mut running: Vec<Running> = entries(&home)
        .into_iter()
        .chain(elsewhere)
        .filter_map(|state_dir| {
            let place = Place { config: PathBuf::new(), state_dir, is_demo: false };
            let Addresses { config, pid, .. } = place.addresses()?;
            Some(Running { state_dir: place.state_dir.display().to_string(), config, pid })
        })
        .collect();
    running.sort_by(|a, b| a.state_dir.cmp(&b.state_dir));
    // A link that was left behind may lead to the gateway that came later.
    running.dedup();
    running
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Where the link leads, unless the process that made it is gone, and nothing answers there: then the link goes as well.
/// The process may be one that this command cannot see.
fn linked(link: &Path) -> Option<PathBuf> {
    let pid = link.file_name()?.to_str()?.rsplit('-').next()?.parse().ok()?;
    let state_dir = fs::read_link(link).ok()?;
    let place = Place { config: PathBuf::new(), state_dir, is_demo: false };
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) && place.addresses().is_none() {
        drop(fs::remove_file(link));
        return None;
    }
    // One gateway is one place, by whichever path it was started.
    Some(fs::canonicalize(&place.state_dir).unwrap_or(place.state_dir))
}

/// The configuration file in a directory, if there is one. Two are refused: edits of one would have no effect.
fn only_one(directory: &Path) -> Result<Option<PathBuf>, PlaceError> {
    let there = FILE_NAMES.map(|name| Some(directory.join(name)).filter(|file| file.exists()));
    match there {
        [Some(first), Some(second)] => Err(PlaceError::TwoConfigs { first, second }),
        [first, second] => Ok(first.or(second)),
    }
}

fn home() -> Result<PathBuf, PlaceError> {
    state_dir::state_home().ok_or(PlaceError::NoHome)
}

/// Links are not followed: where a path leads may change while the gateway runs, the path stays the same.
fn absolute(path: &Path) -> Result<PathBuf, PlaceError> {
    let failed = |source| PlaceError::NoConfig { path: path.to_owned(), source };
    let expanded = path.strip_prefix("~").ok().and_then(|rest| Some(PathBuf::from(env::var_os("HOME")?).join(rest)));
    std::path::absolute(expanded.as_deref().unwrap_or(path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_of_another_user_is_not_the_gateway_of_this_place() {
        let (root, own, other) = (0, 1000, 1001);
        for (peer, caller, announced_by, expected) in [
            (own, own, None, true),
            (root, own, None, true),
            (other, own, Some(own), false),
            (other, own, Some(other), false),
            (own, root, Some(own), true),
            (other, root, Some(root), false),
            (other, root, Some(own), false),
            (other, root, None, false),
        ] {
            assert_eq!(is_ours(peer, caller, announced_by), expected, "{peer} {caller} {announced_by:?}");
        }
    }

    #[test]
    fn only_what_listens_is_asked_where_it_is() {
        let base = tempfile::tempdir().unwrap();
        let place = Place { config: PathBuf::new(), state_dir: base.path().to_owned(), is_demo: false };
        let url = |port| format!("http://127.0.0.1:{port}");
        let addresses = Addresses { pid: 1, config: "x".into(), mcp: url(1), admin: url(2), ops: url(3) };
        fs::write(place.addresses_file(), serde_json::to_vec(&addresses).unwrap()).unwrap();
        assert_eq!(place.addresses(), None, "left behind");
        let _listener = UnixListener::bind(place.socket()).unwrap();
        assert_eq!(peer_uid(&UnixStream::connect(place.socket()).unwrap()).unwrap(), geteuid().as_raw());
        assert_eq!(place.addresses(), Some(addresses));
    }
}
