//! Sessions and the streams on which they hear of changes: over restarts, ends, and more than one stream at a time.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{DemoServer, Document, Fault, Gateway, Server, demo};

use super::{
    Stage,
    raw::{LIMIT, Raw, call},
    stub::Stub,
};

/// In which a stream shows that it has nothing to say.
const QUIET: Duration = Duration::from_millis(300);

fn list() -> Value {
    json!({ "jsonrpc": "2.0", "id": "list", "method": "tools/list" })
}

/// The names in a whole `tools/list`, and how many pages it took.
fn tools(raw: &mut Raw) -> Result<(Vec<String>, usize), Fault> {
    let (mut names, mut message, mut pages) = (Vec::new(), list(), 0);
    loop {
        let result = raw.ask(&message)?.json()["result"].clone();
        let tools = result["tools"].as_array().cloned().unwrap_or_default();
        names.extend(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
        pages += 1;
        let Some(cursor) = result.get("nextCursor") else { return Ok((names, pages)) };
        message["params"] = json!({ "cursor": cursor });
    }
}

fn is_told(stream: &mut Raw) -> Result<(), Fault> {
    let event = stream.event()?.unwrap_or_default();
    assert_eq!(event["method"], "notifications/tools/list_changed");
    Ok(())
}

/// Nothing but comments for a while.
fn is_quiet(stream: &mut Raw) -> Result<(), Fault> {
    stream.stream.set_read_timeout(Some(QUIET))?;
    let event = stream.event();
    stream.stream.set_read_timeout(Some(LIMIT))?;
    assert!(event.is_err(), "{event:?}");
    Ok(())
}

fn listening(of: &Raw) -> Result<Raw, Fault> {
    let mut stream = of.again()?;
    let head = stream.listen()?;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    Ok(stream)
}

fn add(raw: &mut Raw, tool: &str) -> Result<(), Fault> {
    assert!(raw.ask(&call(1, "demo__tools", json!({ "add": tool })))?.json()["error"].is_null());
    Ok(())
}

#[test]
fn a_change_is_told_once_on_one_stream() -> Result<(), Fault> {
    let stage = Stage::new("told", |scratch| Ok(Document::default().with(demo::stdio("demo", "demo", scratch)?)))?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    tools(&mut raw)?;
    let mut first = listening(&raw)?;
    add(&mut raw, "a")?;
    is_told(&mut first)?;
    // The newest stream is told, and none twice.
    tools(&mut raw)?;
    let mut second = listening(&raw)?;
    add(&mut raw, "b")?;
    is_told(&mut second)?;
    is_quiet(&mut first)?;
    // When it is gone, the one that is left is told what may not have been heard.
    drop(second);
    is_told(&mut first)?;
    add(&mut raw, "c")?;
    is_told(&mut first)?;
    // A change that came while no stream listened is told at the next occasion, unless the client has seen it by then.
    tools(&mut raw)?;
    drop(first);
    add(&mut raw, "d")?;
    let mut other = Raw::open(stage.gateway.mcp)?;
    while !tools(&mut other)?.0.contains(&"demo__d".to_owned()) {}
    let mut third = listening(&raw)?;
    is_told(&mut third)?;
    tools(&mut raw)?;
    is_quiet(&mut third)?;
    let mut unneeded = listening(&other)?;
    is_quiet(&mut unneeded)?;
    // A change by the configuration is told to all, once.
    let document = Document::default().with(demo::stdio("demo", "demo", &stage.scratch)?);
    stage.file.replace(&document.with(demo::stdio("more", "more", &stage.scratch)?).yaml())?;
    for stream in [&mut third, &mut unneeded] {
        is_told(stream)?;
        is_quiet(stream)?;
    }
    Ok(())
}

#[test]
fn the_first_tools_of_all_are_a_change() -> Result<(), Fault> {
    let stage = Stage::new("first", |_| Ok(Document::default().key("allow_empty", json!(true))))?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    assert_eq!(tools(&mut raw)?, (vec![], 1));
    let mut stream = listening(&raw)?;
    let document = Document::default().key("allow_empty", json!(true));
    stage.file.replace(&document.with(demo::stdio("demo", "demo", &stage.scratch)?).yaml())?;
    is_told(&mut stream)?;
    is_quiet(&mut stream)
}

#[test]
fn a_session_ends_with_delete_and_not_before() -> Result<(), Fault> {
    let stage = Stage::new("ends", |scratch| Ok(Document::default().with(demo::stdio("demo", "demo", scratch)?)))?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let mut streams = [listening(&raw)?, listening(&raw)?];
    let mut other = Raw::open(stage.gateway.mcp)?;
    raw.bare("DELETE")?;
    assert_eq!(raw.response()?.status, 204);
    for stream in &mut streams {
        assert_eq!(stream.event()?, None, "its streams end");
    }
    for method in ["DELETE", "GET"] {
        raw.bare(method)?;
        assert_eq!(raw.response()?.status, 404, "{method}");
    }
    assert_eq!(raw.ask(&list())?.status, 404);
    other.works()?;
    // Neither comes back when the gateway is killed and started again; what was missed meanwhile is told.
    tools(&mut other)?;
    let Stage { mut gateway, file, scratch } = stage;
    gateway.process.kill()?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    file.replace(&document.with(demo::stdio("more", "more", &scratch)?).yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    assert_eq!(raw.session_at(gateway.mcp)?.ask(&list())?.status, 404);
    let mut other = other.session_at(gateway.mcp)?;
    other.works()?;
    // At first the gateway has what it had, then what the file says.
    let mut stream = listening(&other)?;
    is_told(&mut stream)?;
    while !tools(&mut other)?.0.contains(&"more__echo".to_owned()) {
        is_told(&mut stream)?;
    }
    // A gateway with another key does not know the session.
    let stranger = Stage::new("other", |scratch| Ok(Document::default().with(demo::stdio("demo", "demo", scratch)?)))?;
    assert_eq!(other.session_at(stranger.gateway.mcp)?.ask(&list())?.status, 404);
    Ok(())
}

#[test]
fn long_lists_come_in_pages_and_stay_whole() -> Result<(), Fault> {
    let names: Vec<String> = (0..2345).map(|number| format!("tool-{number:04}")).collect();
    let stub = Stub::start(names.clone(), |_| None)?;
    let url = stub.url();
    let stage = Stage::new("pages", |scratch| {
        let demo = DemoServer::start("beside", scratch, &[])?;
        let document = Document::default().with(Server::http("long", &url)).with(Server::http("gone", &demo.url()));
        Ok(document)
    })?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let (seen, pages) = tools(&mut raw)?;
    let expected: Vec<String> = names.iter().map(|name| format!("long__{name}")).collect();
    let long: Vec<String> = seen.into_iter().filter(|name| name.starts_with("long__")).collect();
    assert_eq!((long, pages), (expected, 3));
    Ok(())
}
