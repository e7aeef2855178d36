//! The files shipped beside the programs only use variables, programs and ports that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{Fault, binaries, fault};

/// Of the compose file itself: for which user, and which images.
const OF_COMPOSE: [&str; 2] = ["ONLY1MCP_USER", "ONLY1MCP_TAG"];
const SERVICES: [&str; 4] = ["config-manager", "router", "health-monitor", "drain-coordinator"];

#[test]
fn every_variable_is_known_to_a_program() -> Result<(), Fault> {
    let mut known: BTreeSet<String> = OF_COMPOSE.map(str::to_owned).into();
    for service in SERVICES {
        known.extend(variables(&help(service, None)?));
    }
    for command in ["up", "demo-server", "reload", "call", "healthcheck"] {
        known.extend(variables(&help("only1mcp", Some(command))?));
    }
    let mut unknown = Vec::new();
    for path in files(&binaries::checkout().join("deploy"))? {
        // Fonts and pictures hold no variables.
        let text = fs::read_to_string(&path).unwrap_or_default();
        let strange = variables(&text).into_iter().filter(|name| !known.contains(name));
        unknown.extend(strange.map(|name| format!("{}: {name}", path.display())));
    }
    if unknown.is_empty() { Ok(()) } else { Err(fault(unknown.join("\n"))) }
}

/// A target sets what its own program reads, publishes the ports it makes it listen on, and asks it for its health.
#[test]
fn every_image_fits_its_program() -> Result<(), Fault> {
    let text = fs::read_to_string(binaries::checkout().join("deploy/docker/Dockerfile"))?;
    let stages = text.split("\nFROM base AS ").skip(1);
    let stages: BTreeMap<&str, &str> = stages.filter_map(|stage| stage.split_once('\n')).collect();
    for program in SERVICES.iter().chain(&["only1mcp"]) {
        let stage = stages.get(program).ok_or_else(|| fault(format!("no target {program}")))?;
        let known = variables(&help(program, (*program == "only1mcp").then_some("up"))?);
        if let Some(strange) = variables(stage).difference(&known).next() {
            return Err(fault(format!("{program} knows no {strange}")));
        }
        let listens: BTreeSet<&str> = stage.split("=0.0.0.0:").skip(1).map(port).collect();
        let exposes = stage.lines().find_map(|line| line.strip_prefix("EXPOSE "));
        let exposes: BTreeSet<&str> = exposes.unwrap_or_default().split(' ').collect();
        if listens != exposes {
            return Err(fault(format!("{program} listens on {listens:?}, exposes {exposes:?}")));
        }
        if !stage.contains(&format!("CMD [\"/usr/local/bin/{program}\", \"healthcheck\"]")) {
            return Err(fault(format!("{program} is not asked for its health")));
        }
        help(program, Some("healthcheck"))?;
    }
    Ok(())
}

/// A folder that is not there would be made, and be empty.
#[test]
fn what_the_compose_file_mounts_is_there() -> Result<(), Fault> {
    let folder = binaries::checkout().join("deploy/compose");
    let text = fs::read_to_string(folder.join("compose.yaml"))?;
    let mounts = text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let ours: Vec<&str> = mounts.map(|(source, _)| source).filter(|source| source.starts_with('.')).collect();
    match ours.iter().find(|source| !folder.join(source).exists()) {
        Some(missing) => Err(fault(format!("there is no {missing}"))),
        None if ours.is_empty() => Err(fault("no mounts were found")),
        None => Ok(()),
    }
}

fn port(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default()
}

/// All words that begin with `ONLY1MCP_`.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.strip_prefix("ONLY1MCP_").is_some_and(|rest| !rest.is_empty()))
        .map(str::to_owned)
        .collect()
}

fn help(program: &str, command: Option<&str>) -> Result<String, Fault> {
    let output = Command::new(binaries::path(program)?).args(command).arg("--help").output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(fault(format!("{program} {command:?} --help: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

/// The files that are committed or may be. Secrets that a developer made for the compose file are not among them.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
    Ok(listed.lines().map(|name| folder.join(name)).filter(|path| path.is_file()).collect())
}
