//! What a call costs beside nginx and Envoy, by a comparison harness that is not part of the repository.

use std::{env, fs, path::PathBuf, process::Command};

use serde_json::Value;
use testkit::{Document, Fault, Scratch, Server, binaries, fault};

use crate::{Figures, Size, commands};

/// Where the harness puts its programs and results unless told otherwise.
const CACHE: &str = ".cache/only1mcp-bench";
const PEERS: &str = "direct,nginx,envoy-mcp,only1mcp";
const CPU_OF_NGINX_MAX: f64 = 1.4;
const CPU_OF_ENVOY_MAX: f64 = 0.3;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let bench = env::var_os("ONLY1MCP_BENCH").map(PathBuf::from);
    let bench = bench.ok_or_else(|| fault("ONLY1MCP_BENCH does not name the folder of the comparison harness"))?;
    let script = bench.join("compare/compare.py");
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(&script).args(arguments).current_dir(binaries::checkout());
        command
    };
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    if !env::var_os("BENCH_DIR").map_or_else(|| home.join(CACHE), PathBuf::from).join("target/release/load").exists() {
        commands::run("compare-setup", &mut python(&["--setup"]))?;
    }
    let scratch = Scratch::new("compare")?;
    let config = scratch.file("bench.yaml");
    fs::write(&config, Document::default().with(Server::http("b1", "http://127.0.0.1:9101/mcp")).yaml())?;
    let ours = format!(
        "{} up --config @CONFIG@ --listen 127.0.0.1:9200 --admin 127.0.0.1:0 --ops 127.0.0.1:0 --state-dir @FRESH@",
        binaries::path("only1mcp")?.display()
    );
    let (out, rounds) = (scratch.file("out.jsonl"), size.pick("5", "1"));
    let (out_text, config_text) = (out.display().to_string(), config.display().to_string());
    let arguments = ["--peers", PEERS, "--ns", "1", "--rounds", rounds, "--ours", &ours];
    let more = ["--ours-config", &config_text, "--out", &out_text];
    let ran = commands::run("compare", &mut python(&[&arguments[..], &more[..]].concat()))?;
    let table: Vec<&str> = ran.output.lines().filter(|line| line.starts_with('|')).collect();
    fs::write(commands::logs()?.join("compare-table.md"), table.join("\n"))?;
    figures(&fs::read_to_string(out)?)
}

fn figures(blocks: &str) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let blocks = blocks.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let ours: Vec<&Value> = blocks.iter().filter(|block| block["peer"] == "only1mcp").collect();
    let cells = || ours.iter().flat_map(|block| block["cells"].as_array().into_iter().flatten());
    let errors: u64 = cells().filter_map(|cell| cell["errors"].as_u64()).sum();
    figures.demand("errors", errors, "0", errors == 0);
    let failed = cells()
        .filter(|cell| cell["failed"].is_string())
        .chain(ours.iter().copied().filter(|block| block["failed"].is_string()));
    figures.none("failed_cells", failed);
    for (name, peer, limit) in
        [("cpu_of_nginx", "nginx", CPU_OF_NGINX_MAX), ("cpu_of_envoy_mcp", "envoy-mcp", CPU_OF_ENVOY_MAX)]
    {
        let ratio = median_ratio(&blocks, peer).ok_or_else(|| fault(format!("no round with {peer} and only1mcp")))?;
        figures.demand(name, format!("{ratio:.2}"), &format!("{limit} at most"), ratio <= limit);
    }
    let cpu = median(ours.iter().filter_map(|block| cpu(block)).collect());
    figures.note("cpu_us_per_call", format!("{:.1}", cpu.unwrap_or_default() * 100.0));
    Ok(figures)
}

/// Per round, so that drift of the machine falls on both.
fn median_ratio(blocks: &[Value], peer: &str) -> Option<f64> {
    let ours = blocks.iter().filter(|block| block["peer"] == "only1mcp");
    let ratios = ours.filter_map(|block| {
        let beside = blocks.iter().find(|other| other["peer"] == peer && other["round"] == block["round"])?;
        Some(cpu(block)? / cpu(beside)?)
    });
    median(ratios.collect())
}

/// CPU seconds per ten thousand calls with 64 connections.
fn cpu(block: &Value) -> Option<f64> {
    let cells = block["cells"].as_array()?;
    cells.iter().find(|cell| cell["conns"] == 64 && cell["rate"].is_null())?["cpu_10k"].as_f64()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
