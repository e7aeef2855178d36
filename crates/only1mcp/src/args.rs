//! The command line: every command, flag, default and example.

use std::{
    env,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::units::duration_or_seconds as duration;
use router::settings::Access;
use runtime::grpc::InsecureToken;
use runtime::healthcheck::{Healthcheck, Question};
use runtime::ops::OpsNames;

use crate::{demo, place::PlaceArgs};

/// One MCP endpoint in front of many MCP servers; change anything under it while agents work.
#[derive(Debug, Parser)]
#[command(name = "only1mcp", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 refused, unhealthy or diverged · 2 nothing to do · 64 wrong usage ·
69 the service cannot be reached

With --output json the answer is JSON on stdout. A command that fails has no answer: it writes one
line to stderr, an object with `error`, `next` (what to do about it, or null) and `code`.";

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
}

/// Commands that ask or change something and end.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Check a configuration file without running it
    Validate(ValidateArgs),
    /// The JSON Schema of configuration files, for editors
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    /// What is live, on which routers, and how the servers are
    Status(StatusArgs),
    /// Read the configuration file again and wait until that is decided
    Reload(ReloadArgs),
    /// Past revisions, newest first
    History(HistoryArgs),
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
    /// Let a server leave: no new calls; those that run may end
    Drain(DrainArgs),
    /// Servers that are leaving or have left
    Drains(DrainsArgs),
    /// End the process of a stdio server and start another one; its calls in flight fail
    Restart(RestartArgs),
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

    /// File with the token that --admin asks for [default: for the address of the gateway that `up` runs here, that one's;
    /// for others none]
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
}

const OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

const UP_EXAMPLES: &str = "\
Examples:
  only1mcp up                            serve ./only1mcp.yaml, or a demo of three servers
  only1mcp up --config gateway.yaml      serve that file, and follow every change of it
  only1mcp up --listen 127.0.0.1:0       on a free port; the ready line says which

Ready is one line on stdout with the three addresses and the revision. SIGTERM or SIGINT lets calls
end before the process does; a second one cuts them off.";

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
        let told = || self.place.find().ok()?.addresses()?.ops.strip_prefix("http://")?.parse().ok();
        let ops = named.or_else(told).unwrap_or(OPS);
        Healthcheck { ops, question: if self.live { Question::Live } else { Question::Ready } }
    }
}

#[derive(Args, Debug)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// A YAML file, or a TOML file if its name ends in .toml; - reads YAML from standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  only1mcp validate only1mcp.yaml
  only1mcp validate only1mcp.yaml --output json | jq '.violations[].message'";

const SCHEMA_EXAMPLES: &str = "\
Draft 07. An editor that is told of it completes keys, shows what they do, and marks mistakes:
  YAML: # yaml-language-server: $schema=./only1mcp.schema.json
  TOML: #:schema ./only1mcp.schema.json

Examples:
  only1mcp schema > only1mcp.schema.json";

#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const STATUS_EXAMPLES: &str = "\
Exits with 1 when a router is not at the live revision, a server is unhealthy or failing, or the file
was refused.

Examples:
  only1mcp status
  only1mcp status --output json | jq '.servers[] | {id, verdict}'
  only1mcp status --admin http://127.0.0.1:9441 --admin http://127.0.0.1:9442 --token-file admin.token";

#[derive(Args, Debug)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct ReloadArgs {
    /// Judge the file again although its content was judged before
    #[arg(long, env = "ONLY1MCP_RELOAD_FORCE")]
    pub(crate) force: bool,

    /// A router whose vote does not count this time; repeatable, goes on record
    #[arg(long, value_name = "ROUTER", value_delimiter = ',', env = "ONLY1MCP_WITHOUT")]
    pub(crate) without: Vec<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const RELOAD_EXAMPLES: &str = "\
Exits with 0 when a new revision is live, 1 when the file was refused or no router can hold it,
2 when its content is live already, 69 when no router could decide within --timeout.

Examples:
  only1mcp reload
  only1mcp reload --force --timeout 2m";

#[derive(Args, Debug)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(crate) struct HistoryArgs {
    /// At most that many [default: all that are kept]
    #[arg(long, visible_alias = "limit", value_name = "N", env = "ONLY1MCP_HISTORY_LAST")]
    pub(crate) last: Option<u32>,

    /// Changes that were refused as well; they have no revision
    #[arg(long, env = "ONLY1MCP_HISTORY_REFUSED")]
    pub(crate) refused: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const HISTORY_EXAMPLES: &str = "\
Examples:
  only1mcp history --last 10
  only1mcp history --output json | jq '.[0].revision'";

#[derive(Args, Debug)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct DiffArgs {
    /// From, and to: revisions by their number, or files [default: the live revision and the one before it; of one
    /// revision: to the live one; of one file: from the live revision to it]
    #[arg(value_name = "REVISION|FILE", num_args = 0..=2)]
    pub(crate) operands: Vec<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const DIFF_EXAMPLES: &str = "\
A file is compared as what would be live if it were the file that is followed. Exits with 0 when
there are differences, 2 when there are none, 1 when a file is no configuration.

Examples:
  only1mcp diff                          what the last change was
  only1mcp diff 41                       from revision 41 to what is live
  only1mcp diff 41 43
  only1mcp diff new.yaml                 what would change with that file
  only1mcp diff 41 --output json | jq '.servers[] | select(.change == \"removed\") | .id'";

#[derive(Args, Debug)]
#[command(after_help = ROLLBACK_EXAMPLES)]
pub(crate) struct RollbackArgs {
    /// The revision to bring back [default: the one before the live one]
    #[arg(value_name = "REVISION")]
    pub(crate) revision: Option<u64>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, env = "ONLY1MCP_REASON")]
    pub(crate) reason: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const ROLLBACK_EXAMPLES: &str = "\
What was undone stays undone, although the file still holds it: the next edit of the file applies.
Without REVISION it undoes the last change once: said again, it asks for the revision.
Exits with 1 when no router can hold that revision.

Examples:
  only1mcp rollback
  only1mcp rollback 41 --reason 'search times out since 42'";

#[derive(Args, Debug)]
#[command(after_help = APPLY_EXAMPLES)]
pub(crate) struct ApplyArgs {
    /// A YAML file with what this layer wants, or a TOML file if its name ends in .toml; - reads YAML from standard
    /// input
    #[arg(value_name = "FILE", required_unless_present = "remove")]
    pub(crate) file: Option<PathBuf>,

    /// Whose layer it is
    #[arg(long, value_name = "NAME", env = "ONLY1MCP_OWNER")]
    pub(crate) owner: String,

    /// Take the layer away
    #[arg(long, conflicts_with = "file", env = "ONLY1MCP_REMOVE")]
    pub(crate) remove: bool,

    /// Refuse unless this revision is live
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true, env = "ONLY1MCP_BASE")]
    pub(crate) base: u64,

    /// A router whose vote does not count this time; repeatable, goes on record
    #[arg(long, value_name = "ROUTER", value_delimiter = ',', env = "ONLY1MCP_WITHOUT")]
    pub(crate) without: Vec<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const APPLY_EXAMPLES: &str = "\
The layer stays when the file changes, until it is replaced or removed.

Examples:
  only1mcp apply team-search.yaml --owner team-search
  only1mcp apply --remove --owner team-search";

#[derive(Args, Debug)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const WATCH_EXAMPLES: &str = "\
Runs until interrupted (exit code 0). When the connection is lost it says so, connects again as
soon as it can, and says that; events of the time between are not told.

Examples:
  only1mcp watch
  only1mcp watch --output json           one JSON object a line";

#[derive(Args, Debug)]
#[command(after_help = LOG_EXAMPLES)]
pub(crate) struct LogArgs {
    /// From now on: a level for everything, TARGET=LEVEL for single programs [default: only show the filter]
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Option<String>,

    /// After that, the filter of before holds again [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, requires = "filter", env = "ONLY1MCP_LOG_FOR")]
    pub(crate) lasting: Option<Duration>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const LOG_EXAMPLES: &str = "\
Levels: off, error, warn, info, debug, trace. Targets: config_manager, drain_coordinator, health_monitor,
only1mcp, router, runtime. Every service that --admin names is asked.

Examples:
  only1mcp log
  only1mcp log info,router=debug --for 10m";

#[derive(Args, Debug)]
#[command(after_help = DRAIN_EXAMPLES)]
pub(crate) struct DrainArgs {
    /// The server to let go, by its id
    #[arg(value_name = "SERVER", required_unless_present = "cancel")]
    pub(crate) server: Option<String>,

    /// How long its calls may run on [default: what the configuration says]
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "ONLY1MCP_DRAIN_DEADLINE")]
    pub(crate) deadline: Option<Duration>,

    /// Return when nothing runs there any more
    #[arg(long, env = "ONLY1MCP_DRAIN_WAIT")]
    pub(crate) wait: bool,

    /// Open again what this drain closed, by its id or its server
    #[arg(long, value_name = "DRAIN", conflicts_with = "server", env = "ONLY1MCP_DRAIN_CANCEL")]
    pub(crate) cancel: Option<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const DRAIN_EXAMPLES: &str = "\
Draining a server twice joins the first drain; a shorter deadline holds.

Examples:
  only1mcp drain search --deadline 2m --wait
  only1mcp drain --cancel search";

#[derive(Args, Debug)]
#[command(after_help = DRAINS_EXAMPLES)]
pub(crate) struct DrainsArgs {
    /// Only those that are not over
    #[arg(long, env = "ONLY1MCP_DRAINS_RUNNING")]
    pub(crate) running: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const DRAINS_EXAMPLES: &str = "\
Examples:
  only1mcp drains --running
  only1mcp drains --output json | jq '.[] | {server, finished, evicted, lost, total}'";

#[derive(Args, Debug)]
#[command(after_help = RESTART_EXAMPLES)]
pub(crate) struct RestartArgs {
    /// The server to restart, by its id
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const RESTART_EXAMPLES: &str = "\
Returns when it is up again in every router, with exit code 0, or has failed to come up, with 1. One
that is down is tried at once. One that hangs is restarted by itself if `restart_unhealthy` says so.

Examples:
  only1mcp restart files
  only1mcp restart files --output json | jq '.endpoints[].pid'";

/// Where the MCP endpoint is.
#[derive(Args, Clone, Debug)]
pub(crate) struct McpArgs {
    /// The MCP endpoint [default: the gateway that `up` runs, else http://127.0.0.1:8080/mcp]
    #[arg(long, value_name = "URL", env = "ONLY1MCP_URL")]
    pub(crate) url: Option<String>,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, env = "ONLY1MCP_TIMEOUT")]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = TOOLS_EXAMPLES)]
pub(crate) struct ToolsArgs {
    #[command(flatten)]
    pub(crate) mcp: McpArgs,
}

const TOOLS_EXAMPLES: &str = "\
Examples:
  only1mcp tools
  only1mcp tools --output json | jq '.[].name'";

#[derive(Args, Debug)]
#[command(after_help = CALL_EXAMPLES)]
pub(crate) struct CallArgs {
    /// The tool, as `only1mcp tools` shows it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Its arguments, a JSON object
    #[arg(value_name = "JSON", default_value = "{}", hide_default_value = true)]
    pub(crate) arguments: String,

    /// Print the whole JSON-RPC message instead of the text of the result
    #[arg(long, env = "ONLY1MCP_CALL_RAW")]
    pub(crate) raw: bool,

    #[command(flatten)]
    pub(crate) mcp: McpArgs,
}

const CALL_EXAMPLES: &str = "\
Exits with 1 when the tool or the gateway answers with an error.

Examples:
  only1mcp call calculator__add '{\"a\": 40, \"b\": 2}'
  only1mcp call notes__echo '{\"text\": \"hello\"}' --raw";

const DEMO_EXAMPLES: &str = "\
Examples:
  only1mcp demo-server --listen 127.0.0.1:9000
  only1mcp demo-server --stdio --name notes";
