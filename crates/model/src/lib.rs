//! The vocabulary of Only1MCP as types: what a configuration is once it is known to be right, the names of its parts,
//! and what can be said about it.
//!
//! Everything else in the workspace uses these types. This crate knows no clock, no file, no socket, and no
//! protocol beyond which URLs and headers a draft may have; times are [`Time`] values that the caller has read.

#![forbid(unsafe_code)]

mod condition;
mod diff;
mod digest;
mod draft;
mod event;
mod id;
mod mask;
mod outcome;
mod policy;
mod reference;
mod snapshot;
mod standing;
mod time;
pub mod units;
mod verdict;
mod violation;
mod weight;

pub use condition::{Concern, Condition, Facts};
pub use diff::{BackendChange, Change, Counts, Diff};
pub use digest::{Digest, canonical_json};
pub use draft::{
    Draft, DraftBackend, DraftTransport, Located, MAX_ADVICE, OWNED_HEADERS, command_not_found, is_secret_argument,
    lookalike, may_download,
};
pub use event::{About, EventKind};
pub use id::{AttemptId, BackendId, EndpointKey, InvalidId, LogId, NodeId, Owner, Revision, VariantId};
pub use mask::Mask;
pub use outcome::{CandidateOutcome, CandidateResult};
pub use policy::{
    BackendPolicy, CheckPolicy, DeadServers, DrainOverlay, DrainPolicy, DrainStrategy, EjectionPolicy, HealthPolicy,
    HistoryPolicy, InForce, Instructions, Limits, Naming, Policy, ProgressivePolicy, ReplaceMode, SourcePolicy,
    ValidationPolicy,
};
pub use reference::{Piece, Reference, Template, TemplateError};
pub use snapshot::{Backend, EndpointSpec, FixedBackend, Isolation, Lookup, Snapshot, Transport, Variant};
pub use standing::Standing;
pub use time::{Time, WallTime};
pub use verdict::Verdict;
pub use violation::{Position, Violation};
pub use weight::Weight;

#[cfg(test)]
mod tests;
