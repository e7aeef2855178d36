//! Checks the files shipped for Prometheus and Grafana with a real Prometheus that scrapes real processes.

mod dashboards;
mod page;
mod prometheus;
mod queries;
mod rules;
mod storm;

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use serde_json::json;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services, System, binaries, demo,
    services::{Kind, Service},
    wait,
};

use crate::{Figures, Size};
use page::Page;
use prometheus::{Prometheus, Tools};
use storm::Storm;

const LIMIT: Duration = Duration::from_secs(30);

/// # Errors
/// When the scenario cannot be played to its end.
pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let boards = dashboards::read()?;
    dashboards::judge(&boards, &mut figures);
    if size == Size::Full {
        dashboards::judge_types(&mut figures)?;
    }
    let rules = rules::read()?;
    rules::judge(&rules, &mut figures)?;
    let tools = Tools::find(size == Size::Full)?;
    let scratch = Scratch::new("metrics")?;
    if let Some(tools) = &tools {
        tools.check_shipped(&rules, &mut figures)?;
    } else {
        figures.note("promtool", "not to be had here");
    }

    let backend = DemoServer::start("backend", &scratch, &[])?;
    let document = Document::default()
        .key("drain", json!({ "graceful": { "timeout_seconds": 3 } }))
        .with(Server::http("steady", &backend.url()))
        .with(demo::stdio("child", "child", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut services = Services::plan(&scratch, file.path(), 2)?;
    start(&mut services)?;
    if size == Size::Full
        && let Some(tools) = &tools
    {
        let prometheus = Prometheus::start(tools, &services, &scratch)?;
        let mut storm =
            Storm { scratch: &scratch, file: &file, document, services: &mut services, prometheus: &prometheus };
        let began = prometheus.now()?;
        storm.play(&mut figures)?;
        prometheus.wait_scraped(LIMIT)?;
        prometheus.judge(&boards, &rules, began, &mut figures)?;
    } else {
        for endpoint in services.endpoints() {
            Client::open(endpoint)?.text("steady__echo", &json!({ "text": "hello" }))?;
        }
        services.cli(&["restart", "child"])?.expect(0)?;
    }
    pages(&services, tools.as_ref(), &scratch, &mut figures)?;
    Ok(figures)
}

/// All of them, recording every call for a collector that is not there.
fn start(services: &mut Services) -> Result<(), Fault> {
    let record = |service: &mut Service| {
        service.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        service.set_env("OTEL_BSP_EXPORT_TIMEOUT", "1000");
    };
    for kind in Kind::CONTROL {
        record(services.service_mut(kind));
        services.start(kind)?;
    }
    for number in 0..services.routers.len() {
        record(&mut services.routers[number]);
        services.start_router(number)?;
    }
    services.wait_ready()
}

/// What each process shows, against docs/metrics.md and promtool.
fn pages(services: &Services, tools: Option<&Tools>, scratch: &Scratch, figures: &mut Figures) -> Result<(), Fault> {
    let known = page::documented(&fs::read_to_string(checkout("docs/metrics.md"))?);
    figures.note("documented_metrics", known.len());
    let control = Kind::CONTROL.into_iter().map(|kind| services.service(kind));
    let mut shown = BTreeSet::new();
    let (mut faults, mut lint) = (Vec::new(), Vec::new());
    for service in control.chain(&services.routers) {
        // Sampled gauges are read after the call.
        let text = wait::until("its metrics", LIMIT, || service.metrics().ok())?;
        let page = Page::read(&text);
        faults.extend(page.faults(&known));
        shown.extend(page.names());
        if let Some(tools) = tools {
            let path = scratch.file("page.txt");
            fs::write(&path, &text)?;
            lint.extend(tools.lint(&path)?);
        }
    }
    figures.none("metrics_not_as_documented", faults);
    if tools.is_some() {
        figures.none("promtool_complaints_about_metrics", lint);
    }
    figures.none("documented_and_not_shown", known.keys().filter(|name| !shown.contains(*name)));
    Ok(())
}

fn checkout(path: &str) -> PathBuf {
    binaries::checkout().join(path)
}
