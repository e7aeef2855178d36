//! A machine with one gateway, whose disk can be full, whose clock can be set, and which can lose its power.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use testkit::{
    ConfigFile, Document, Fault, Gateway, Scratch, fault,
    raw::{LIMIT, Raw},
    wait,
};

use super::model::IDLE;

/// A shell that lets a full disk be an error instead of a signal, and becomes the gateway.
const UNDER: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

#[derive(Debug)]
pub(super) struct Machine {
    gateway: Gateway,
    config: ConfigFile,
    scratch: Scratch,
    library: String,
}

/// How a gateway is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Kill,
    Stop,
}

impl Machine {
    /// `library` is [`compile_clock`]'s.
    pub(super) fn start(library: &Path) -> Result<Self, Fault> {
        let scratch = Scratch::new("sessions")?;
        fs::write(scratch.file("clock"), 0_i64.to_ne_bytes())?;
        let limits = json!({ "session_idle": format!("{}ms", IDLE.as_millis()) });
        let document = Document::default().key("allow_empty", json!(true)).key("limits", limits);
        let config = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let library = library.display().to_string();
        let gateway = up(&scratch, config.path(), &library)?;
        Ok(Self { gateway, config, scratch, library })
    }

    pub(super) fn open(&self) -> Result<Raw, Fault> {
        let raw = Raw::open(self.gateway.mcp)?;
        if raw.session.is_some() { Ok(raw) } else { Err(fault("initialize gave no session")) }
    }

    /// The status of a ping in that session.
    pub(super) fn ping(&self, session: &Raw) -> Result<u16, Fault> {
        let mut raw = session.session_at(self.gateway.mcp)?;
        Ok(raw.ask(&json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))?.status)
    }

    pub(super) fn delete(&self, session: &Raw) -> Result<u16, Fault> {
        let mut raw = session.session_at(self.gateway.mcp)?;
        raw.bare("DELETE")?;
        Ok(raw.response()?.status)
    }

    /// As [`Machine::delete`], while `room` more bytes fit on the disk.
    pub(super) fn delete_on_full_disk(&self, session: &Raw, room: u64) -> Result<u16, Fault> {
        // What was written before is there, and no sweep comes between: it would only be written later.
        self.settle()?;
        let size = fs::metadata(self.journal())?.len();
        self.limit_files(&format!("{}:", size + room))?;
        let status = self.delete(session);
        self.limit_files("unlimited:")?;
        status
    }

    fn limit_files(&self, limit: &str) -> Result<(), Fault> {
        let pid = self.gateway.pid().to_string();
        let ran = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).output()?;
        let said = String::from_utf8_lossy(&ran.stderr);
        if ran.status.success() { Ok(()) } else { Err(fault(format!("prlimit --fsize={limit}: {said}"))) }
    }

    /// Waits until all that was answered is on disk: a session that ends is written after all of that.
    fn settle(&self) -> Result<(), Fault> {
        let status = self.delete(&self.open()?)?;
        if status == 204 { Ok(()) } else { Err(fault(format!("DELETE of a new session: {status}"))) }
    }

    /// Sets the clock while the gateway runs; `unseen` if it will write its journal anew, which is waited for.
    pub(super) fn set_clock(&self, seconds: i64, unseen: bool) -> Result<(), Fault> {
        let inode = || fs::metadata(self.journal()).map(|metadata| metadata.ino()).unwrap_or_default();
        let before = inode();
        self.turn_clock(seconds)?;
        if unseen { wait::until_true("the journal to be written anew", LIMIT, || inode() != before) } else { Ok(()) }
    }

    fn turn_clock(&self, seconds: i64) -> Result<(), Fault> {
        let path = self.scratch.file("clock");
        let mut bytes = [0; 8];
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        file.read_exact_at(&mut bytes, 0)?;
        Ok(file.write_all_at(&(i64::from_ne_bytes(bytes) + seconds).to_ne_bytes(), 0)?)
    }

    /// Ends the gateway, and starts it again after `down`, with a clock that was set meanwhile.
    pub(super) fn restart(&mut self, ending: Ending, down: Duration, seconds: i64) -> Result<(), Fault> {
        self.settle()?;
        match ending {
            Ending::Kill => self.gateway.process.kill()?,
            Ending::Stop => self.gateway.process.stop()?,
        };
        self.turn_clock(seconds)?;
        // Part of the schedule: the time in which the gateway is down counts.
        std::thread::sleep(down);
        self.gateway = up(&self.scratch, self.config.path(), &self.library)?;
        Ok(())
    }

    fn journal(&self) -> PathBuf {
        self.gateway.state_dir().join("router/sessions")
    }
}

fn up(scratch: &Scratch, config: &Path, library: &str) -> Result<Gateway, Fault> {
    let clock = scratch.file("clock").display().to_string();
    Gateway::up_under(&UNDER, scratch, config, &[("LD_PRELOAD", library), ("CLOCK_AHEAD_FILE", &clock)])
}

/// The library by which a test sets the clock of a gateway, with the C compiler that Rust links with.
pub(super) fn compile_clock(scratch: &Scratch) -> Result<PathBuf, Fault> {
    let (source, library) = (scratch.file("clock.c"), scratch.file("clock.so"));
    fs::write(&source, include_str!("clock.c"))?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let ran = cc.output().map_err(|error| fault(format!("cc, with which Rust links, cannot be run: {error}")))?;
    if ran.status.success() { Ok(library) } else { Err(fault(String::from_utf8_lossy(&ran.stderr).into_owned())) }
}
