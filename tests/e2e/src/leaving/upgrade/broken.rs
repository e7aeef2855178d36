//! New programs that cannot take the place of the old one.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use testkit::{Fault, fault, wait};

use super::places::{Place, aim, remove};
use crate::Size;

/// Longer than a process may take until it is warm.
const LIMIT: Duration = Duration::from_secs(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    EndsAtOnce,
    /// It takes what it is given, and is gone when the old one has let go.
    EndsLate,
    IsKilled,
    IsNoProgram,
    IsGone,
    /// It says nothing at all.
    Hangs,
}

impl Broken {
    /// One hangs, which takes minutes.
    pub(super) fn of(round: usize, size: Size) -> Self {
        match round % 5 {
            _ if round == 10 && size == Size::Full => Self::Hangs,
            0 => Self::EndsAtOnce,
            1 => Self::EndsLate,
            2 => Self::IsKilled,
            3 => Self::IsNoProgram,
            _ => Self::IsGone,
        }
    }

    /// What the old one says of it.
    fn words(self) -> &'static str {
        match self {
            Self::EndsAtOnce | Self::IsKilled | Self::Hangs => "has ended before it could take over",
            Self::EndsLate => "takes back what it had let go",
            Self::IsNoProgram | Self::IsGone => "cannot start a new process",
        }
    }

    /// Returns when the old process has said that it goes on.
    pub(super) fn tried(self, place: &mut dyn Place, round: usize) -> Result<(), Fault> {
        let before = said(place, self.words());
        let name = place.program().to_owned();
        match self {
            Self::EndsAtOnce => aim(&name, Path::new("/bin/false"))?,
            Self::IsKilled => script(&name, "kill -9 $$", 0o700)?,
            Self::Hangs => script(&name, "exec sleep 1000", 0o700)?,
            Self::IsNoProgram => script(&name, "", 0o600)?,
            Self::IsGone => remove(&name)?,
            Self::EndsLate => ends_late(&place.state_dir())?,
        }
        if self != Self::EndsLate {
            place.process().signal(Signal::SIGUSR2);
        }
        let noticed = || said(place, self.words()) > before || !place.process().is_alive();
        wait::until_true(&format!("the old one to go on for the {round}th time"), LIMIT, noticed)?;
        if place.process().is_alive() { Ok(()) } else { Err(fault("the old process has ended")) }
    }
}

/// In how many of the last lines.
fn said(place: &mut dyn Place, words: &str) -> usize {
    place.process().stderr_tail(usize::MAX).lines().filter(|line| line.contains(words)).count()
}

fn script(path: &Path, line: &str, mode: u32) -> Result<(), Fault> {
    remove(path)?;
    fs::write(path, format!("#!/bin/sh\n{line}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Speaks as a new process does, until the old one has let go.
fn ends_late(state: &Path) -> Result<(), Fault> {
    let mut way = UnixStream::connect(state.join("upgrade.sock"))?;
    way.set_read_timeout(Some(LIMIT))?;
    let mut words = BufReader::new(way.try_clone()?).lines();
    heard(&mut words, "all")?;
    way.write_all(b"{\"word\":\"warm\"}\n")?;
    heard(&mut words, "yours")
}

fn heard(words: &mut impl Iterator<Item = std::io::Result<String>>, wanted: &str) -> Result<(), Fault> {
    for word in words {
        let word: serde_json::Value = serde_json::from_str(&word?)?;
        if word["word"] == wanted {
            return Ok(());
        }
    }
    Err(fault(format!("the old process never said `{wanted}`")))
}
