//! The JSON Schema and the reader agree, as checked by a third-party validator: every example is good, and every fault
//! put into one is found by both. The same configuration in YAML and TOML has the same digest.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::{Fault, Scratch, binaries, fault};

use crate::{Figures, Size, commands};

/// What is wrong, in `everything.yaml`: the text that is replaced, and what stands there instead.
const FAULTS: [(&str, &str, &str); 36] = [
    ("unknown key", "naming: prefix", "nameing: prefix"),
    ("unknown key of a section", "interval: 10s", "intervall: 10s"),
    ("unknown key of a server", "critical: true", "crucial: true"),
    ("unknown key of a transport", "cwd: /srv/files", "dir: /srv/files"),
    ("key of a later release", "allow_empty: false", "performance: {}"),
    ("key of a later release in a section", "strategy: graceful", "progressive: {}"),
    ("key of the other transport: url", "cwd: /srv/files", "url: http://localhost/mcp"),
    ("key of the other transport: command", "urls: [", "command: x\n      urls: ["),
    ("key in the wrong section", "interval: 10s", "connect: 10s"),
    ("bad word", "naming: prefix", "naming: prefixed"),
    ("word of a later release", "naming: prefix", "naming: shared"),
    ("bad strategy", "strategy: graceful", "strategy: slow"),
    ("bad replacement", "replace: stop_first", "replace: stop-first"),
    ("unknown transport", "type: http", "type: htp"),
    ("transport of a later release", "type: http", "type: sse"),
    ("wrong version", "version: \"1.0\"", "version: \"2.0\""),
    ("text for a flag", "critical: true", "critical: maybe"),
    ("number for a flag", "allow_empty: false", "allow_empty: 0"),
    ("text for a number", "unhealthy_threshold: 3", "unhealthy_threshold: three"),
    ("fraction for a number", "healthy_threshold: 2\n", "healthy_threshold: 2.5\n"),
    ("mapping for a list", "tools: [read_file, list_directory]", "tools: { read_file: true }"),
    ("list for a mapping", "env: { KEY: \"${env:KEY}\", PORT: 8080 }", "env: [KEY, PORT]"),
    ("list for a text", "command: npx", "command: [npx]"),
    ("text for a section", "graceful: { timeout_seconds: 30 }", "graceful: soon"),
    ("text for the servers", "servers:\n", "servers: none\nothers:\n"),
    ("number too small", "max_snapshots: 10", "max_snapshots: 0"),
    ("number too large", "poll_interval_ms: 1000", "poll_interval_ms: 3600001"),
    ("negative number", "debounce_ms: 500", "debounce_ms: -1"),
    ("share above one", "minimum_health_ratio: 0.5", "minimum_health_ratio: 50"),
    ("size too small", "request_bytes: 4MiB", "request_bytes: 1023"),
    ("size in an unknown unit", "response_bytes: 64MiB", "response_bytes: 64mb"),
    ("time without a unit", "idle: 5m", "idle: 300"),
    ("time in an unknown unit", "total: 1h", "total: 1hour"),
    ("bad id", "id: files", "id: my files"),
    ("id missing", "id: search\n    transport:", "transport:"),
    ("command missing", "      command: npx\n", ""),
];

/// The same in `everything.toml`.
const FAULTS_TOML: [(&str, &str, &str); 8] = [
    ("header that is the gateway's", "headers = { Authorization", "headers = { Host"),
    ("reference that is none", "${env:KEY}", "${vault:KEY}"),
    ("relative folder", "cwd = \"/srv/files\"", "cwd = \"files\""),
    ("address that is no URL", "https://a.example.org/mcp", "a.example.org"),
    ("the same address twice", "https://b.example.org", "https://a.example.org"),
    ("quoted number", "retention_days = 7", "retention_days = \"7\""),
    ("type missing", "type = \"http\"\n", ""),
    ("date for a number", "unhealthy_threshold = 3", "unhealthy_threshold = 2026-01-01"),
];

/// # Errors
/// When the validator cannot be installed, or a program cannot be run.
pub fn run(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let scratch = Scratch::new("schema")?;
    let docs = binaries::checkout().join("docs");
    let schema = scratch.file("only1mcp.schema.json");
    let printed = Command::new(binaries::path("only1mcp")?).arg("schema").output()?;
    fs::write(&schema, &printed.stdout)?;
    let shipped = fs::read(docs.join("only1mcp.schema.json"))? == printed.stdout;
    figures.demand("shipped_schema_is_the_programs", shipped, "true", shipped);

    let validator = Validator::install(schema)?;
    let examples = examples(&docs.join("examples"))?;
    let judged = validator.judge(&examples)?;
    figures.note("examples", examples.len());
    let bad = judged.iter().filter(|judged| !judged.both(true)).map(|judged| judged.to_string());
    figures.none("examples_refused", bad);
    let texts = judged.iter().filter(|judged| judged.path.extension().is_some_and(|extension| extension == "yaml"));
    let twins: Vec<_> =
        texts.map(|yaml| (yaml, judged.iter().find(|other| other.path == yaml.path.with_extension("toml")))).collect();
    figures.demand("twins", twins.len(), "4 or more", twins.len() >= 4);
    let unequal = twins.iter().filter(|(yaml, toml)| toml.is_none_or(|toml| toml.digest != yaml.digest));
    figures.none("twins_unequal", unequal.map(|(yaml, _)| yaml.path.display()));

    let mut mutants = Vec::new();
    for (format, faults) in [("yaml", &FAULTS[..]), ("toml", &FAULTS_TOML[..])] {
        let text = fs::read_to_string(docs.join("examples/everything").with_extension(format))?;
        for (what, good, bad) in faults {
            if !text.contains(good) {
                return Err(fault(format!("{what}: everything.{format} has no {good:?}")));
            }
            let path = scratch.file(&format!("{what}.{format}"));
            fs::write(&path, text.replacen(good, bad, 1))?;
            mutants.push(path);
        }
    }
    figures.demand("faults", mutants.len(), "30 or more", mutants.len() >= 30);
    let judged = validator.judge(&mutants)?;
    figures.none("faults_not_found_by_both", judged.iter().filter(|judged| !judged.both(false)));
    Ok(figures)
}

fn examples(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = entries.collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

/// A validator of others, in a language of its own.
struct Validator {
    folder: PathBuf,
    schema: PathBuf,
}

/// What both say of a file.
struct Judged {
    path: PathBuf,
    schema: Vec<String>,
    valid: bool,
    digest: String,
}

impl Judged {
    fn both(&self, good: bool) -> bool {
        self.schema.is_empty() == good && self.valid == good
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, schema, valid, .. } = self;
        let reader = if *valid { "takes" } else { "refuses" };
        write!(f, "{}: validate {reader} it, the schema says {schema:?}", path.display())
    }
}

impl Validator {
    fn install(schema: PathBuf) -> Result<Self, Fault> {
        commands::run("foreign-install", &mut Command::new(binaries::checkout().join("scripts/foreign")))?;
        Ok(Self { folder: binaries::checkout().join("target/foreign"), schema })
    }

    fn judge(&self, files: &[PathBuf]) -> Result<Vec<Judged>, Fault> {
        let mut command = Command::new(self.folder.join("venv/bin/python"));
        command.arg(self.folder.join("validate.py")).arg(&self.schema).args(files);
        let said = commands::run("schema-validator", &mut command)?.output;
        let mut judged = Vec::new();
        for (path, line) in files.iter().zip(said.lines()) {
            let theirs: Value = serde_json::from_str(line)?;
            let errors = theirs["errors"].as_array().into_iter().flatten();
            let ours =
                Command::new(binaries::path("only1mcp")?).args(["validate", "--output", "json"]).arg(path).output()?;
            let said: Value = serde_json::from_slice(&ours.stdout)?;
            judged.push(Judged {
                path: path.clone(),
                schema: errors.filter_map(Value::as_str).map(str::to_owned).collect(),
                valid: said["valid"] == true && ours.status.success(),
                digest: said["digest"].as_str().unwrap_or_default().to_owned(),
            });
        }
        if judged.len() == files.len() { Ok(judged) } else { Err(fault("the validator left files out")) }
    }
}
