//! The Model Context Protocol as bytes and rules: what a gateway must know about MCP without doing any I/O.
//!
//! Messages are never turned into typed trees and back. [`envelope`] finds, in one pass, where the few values a
//! gateway acts on lie inside a message; [`mod@splice`] replaces those bytes and leaves every other byte as it was
//! written. That is both the fast way and the only lossless one: unknown fields, number formats and key order survive.

pub mod catalog;
pub mod envelope;
pub mod error_code;
pub mod http_rules;
pub mod initialize;
pub mod instructions;
pub mod item;
pub mod kind;
pub mod message;
pub mod names;
pub mod protocol_version;
pub mod raw;
pub mod splice;
pub mod sse;

pub use catalog::{Catalog, Offer, Owners};
pub use envelope::{Call, Envelope, Fault, Message, Meta, Params, ScanError, scan};
pub use error_code::ErrorCode;
pub use item::{Item, ItemPage};
pub use kind::{ByKind, Kind};
pub use names::Naming;
pub use protocol_version::ProtocolVersion;
pub use raw::{Id, Raw, Span, Text, number_of};
pub use splice::{Edit, splice, splice_in_place, without_bom};
