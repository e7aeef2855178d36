//! A change that was rolled back stays so, although the file still holds it, until the content of the file changes.

use std::time::Duration;

use serde_json::json;
use testkit::{Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, demo, wait};

use crate::{Figures, Size};

const LIMIT: Duration = Duration::from_secs(20);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let poll_ms: u32 = size.pick(1000, 100);
    let ten_polls = Duration::from_millis(u64::from(poll_ms)) * 10;
    let scratch = Scratch::new("back")?;
    let backend = DemoServer::start("old", &scratch, &[])?;
    let old = Document::default()
        .key("hot_reload", json!({ "watcher": { "poll_interval_ms": poll_ms } }))
        .with(Server::http("old", &backend.url()));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &old.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let first = gateway.revision;
    let mut client = Client::open(gateway.mcp)?;

    let new = old.with(demo::stdio("new", "new", &scratch)?);
    file.replace(&new.yaml())?;
    client.wait_revision(first + 1, LIMIT)?;
    let back = gateway.cli(&["rollback", &first.to_string(), "--reason", "a test", "--output", "json"])?.expect(0)?;
    let back = back.json()?["revision"].clone();
    figures.demand("rolled_back_as", &back, "the next number", back == first + 2);
    client.wait_revision(first + 2, LIMIT)?;
    let shown = |client: &mut Client| Ok::<_, Fault>(client.tools()?.iter().any(|tool| tool == "new__echo"));
    let stays = |client: &mut Client| Ok(!shown(client)? && client.revision() == first + 2);
    let held = wait::holds_for("rolled back, through ten polls", ten_polls, || stays(&mut client));
    figures.none("undone_by_polling", held.err());

    let (mut gateway, state) = (gateway, scratch.file("state"));
    let ended = gateway.process.stop()?;
    figures.demand("exit", ended, "0", ended.success() && state.exists());
    let gateway = Gateway::up(&scratch, file.path())?;
    figures.demand("after_restart", gateway.revision, &back.to_string(), back == gateway.revision);
    let mut client = Client::open(gateway.mcp)?;
    let held = wait::holds_for("rolled back, after a restart", ten_polls, || stays(&mut client));
    figures.none("undone_by_restart", held.err());

    let edited = new.with(demo::stdio("newer", "newer", &scratch)?);
    file.replace(&edited.yaml())?;
    client.wait_revision(first + 3, LIMIT)?;
    let tools = client.tools()?;
    let all = ["new__echo", "newer__echo"].iter().all(|tool| tools.iter().any(|known| known == tool));
    figures.demand(
        "next_edit_applies_as",
        client.revision(),
        &(first + 3).to_string(),
        all && gateway.revision()? == first + 3,
    );
    Ok(figures)
}
