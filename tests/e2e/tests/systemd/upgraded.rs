//! An upgrade in place under a service manager: which process is the main one, and whose the socket is.

use std::{ffi::OsString, fs};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{Fault, Scratch, Services, fault, process_tree, services::Kind, wait};

use super::{
    manager::{LIMIT, StandIn, listening_socket, words},
    restarted::{Visitors, configured, up},
};

/// Has the process that runs replaced over and over while clients come, and ends the last one.
fn upgrades(manager: &StandIn, program: &str, arguments: &[OsString]) -> Result<(), Fault> {
    let socket = listening_socket()?;
    let mut first = manager.hand_over("mcp", socket.try_clone()?, program, arguments)?;
    manager.hears("READY=1")?;
    let visitors = Visitors::begin(socket.local_addr()?);
    let mut main = first.pid();
    for _ in 0..3 {
        kill(Pid::from_raw(main), Signal::SIGUSR2)?;
        let heard = manager.hears_one("MAINPID=", |line| line.starts_with("MAINPID="))?;
        assert!(!heard.contains("STOPPING=1"), "the service does not stop: {heard}");
        let named = heard.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok());
        let next = named.ok_or_else(|| fault(heard.clone()))?;
        assert_ne!(next, main);
        main = next;
        // The new one is alive, as the watchdog wants it.
        manager.hears("WATCHDOG=1")?;
    }
    assert!(first.wait(LIMIT)?.success(), "{}", first.stderr_tail(5));
    let served = visitors.end()?;
    assert!(served > 3, "only {served} clients came");
    kill(Pid::from_raw(main), Signal::SIGTERM)?;
    manager.hears("STOPPING=1")?;
    let gone = || process_tree::find(main).is_none_or(|process| process.state == 'Z');
    wait::until_true("the last one to end", LIMIT, gone)
}

#[test]
fn up_is_replaced_as_the_main_process_and_keeps_the_socket() -> Result<(), Fault> {
    let (scratch, file) = configured("up-upgraded")?;
    upgrades(&StandIn::new(&scratch, "up")?, "only1mcp", &up(&scratch, &file))?;
    assert!(!scratch.file("state/up.json").exists(), "{:?}", fs::read_to_string(scratch.file("state/up.json")));
    Ok(())
}

#[test]
fn a_router_is_replaced_as_the_main_process_and_keeps_the_socket() -> Result<(), Fault> {
    let (scratch, file) = configured("router-upgraded")?;
    let services = Services::up(&scratch, file.path(), 0)?;
    let arguments = router(&scratch, &services);
    upgrades(&StandIn::new(&scratch, "router")?, "router", &arguments)
}

fn router(scratch: &Scratch, services: &Services) -> Vec<OsString> {
    let followed = format!("http://{}", services.service(Kind::ConfigManager).grpc);
    let mut arguments = words([&"--config-manager", &followed, &"--grpc", &"127.0.0.1:0", &"--ops", &"127.0.0.1:0"]);
    arguments.extend(words([&"--state-dir", &scratch.file("state"), &"--token-file", &scratch.file("token")]));
    arguments.extend(words([&"--cores", &"3"]));
    arguments
}
