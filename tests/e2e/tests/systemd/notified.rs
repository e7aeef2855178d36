//! What each program tells a service manager over its life, and what its own `healthcheck` says of it.

use std::{ffi::OsString, process::Command};

use testkit::{ConfigFile, Document, Fault, Scratch, Services, binaries, demo, services::Kind};

use super::manager::{LIMIT, StandIn, words};

/// Starts it, and sees it through its life.
fn check(manager: &StandIn, program: &str, arguments: &[OsString], status: &str, ops: &str) -> Result<(), Fault> {
    let healthcheck = || -> Result<_, Fault> {
        let output = Command::new(binaries::path(program)?).args(["healthcheck", "--ops", ops]).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
    };
    assert_eq!(healthcheck()?.0, Some(1), "{program} does not run");
    let mut process = manager.start(program, arguments)?;
    let heard = manager.hears("READY=1")?;
    assert!(!heard.contains("STOPPING=1"), "{heard}");
    // What it can do without, for now, may follow.
    assert!(heard.contains(&format!("STATUS={status}")), "{program} said:\n{heard}");
    let (code, said) = healthcheck()?;
    assert!(code == Some(0) && said.starts_with(status), "{program}: {code:?}, {said}");
    manager.hears("WATCHDOG=1")?;
    process.stop()?;
    manager.hears("STOPPING=1")?;
    assert!(process.wait(LIMIT)?.success(), "{program}");
    Ok(())
}

#[test]
fn each_program_says_when_it_is_ready_and_when_it_stops() -> Result<(), Fault> {
    let scratch = Scratch::new("notified")?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let config = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    // A fleet whose config-manager a router may follow.
    let services = Services::up(&scratch, config.path(), 0)?;
    let ports = Services::plan(&scratch, config.path(), 0)?;
    let flags = |kind: Kind, more: &[OsString]| {
        let service = ports.service(kind);
        let (grpc, ops) = (service.grpc.to_string(), service.ops.to_string());
        let state = scratch.file(&format!("notified-{}", kind.program()));
        let mut flags = words([&"--grpc", &grpc, &"--ops", &ops, &"--state-dir", &state, &"--token-file"]);
        flags.push(scratch.file("token").into());
        flags.extend_from_slice(more);
        (flags, ops)
    };
    let manager = |kind: Kind| StandIn::new(&scratch, kind.program());
    for kind in [Kind::HealthMonitor, Kind::DrainCoordinator] {
        let (flags, ops) = flags(kind, &[]);
        check(&manager(kind)?, kind.program(), &flags, "ready", &ops)?;
    }
    let (arguments, ops) = flags(Kind::ConfigManager, &words([&"--config", &config.path()]));
    check(&manager(Kind::ConfigManager)?, "config-manager", &arguments, "ready: revision 1", &ops)?;

    let followed = format!("http://{}", services.service(Kind::ConfigManager).grpc);
    let more = words([&"--config-manager", &followed, &"--listen", &"127.0.0.1:0", &"--min-drain", &"0"]);
    let (arguments, ops) = flags(Kind::HealthMonitor, &more);
    check(&manager(Kind::Router)?, "router", &arguments, "ready: revision 1", &ops)?;

    let ops = ports.service(Kind::DrainCoordinator).ops.to_string();
    let state = scratch.file("notified-up");
    let mut arguments = words([&"up", &"--config", &config.path(), &"--state-dir", &state, &"--ops", &ops]);
    arguments.extend(words([&"--listen", &"127.0.0.1:0", &"--admin", &"127.0.0.1:0"]));
    check(&StandIn::new(&scratch, "up")?, "only1mcp", &arguments, "ready: revision 1", &ops)?;
    Ok(())
}
