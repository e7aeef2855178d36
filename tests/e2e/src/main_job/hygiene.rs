//! Servers come and go, some of them badly behaved, and then the gateway is killed: nothing of them is left.
//!
//! This process becomes a subreaper and takes the status of every child that ends, so nothing else may start processes
//! in it meanwhile.

use std::{path::Path, time::Duration};

use nix::unistd::Pid;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, binaries, demo,
    process_tree::{self, Process},
    wait,
};

use crate::{Figures, Size};

const LIMIT: Duration = Duration::from_secs(30);
/// After the kill of the gateway.
const AFTER_KILL: Duration = Duration::from_secs(2);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (cycles, stubborn_every) = (size.pick(500, 20), 10);
    process_tree::become_subreaper()?;
    let scratch = Scratch::new("tidy")?;
    let mut steady = DemoServer::start("steady", &scratch, &[])?;
    let mut document =
        Document::default().with(Server::http("steady", &steady.url())).with(demo::stdio("child", "child", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let mut client = Client::open(gateway.mcp)?;
    let before = process_tree::descendants(gateway.pid()).len();
    let mut revision = gateway.revision;
    let mut trees = 0;
    for cycle in 0..cycles {
        let stubborn = cycle % stubborn_every == stubborn_every - 1;
        trees += usize::from(stubborn);
        document.put(if stubborn { stubborn_server("guest")? } else { demo::stdio("guest", "guest", &scratch)? });
        file.replace(&document.yaml())?;
        revision += 1;
        client.wait_revision(revision, LIMIT)?;
        document.remove("guest");
        file.replace(&document.yaml())?;
        revision += 1;
        client.wait_revision(revision, LIMIT)?;
    }
    figures.demand("cycles", cycles, &cycles.to_string(), client.revision() == revision);
    figures.note("stubborn_trees", trees);
    let settled = wait::until_true("only the children from before", LIMIT, || {
        process_tree::descendants(gateway.pid()).len() == before
    });
    figures.none("left_by_cycles", settled.err().map(|_| names(&process_tree::descendants(gateway.pid()))));

    // A stubborn tree is there when the gateway is killed.
    document.put(stubborn_server("guest")?);
    file.replace(&document.yaml())?;
    client.wait_revision(revision + 1, LIMIT)?;
    let children = process_tree::descendants(gateway.pid());
    figures.demand("descendants_at_the_kill", children.len(), &format!("more than {before}"), children.len() > before);
    gateway.process.kill()?;
    let own = Pid::this().as_raw();
    let (steady_pid, mut reaped) = (steady.process().pid(), 0);
    let left = || {
        let mut all = process_tree::descendants(own);
        all.retain(|process| process.pid != steady_pid);
        all
    };
    let gone = wait::until_true("the end of all descendants", AFTER_KILL, || {
        reaped += process_tree::reap();
        left().is_empty()
    });
    figures.none("left_by_kill", gone.err().map(|_| names(&left())));
    figures.note("reaped", reaped);
    Ok(figures)
}

/// A shell that ignores SIGTERM, with a child that sleeps, and a server that does not care whether its stdin ends.
fn stubborn_server(id: &str) -> Result<Server, Fault> {
    let program = binaries::path("only1mcp")?;
    let script = format!("trap '' TERM; sleep 1000 & '{}' demo-server --stdio --ignore-eof", program.display());
    Ok(Server::stdio(id, Path::new("/bin/sh"), &["-c", &script]))
}

fn names(processes: &[Process]) -> String {
    let name = |process: &Process| format!("{} {} ({})", process.pid, process.name, process.state);
    processes.iter().map(name).collect::<Vec<_>>().join(", ")
}
