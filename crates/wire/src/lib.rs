//! The messages that the services exchange, as protobuf, and their one translation from and to the types of the
//! domain. No code outside this crate knows the encoding of a message between services, but for the envelope and the
//! outer message; answers to operators are made in the services.

#![forbid(unsafe_code)]

pub mod config;
mod content;
pub mod drain;
pub mod health;
pub mod pb;
pub mod process;
mod words;

pub use content::{FEATURES, takes_changes};
pub use words::{
    Invalid, duration, duration_to_pb, endpoint_key, endpoint_key_to_pb, envelope, optional_duration, sender, verdict,
    verdict_to_pb, violation, violation_to_pb,
};

/// All packages with their comments, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
