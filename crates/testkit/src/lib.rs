//! The base of the end-to-end tests: real processes, a client that checks every answer, and counting.
//!
//! Scenarios are blocking code, so that they read in the order in which things happen; only [`load`] and [`client`]
//! have a runtime inside. No code here depends on the product's insides: it sees programs, files, sockets and `/proc`,
//! as a user does.

pub mod binaries;
pub mod client;
pub mod config;
pub mod demo;
pub mod distribution;
pub mod fault;
pub mod gateway;
pub mod left_out;
pub mod load;
pub mod process;
pub mod process_tree;
pub mod raw;
pub mod scratch;
pub mod services;
pub mod sockets;
pub mod stub;
pub mod system;
pub mod tally;
pub mod wait;

pub use client::{Client, Reply};
pub use config::{ConfigFile, Document, Server};
pub use demo::DemoServer;
pub use distribution::Distribution;
pub use fault::{Fault, fault};
pub use gateway::Gateway;
pub use left_out::left_out;
pub use process::Supervised;
pub use scratch::Scratch;
pub use services::Services;
pub use system::System;
pub use tally::Tally;
