//! A stand-in for systemd: it holds a socket, hands it to the process it starts, and receives that process's messages.

use std::{
    ffi::OsString,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Fault, Scratch, Supervised, binaries, fault};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What is on standard input becomes the first socket that is handed over, and the shell becomes the program, whose
/// process id is then the shell's.
const HAND_OVER: &str = r#"exec 3<&0 0</dev/null
export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES="$1"
shift
exec "$@""#;

/// Hears one process at a time.
pub(crate) struct StandIn {
    notify: UnixDatagram,
    path: PathBuf,
    home: PathBuf,
    logs: PathBuf,
}

impl StandIn {
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Result<Self, Fault> {
        let path = scratch.folder("notify")?.join(name);
        let notify = UnixDatagram::bind(&path)?;
        notify.set_read_timeout(Some(LIMIT))?;
        Ok(Self { notify, path, home: scratch.folder("home")?, logs: scratch.folder("logs")? })
    }

    /// Starts a program of ours.
    pub(crate) fn start(&self, program: &str, arguments: &[OsString]) -> Result<Supervised, Fault> {
        let mut command = Command::new(binaries::path(program)?);
        self.surround(&mut command).args(arguments);
        Supervised::start(program, &mut command, &self.logs)
    }

    /// As [`Self::start`], with a socket named `name`.
    pub(crate) fn hand_over(
        &self,
        name: &str,
        socket: impl Into<OwnedFd>,
        program: &str,
        arguments: &[OsString],
    ) -> Result<Supervised, Fault> {
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER, "sh", name]).arg(binaries::path(program)?).args(arguments);
        Supervised::start_with(Stdio::from(socket.into()), program, self.surround(&mut command), &self.logs)
    }

    fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.home).current_dir(&self.home);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "400000")
    }

    /// The messages up to the first one that has `line`.
    pub(crate) fn hears(&self, line: &str) -> Result<String, Fault> {
        self.hears_one(line, |said| said == line)
    }

    /// The messages up to the first one with a line that is as it should be.
    pub(crate) fn hears_one(&self, what: &str, mut is_it: impl FnMut(&str) -> bool) -> Result<String, Fault> {
        let (mut heard, mut buffer) = (String::new(), [0; 8192]);
        loop {
            let length = self.notify.recv(&mut buffer).map_err(|error| {
                fault(format!("{}: waited for {what} ({error}); it said:\n{heard}", self.path.display()))
            })?;
            let message = String::from_utf8_lossy(&buffer[..length]);
            heard.push_str(&message);
            if message.lines().any(&mut is_it) {
                return Ok(heard);
            }
        }
    }
}

/// A socket as a `.socket` unit opens it.
pub(crate) fn listening_socket() -> Result<TcpListener, Fault> {
    Ok(TcpListener::bind("127.0.0.1:0")?)
}

pub(crate) fn words<const N: usize>(words: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}
