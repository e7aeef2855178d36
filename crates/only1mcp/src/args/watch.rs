//! `watch`: its flags, and the kinds of events that it can be restricted to.

use clap::Args;
use model::Verdict;

use super::AdminArgs;

#[derive(Args, Debug)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) filter: Filter,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

const WATCH_EXAMPLES: &str = "\
Tells of changes of the configuration, of routers, servers and drains, in the order in which the \
news arrive. Runs until interrupted (exit code 0). When the connection to a service is lost it says \
so, connects again as soon as it can, and says that; events of the time between are not told.

Examples:
  only1mcp watch
  only1mcp watch --server search --kind server,drain
  only1mcp watch --kind unhealthy,failing,refused
  only1mcp watch --output json           one JSON object a line, always with the same keys";

/// Which events are printed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only what is about this server; repeatable
    #[arg(long = "server", value_name = "ID", value_delimiter = ',', env = "ONLY1MCP_WATCH_SERVER")]
    pub(crate) servers: Vec<String>,

    /// Only what is about this: change, router, server or drain; or one kind of event, as the JSON has it; repeatable
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = kind, env = "ONLY1MCP_WATCH_KIND")]
    pub(crate) kinds: Vec<String>,
}

/// What events are about, and their kinds.
pub(crate) const KINDS: [(&str, &[&str]); 4] = [
    ("change", &["waiting", "attempt_started", "vote", "refused", "committed", "source"]),
    ("router", &["attached", "detached", "acked", "behind", "caught_up"]),
    ("server", &Verdict::NAMES),
    ("drain", &["weighted", "draining", "evicting", "done", "cancelled"]),
];

/// What events of that kind are about; or the word itself, if it is no kind.
pub(crate) fn about(kind: &str) -> &str {
    KINDS.iter().find(|(_, kinds)| kinds.contains(&kind)).map_or(kind, |(about, _)| about)
}

fn kind(text: &str) -> Result<String, String> {
    if KINDS.iter().any(|(known, _)| *known == about(text)) {
        return Ok(text.to_owned());
    }
    let all = KINDS.map(|(about, kinds)| format!("{about} ({})", kinds.join(", ")));
    Err(format!("expected one of: {}", all.join(", ")))
}
