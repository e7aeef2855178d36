//! A router process takes the place of another one under load.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    ConfigFile, Document, Fault, Scratch, Services, Supervised, demo, fault,
    load::{Deed, Load, Pick, Plan},
    process_tree,
    services::Kind,
    wait,
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const UPGRADES: usize = 5;

/// Ends a process that is not a child of this one.
struct Orphan(i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _gone_already = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

fn load(services: &Services) -> Result<Load, Fault> {
    let choose = |number: u64| Pick {
        server: "demo".into(),
        deed: if number.is_multiple_of(4) { Deed::Sleep(50) } else { Deed::Echo },
    };
    let endpoints = services.routers.iter().map(|router| router.mcp).collect();
    Load::start(Plan { endpoints, clients: 16, balanced: false, rate: 200, tag: "u".into(), choose: Box::new(choose) })
}

/// The id of the process that `router` started to take its place, of several the last.
fn successor(router: &Supervised, number: usize) -> Result<i32, Fault> {
    let mut seen = 0;
    router.wait_stderr("a new process", LIMIT, |line| {
        let started = line.contains("to take the place of this one") && line.contains("started a new process");
        let pid = line.split("pid=").nth(1).filter(|_| started)?;
        seen += 1;
        pid.split(|one: char| !one.is_ascii_digit()).next()?.parse().ok().filter(|_| seen == number)
    })
}

fn ended(pid: i32) -> Result<(), Fault> {
    let gone = || process_tree::find(pid).is_none_or(|process| process.state == 'Z');
    wait::until_true("the old router to end", LIMIT, gone)
}

#[test]
fn a_router_is_replaced_over_and_over_and_no_call_is_lost() -> Result<(), Fault> {
    let scratch = Scratch::new("router-upgrades")?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut services = Services::up(&scratch, file.path(), 1)?;
    let mut load = load(&services)?;
    let mut running = services.routers[0].pid();
    let mut orphans = Vec::new();
    for number in 1..=UPGRADES {
        load.wait_answered(50)?;
        kill(Pid::from_raw(running), Signal::SIGUSR2)?;
        // All of them write to the pipe of the first one.
        let next = successor(services.routers[0].process(), number)?;
        orphans.push(Orphan(next));
        ended(running)?;
        running = next;
    }
    load.wait_answered(50)?;
    let report = load.stop()?;
    assert_eq!((report.failed, report.unanswered), (0, 0), "{:?}", report.failures);

    // Without config-manager it takes over all the same, from the copy on disk.
    services.service_mut(Kind::ConfigManager).kill()?;
    kill(Pid::from_raw(running), Signal::SIGUSR2)?;
    let next = successor(services.routers[0].process(), UPGRADES + 1)?;
    orphans.push(Orphan(next));
    ended(running)?;
    let mut client = testkit::Client::open(services.routers[0].mcp)?;
    let text = client.text("demo__echo", &serde_json::json!({ "text": "still" }))?;
    if text == "still" { Ok(()) } else { Err(fault(text)) }
}
