//! The interface of a gateway for scenarios, whether it is one process or several.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    fault::{Fault, fault},
    gateway::{Cli, Gateway},
    services::Services,
};

/// A gateway that runs.
pub trait System {
    /// The MCP endpoint of each router.
    fn endpoints(&self) -> Vec<SocketAddr>;
    /// The process of each router, in the same order.
    fn router_pids(&self) -> Vec<i32>;
    /// Runs the command line tool against it.
    fn cli(&self, args: &[&str]) -> Result<Cli, Fault>;

    /// `status`, whatever it thinks of what it shows.
    fn status(&self) -> Result<Value, Fault> {
        self.cli(&["status", "--output", "json"])?.json()
    }

    /// The revision that is live.
    fn revision(&self) -> Result<u64, Fault> {
        let status = self.status()?;
        status["revision"].as_u64().ok_or_else(|| fault(format!("no revision in {status}")))
    }

    /// `history`, newest first.
    fn history(&self) -> Result<Vec<Value>, Fault> {
        let history = self.cli(&["history", "--output", "json"])?.expect(0)?.json()?;
        history.as_array().cloned().ok_or_else(|| fault(format!("no list: {history}")))
    }
}

impl System for Gateway {
    fn endpoints(&self) -> Vec<SocketAddr> {
        vec![self.mcp]
    }

    fn router_pids(&self) -> Vec<i32> {
        vec![self.pid()]
    }

    fn cli(&self, args: &[&str]) -> Result<Cli, Fault> {
        Self::cli(self, args)
    }
}

impl System for Services {
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.routers.iter().map(|router| router.mcp).collect()
    }

    fn router_pids(&self) -> Vec<i32> {
        self.routers.iter().map(|router| router.pid()).collect()
    }

    fn cli(&self, args: &[&str]) -> Result<Cli, Fault> {
        Self::cli(self, args)
    }
}
