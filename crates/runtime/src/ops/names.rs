//! The host names under which the ops listener answers.

use std::net::IpAddr;

use clap::Args;
use http::{HeaderMap, header, uri::Authority};

/// The names of a listener, apart from its addresses.
#[derive(Args, Clone, Debug, Default)]
pub struct OpsNames {
    /// A name by which /readyz and /metrics are asked for, beside addresses and localhost; may be repeated
    #[arg(
        id = "ops_allow_host",
        long = "ops-allow-host",
        env = "ONLY1MCP_OPS_ALLOW_HOST",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub names: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "Host {host:?} is not allowed here; to have it allowed, start the process with --ops-allow-host {name} or \
         ONLY1MCP_OPS_ALLOW_HOST={name}"
    )]
    Stranger { host: String, name: String },
    #[error("Host comes twice, or is no name")]
    Unreadable,
}

/// The most of a name that is shown in the refusal.
const SHOWN: usize = 200;

impl OpsNames {
    /// A request without a Host is not from a browser. No web page can be served under an address or `localhost` of
    /// this process; nor, where other machines reach this one, under a name without a dot, as services in one network
    /// have.
    pub(super) fn check(&self, headers: &HeaderMap, loopback: bool) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let Some(host) = hosts.next() else { return Ok(()) };
        let host = host.to_str().ok().filter(|_| hosts.next().is_none()).ok_or(Refusal::Unreadable)?;
        if host.is_empty() {
            return Ok(());
        }
        let authority: Authority = host.parse().map_err(|_| Refusal::Unreadable)?;
        if self.has(authority.host(), host, loopback) && !host.contains('@') {
            return Ok(());
        }
        let shown = |text: &str| text.chars().take(SHOWN).collect();
        Err(Refusal::Stranger { host: shown(host), name: shown(authority.host()) })
    }

    fn has(&self, name: &str, with_port: &str, loopback: bool) -> bool {
        let own = |own: &String| own.eq_ignore_ascii_case(name) || own.eq_ignore_ascii_case(with_port);
        name.eq_ignore_ascii_case("localhost")
            || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
            || (!loopback && !name.contains('.'))
            || self.names.iter().any(own)
    }
}
