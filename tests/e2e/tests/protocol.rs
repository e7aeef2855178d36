//! The MCP endpoint against clients and servers that break every rule, and against the protocol's promises to those
//! that keep the rules. All messages here are written by hand, byte by byte.

#![allow(clippy::unwrap_in_result, unreachable_pub, reason = "all of this is a test")]

#[path = "protocol/bad_input.rs"]
mod bad_input;
#[path = "protocol/calls.rs"]
mod calls;
#[path = "protocol/clients.rs"]
mod clients;
#[path = "protocol/failover.rs"]
mod failover;
#[path = "protocol/health.rs"]
mod health;
#[path = "protocol/limits.rs"]
mod limits;
#[path = "protocol/memory.rs"]
mod memory;
#[path = "protocol/places.rs"]
mod places;
#[path = "protocol/servers.rs"]
mod servers;
#[path = "protocol/sessions.rs"]
mod sessions;
#[path = "protocol/slow_readers.rs"]
mod slow_readers;
#[path = "protocol/stopping.rs"]
mod stopping;

use testkit::{ConfigFile, Document, Fault, Gateway, Scratch, Tally, raw, stub, wait};

/// A gateway, and where its things are. The gateway ends first.
struct Stage {
    gateway: Gateway,
    file: ConfigFile,
    scratch: Scratch,
}

impl Stage {
    fn new(name: &str, document: impl FnOnce(&Scratch) -> Result<Document, Fault>) -> Result<Self, Fault> {
        let scratch = Scratch::new(name)?;
        let document = document(&scratch)?;
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        Ok(Self { gateway, file, scratch })
    }

    /// Waits until a demo server has begun to carry out the call with that text or id.
    fn carried_out(&self, text: &str) -> Result<(), Fault> {
        let counts = self.scratch.folder("counts")?;
        let counted = || Tally::read(&counts).is_ok_and(|tally| tally.count(text) == 1);
        wait::until_true(&format!("the call {text}"), raw::LIMIT, counted)
    }
}
