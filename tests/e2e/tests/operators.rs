//! What operators are told while a router does not answer, and what happens to state that they copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use runtime::AdminToken;
use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, Services, demo, fault, raw::Raw, wait,
};
use tokio::time::Instant;

/// Process ids of the server `demo`, as each router says itself or said last.
fn processes(services: &Services) -> Result<Vec<(String, u64)>, Fault> {
    let status = services.cli(&["status", "--timeout", "5s", "--output", "json"])?.json()?;
    let endpoints = status["servers"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    let one = |one: &Value| Some((one["router"].as_str()?.to_owned(), one["pid"].as_u64()?));
    Ok(endpoints.iter().filter_map(one).collect())
}

#[test]
fn a_router_that_does_not_answer_is_named() -> Result<(), Fault> {
    let scratch = Scratch::new("silent-router")?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut services = Services::up(&scratch, file.path(), 2)?;
    services.cli(&["restart", "demo"])?.expect(0)?;
    let before = processes(&services)?;
    assert_eq!(before.len(), 2, "{before:?}");
    let [address, other] = [1, 0].map(|number: usize| format!("http://{}", services.routers[number].grpc));

    services.routers[1].process().signal(Signal::SIGSTOP);
    let asked = Instant::now();
    let said = services.cli(&["restart", "demo", "--timeout", "5s"])?;
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert_eq!(said.code, 69, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains(&address) && !said.stderr.contains(&other), "{}", said.stderr);
    assert!(said.stderr.contains("no answer"), "{}", said.stderr);
    let said = services.cli(&["status", "--timeout", "5s"])?;
    assert_eq!(said.code, 1, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains(&format!("{address} does not answer")), "{}", said.stderr);
    // The rest is shown all the same.
    assert!(said.stdout.contains("router-0") && said.stdout.contains("router-1"), "{}", said.stdout);

    services.routers[1].process().signal(Signal::SIGCONT);
    services.wait_ready()?;
    assert_eq!(processes(&services)?, before, "nothing was restarted in either router");
    services.cli(&["restart", "demo"])?.expect(0)?;
    let after = processes(&services)?;
    assert!(before.iter().all(|one| !after.contains(one)) && after.len() == 2, "{before:?} {after:?}");
    Ok(())
}

/// Waits until the endpoints have just these weights: a router hears of one a moment after the operator.
fn wait_weights(gateway: &Gateway, wanted: &[u64]) -> Result<(), Fault> {
    wait::until_true(&format!("weights {wanted:?}"), Duration::from_secs(10), || {
        gateway.weights("demo").is_ok_and(|shown| shown.iter().map(|(_, weight)| *weight).eq(wanted.iter().copied()))
    })
}

/// Who answers 64 clients that come one after the other.
fn answering(gateway: &Gateway) -> Result<BTreeSet<String>, Fault> {
    let one = |_| -> Result<String, Fault> {
        let said = Client::open(gateway.mcp)?.text("demo__whoami", &json!({}))?;
        let said: Value = serde_json::from_str(&said)?;
        Ok(said["name"].as_str().unwrap_or_default().to_owned())
    };
    (0..64).map(one).collect()
}

#[test]
fn a_replaced_server_with_a_weight_gets_calls_until_it_is_drained() -> Result<(), Fault> {
    let scratch = Scratch::new("weights")?;
    let [old, new] = ["old", "new"].map(|name| DemoServer::start(name, &scratch, &[]));
    let (old, new) = (old?, new?);
    let document = |url: &str| Document::default().with(Server::http("demo", url)).yaml();
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document(&old.url()))?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let [(digest, 1000)] = &gateway.weights("demo")?[..] else {
        return Err(fault("one endpoint with its full weight"));
    };
    gateway.cli(&["drain", "demo", "--endpoint", digest, "--weight", "50%"])?.expect(0)?;
    wait_weights(&gateway, &[500])?;
    file.replace(&document(&new.url()))?;
    gateway.cli(&["reload"])?;
    Client::open(gateway.mcp)?.wait_revision(2, Duration::from_secs(10))?;
    let shown: BTreeMap<_, _> = gateway.weights("demo")?.into_iter().collect();
    assert_eq!((shown.len(), shown[digest]), (2, 500), "{shown:?}");
    assert_eq!(answering(&gateway)?.len(), 2, "both get calls, and no revision was made for that");

    gateway.cli(&["drain", "demo", "--endpoint", digest, "--wait"])?.expect(0)?;
    let answering_now = answering(&gateway)?;
    assert_eq!(answering_now.len(), 1, "{answering_now:?}");

    // What lies on the server as a whole outlives the gateway.
    gateway.cli(&["drain", "demo", "--weight", "12.5%"])?.expect(0)?;
    gateway.process.stop()?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    wait_weights(&gateway, &[125])?;
    gateway.cli(&["drain", "--cancel", "demo"])?.expect(0)?;
    wait_weights(&gateway, &[1000])?;
    gateway.process.stop()?;
    Ok(())
}

/// All files below `folder`.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            all.extend(files(&path)?);
        } else if kind.is_file() {
            all.push(path);
        }
    }
    Ok(all)
}

/// `cp` and `install -D` make such files when no mode is named.
#[test]
fn state_that_others_can_read_is_closed_to_them_at_the_next_start() -> Result<(), Fault> {
    let scratch = Scratch::new("wide-state")?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let ended = |gateway: &Gateway| -> Result<u16, Fault> {
        let mut raw = Raw::open(gateway.mcp)?;
        raw.works()?;
        raw.bare("DELETE")?;
        Ok(raw.response()?.status)
    };
    assert_eq!(ended(&gateway)?, 204);
    gateway.process.stop()?;
    let state = gateway.state_dir().to_owned();
    let before = files(&state)?;
    assert!(before.len() > 3, "{before:?}");
    for path in &before {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(&state, Permissions::from_mode(0o755))?;
    // A token that everyone could read must be taken as known: no change of its mode makes it a secret again.
    let token = state.join(AdminToken::FILE);
    let refused = Gateway::up(&scratch, file.path()).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains(&format!("run: chmod 600 {}", token.display())), "{refused}");
    fs::set_permissions(&token, Permissions::from_mode(0o600))?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    assert_eq!(ended(&gateway)?, 204);
    gateway.process.stop()?;
    for path in files(&state)? {
        let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{} has mode {mode:04o}", path.display());
    }
    Ok(())
}
