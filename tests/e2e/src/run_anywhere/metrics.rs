//! Checks the files shipped for Prometheus and Grafana with a real Prometheus that scrapes real processes.
//! `scripts/check-observability` holds them against promtool, the docs and that Prometheus.

mod prometheus;
mod storm;

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::json;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services, System, binaries, demo, fault,
    left_out,
    services::{Kind, Service},
    wait,
};

use crate::{Figures, Size, commands};
use prometheus::Prometheus;
use storm::Storm;

const LIMIT: Duration = Duration::from_secs(30);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let needed = script("check-observability").arg("programs").output()?;
    if !needed.status.success() {
        let why = String::from_utf8_lossy(&needed.stderr);
        if size == Size::Full || needed.status.code() != Some(runtime::exit::UNAVAILABLE.into()) {
            return Err(fault(why));
        }
        left_out(&format!("metrics, rules and dashboards: {}", why.lines().last().unwrap_or_default()))?;
        figures.note("left_out", "all");
        return Ok(figures);
    }
    let programs = String::from_utf8(needed.stdout)?;
    figures.note("files", check(&["files"])?);
    if size == Size::Full {
        commands::run("check-dashboards", &mut script("check-dashboards"))?;
        figures.note("grafana_types", "good");
    }
    let scratch = Scratch::new("metrics")?;
    let backend = DemoServer::start("backend", &scratch, &[])?;
    let document = Document::default()
        .key("drain", json!({ "graceful": { "timeout_seconds": 3 } }))
        .with(Server::http("steady", &backend.url()))
        .with(demo::stdio("child", "child", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut services = Services::plan(&scratch, file.path(), 2)?;
    start(&mut services)?;
    if size == Size::Full {
        let prometheus = Prometheus::start(Path::new(programs.trim()), &services, &scratch)?;
        let mut storm =
            Storm { scratch: &scratch, file: &file, document, services: &mut services, prometheus: &prometheus };
        let began = (runtime::Clock::start().unix_millis() / 1000).to_string();
        storm.play(&mut figures)?;
        prometheus.wait_scraped()?;
        figures.note("data", check(&["data", &prometheus.url, &began])?);
    } else {
        for endpoint in services.endpoints() {
            Client::open(endpoint)?.text("steady__echo", &json!({ "text": "hello" }))?;
        }
        services.cli(&["restart", "child"])?.expect(0)?;
    }
    figures.note("pages", pages(&services, &scratch)?);
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
fn pages(services: &Services, scratch: &Scratch) -> Result<String, Fault> {
    let folder = scratch.folder("pages")?;
    let control = Kind::CONTROL.into_iter().map(|kind| services.service(kind));
    let mut arguments = vec!["pages".to_owned()];
    for (number, service) in control.chain(&services.routers).enumerate() {
        // Sampled gauges are read after the call.
        let text = wait::until("its metrics", LIMIT, || service.metrics().ok())?;
        let path = folder.join(number.to_string());
        fs::write(&path, text)?;
        arguments.push(path.display().to_string());
    }
    check(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn script(name: &str) -> Command {
    Command::new(binaries::checkout().join("scripts").join(name))
}

/// The figures of the script; its complaints are the error.
fn check(arguments: &[&str]) -> Result<String, Fault> {
    Ok(commands::run("check-observability", script("check-observability").args(arguments))?.figures())
}
