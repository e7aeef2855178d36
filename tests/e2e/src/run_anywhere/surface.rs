//! The admin API as third parties see it: `surface.py` knows only reflection, calls every method of the four processes,
//! and gets each error that `docs/api.md` lists.

use std::process::Command;

use serde_json::json;
use testkit::{ConfigFile, Document, Fault, Scratch, Server, Services, binaries, demo, services::Kind};

use crate::{Figures, Size, commands};

pub fn run(_: Size) -> Result<Figures, Fault> {
    let foreign = commands::foreign()?;
    let scratch = Scratch::new("surface")?;
    let document = Document::default()
        .key("hot_reload", json!({ "enabled": false }))
        .key("rollback", json!({ "history": { "max_snapshots": 1 } }))
        .with(demo::stdio("one", "one", &scratch)?)
        .with(demo::stdio("two", "two", &scratch)?)
        .with(Server::http("remote", "http://127.0.0.1:9/mcp"));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let services = Services::up(&scratch, file.path(), 1)?;
    let (router, manager) = (&services.routers[0], services.service(Kind::ConfigManager));
    let stage = json!({
        "addresses": {
            "config-manager": manager.grpc,
            "router": router.grpc,
            "health-monitor": services.service(Kind::HealthMonitor).grpc,
            "drain-coordinator": services.service(Kind::DrainCoordinator).grpc,
        },
        "pids": { "config-manager": manager.pid(), "router": router.pid() },
        "programs": {
            "only1mcp": binaries::path("only1mcp")?,
            "config-manager": binaries::path("config-manager")?,
        },
        "file": file.path(),
        "folder": scratch.path(),
        "docs": binaries::checkout().join("docs/api.md"),
    });
    let mut command = Command::new(foreign.join("venv/bin/python"));
    let said = commands::run("surface", command.arg(foreign.join("surface.py")).arg(stage.to_string()))?;
    let mut figures = Figures::default();
    figures.note("as_documented", said.figures());
    Ok(figures)
}
