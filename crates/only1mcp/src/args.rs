//! The command line: every command, flag, default and example.

mod import;
mod operate;
pub(crate) mod watch;

use std::{
    env,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use model::units::duration_or_seconds as duration;
use router::settings::Access;
use runtime::grpc::InsecureToken;
use runtime::healthcheck::{Healthcheck, Question};
use runtime::ops::OpsNames;
use runtime::telemetry::log::Filter;

use crate::{demo, failure::Failure, place::PlaceArgs};
pub(crate) use import::{Client, ExportArgs, ImportArgs};
pub(crate) use operate::*;
pub(crate) use watch::WatchArgs;

/// One MCP endpoint in front of many MCP servers; change anything under it while agents work.
#[derive(Debug, Parser)]
#[command(name = "only1mcp", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl CommandLine {
    /// As [`Parser::try_parse`], and flags that contradict each other are refused.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let line = Self::try_parse()?;
        let Command::Operate(Operate::Drain(args)) = &line.command else { return Ok(line) };
        let Some(contradiction) = args.contradiction() else { return Ok(line) };
        let mut all = Self::command();
        all.build();
        let drain = all.find_subcommand_mut("drain").expect("it was parsed");
        Err(drain.error(ErrorKind::ArgumentConflict, contradiction))
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 refused, unhealthy or diverged · 2 nothing to do · 64 wrong usage · \
69 the service cannot be reached, or --timeout was over first

With --output json the answer is JSON on stdout. A command that ends with 1, 64 or 69 writes one \
line to stderr: an object with `error`, `next` (what to do about it, or null) and `code`, the exit \
code. On stdout it has an answer only if there is one, as the violations of a file.

Commands talk to the gateway of this directory; where that has no configuration, to the one in the \
user's configuration directory or the demo; and if that does not run, to the only one that does.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway: all four services in this process
    Up(UpArgs),
    /// Ask the gateway that `up` runs whether it is ready
    Healthcheck(HealthcheckArgs),
    #[command(flatten)]
    Operate(Operate),
    /// A small real MCP server with tools to try the gateway with
    #[command(after_help = DEMO_EXAMPLES)]
    DemoServer(demo::Settings),
    /// What a shell needs to complete commands and flags
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages, one for each command
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The folder to write them into; it is made if it is not there
        folder: PathBuf,
    },
}

/// Commands that ask or change something and end.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Check a configuration file without running it
    Validate(ValidateArgs),
    /// Add the servers of MCP clients (Claude, Cursor, VS Code …) to the configuration file
    Import(ImportArgs),
    /// What an MCP client's file needs to use the gateway
    Export(ExportArgs),
    /// The JSON Schema of configuration files, for editors
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    /// What is live, on which routers, and how the servers are
    Status(StatusArgs),
    /// The same, live: a new picture every second
    Top(TopArgs),
    /// Read the configuration file again and wait until that is decided
    Reload(ReloadArgs),
    /// Past revisions, newest first
    History(HistoryArgs),
    /// The content of a revision, as a configuration file
    Show(ShowArgs),
    /// What is different between two revisions, or from what is live to a file
    Diff(DiffArgs),
    /// Bring the content of an older revision back, as a new revision
    Rollback(RollbackArgs),
    /// Put a layer beside the configuration file, replace it, or take it away
    Apply(ApplyArgs),
    /// Events as they happen, until interrupted
    Watch(WatchArgs),
    /// Which log lines the services write, and having others written
    Log(LogArgs),
    /// What the process of a stdio server says beside MCP
    Logs(LogsArgs),
    /// Let a server leave: no new calls; those that run may end
    Drain(DrainArgs),
    /// Servers that are leaving, and those that operators keep from calls
    Drains(DrainsArgs),
    /// How long the last drains took, and what became of their calls
    Stats(StatsArgs),
    /// End the process of a stdio server and start another one; its calls in flight fail
    Restart(RestartArgs),
    /// Keep a server from calls until it is enabled, over restarts and changes
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(SwitchArgs),
    /// Give a server its calls again, after `disable` or `drain`
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(SwitchArgs),
    /// Speak MCP on stdin and stdout, for clients that start their servers
    Connect(ConnectArgs),
    /// The tools that clients of the gateway see
    Tools(ToolsArgs),
    /// Call a tool through the gateway, as a client would
    Call(CallArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Whether a command line that cannot be understood asks for JSON all the same.
pub(crate) fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<_> = arguments.collect();
    let asked = arguments.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    asked
        || arguments.iter().any(|one| one == "--output=json")
        || env::var_os("ONLY1MCP_OUTPUT").is_some_and(|format| format == "json")
}

/// How output is written.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Text for people, or JSON for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text, env = "ONLY1MCP_OUTPUT")]
    pub(crate) output: Format,
}

/// Where the services are.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminArgs {
    /// gRPC address of a service, as http://HOST:PORT; repeatable [default: the gateway that `up` runs for the
    /// configuration, by its socket]
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "ONLY1MCP_ADMIN_URL")]
    pub(crate) admin: Vec<String>,

    /// File with the token that --admin asks for [default: for the address of the gateway that `up` runs here, that
    /// one's; for others none]
    #[arg(long, value_name = "FILE", env = "ONLY1MCP_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) insecure_token: InsecureToken,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, env = "ONLY1MCP_TIMEOUT")]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl AdminArgs {
    /// The same gateway later on, whichever others run by then.
    pub(crate) fn pinned(&self) -> Result<Self, Failure> {
        let mut pinned = self.clone();
        if self.admin.is_empty() {
            pinned.place.state_dir = Some(self.place.find_running()?.state_dir);
        }
        Ok(pinned)
    }
}

#[derive(Args, Debug)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Where MCP is served, at path /mcp; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", env = "ONLY1MCP_LISTEN")]
    pub(crate) listen: SocketAddr,

    /// Where the admin services are served, besides a Unix socket in the state directory
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", env = "ONLY1MCP_ADMIN")]
    pub(crate) admin: SocketAddr,

    /// Where /livez, /readyz and /metrics are served
    #[arg(long, value_name = "ADDR", default_value_t = OPS, env = "ONLY1MCP_OPS")]
    pub(crate) ops: SocketAddr,

    #[command(flatten)]
    pub(crate) ops_names: OpsNames,

    #[command(flatten)]
    pub(crate) access: Access,

    /// File with the admin token for TCP [default: one in the state directory, made at the first start]
    #[arg(long, value_name = "FILE", env = "ONLY1MCP_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// When asked to stop: keep accepting for this long, so that load balancers can look elsewhere
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration, env = "ONLY1MCP_MIN_DRAIN")]
    pub(crate) min_drain: Duration,

    /// How long calls in flight have after that
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, env = "ONLY1MCP_DRAIN")]
    pub(crate) drain: Duration,

    /// Which log lines are written, as `info,router=debug` [default: info; on a terminal, warn]
    #[arg(long, value_name = "FILTER", value_parser = Filter::or_default, env = "ONLY1MCP_LOG")]
    pub(crate) log: Option<Filter>,

    /// Take the place of the gateway that runs here, at its addresses: no client is refused, and the calls
    /// that run there have its drain time. If this one cannot serve, the other one serves on
    #[arg(long, env = "ONLY1MCP_UPGRADE")]
    pub(crate) upgrade: bool,
}

const OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

const UP_EXAMPLES: &str = "\
Examples:
  only1mcp up                            serve ./only1mcp.yaml, or a demo of three servers
  only1mcp up --config gateway.yaml      serve that file, and follow every change of it
  only1mcp up --listen 127.0.0.1:0       on a free port; the ready line says which
  only1mcp up --upgrade                  take over from the gateway that runs, with a new version

Ready is one line on stdout with the three addresses and the revision. On a terminal, stderr has \
one line for each server as it comes up or does not, and of the log only warnings. SIGTERM or \
SIGINT lets calls end before the process does; a second one cuts them off. SIGUSR2 starts the same \
command line again with --upgrade.";

#[derive(Args, Debug)]
#[command(after_help = HEALTHCHECK_EXAMPLES)]
pub(crate) struct HealthcheckArgs {
    /// Where /livez and /readyz are served [default: as the gateway of this place says, else 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR", env = "ONLY1MCP_OPS")]
    ops: Option<SocketAddr>,

    /// Ask whether it is alive, ready or not
    #[arg(long, env = "ONLY1MCP_HEALTHCHECK_LIVE")]
    live: bool,

    #[command(flatten)]
    place: PlaceArgs,
}

const HEALTHCHECK_EXAMPLES: &str = "\
Exits with 0 when it is, with 1 when it is not or does not answer within two seconds.

Examples:
  only1mcp healthcheck
  only1mcp healthcheck --live --ops 127.0.0.1:8082";

impl HealthcheckArgs {
    pub(crate) fn check(&self) -> Healthcheck {
        // Port 0 is where a gateway was asked to listen, not where it does.
        let named = self.ops.filter(|ops| ops.port() != 0);
        let told = || self.place.find_running().ok()?.addresses()?.ops.strip_prefix("http://")?.parse().ok();
        let ops = named.or_else(told).unwrap_or(OPS);
        Healthcheck { ops, question: if self.live { Question::Live } else { Question::Ready } }
    }
}

#[derive(Args, Debug)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// A YAML file, or a TOML file if its name ends in .toml, or the file of an MCP client; - reads YAML or JSON from
    /// standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Have the running gateway start and connect what the file would change, and say what came of each server; nothing
    /// changes for clients
    #[arg(long = "try", env = "ONLY1MCP_TRY")]
    pub(crate) trial: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const VALIDATE_EXAMPLES: &str = "\
Without --try, no gateway is asked, and the options about one have no effect. With it, the command exits with 69 when \
--timeout is over before routers have answered.

Examples:
  only1mcp validate only1mcp.yaml
  only1mcp validate only1mcp.yaml --try
  only1mcp validate only1mcp.yaml --output json | jq '.violations[].message'";

const SCHEMA_EXAMPLES: &str = "\
Draft 07. An editor that is told of it completes keys, shows what they do, and marks mistakes:
  YAML: # yaml-language-server: $schema=./only1mcp.schema.json
  TOML: #:schema ./only1mcp.schema.json

Examples:
  only1mcp schema > only1mcp.schema.json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  only1mcp completions bash > ~/.local/share/bash-completion/completions/only1mcp
  only1mcp completions fish > ~/.config/fish/completions/only1mcp.fish
  only1mcp completions zsh > ~/.zfunc/_only1mcp";

const MAN_EXAMPLES: &str = "\
Examples:
  only1mcp man ~/.local/share/man/man1";

const DEMO_EXAMPLES: &str = "\
Examples:
  only1mcp demo-server --listen 127.0.0.1:9000
  only1mcp demo-server --kind notes";
