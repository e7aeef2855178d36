//! Broken configurations, one after the other, while a client keeps calling; and a first start with one dead server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, binaries, demo, fault,
};

use crate::{
    Figures, Size,
    traffic::{self, Traffic, Witness},
    world::World,
};

const UNSET: &str = "ONLY1MCP_E2E_NOT_SET";

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    refused(size, &mut figures)?;
    one_dead(&mut figures)?;
    Ok(figures)
}

/// Every case is refused with the very words beside it, and nothing else happens.
fn refused(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let mut world = World::new("bad", |document| document)?;
    let gateway = Gateway::up(&world.scratch, world.file.path())?;
    world.is_live_as(gateway.revision);
    let mut traffic = Traffic::start(vec![gateway.mcp], size.pick(16, 4), 200)?;
    traffic.load.wait_answered(400)?;
    let before = Witness::ask(&gateway, &world)?;
    let cases = cases()?;
    let (wanted, taken) = (size.pick(60, 8), size.pick(cases.len(), 8));
    let (mut tried, mut wrong) = (0_usize, Vec::new());
    for (name, Case { file, golden }) in cases.into_iter().take(taken) {
        let text = fs::read(&file)?;
        let beside = world.file.path().with_extension("next");
        fs::write(&beside, text)?;
        fs::rename(beside, world.file.path())?;
        let outcome = gateway.cli(&["reload", "--output", "json"])?;
        tried += 1;
        wrong.extend(fault_of(&name, outcome.code, &outcome.json()?, &golden, gateway.revision));
        traffic.load.wait_answered(2)?;
    }
    figures.demand("cases", tried, &wanted.to_string(), tried >= wanted);
    figures.none("cases_wrong", wrong);
    let after = Witness::ask(&gateway, &world)?;
    let report = traffic.load.stop()?;
    traffic::judge(&report, &world, figures)?;
    before.compare(&after, figures);
    let revision = gateway.revision()?;
    figures.demand("revision", revision, &gateway.revision.to_string(), revision == gateway.revision);
    Ok(())
}

struct Case {
    file: PathBuf,
    /// `line:column: path: message`, one violation a line.
    golden: Vec<String>,
}

/// The golden cases of one file: layers that others apply beside it cannot be put into a file.
fn cases() -> Result<BTreeMap<String, Case>, Fault> {
    let folder = binaries::checkout().join("tests/fixtures/config/invalid");
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            *names.entry(name.split('.').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let alone = names.into_iter().filter(|(_, files)| *files == 1);
    alone.map(|(name, _)| Ok((name.clone(), case(&folder, &name)?))).collect()
}

fn case(folder: &Path, name: &str) -> Result<Case, Fault> {
    let golden = fs::read_to_string(folder.join(format!("{name}.txt")))?;
    let golden = golden.lines().map(|line| line.replace(&format!("{name}.yaml:"), "")).collect();
    Ok(Case { file: folder.join(format!("{name}.yaml")), golden })
}

/// What is wrong with how a case was refused.
fn fault_of(name: &str, code: i32, outcome: &Value, golden: &[String], live: u64) -> Option<String> {
    if code != 1 || outcome["result"] != "refused" || outcome["revision"] != live {
        return Some(format!("{name}: exit code {code}, {outcome}"));
    }
    let violations = outcome["violations"].as_array()?;
    let rendered: Vec<String> = violations.iter().map(rendered).collect();
    // The rest of the golden line is a suggestion, which is a field of its own here.
    let same =
        rendered.len() == golden.len() && rendered.iter().zip(golden).all(|(got, wanted)| wanted.starts_with(got));
    (!same).then(|| format!("{name}: expected {golden:?}, got {rendered:?}"))
}

/// As in the golden files, but without the name of the file, also where a message names another place in it.
fn rendered(violation: &Value) -> String {
    let text = |key: &str| violation[key].as_str().unwrap_or_default();
    let path = if text("path").is_empty() { String::new() } else { format!("{}: ", text("path")) };
    let message = text("message").replace(&format!("{}:", text("file")), "");
    format!("{}:{}: {path}{message}", violation["line"], violation["column"])
}

/// Eleven of thirteen servers serve at the first start; one that ends at once and one whose reference is not set are
/// shown with their reasons, and hold up nothing.
fn one_dead(figures: &mut Figures) -> Result<(), Fault> {
    let scratch = Scratch::new("dead")?;
    let start = |number: usize| DemoServer::start(&format!("http{number}"), &scratch, &[]);
    let backends = (0..6).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut document = Document::default();
    for (number, backend) in backends.iter().enumerate() {
        document.put(Server::http(&format!("http{number}"), &backend.url()));
    }
    for number in 0..5 {
        document.put(demo::stdio(&format!("stdio{number}"), &format!("stdio{number}"), &scratch)?);
    }
    document.put(Server::stdio("dead", Path::new("/bin/sh"), &["-c", "echo no such luck >&2; exit 3"]));
    let unset = json!({ "Authorization": format!("Bearer ${{env:{UNSET}}}") });
    document.put(Server::http("unset", "http://127.0.0.1:1/mcp").transport("headers", unset));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let mut client = Client::open(gateway.mcp)?;
    let tools = client.tools()?;
    let alive = |id: &str| tools.iter().any(|tool| *tool == format!("{id}__echo"));
    let ids = (0..6).map(|number| format!("http{number}")).chain((0..5).map(|number| format!("stdio{number}")));
    let mut serving = 0;
    for id in ids {
        serving += usize::from(alive(&id) && client.text(&format!("{id}__echo"), &json!({ "text": id }))? == id);
    }
    figures.demand("serving_of_thirteen", serving, "11", serving == 11);
    let status = gateway.status()?;
    for (id, reason, figure) in [("dead", "no such luck", "reason_of_dead"), ("unset", UNSET, "reason_of_unset")] {
        let shown = status["servers"].as_array().into_iter().flatten().find(|server| server["id"] == id);
        let shown = shown.ok_or_else(|| fault(format!("server {id} is not shown: {status}")))?;
        let explained = shown.to_string().contains(reason);
        figures.demand(figure, u8::from(explained), reason, explained);
    }
    Ok(())
}
