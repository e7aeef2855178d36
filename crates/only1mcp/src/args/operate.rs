//! Commands that ask a running gateway: their flags, defaults and examples.

mod contradictions;
mod numbers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, builder::NonEmptyStringValueParser};
use model::{DrainStrategy, Weight, units::duration_or_seconds as duration};
use runtime::telemetry::log::Filter;

use super::{AdminArgs, OutputArgs};
use crate::place::PlaceArgs;
use numbers::{at_least_one, base, revision, some_time, step_time};

#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const STATUS_EXAMPLES: &str = "\
Exits with 1 when a router is not at the live revision, a server is unhealthy or has failed to come \
up, or the file was refused; and when config-manager does not answer: then it shows what the routers \
say. P95 and FAILED are of the calls of the last five minutes.

Examples:
  only1mcp status
  only1mcp status --output json | jq '.servers[] | {id, state}'
  only1mcp status --admin http://127.0.0.1:9441 --admin http://127.0.0.1:9442 --token-file admin.token";

#[derive(Args, Debug)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct TopArgs {
    /// Between two pictures
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s", env = "ONLY1MCP_TOP_INTERVAL")]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const TOP_EXAMPLES: &str = "\
Runs until interrupted (exit code 0), and goes on while the gateway restarts. Where the output is no \
terminal, it is that of `status`, once.

Examples:
  only1mcp top
  only1mcp top --interval 5s";

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
Exits with 0 when a new revision is live, 1 when the file was refused, was undone by a rollback, or no \
router can hold it, 2 when its content is live already, 69 when no router could decide within --timeout.

Examples:
  only1mcp reload
  only1mcp reload --force --timeout 2m";

#[derive(Args, Debug)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(crate) struct HistoryArgs {
    /// At most that many [default: all that are kept]
    #[arg(long, visible_alias = "limit", value_name = "N", value_parser = at_least_one,
          env = "ONLY1MCP_HISTORY_LAST")]
    pub(crate) last: Option<u32>,

    /// Changes that were refused as well; they have no revision
    #[arg(long, env = "ONLY1MCP_HISTORY_REFUSED")]
    pub(crate) refused: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const HISTORY_EXAMPLES: &str = "\
How many tools came or went is told by the lists that routers have now. The log has settings and no \
lists: of a server that is gone, or that no router has listed since it started, nothing is said.

Examples:
  only1mcp history --last 10
  only1mcp history --output json | jq '.[0].revision'";

#[derive(Args, Debug)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The revision, by its number [default: the live one]
    #[arg(value_name = "REVISION", value_parser = revision)]
    pub(crate) revision: Option<u64>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const SHOW_EXAMPLES: &str = "\
With all layers merged, and without keys that have their default. A value under `env` or `headers`, or in \
the query of a URL, that is written out may be a secret, and is shown as a mark, ***(1a2b3c4d): where there \
are marks, stderr counts them and the exit code is 1. A file with marks is refused until the values stand \
there again, so do not write this over the file that has them: `only1mcp diff FILE` shows what to change there.

Examples:
  only1mcp show > live.yaml
  only1mcp show 41
  only1mcp show --output json | jq '.servers[].id'";

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
A file is compared as what would be live if it were the file that is followed. What clients gain or \
lose is known of servers that a router has listed. Exits with 0 when there are differences, 2 when \
there are none, 1 when a file is no configuration.

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
    #[arg(value_name = "REVISION", value_parser = revision)]
    pub(crate) revision: Option<u64>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, env = "ONLY1MCP_REASON")]
    pub(crate) reason: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const ROLLBACK_EXAMPLES: &str = "\
Says what it undid, as `diff` does. What was undone stays undone, although the file still holds it: \
the next edit of the file applies. Without REVISION it undoes the last change once: said again, it \
changes nothing, names the command that goes further back, and exits with 1. \
Exits with 1 as well when no router can hold that revision, 2 when its content is live already.

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
    #[arg(long, value_name = "REVISION", value_parser = base, env = "ONLY1MCP_BASE")]
    pub(crate) base: Option<u64>,

    /// A router whose vote does not count this time; repeatable, goes on record
    #[arg(long, value_name = "ROUTER", value_delimiter = ',', env = "ONLY1MCP_WITHOUT")]
    pub(crate) without: Vec<String>,

    /// Change nothing: show what it would change, or what is wrong with it, as `diff` does
    #[arg(long, conflicts_with = "without", env = "ONLY1MCP_DRY_RUN")]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const APPLY_EXAMPLES: &str = "\
The layer stays when the file changes, until it is replaced or removed. With --dry-run, exits with \
0 when there would be changes, 2 when there would be none, 1 when it would be refused as wrong; \
routers are not asked whether they can hold it.

Examples:
  only1mcp apply team-search.yaml --owner team-search --dry-run
  only1mcp apply team-search.yaml --owner team-search
  only1mcp apply --remove --owner team-search";

#[derive(Args, Debug)]
#[command(after_help = LOG_EXAMPLES)]
pub(crate) struct LogArgs {
    /// From now on: a level for everything, TARGET=LEVEL for single programs [default: only show the filter]
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Option<Filter>,

    /// After that, the filter of before holds again [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, requires = "filter", env = "ONLY1MCP_LOG_FOR")]
    pub(crate) lasting: Option<Duration>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const LOG_EXAMPLES: &str = "\
Levels: off, error, warn, info, debug, trace. Targets: config_manager, drain_coordinator, health_monitor, \
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

    /// Only one of its endpoints, by the beginning of its digest, which `status` shows where there are several
    #[arg(long, value_name = "DIGEST", requires = "server", value_parser = NonEmptyStringValueParser::new(),
          env = "ONLY1MCP_DRAIN_ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// Do not let it go: leave it this share of its calls, from 0.1% to 100%, until --cancel
    #[arg(long, value_name = "PERCENT", value_parser = Weight::percentage, requires = "server",
          conflicts_with_all = ["deadline", "wait"], env = "ONLY1MCP_DRAIN_WEIGHT")]
    pub(crate) weight: Option<Weight>,

    /// How it leaves: its calls end at once; or they may run on; or, of one endpoint, first its share of new calls falls
    /// step by step, where another endpoint takes over [default: what the configuration says]
    #[arg(long, value_name = "STRATEGY", value_parser = DrainStrategy::ALL.map(DrainStrategy::as_str), requires = "server",
          conflicts_with = "weight", env = "ONLY1MCP_DRAIN_STRATEGY")]
    pub(crate) strategy: Option<String>,

    /// Of `progressive`: the sessions that may move per second [default: what the configuration says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
          conflicts_with = "weight", env = "ONLY1MCP_DRAIN_RATE")]
    pub(crate) rate: Option<u32>,

    /// Of `progressive`: the percent of its whole share that each step takes [default: what the configuration says]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100),
          conflicts_with = "weight", env = "ONLY1MCP_DRAIN_WEIGHT_REDUCTION")]
    pub(crate) weight_reduction: Option<u32>,

    /// Of `progressive`: the time between two steps [default: what the configuration says]
    #[arg(long, value_name = "DURATION", value_parser = step_time, conflicts_with = "weight",
          env = "ONLY1MCP_DRAIN_INTERVAL")]
    pub(crate) interval: Option<Duration>,

    /// How long its calls may run on [default: what the configuration says]
    #[arg(long, value_name = "DURATION", value_parser = some_time, env = "ONLY1MCP_DRAIN_DEADLINE")]
    pub(crate) deadline: Option<Duration>,

    /// Return when nothing runs there any more
    #[arg(long, env = "ONLY1MCP_DRAIN_WAIT")]
    pub(crate) wait: bool,

    /// Give back what this drain took, by its id; or what all drains of a server took, by the server's
    #[arg(long, value_name = "DRAIN", conflicts_with_all = ["server", "deadline", "wait"], env = "ONLY1MCP_DRAIN_CANCEL")]
    pub(crate) cancel: Option<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const DRAIN_EXAMPLES: &str = "\
Draining a server twice joins the first drain; a shorter deadline holds, a stronger strategy \
(progressive, graceful, immediate), and the last weight. A weight is of use where a server has \
several endpoints: the others take what one is not given. An endpoint that a change replaces and \
that has a weight of its own keeps it until it is drained, or until the drain timeout.

Examples:
  only1mcp drain search --deadline 2m --wait
  only1mcp drain search --strategy immediate
  only1mcp drain search --endpoint 3f9a --strategy progressive --rate 20 --interval 5s
  only1mcp drain search --endpoint 3f9a --weight 25%
  only1mcp drain --cancel search";

#[derive(Args, Debug)]
#[command(after_help = DRAINS_EXAMPLES)]
pub(crate) struct DrainsArgs {
    /// Those that are over as well
    #[arg(long, env = "ONLY1MCP_DRAINS_ALL")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const DRAINS_EXAMPLES: &str = "\
Shows what is leaving, and what operators keep from calls until they cancel that.

Examples:
  only1mcp drains
  only1mcp drains --all --output json | jq '.[] | {server, finished, evicted, lost, total}'";

#[derive(Args, Debug)]
#[command(after_help = STATS_EXAMPLES)]
pub(crate) struct StatsArgs {
    /// Of drains
    #[arg(long, required = true, env = "ONLY1MCP_STATS_DRAINS")]
    pub(crate) drains: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const STATS_EXAMPLES: &str = "\
Of the last 100 drains that are over: how many each server had, the time from beginning to end \
(median, 99th percentile, standard deviation), and what became of the calls that ran. Drains that \
were cancelled are counted, and do not enter the times. The history of drain-coordinator \
(--history) is the limit of what it knows.

Examples:
  only1mcp stats --drains
  only1mcp stats --drains --output json | jq '.drains.p99_ms'";

#[derive(Args, Debug)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsArgs {
    /// The server, by its id
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,

    /// Go on with what comes, until interrupted
    #[arg(long, short, env = "ONLY1MCP_FOLLOW")]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const LOGS_EXAMPLES: &str = "\
The last lines on stderr, and those on stdout that are no MCP, of all its processes, one after the other. A \
process that says the same as the one before adds nothing. Secrets of the configuration are masked.

Examples:
  only1mcp logs files
  only1mcp logs files -f --output json | jq -r .line";

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
Returns when it is up again in every router, with exit code 0, or has failed to come up, with 1; or \
after --timeout, with 69. The gateway goes on trying. One that is down is tried at once. One that \
hangs is restarted by itself if `restart_unhealthy` says so.

Examples:
  only1mcp restart files
  only1mcp restart files --output json | jq '.endpoints[].pid'";

#[derive(Args, Debug)]
pub(crate) struct SwitchArgs {
    /// The server, by its id
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

pub(crate) const DISABLE_EXAMPLES: &str = "\
Calls that run may end, within the time that the configuration gives a drain. New ones are answered \
at once with an error. Its process keeps running and its tools stay listed, so that it is there at \
once when it is enabled. If it is down, or ends, it is not tried again until then, and is no \
problem in `status`. No revision is made, and the configuration stays as it is: a server that \
is not to run at all gets `enabled: false` there.

Examples:
  only1mcp disable search
  only1mcp disable search --output json | jq '.in_flight'";

pub(crate) const ENABLE_EXAMPLES: &str = "\
Exits with 0 when it gets calls again, 1 when it is disabled in the configuration, 2 when nothing \
kept it from calls. What `drain --endpoint` took of single endpoints stays taken.

Examples:
  only1mcp enable search";

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
#[command(after_help = CONNECT_EXAMPLES)]
pub(crate) struct ConnectArgs {
    /// The MCP endpoint [default: the gateway that `up` runs]
    #[arg(long, value_name = "URL", env = "ONLY1MCP_URL")]
    pub(crate) url: Option<String>,

    /// Do not start a gateway if none runs
    #[arg(long, env = "ONLY1MCP_NO_START")]
    pub(crate) no_start: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

const CONNECT_EXAMPLES: &str = "\
If no gateway runs for the configuration, one is started (`only1mcp up`), and goes on when the client ends. \
While a gateway is restarted, messages wait for it.

Examples:
  only1mcp connect --url http://127.0.0.1:8080/mcp
In the configuration of a client:
  { \"mcpServers\": { \"all\": { \"command\": \"only1mcp\", \"args\": [\"connect\"] } } }";

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
  only1mcp call notes__add '{\"text\": \"milk\"}' --raw";
