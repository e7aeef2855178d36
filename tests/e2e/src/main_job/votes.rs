//! One of two routers lacks a secret: neither router changes. When the same router joins late, the decided revision is
//! live on it, it shows what it lacks, and it delays no other router.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services, System, demo, services::Kind, wait,
};

use crate::{Figures, Size};

const SECRET: &str = "VOTE_SECRET";
const LIMIT: Duration = Duration::from_secs(20);

pub fn run(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let scratch = Scratch::new("votes")?;
    let backend = DemoServer::start("backend", &scratch, &[])?;
    let plain = Document::default().with(Server::http("backend", &backend.url()));
    let headers = json!({ "Authorization": format!("Bearer ${{env:{SECRET}}}") });
    let secret = Document::default().with(Server::http("backend", &backend.url()).transport("headers", headers));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &plain.yaml())?;
    let mut services = Services::plan(&scratch, file.path(), 2)?;
    services.routers[0].set_env(SECRET, "known to one router");
    for kind in Kind::CONTROL {
        services.start(kind)?;
    }
    services.start_router(0)?;
    services.start_router(1)?;
    services.wait_ready()?;
    let first = services.revision()?;
    wait::until_true("both routers at the revision", LIMIT, || states(&services) == ["live", "live"])?;

    refused(&services, &file, &secret, first, &mut figures)?;
    services.routers[1].kill()?;
    let applied = services.cli(&["reload", "--force", "--output", "json"])?.expect(0)?.json()?;
    figures.demand("applied_by_one", &applied["revision"], "the next number", applied["revision"] == first + 1);
    services.start_router(1)?;
    services.routers[1].wait_ready()?;
    wait::until_true("the late router live", LIMIT, || states(&services) == ["live", "live"])?;
    let starting = |endpoint: &Value| endpoint["router"] == "router-1" && endpoint["verdict"] == "starting";
    let late = wait::until("what the late router misses", LIMIT, || {
        let shown = endpoints(&services.status().ok()?, "backend");
        shown.into_iter().find(|endpoint| starting(endpoint) && endpoint["error"].to_string().contains(SECRET))
    });
    figures.demand("late_router", u8::from(late.is_ok()), "1: live, its server starting for the secret", late.is_ok());
    let more = secret.with(demo::stdio("more", "more", &scratch)?);
    file.replace(&more.yaml())?;
    let mut client = Client::open(services.endpoints()[0])?;
    client.wait_revision(first + 2, LIMIT)?;
    figures.demand("next_change", services.revision()?, "not blocked", services.revision()? == first + 2);
    let found = client.text("more__echo", &json!({ "text": "hello" }))?;
    figures.demand("its_server", found.len(), "5", found == "hello");
    Ok(figures)
}

/// Every place that shows the outcome shows the change as refused, and nothing else happens.
fn refused(
    services: &Services,
    file: &ConfigFile,
    secret: &Document,
    first: u64,
    figures: &mut Figures,
) -> Result<(), Fault> {
    let events = services.start_cli("watch", &["watch", "--output", "json"])?;
    file.replace(&secret.yaml())?;
    let reload = services.cli(&["reload", "--output", "json"])?.expect(1)?.json()?;
    let reasons = reload["refusals"].to_string();
    let named = reasons.contains(SECRET) && reasons.contains("router-1");
    figures.demand("reason_in_cli", u8::from(named), "1: the router and the reference", named);
    let manager = services.service(Kind::ConfigManager);
    let in_event = events.wait_stdout("the refusal", LIMIT, |line| line.contains(SECRET).then_some(()));
    figures.demand("reason_in_event", u8::from(in_event.is_ok()), "1", in_event.is_ok());
    let counted = wait::until("the refusal in the metrics", LIMIT, || {
        let metrics = manager.metrics().ok()?;
        let refusals = metrics.lines().filter(|line| !line.starts_with('#') && line.contains("refus"));
        refusals.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).find(|count| *count > 0.0)
    });
    figures.demand("in_metric", counted.as_ref().copied().unwrap_or_default(), "counted", counted.is_ok());
    let logged = services
        .service(Kind::ConfigManager)
        .wait_log("the refusal", LIMIT, |line| line.contains(SECRET).then_some(()));
    figures.demand("reason_in_log", u8::from(logged.is_ok()), "1", logged.is_ok());
    for endpoint in services.endpoints() {
        let mut client = Client::open(endpoint)?;
        client.text("backend__echo", &json!({ "text": "still there" }))?;
        figures.demand("router_stays_at", client.revision(), &first.to_string(), client.revision() == first);
    }
    let numbers = services.history()?.iter().filter(|entry| entry["revision"].as_u64() > Some(first)).count();
    figures.demand("numbers_used", numbers, "0", numbers == 0);
    Ok(())
}

/// The state of each router, in the order of their names.
fn states(services: &Services) -> Vec<String> {
    let status = services.status().unwrap_or_default();
    let mut states: Vec<(String, String)> =
        status["routers"].as_array().into_iter().flatten().map(named_state).collect();
    states.sort();
    states.into_iter().map(|(_, state)| state).collect()
}

fn named_state(router: &Value) -> (String, String) {
    let text = |key: &str| router[key].as_str().unwrap_or_default().to_owned();
    (text("node"), text("state"))
}

/// The endpoints of one server, in all routers.
fn endpoints(status: &Value, server: &str) -> Vec<Value> {
    let servers = status["servers"].as_array().into_iter().flatten();
    let endpoints = servers.filter(|one| one["id"] == server).filter_map(|one| one["endpoints"].as_array());
    endpoints.flatten().cloned().collect()
}
