//! The complete, validated, immutable configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::policy::is_default;
use crate::{BackendId, BackendPolicy, Digest, EndpointKey, Policy, VariantId, canonical_json};

/// A configuration that is known to be right: made by [`crate::Draft::into_snapshot`], or read back from a
/// log or a stream whose digest was checked.
///
/// Backends stand in the order of the file, which decides which of two servers keeps a name that both have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<Arc<FixedBackend>>,
}

/// A named MCP server as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    pub id: BackendId,
    pub variants: Vec<Variant>,
    /// The names shown to clients, as the server calls them; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Its keys stand among those of the backend.
    #[serde(flatten)]
    pub policy: BackendPolicy,
}

/// One version of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub id: VariantId,
    pub weight: u32,
    pub endpoints: Vec<EndpointSpec>,
}

/// What is needed to reach one endpoint. Whatever is in here needs a new connection when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    pub transport: Transport,
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolation: Isolation,
}

/// Which clients share an upstream session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// All clients, with no client capabilities declared to the server.
    #[default]
    Shared,
}

/// Texts here are templates: `${env:X}` and `${file:/path}` are resolved where they are used, never stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Transport {
    Stdio {
        command: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
    },
    Http {
        url: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
}

/// For log lines: a literal that may be a secret is not shown, only its name.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, env, cwd } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("args", &args.len())
                .field("env", &env.keys())
                .field("cwd", cwd)
                .finish(),
            Self::Http { url, headers } => {
                let place = url.split('?').next().unwrap_or_default();
                f.debug_struct("Http").field("url", &place).field("headers", &headers.keys()).finish()
            }
        }
    }
}

impl Transport {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stdio { .. } => "stdio",
            Self::Http { .. } => "http",
        }
    }

    /// Every text of the transport that may hold references, with its place in the file.
    pub fn templates(&self) -> Vec<(String, &str)> {
        match self {
            Self::Stdio { command, args, env, cwd } => std::iter::once(("command".into(), command.as_str()))
                .chain(args.iter().enumerate().map(|(i, arg)| (format!("args[{i}]"), arg.as_str())))
                .chain(env.iter().map(|(key, value)| (format!("env.{key}"), value.as_str())))
                .chain(cwd.iter().map(|cwd| ("cwd".into(), cwd.as_str())))
                .collect(),
            Self::Http { url, headers } => std::iter::once(("url".into(), url.as_str()))
                .chain(headers.iter().map(|(key, value)| (format!("headers.{key}"), value.as_str())))
                .collect(),
        }
    }
}

impl EndpointSpec {
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

impl Backend {
    /// All endpoints of the backend with their keys, in the order of the file.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointKey, &Variant, &EndpointSpec)> {
        self.variants.iter().flat_map(move |variant| {
            variant.endpoints.iter().map(move |spec| {
                let key = EndpointKey { backend: self.id.clone(), variant: variant.id.clone(), digest: spec.digest() };
                (key, variant, spec)
            })
        })
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// A backend that does not change any more, with what its part of a digest covers, written once.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct FixedBackend {
    backend: Backend,
    #[serde(skip)]
    canonical: OnceLock<Box<[u8]>>,
}

impl FixedBackend {
    /// As it stands in the canonical JSON of a snapshot.
    pub fn canonical(&self) -> &[u8] {
        self.canonical.get_or_init(|| canonical_json(&self.backend).into())
    }
}

impl From<Backend> for FixedBackend {
    fn from(backend: Backend) -> Self {
        Self { backend, canonical: OnceLock::new() }
    }
}

impl Deref for FixedBackend {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.backend
    }
}

impl PartialEq for FixedBackend {
    fn eq(&self, other: &Self) -> bool {
        self.backend == other.backend
    }
}

impl Eq for FixedBackend {}

impl fmt::Debug for FixedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

/// Finds backends of a snapshot by id: at once if they are asked for in their order.
#[derive(Debug)]
pub struct Lookup<'a> {
    backends: &'a [Arc<FixedBackend>],
    /// The position after the one that was found last.
    next: usize,
    index: Option<BTreeMap<&'a BackendId, usize>>,
}

impl<'a> Lookup<'a> {
    pub fn find(&mut self, id: &BackendId) -> Option<&'a Arc<FixedBackend>> {
        let backends = self.backends;
        let at = if backends.get(self.next).is_some_and(|next| next.id == *id) {
            self.next
        } else {
            let positions = || backends.iter().enumerate().map(|(at, backend)| (&backend.id, at)).collect();
            *self.index.get_or_insert_with(positions).get(id)?
        };
        self.next = at + 1;
        backends.get(at)
    }
}

impl Snapshot {
    pub fn digest(&self) -> Digest {
        self.canonical().1
    }

    /// The bytes that the digest covers: they are stored, and a reader can check them.
    pub fn canonical(&self) -> (Vec<u8>, Digest) {
        let length: usize = self.backends.iter().map(|backend| backend.canonical().len() + 1).sum();
        let mut json = Vec::with_capacity(length + 1024);
        for (at, backend) in self.backends.iter().enumerate() {
            json.extend_from_slice(if at == 0 { br#","backends":["# } else { b"," });
            json.extend_from_slice(backend.canonical());
        }
        if !self.backends.is_empty() {
            json.push(b']');
        }
        if !is_default(&self.policy) {
            json.extend_from_slice(br#","policy":"#);
            json.extend_from_slice(&canonical_json(&self.policy));
        }
        json.push(b'}');
        match json.first_mut() {
            Some(comma @ b',') => *comma = b'{',
            Some(_) | None => json.insert(0, b'{'),
        }
        let digest = Digest::of_bytes(&json);
        (json, digest)
    }

    pub fn backend(&self, id: &BackendId) -> Option<&Arc<FixedBackend>> {
        self.backends.iter().find(|backend| backend.id == *id)
    }

    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { backends: &self.backends, next: 0, index: None }
    }

    /// Takes the very backends of `other` where they are equal: what was made of them already can then be found by
    /// comparing pointers.
    pub fn share(&mut self, other: &Self) {
        let mut held = other.lookup();
        for backend in &mut self.backends {
            if let Some(equal) = held.find(&backend.id).filter(|held| *held == backend) {
                *backend = Arc::clone(equal);
            }
        }
    }
}
