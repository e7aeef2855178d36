//! The very first start: a server that is not there yet, or never will be, does not delay the others.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Document, Fault, Scratch, Server, System};
use tokio::time::Instant;

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{HttpServer, Reply},
    says,
    stdio_server::StdioServer,
};

/// From the start of a process to its ready line, on a busy machine, whatever its servers do.
const READY: Duration = Duration::from_secs(7);

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    references(cases);
    slow(cases);
    Ok(())
}

type Entry = dyn Fn(&Scratch) -> Result<Server, Fault> + Send + Sync;

/// One server whose reference nothing resolves, beside one that has none.
fn references(cases: &mut Cases) {
    let shell = |id| Server::stdio(id, "/bin/cat".as_ref(), &[]);
    let ways: [(_, _, Box<Entry>); 5] = [
        ("a variable in `env`", "NOT_SET_HERE", Box::new(move |_| Ok(shell("bad").env("K", "${env:NOT_SET_HERE}")))),
        (
            "a variable in `args`",
            "NOT_SET_HERE",
            Box::new(|_| Ok(Server::stdio("bad", "/bin/cat".as_ref(), &["${env:NOT_SET_HERE}"]))),
        ),
        (
            "a file in `headers`",
            "no-such-file",
            Box::new(|scratch| {
                let file = scratch.file("no-such-file");
                let headers = json!({ "Authorization": format!("Bearer ${{file:{}}}", file.display()) });
                Ok(Server::http("bad", "http://127.0.0.1:9/mcp").transport("headers", headers))
            }),
        ),
        (
            "a folder instead of a file",
            "home",
            Box::new(move |scratch| {
                Ok(shell("bad").env("K", &format!("${{file:{}}}", scratch.folder("home")?.display())))
            }),
        ),
        (
            "a file that is no text",
            "bytes",
            Box::new(move |scratch| {
                std::fs::write(scratch.file("bytes"), b"\xff\xfe\0")?;
                Ok(shell("bad").env("K", &format!("${{file:{}}}", scratch.file("bytes").display())))
            }),
        ),
    ];
    for (name, word, bad) in ways {
        cases.alone("first-start-unset-env", name, move |_| {
            let scratch = Scratch::new("unset")?;
            let document = Document::default().with(good(&scratch)?).with(bad(&scratch)?);
            let start = Instant::now();
            let hall = Hall::start(scratch, &document)?;
            let ready = start.elapsed();
            hall.serves("good")?;
            expect(ready < READY, format!("ready within {READY:?}"), format!("{ready:?}"))?;
            says(&hall.trouble("bad")?, &[word], &[])?;
            let status = hall.gateway.status()?;
            let behind = status["routers"][0]["state"] == "behind";
            expect(!behind, "a router that is not behind", &status["routers"])
        });
    }
}

fn good(scratch: &Scratch) -> Result<Server, Fault> {
    StdioServer::default().entry("good", scratch.path())
}

/// Servers that need longer than others to answer at all.
fn slow(cases: &mut Cases) {
    let case = "slow-start";
    let with = |connect: &str, bad: &dyn Fn(&Scratch) -> Result<Server, Fault>| -> Result<(Hall, Duration), Fault> {
        let scratch = Scratch::new("slow")?;
        let document = Document::default().key("limits", json!({ "connect": connect }));
        let document = document.with(good(&scratch)?).with(bad(&scratch)?);
        let start = Instant::now();
        let hall = Hall::start(scratch, &document)?;
        Ok((hall, start.elapsed()))
    };
    let sleeper = |scratch: &Scratch| StdioServer::default().start("sleep 3").entry("slow", scratch.path());
    cases.alone(case, "a program beyond the limit", move |_| {
        let (hall, _) = with("1s", &sleeper)?;
        hall.serves("good")?;
        says(&hall.trouble("slow")?, &["limits.connect"], &[])
    });
    cases.alone(case, "a program that nobody waits for", move |_| {
        let (hall, ready) =
            with("30s", &|scratch| StdioServer::default().start("sleep 8").entry("slow", scratch.path()))?;
        hall.serves("good")?;
        expect(ready < READY, format!("ready within {READY:?}"), format!("{ready:?}"))?;
        hall.serves("slow")
    });
    cases.alone(case, "a program with a limit of its own", move |_| {
        let (hall, _) = with("1s", &|scratch| Ok(sleeper(scratch)?.key("connect", json!("20s"))))?;
        hall.serves("slow")
    });
    cases.alone(case, "a server over HTTP that does not answer", move |_| {
        let silent = HttpServer::start(|_, _| Reply::Hold(Vec::new()))?;
        let (hall, ready) = with("1s", &|_| Ok(silent.entry("slow")))?;
        hall.serves("good")?;
        expect(ready < READY, format!("ready within {READY:?}"), format!("{ready:?}"))?;
        says(&hall.trouble("slow")?, &["limits.connect"], &[])
    });
    cases.alone(case, "a slow program that is added", move |_| added(&sleeper));
}

/// A change that adds a program which is slower than others is applied, if its own limit allows for it.
fn added(sleeper: &dyn Fn(&Scratch) -> Result<Server, Fault>) -> Result<(), Fault> {
    let scratch = Scratch::new("added")?;
    let document = Document::default().key("limits", json!({ "connect": "1s" })).with(good(&scratch)?);
    let more = document.clone().with(sleeper(&scratch)?.key("connect", json!("20s")));
    let hall = Hall::start(scratch, &document)?;
    let file = testkit::ConfigFile::create(hall.scratch.file("more.yaml"), &more.yaml())?;
    std::fs::rename(file.path(), hall.scratch.file("only1mcp.yaml"))?;
    let reloaded = hall.gateway.cli(&["reload", "--output", "json"])?;
    let outcome: Value = reloaded.json()?;
    expect(matches!(reloaded.code, 0 | 2), "a new revision", outcome)?;
    hall.serves("slow")
}
