//! What `up` serves when there is no configuration: three demo servers, described by a real file that can be edited.
//!
//! The two stdio servers are started by the router, as any other. The HTTP server is a child of this process: it ends
//! when its standard input does, so it cannot outlive us, however we end, unless a successor has that input, too.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use backoff::Backoff;
use runtime::{Held, Process, escape::say, state_dir::write_private};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    process::{Child, Command},
};

use crate::place::Place;

/// The names of the ends of its pipes, among what a successor gets.
const STDIN: &str = "input of the demo";
const STDOUT: &str = "output of the demo";
const URL_FILE: &str = "demo-server.url";
/// This very program, also after a new build has taken its place on the disk.
const PROGRAM: &str = "/proc/self/exe";
/// A child that has served this long has not failed at its start.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("cannot start the demo's HTTP server")]
    Start(#[source] io::Error),
    #[error("the demo's HTTP server ended before it listened; it said {line:?}")]
    Silent { line: String },
    #[error("cannot write the demo's configuration {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The demo's HTTP server.
#[derive(Debug)]
pub(crate) struct HttpDemo {
    /// None if a process before this one has started it.
    child: Option<Child>,
    /// The child serves until this is closed, here and in a successor.
    stdin: OwnedFd,
    /// Closed when the child has ended.
    stdout: pipe::Receiver,
    url: String,
}

/// Beside the configuration, whose first line names it.
const SCHEMA_FILE: &str = "only1mcp.schema.json";

/// Starts the HTTP server, and writes the configuration unless there is one already, which is the user's by now. With a
/// predecessor the server runs already.
pub(crate) async fn start(place: &Place, process: &mut Process, first: bool) -> Result<(), DemoError> {
    let url_file = place.state_dir.join(URL_FILE);
    let before = fs::read_to_string(&url_file).unwrap_or_default();
    let inherited = process.inherited.descriptor(STDIN).zip(process.inherited.descriptor(STDOUT));
    let started = match inherited {
        Some((stdin, stdout)) => HttpDemo::of(None, stdin, stdout, before.clone()),
        None => HttpDemo::start(&before).await,
    };
    let mut demo = match started {
        Ok(demo) => demo,
        // Another program has taken its port by now.
        Err(_) => HttpDemo::start("").await?,
    };
    write_configuration(&place.config, &before, &demo.url)?;
    let schema_file = place.state_dir.join(SCHEMA_FILE);
    let failed = |source| DemoError::Write { path: schema_file.clone(), source };
    write_private(&schema_file, format!("{:#}\n", config_file::schema()).as_bytes()).map_err(failed)?;
    let failed = |source| DemoError::Write { path: url_file.clone(), source };
    write_private(&url_file, demo.url.as_bytes()).map_err(failed)?;
    demo.hold(&process.held);
    let (stop, held) = (process.shutdown.clone(), process.held.clone());
    process.tasks.spawn("demo server", async move {
        tokio::select! {
            () = demo.keep(&held) => {}
            // The demo server is a backend: calls in flight may need it until the end.
            () = stop.reached(runtime::Phase::Closing) => {}
        }
        if let Some(mut child) = demo.child.take().filter(|_| !stop.is_succeeded()) {
            // Its input is about to be closed, which ends it as well.
            drop(child.start_kill());
        }
    });
    if first {
        say(&format!(
            "only1mcp: no configuration found, so this is the built-in demo of three servers.\n  \
             Call one:          only1mcp call calculator__add '{{\"a\": 40, \"b\": 2}}'\n  \
             Change them:       edit {} while this runs\n  \
             Your own servers:  only1mcp import\n",
            place.config.display()
        ));
    }
    Ok(())
}

impl HttpDemo {
    /// Listens at `url` of an earlier start, or on a free port.
    async fn start(url: &str) -> Result<Self, DemoError> {
        let address = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/mcp")).unwrap_or("127.0.0.1:0");
        let mut child = Command::new(PROGRAM)
            .args(["demo-server", "--until-eof", "--kind", "calculator", "--listen", address])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for us: calls in flight still need it.
            .process_group(0)
            .spawn()
            .map_err(DemoError::Start)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(DemoError::Start(io::Error::other("its pipes are missing")));
        };
        let (stdin, stdout) = (stdin.into_owned_fd(), stdout.into_owned_fd());
        let (stdin, stdout) = (stdin.map_err(DemoError::Start)?, stdout.map_err(DemoError::Start)?);
        let mut demo = Self::of(Some(child), stdin, stdout, String::new())?;
        let mut line = String::new();
        BufReader::new(&mut demo.stdout).read_line(&mut line).await.map_err(DemoError::Start)?;
        line.trim().strip_prefix("listening on ").unwrap_or_default().clone_into(&mut demo.url);
        if demo.url.is_empty() { Err(DemoError::Silent { line }) } else { Ok(demo) }
    }

    fn of(child: Option<Child>, stdin: OwnedFd, stdout: OwnedFd, url: String) -> Result<Self, DemoError> {
        let stdout = pipe::Receiver::from_owned_fd(stdout).map_err(DemoError::Start)?;
        Ok(Self { child, stdin, stdout, url })
    }

    /// A successor would get the same server.
    fn hold(&self, held: &Held) {
        drop(held.take(&[STDIN, STDOUT]));
        if let Err(error) = held.add(STDIN, &self.stdin).and_then(|()| held.add(STDOUT, &self.stdout)) {
            tracing::warn!(%error, "a successor would start another demo server");
        }
    }

    async fn ended(&mut self) -> String {
        // It says nothing more, so its output ends with it.
        drop(self.stdout.read_to_end(&mut Vec::new()).await);
        match &mut self.child {
            Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
            None => "its output is closed".to_owned(),
        }
    }

    /// Starts it again whenever it ends.
    async fn keep(&mut self, held: &Held) {
        let (backoff, mut failures) = (Backoff::default(), 0);
        loop {
            let begun = tokio::time::Instant::now();
            let ended = self.ended().await;
            failures = if begun.elapsed() > STEADY { 0 } else { failures + 1 };
            tracing::warn!(url = self.url, ended, "the demo's HTTP server ended and is started again");
            loop {
                tokio::time::sleep(backoff.delay(failures, 0)).await;
                match Self::start(&self.url).await {
                    Ok(again) => {
                        *self = again;
                        self.hold(held);
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "it does not start"),
                }
                failures += 1;
            }
        }
    }
}

/// `before` is the URL that a file of an earlier start names.
fn write_configuration(path: &Path, before: &str, url: &str) -> Result<(), DemoError> {
    let text = match fs::read_to_string(path) {
        Ok(_) if before == url || before.is_empty() => return Ok(()),
        Ok(text) => text.replace(before, url),
        Err(error) if error.kind() == io::ErrorKind::NotFound => configuration(url),
        // A user's file that cannot be read is left alone: the source will report what is wrong with it.
        Err(_) => return Ok(()),
    };
    let failed = |source| DemoError::Write { path: path.to_owned(), source };
    write_private(path, text.as_bytes()).map_err(failed)
}

fn configuration(url: &str) -> String {
    let program = if cfg!(target_os = "linux") { PROGRAM.to_owned() } else { own_path() };
    format!(
        r#"# yaml-language-server: $schema=./{SCHEMA_FILE}
# The demo of only1mcp: three small MCP servers behind one endpoint. Edit this file while `only1mcp up` runs:
# remove a server, add one, change its name. Calls that run are not disturbed.
version: "1.0"
naming: prefix # the tool `add` of the server `calculator` is shown as calculator__add

servers:
  - id: calculator # over HTTP
    transport: {{ type: http, url: "{url}" }}

  - id: notes # started by the gateway, over its standard input and output
    transport: {{ type: stdio, command: {program}, args: ["demo-server", "--kind", "notes"] }}

  - id: clock
    transport: {{ type: stdio, command: {program}, args: ["demo-server", "--kind", "clock"] }}
"#
    )
}

fn own_path() -> String {
    std::env::current_exe().map_or_else(|_| "only1mcp".to_owned(), |path| path.display().to_string())
}
