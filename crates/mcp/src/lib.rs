//! The Model Context Protocol as bytes and rules: what a gateway must know about MCP without doing any I/O.
//!
//! Messages are never turned into typed trees and back. [`envelope`] finds, in one pass, where the few values a
//! gateway acts on lie inside a message; [`splice`] replaces those bytes and leaves every other byte as it was
//! written. That is both the fast way and the only lossless one: unknown fields, number formats and key order survive.

pub mod envelope;
pub mod error_code;
pub mod raw;
pub mod splice;

pub use envelope::{Call, Envelope, Fault, Message, Meta, Params, ScanError, scan};
pub use error_code::ErrorCode;
pub use raw::{Id, Raw, Span, Text};
pub use splice::{Edit, splice};
