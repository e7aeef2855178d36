//! A process under test: started with its output collected, waited for by what it says, ended by its id.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::{
    fault::{Fault, fault},
    wait,
};

/// Lines kept of each stream, for waiting and for reports; the file has all.
const LINES_KEPT: usize = 4000;
/// A process that was told to end has this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the end of stdout to the end of stderr of a process that fails.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Killed when dropped, if it still runs.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    ended: Option<ExitStatus>,
}

/// The output of one stream so far.
#[derive(Debug, Default)]
struct Lines {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<String>,
    /// Lines that were dropped from the front.
    dropped: usize,
    closed: bool,
}

impl Supervised {
    /// Starts `command`; what it says goes to `NAME.out` and `NAME.err` in `logs` as well.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self, Fault> {
        Self::start_with(Stdio::null(), name, command, logs)
    }

    /// As [`Self::start`], with something to read.
    pub fn start_with(stdin: Stdio, name: &str, command: &mut Command, logs: &Path) -> Result<Self, Fault> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| Fault::from(error).during(format!("{name}: cannot start {command:?}")))?;
        let stdout = collect(child.stdout.take(), logs.join(format!("{name}.out")))?;
        let stderr = collect(child.stderr.take(), logs.join(format!("{name}.err")))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr, ended: None })
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are positive numbers of 31 bits")
    }

    /// The first line of stdout, now or to come, that `pick` takes.
    ///
    /// # Errors
    /// When the process closes its stdout before, or after `limit`; with the end of what it said on stderr.
    pub fn wait_stdout<T>(&self, what: &str, limit: Duration, pick: impl FnMut(&str) -> Option<T>) -> Result<T, Fault> {
        self.stdout.wait(limit, pick).map_err(|why| self.complaint(what, why))
    }

    /// As [`Self::wait_stdout`], of stderr.
    pub fn wait_stderr<T>(&self, what: &str, limit: Duration, pick: impl FnMut(&str) -> Option<T>) -> Result<T, Fault> {
        self.stderr.wait(limit, pick).map_err(|why| self.complaint(what, why))
    }

    /// The last lines of stderr, at most `count`.
    pub fn stderr_tail(&self, count: usize) -> String {
        let said = lock(&self.stderr.said);
        let skip = said.lines.len().saturating_sub(count);
        said.lines.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // The process may have ended by itself; its id is still ours, until its status is taken.
            kill(Pid::from_raw(self.pid()), signal).ok();
        }
    }

    /// Waits until it has ended by itself or by an earlier signal.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Fault> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let child = &mut self.child;
        let status = wait::until(&format!("the end of {}", self.name), limit, || child.try_wait().transpose())??;
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self) -> Result<ExitStatus, Fault> {
        self.signal(Signal::SIGTERM);
        self.wait(PATIENCE)
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) -> Result<ExitStatus, Fault> {
        self.signal(Signal::SIGKILL);
        self.wait(PATIENCE)
    }

    fn complaint(&self, what: &str, why: String) -> Fault {
        // A process that ends may close stdout before we have read its reason from stderr. The wait has a limit,
        // because a child of that process can keep stderr open.
        drop(self.stderr.wait(LAST_WORDS, |_| None::<()>));
        fault(format!("{}: waiting for {what}: {why}\n{}", self.name, self.stderr_tail(20)))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.is_alive() {
            drop(self.kill());
        }
        if thread::panicking() {
            say(&format!("---- end of stderr of {} ----\n{}", self.name, self.stderr_tail(20)));
        }
    }
}

/// Writes to stderr, where the test runner shows it; if stderr is closed, the text is lost.
pub(crate) fn say(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

impl Lines {
    fn wait<T>(&self, limit: Duration, mut pick: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + limit;
        let (mut said, mut seen) = (lock(&self.said), 0);
        loop {
            while let Some(line) = said.lines.get(seen.max(said.dropped) - said.dropped) {
                if let Some(found) = pick(line) {
                    return Ok(found);
                }
                seen = seen.max(said.dropped) + 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.closed || left.is_zero() {
                return Err(if said.closed { "it is closed".to_owned() } else { format!("in vain for {limit:?}") });
            }
            said = self.changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, line: String) {
        let mut said = lock(&self.said);
        if said.lines.len() == LINES_KEPT {
            said.lines.pop_front();
            said.dropped += 1;
        }
        said.lines.push_back(line);
        self.changed.notify_all();
    }

    fn close(&self) {
        lock(&self.said).closed = true;
        self.changed.notify_all();
    }
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads on a thread of its own, so that a process is never held up by a full pipe.
fn collect(stream: Option<impl Read + Send + 'static>, path: PathBuf) -> Result<Arc<Lines>, Fault> {
    let lines = Arc::new(Lines::default());
    let Some(stream) = stream else { return Ok(lines) };
    let mut file = File::options().create(true).append(true).open(path)?;
    let collected = Arc::clone(&lines);
    thread::Builder::new().name("output".to_owned()).spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = stream.read_until(b'\n', &mut line) {
            // Without the file, the lines kept in memory are still there.
            drop(file.write_all(&line));
            collected.push(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            line.clear();
        }
        collected.close();
    })?;
    Ok(lines)
}
