//! What the fleet looks like, for whoever looks: published after each change. Whatever moves with every call is read
//! from the endpoints themselves, at the moment of looking.

use std::sync::Arc;

use drain::Departure;
use mcp::catalog::Reason;
use model::{BackendId, Digest, HealthPolicy, Revision};
use runtime::TraceContext;

use super::roster::Roster;
use super::turn::Endpoints;
use crate::endpoint::Endpoint;
use crate::generation::Generation;

#[derive(Debug, Clone, Default)]
pub struct Status {
    pub revision: Revision,
    pub digest: Option<Digest>,
    /// Those of the live snapshot, of an attempt, and on their way out, by key.
    pub endpoints: Vec<EndpointStatus>,
    /// How many tools clients see.
    pub tools: usize,
    pub withheld: Vec<WithheldTool>,
    /// Not over, or not on record with drain-coordinator yet.
    pub departures: Vec<Departure>,
    pub(crate) health: HealthPolicy,
    /// Of the change by which it is live.
    pub(crate) trace: Option<TraceContext>,
}

#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// Counters, verdict, process and session are read from here.
    pub endpoint: Arc<Endpoint>,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// How many it offers, as it last said.
    pub tools: usize,
    /// The live snapshot has it.
    pub live: bool,
    /// Cordoned, because the live snapshot does not have it any more.
    pub leaving: bool,
    pub up: bool,
    /// How often it came up: another number, another connection.
    pub ups: u32,
    /// Why it is not up.
    pub reason: Option<Arc<str>>,
}

impl EndpointStatus {
    /// Why the fleet has it, in one word.
    pub fn role(&self) -> &'static str {
        match (self.live, self.leaving) {
            (true, _) => "live",
            (false, true) => "leaving",
            (false, false) => "candidate",
        }
    }
}

/// A tool that clients do not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithheldTool {
    pub backend: BackendId,
    pub tool: Box<str>,
    pub reason: String,
}

/// How it stands with config-manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Following {
    pub attached: bool,
    /// What is live came from the copy on disk, and nobody has confirmed it yet.
    pub from_disk: bool,
}

pub(super) fn status(
    roster: &Roster,
    endpoints: &Endpoints,
    generation: &Generation,
    departures: Vec<Departure>,
) -> Status {
    let live = roster.layout();
    let members = roster.members().iter().filter_map(|(key, member)| {
        let endpoint = Arc::clone(endpoints.get(&member.serial)?);
        Some(EndpointStatus {
            transport: endpoint.spec.transport.kind(),
            tools: roster.known().get(key).map_or(0, |offered| offered.tools.len()),
            live: live.is_some_and(|live| live.has(key)),
            leaving: member.leaving,
            up: member.state.is_up(),
            ups: member.ups,
            reason: member.state.reason().map(Into::into),
            endpoint,
        })
    });
    let backends = || generation.table.backends();
    let id = |position: usize| backends().get(position).map(|backend| backend.id.clone());
    let withheld = generation.catalog.withheld().iter().filter_map(|withheld| {
        let reason = match withheld.reason {
            Reason::Collision { owner } => format!("server `{}` has a tool of that name", id(owner)?),
            Reason::NotShown => "the configuration does not list it under `tools`".to_owned(),
            Reason::Duplicate => "the server lists it twice".to_owned(),
        };
        Some(WithheldTool { backend: id(withheld.backend)?, tool: withheld.tool.clone(), reason })
    });
    let absent = generation.catalog.absent().iter().filter_map(|(backend, tool)| {
        let reason = "the configuration lists it under `tools`, the server does not offer it".to_owned();
        Some(WithheldTool { backend: id(*backend)?, tool: tool.clone(), reason })
    });
    Status {
        revision: roster.revision(),
        digest: live.map(|live| live.content.digest),
        endpoints: members.collect(),
        tools: generation.table.tools(),
        withheld: withheld.chain(absent).collect(),
        departures,
        health: generation.policy.health.clone(),
        trace: None,
    }
}
