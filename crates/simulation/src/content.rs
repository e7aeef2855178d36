//! What configurations say in this world, and what is true of the servers they name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Backend, BackendId, BackendPolicy, Digest, DrainOverlay, DrainStrategy, EndpointKey, EndpointSpec, Isolation,
    Snapshot, Transport, Variant, VariantId,
};
use rollout::Content;

use crate::random::Random;

/// The number of servers that have names.
pub(crate) const SERVERS: u8 = 6;
/// A version whose tool names collide, so that every router refuses it for ever.
pub(crate) const CURSED: u8 = 13;
/// How long routers have for their votes.
pub(crate) const VOTE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Server {
    pub(crate) id: u8,
    pub(crate) version: u8,
}

impl Server {
    /// The server that a configuration means by this id and transport.
    pub(crate) fn of(id: &BackendId, transport: &Transport) -> Self {
        let number = |text: &str| text[1..].parse().expect("a letter and a number");
        let Transport::Stdio { command, .. } = transport else { unreachable!("servers here are programs") };
        Self { id: number(id.as_str()), version: number(command) }
    }
}

/// What the file, or a part of it while it is being written, says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text {
    pub(crate) servers: Vec<Server>,
    pub(crate) one_phase: bool,
    /// Changes the bytes and nothing else.
    pub(crate) comment: u32,
    pub(crate) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Whole,
    /// Complete, but no configuration.
    Broken,
    /// Only half of what its author means to write.
    Half,
}

/// The layers of a revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Layers {
    pub(crate) file: Option<Text>,
    pub(crate) api: Vec<Server>,
}

/// A content with what a router has to know of it, computed once.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) content: Content,
    pub(crate) servers: Vec<(EndpointKey, Server)>,
}

impl Known {
    pub(crate) fn is_cursed(&self) -> bool {
        self.servers.iter().any(|(_, server)| server.version == CURSED)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_layers: BTreeMap<(Vec<Server>, bool), Arc<Known>>,
    by_digest: BTreeMap<Digest, Arc<Known>>,
}

impl Text {
    pub(crate) fn first() -> Self {
        let servers = (0..3).map(|id| Server { id, version: 0 }).collect();
        Self { servers, one_phase: false, comment: 0, fate: Fate::Whole }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of_bytes(format!("{self:?}").as_bytes())
    }

    /// The text that an author would write next. Sometimes it is wrong.
    pub(crate) fn next(&self, random: &mut Random, comment: u32) -> Self {
        let mut next = Self { comment, fate: Fate::Whole, one_phase: random.permille(70), ..self.clone() };
        // A text never turns votes off and adds nonsense at once: no router could follow, and that cannot be asked.
        next.servers.retain(|server| server.version != CURSED);
        match random.below(10) {
            0 => next.fate = Fate::Broken,
            1 if !next.one_phase => next.put(random.index(usize::from(SERVERS)), CURSED),
            2 | 3 if next.servers.len() > 1 => {
                let at = random.index(next.servers.len());
                next.servers.remove(at);
            }
            4 => {}
            _ => next.put(random.index(usize::from(SERVERS)), u8::try_from(random.below(12)).unwrap_or(0)),
        }
        if next.servers.is_empty() {
            next.put(0, 1);
        }
        next
    }

    fn put(&mut self, id: usize, version: u8) {
        let id = u8::try_from(id).unwrap_or(0);
        self.servers.retain(|server| server.id != id);
        self.servers.push(Server { id, version });
        self.servers.sort_unstable();
    }

    /// The part that is there while the text is being written.
    pub(crate) fn half(&self, steps_left: usize) -> Self {
        let keep = self.servers.len().saturating_sub(steps_left);
        Self { servers: self.servers[..keep].to_vec(), fate: Fate::Half, ..self.clone() }
    }
}

impl Layers {
    /// The digest of what the layers say, without comments.
    pub(crate) fn digest(&self) -> Digest {
        let file = self.file.as_ref().map(|text| (&text.servers, text.one_phase));
        Digest::of_bytes(format!("{:?}", (file, &self.api)).as_bytes())
    }

    fn merged(&self) -> (Vec<Server>, bool) {
        let mut servers = self.file.as_ref().map_or_else(Vec::new, |text| text.servers.clone());
        for server in &self.api {
            if servers.iter().all(|known| known.id != server.id) {
                servers.push(*server);
            }
        }
        (servers, self.file.as_ref().is_some_and(|text| text.one_phase))
    }
}

impl Contents {
    pub(crate) fn of(&mut self, layers: &Layers) -> Arc<Known> {
        let merged = layers.merged();
        let known = self.by_layers.entry(merged.clone()).or_insert_with(|| Arc::new(known(&merged.0, merged.1)));
        self.by_digest.entry(known.content.digest).or_insert_with(|| Arc::clone(known));
        Arc::clone(known)
    }

    /// The digest of a content that was computed before.
    pub(crate) fn known_of(&self, layers: &Layers) -> Option<Digest> {
        self.by_layers.get(&layers.merged()).map(|known| known.content.digest)
    }

    /// The content with that digest, which a source proposed before.
    pub(crate) fn known(&self, digest: &Digest) -> Arc<Known> {
        Arc::clone(&self.by_digest[digest])
    }
}

fn known(servers: &[Server], one_phase: bool) -> Known {
    let mut snapshot = Snapshot::default();
    snapshot.policy.validation.two_phase_commit = !one_phase;
    snapshot.policy.validation.timeout = VOTE_TIMEOUT;
    snapshot.backends = servers.iter().map(|server| Arc::new(backend(*server).into())).collect();
    let keys = snapshot.backends.iter().flat_map(|backend| backend.endpoints().map(|(key, ..)| key));
    let servers = keys.zip(servers.iter().copied()).collect();
    Known { content: Content::new(Arc::new(snapshot)), servers }
}

pub(crate) fn backend_id(server: u8) -> BackendId {
    BackendId::new(&format!("s{server}")).expect("letters and digits are an id")
}

pub(crate) fn drain_timeout(server: u8) -> Duration {
    Duration::from_secs(2 + u64::from(server))
}

pub(crate) fn drain_strategy(server: u8) -> DrainStrategy {
    DrainStrategy::ALL[usize::from(server) % DrainStrategy::ALL.len()]
}

/// What a server that leaves step by step loses with each step, in percent, and the time between two.
pub(crate) const STEP: (u32, Duration) = (30, Duration::from_millis(700));

fn backend(server: Server) -> Backend {
    let transport =
        Transport::Stdio { command: format!("v{}", server.version), args: Vec::new(), env: BTreeMap::new(), cwd: None };
    let spec = EndpointSpec { transport, isolation: Isolation::Shared };
    Backend {
        id: backend_id(server.id),
        variants: vec![Variant { id: VariantId::only(), weight: 100, endpoints: vec![spec] }],
        tools: None,
        policy: BackendPolicy {
            critical: server.id == 0,
            drain: DrainOverlay {
                timeout: Some(drain_timeout(server.id)),
                strategy: Some(drain_strategy(server.id)),
                rate: None,
                weight_reduction: Some(STEP.0),
                interval: Some(STEP.1),
                // Servers fail here all the time.
                minimum_health_permille: Some(0),
            },
            ..BackendPolicy::default()
        },
    }
}
