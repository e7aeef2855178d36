//! `demo-server`: a small real MCP server with tools to try a gateway with.
//!
//! The demo configuration, the tests and people's experiments run on it, so that none of them needs another language's
//! runtime. The core ([`server`], [`tools`], [`script`], [`message`]) says what is sent when; two thin shells
//! ([`http`], [`stdio`]) move bytes and time.

mod http;
mod kinds;
mod message;
mod modern;
mod process;
mod reply;
mod script;
mod server;
mod sessions;
mod stdio;
#[cfg(test)]
mod tests;
mod tools;

use std::{
    env,
    future::Future,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use runtime::{exit, shutdown, state_dir::write_atomic};
use tokio::{net::TcpListener, task::LocalSet};

use kinds::{Kind, Special};
use process::Process;

/// Command line of the demo server.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Speak over stdin and stdout, one message a line (the default)
    #[arg(long, conflicts_with = "listen", env = "ONLY1MCP_DEMO_STDIO")]
    stdio: bool,

    /// Speak Streamable HTTP at http://ADDR/mcp; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", env = "ONLY1MCP_DEMO_LISTEN")]
    listen: Option<SocketAddr>,

    /// What the server is for; without a kind, it has tools for tests and experiments
    #[arg(long, value_enum, env = "ONLY1MCP_DEMO_KIND")]
    kind: Option<Kind>,

    /// The name by which `whoami` and `initialize` introduce this server; by default its kind, or `demo`
    #[arg(long, value_name = "LABEL", env = "ONLY1MCP_DEMO_NAME")]
    name: Option<String>,

    /// How HTTP answers are sent: as JSON where one message is all, or always as an event stream
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Json, env = "ONLY1MCP_DEMO_REPLY")]
    reply: Form,

    /// Write the address bound by --listen to this file
    #[arg(long, value_name = "PATH", env = "ONLY1MCP_DEMO_PORT_FILE")]
    port_file: Option<PathBuf>,

    /// Wait so long before answering anything
    #[arg(long, value_name = "MS", default_value_t = 0, env = "ONLY1MCP_DEMO_START_DELAY_MS")]
    start_delay_ms: u64,

    /// Exit with this code at once, as a broken command does
    #[arg(long, value_name = "CODE", env = "ONLY1MCP_DEMO_EXIT_AT_ONCE")]
    exit_at_once: Option<u8>,

    /// Write this text to stderr at the start
    #[arg(long, value_name = "TEXT", env = "ONLY1MCP_DEMO_STDERR")]
    stderr: Option<String>,

    /// Append a line to this file for each tool call carried out: its `text` argument, else its `id`, else the tool
    #[arg(long, value_name = "PATH", env = "ONLY1MCP_DEMO_COUNT_FILE")]
    count_file: Option<PathBuf>,

    /// Keep running when stdin ends (with --stdio)
    #[arg(long, conflicts_with = "until_eof", env = "ONLY1MCP_DEMO_IGNORE_EOF")]
    ignore_eof: bool,

    /// End when stdin ends (with --listen; with --stdio this is the default)
    #[arg(long, env = "ONLY1MCP_DEMO_UNTIL_EOF")]
    until_eof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Json,
    Sse,
}

/// Runs until the client is gone, a tool ends the process, or a signal does.
pub(crate) fn run(settings: Settings) -> ExitCode {
    if let Some(text) = &settings.stderr {
        complain(text);
    }
    if let Some(code) = settings.exit_at_once {
        return code.into();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let served = LocalSet::new().block_on(&runtime, serve(settings));
    // A read of stdin that is still under way must not hold up the exit.
    runtime.shutdown_background();
    served.unwrap_or_else(|error| failed(&error))
}

async fn serve(settings: Settings) -> io::Result<ExitCode> {
    tokio::time::sleep(Duration::from_millis(settings.start_delay_ms)).await;
    let label = settings.name.as_deref().unwrap_or_else(|| settings.kind.map_or("demo", Kind::name)).to_owned();
    let identity = server::Identity { label, pid: std::process::id(), environment: environment() };
    let special = settings.kind.map(|kind| Special::new(kind, Timestamp::now));
    let process = Process::new(identity, special, settings.count_file.as_deref())?;
    match settings.listen {
        None => {
            let served = stdio::serve(Rc::clone(&process), settings.ignore_eof);
            until_ended(&process, served).await
        }
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; try another --listen"))
            })?;
            // Caught, because the first process of a container is not ended by a signal it does not catch.
            let mut signals = shutdown::signals()?;
            announce(&settings, listener.local_addr()?)?;
            let served = http::serve(Rc::clone(&process), listener, settings.reply == Form::Sse);
            if settings.until_eof {
                end_with_stdin(&process)?;
            }
            tokio::select! {
                ended = until_ended(&process, served) => ended,
                _ = signals.recv() => Ok(exit::DONE.into()),
            }
        }
    }
}

async fn until_ended(process: &Process, served: impl Future<Output = io::Result<()>>) -> io::Result<ExitCode> {
    tokio::select! {
        code = process.ended() => Ok(code.into()),
        served = served => served.map(|()| exit::DONE.into()),
    }
}

/// Writes the port file and the line: a client that waits for either may connect now.
fn announce(settings: &Settings, address: SocketAddr) -> io::Result<()> {
    if let Some(path) = &settings.port_file {
        write_atomic(path, address.to_string().as_bytes(), 0o644)?;
    }
    writeln!(io::stdout(), "listening on {}", http::url(address))
}

/// So that the server cannot outlive the process that holds the other end of its stdin, however that one ends.
fn end_with_stdin(process: &Rc<Process>) -> io::Result<()> {
    let mut lines = stdio::read_stdin()?;
    let ending = Rc::clone(process);
    process.tasks.spawn_local("stdin", async move {
        while lines.recv().await.is_some() {}
        ending.end(exit::DONE);
    });
    Ok(())
}

fn environment() -> std::collections::BTreeMap<String, String> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn failed(error: &io::Error) -> ExitCode {
    complain(&format!("demo-server: {error}"));
    exit::REFUSED.into()
}

/// Writes to stderr; if stderr is closed, the text is lost.
fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
