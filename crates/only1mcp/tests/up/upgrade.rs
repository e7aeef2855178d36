//! One gateway takes the place of another, under load.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::{fs::symlink, net::UnixStream, process::CommandExt},
    process::{Child, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{
    load::{Deed, Load, Pick, Plan},
    wait,
};

use super::{Home, Stops, Up, signal};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(90);
const FLAGS: [&str; 7] = ["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"];

/// Two servers that may run twice, and one that may not.
fn configure(home: &Home) {
    let program = env!("CARGO_BIN_EXE_only1mcp");
    let server = format!("{{ type: stdio, command: {program}, args: [demo-server, --stdio] }}");
    let text = format!(
        "version: \"1.0\"\nservers:\n  - id: test\n    transport: {server}\n  - id: slow\n    transport: {server}\n  - id: \
         alone\n    replace: stop_first\n    transport: {server}\n"
    );
    fs::write(home.path().join("only1mcp.yaml"), text).unwrap();
}

/// Clients that keep their connections, never try again, and make one call after the other.
fn load(ready: &str) -> Load {
    let mcp = ready.split_whitespace().find_map(|word| word.strip_prefix("http://")?.strip_suffix("/mcp,"));
    let choose = |number: u64| Pick {
        server: "test".into(),
        deed: if number.is_multiple_of(4) { Deed::Sleep(50) } else { Deed::Echo },
    };
    let endpoints = vec![mcp.unwrap_or_else(|| panic!("{ready}")).parse::<SocketAddr>().unwrap()];
    let plan = Plan { endpoints, clients: 8, balanced: false, rate: 200, tag: "u".into(), choose: Box::new(choose) };
    Load::start(plan).unwrap()
}

/// Nothing that a client asked was lost.
fn lost_nothing(mut load: Load) {
    load.wait_answered(100).unwrap();
    let report = load.stop().unwrap();
    assert_eq!((report.failed, report.unanswered), (0, 0), "{:?}", report.failures);
}

fn said(home: &Home) -> Option<Value> {
    let places = fs::read_dir(home.path().join(".local/state/only1mcp")).ok()?;
    places.flatten().find_map(|place| serde_json::from_slice(&fs::read(place.path().join("up.json")).ok()?).ok())
}

fn exit_code(up: &mut Up) -> Option<i32> {
    wait::until("the gateway to end", LIMIT, || up.child.try_wait().unwrap()).unwrap().code()
}

/// A call that lasts longer than a gateway needs to start.
fn long_call(home: &Home) -> Child {
    let mut long = home.command(&["call", "slow__sleep", r#"{"ms": 15000}"#]);
    let long = long.stdout(Stdio::piped()).spawn().unwrap();
    let is_slow = |server: &Value| server["id"] == "slow" && server["in_flight"] == 1;
    let status = || home.json(&["status", "--output", "json"]);
    wait::until_true("the call", LIMIT, || status()["servers"].as_array().unwrap().iter().any(is_slow)).unwrap();
    long
}

/// The server cannot run beside its old copy, so that calls wait for the end of the first gateway, each within its limit.
fn echoes_at_last(home: &Home) {
    let echo = || home.run(&["call", "alone__echo", r#"{"text": "at last"}"#]).1 == "at last\n";
    wait::until_true("the end of the old server", LIMIT, echo).unwrap();
}

const LONG_ANSWER: &str = "slept 15000 ms\n";

#[test]
fn a_gateway_takes_over_from_another_and_no_client_notices() {
    let home = Home::new();
    configure(&home);
    let _stops = Stops(&home);
    let mut first = home.up(&[]);
    let load = load(&first.ready);
    let long = long_call(&home);

    let mut second = home.up(&["--upgrade"]);
    assert_eq!(second.ready, first.ready, "{}", second.said());
    let leaving = |home: &Home| home.json(&["status", "--output", "json"])["routers"][0]["leaving"].clone();
    let first_pid = first.child.id();
    let is_told = || leaving(&home)[0]["pid"] == first_pid && leaving(&home)[0]["calls"] == 1;
    wait::until_true("the call that the first gateway finishes", LIMIT, is_told).unwrap();
    let (_, text, _) = home.run(&["status"]);
    assert!(
        text.contains(&format!("process {first_pid}, which it has replaced, still finishes 1 call, for ")),
        "{text}"
    );
    load.wait_answered(100).unwrap();
    echoes_at_last(&home);
    assert_eq!(exit_code(&mut first), Some(0), "{}", first.said());
    let long = long.wait_with_output().unwrap();
    assert_eq!((long.status.code(), &*String::from_utf8_lossy(&long.stdout)), (Some(0), LONG_ANSWER));
    assert_eq!(leaving(&home), json!([]));

    // The same by a signal: the new process is not ours, so the file says which it is.
    signal(&second.child, Signal::SIGUSR2);
    assert_eq!(exit_code(&mut second), Some(0), "{}", second.said());
    let third = said(&home).expect("a gateway runs");
    assert_ne!(third["pid"], second.child.id());
    assert_eq!(third["config"], home.path().join("only1mcp.yaml").to_str().unwrap());
    lost_nothing(load);
    let history = home.json(&["history", "--output", "json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(1), "nothing changed: {history}");
    home.stop();
    wait::until_true("the gateway to be gone", LIMIT, || home.run(&["status"]).0 == 69).unwrap();
    wait::until_true("its addresses to be gone", LIMIT, || said(&home).is_none()).unwrap();
}

#[test]
fn after_a_successor_that_died_another_gateway_starts_beside_the_one_that_leaves() {
    let home = Home::new();
    configure(&home);
    let _stops = Stops(&home);
    let mut first = home.up(&[]);
    let mcp = first.ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let long = long_call(&home);
    let mut second = home.up(&["--upgrade"]);
    second.child.kill().unwrap();
    second.child.wait().unwrap();

    let address = mcp.strip_prefix("http://").and_then(|mcp| mcp.strip_suffix("/mcp,")).unwrap();
    let third = home.up_at(address, &[]);
    assert!(third.ready.contains(&mcp), "{}", third.said());
    let left = home.json(&["status", "--output", "json"])["routers"][0]["leaving"].clone();
    assert_eq!(left[0]["pid"], first.child.id(), "{left}");
    assert_eq!(home.run(&["call", "test__echo", r#"{"text": "here"}"#]).1, "here\n");
    assert!(first.child.try_wait().unwrap().is_none(), "it has a call still");
    echoes_at_last(&home);
    assert_eq!(exit_code(&mut first), Some(0), "{}", first.said());
    let long = long.wait_with_output().unwrap();
    assert_eq!((long.status.code(), &*String::from_utf8_lossy(&long.stdout)), (Some(0), LONG_ANSWER));
    assert_eq!(third.stop(), 0);
}

#[test]
fn the_demo_is_taken_over_with_its_servers() {
    let home = Home::new();
    let _stops = Stops(&home);
    let mut first = home.up(&[]);
    let second = home.up(&["--upgrade"]);
    assert_eq!(second.ready, first.ready, "{}", second.said());
    assert_eq!(exit_code(&mut first), Some(0), "{}", first.said());
    assert_eq!(home.run(&["call", "calculator__add", r#"{"a": 40, "b": 2}"#]).1, "42\n");
    assert_eq!(home.json(&["status", "--output", "json"])["revision"], 1);
    assert_eq!(second.stop(), 0);
}

#[test]
fn without_a_gateway_there_is_nothing_to_take_over() {
    let home = Home::new();
    configure(&home);
    let (code, _, said) = home.run(&[&FLAGS[..], &["--upgrade"]].concat());
    assert!(code == 69 && said.contains("start without --upgrade"), "{code}: {said}");
}

/// A successor that takes what it is given, and is gone.
fn fail_late(home: &Home) {
    let state = fs::read_dir(home.path().join(".local/state/only1mcp")).unwrap().next().unwrap().unwrap().path();
    let mut way = UnixStream::connect(state.join("upgrade.sock")).unwrap();
    let mut words = BufReader::new(way.try_clone().unwrap()).lines().map(Result::unwrap);
    assert!(words.any(|word| word.contains("all")));
    way.write_all(b"{\"word\":\"warm\"}\n").unwrap();
    assert!(words.any(|word| word.contains("yours")));
}

#[test]
fn a_gateway_that_cannot_take_over_leaves_the_other_one_serving() {
    let home = Home::new();
    configure(&home);
    let program = home.path().join("gateway");
    symlink(env!("CARGO_BIN_EXE_only1mcp"), &program).unwrap();
    let log = fs::File::create(home.path().join("up.log")).unwrap();
    let mut command = home.command(&FLAGS);
    command.arg0(&program).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let up = Up { child, ready, log: home.path().join("up.log") };
    let load = load(&up.ready);

    // A program that ends at once.
    fs::remove_file(&program).unwrap();
    symlink("/bin/false", &program).unwrap();
    for round in 1..=3 {
        signal(&up.child, Signal::SIGUSR2);
        let ended = || up.said().matches("has ended before it could take over").count() == round;
        wait::until_true("the new process to fail", LIMIT, ended).unwrap();
    }
    // A process that fails after the log was its.
    for round in 1..=3 {
        fail_late(&home);
        wait::until_true("the log to be back", LIMIT, || home.run(&["reload", "--force"]).0 != 69).unwrap();
        assert_eq!(up.said().matches("takes back what it had let go").count(), round, "{}", up.said());
        assert_eq!(home.run(&["call", "alone__echo", r#"{"text": "still"}"#]).1, "still\n");
    }
    // The log is written, too.
    let text = fs::read_to_string(home.path().join("only1mcp.yaml")).unwrap();
    fs::write(home.path().join("only1mcp.yaml"), text.replace("id: alone", "id: lonely")).unwrap();
    assert!([0, 2].contains(&home.run(&["reload"]).0));
    assert_eq!(home.run(&["call", "lonely__echo", r#"{"text": "new"}"#]).1, "new\n");
    lost_nothing(load);
    assert_eq!(up.stop(), 0);
}
