//! `watch`: its flags, and the kinds of events that it can be restricted to.

use clap::Args;
use model::{About, EventKind};

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
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = Wanted::parse, env = "ONLY1MCP_WATCH_KIND")]
    pub(crate) kinds: Vec<Wanted>,
}

/// One kind of event, or all about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    About(About),
    Kind(EventKind),
}

impl Wanted {
    /// What events are about that it lets through.
    pub(crate) fn about(self) -> About {
        match self {
            Self::About(about) => about,
            Self::Kind(kind) => kind.about(),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Events about the watch itself are always told.
        let all = || About::ALL.into_iter().filter(|about| *about != About::Watch);
        let about = all().find(|about| about.as_str() == text).map(Self::About);
        let kind = || all().flat_map(About::kinds).find(|kind| kind.as_str() == text).map(Self::Kind);
        about.or_else(kind).ok_or_else(|| {
            let kinds = |about: About| about.kinds().into_iter().map(EventKind::as_str).collect::<Vec<_>>().join(", ");
            let all: Vec<_> = all().map(|about| format!("{} ({})", about.as_str(), kinds(about))).collect();
            format!("expected one of: {}", all.join(", "))
        })
    }
}
