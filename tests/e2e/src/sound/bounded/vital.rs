//! What a gateway holds: descriptors, tasks, sessions, connections.

use std::{collections::BTreeMap, fmt, fs};

use testkit::{Fault, Gateway, client::http_get, fault};

/// Two of each may come and go by themselves.
const SLACK: u64 = 2;
/// As `/metrics` calls them; descriptors beside them.
const COUNTED: [&str; 4] =
    ["only1mcp_tasks", "only1mcp_router_sessions", "only1mcp_router_exchanges", "only1mcp_router_connections"];

/// How many of each there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Vital(BTreeMap<String, u64>);

impl Vital {
    pub(super) fn of(gateway: &Gateway) -> Result<Self, Fault> {
        let (_, page) = http_get(gateway.ops, "/metrics")?;
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            // A gauge, and a whole number.
            line.and_then(|text| text.trim().split('.').next()?.parse().ok())
                .ok_or_else(|| fault(format!("no {name} in /metrics")))
        };
        let mut counts = BTreeMap::new();
        for name in COUNTED {
            counts.insert(name.trim_start_matches("only1mcp_").to_owned(), value(name)?);
        }
        let open = fs::read_dir(format!("/proc/{}/fd", gateway.pid()))?.count();
        counts.insert("descriptors".to_owned(), open as u64);
        Ok(Self(counts))
    }

    pub(super) fn without_sessions(mut self) -> Self {
        self.0.remove("router_sessions");
        self
    }

    /// What `later` has too much of.
    pub(super) fn left(&self, later: &Self) -> Vec<String> {
        let more = |(name, before): (&String, &u64)| {
            let after = later.0.get(name).copied().unwrap_or(u64::MAX);
            (after > before + SLACK).then(|| format!("{name} were {before} and are {after}"))
        };
        self.0.iter().filter_map(more).collect()
    }
}

impl fmt::Display for Vital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.0.values().map(u64::to_string).collect();
        f.write_str(&counts.join("/"))
    }
}
