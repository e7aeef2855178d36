//! The gateway that a client is connected to, which is started if none runs.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use runtime::{
    escape::say,
    healthcheck::{Healthcheck, Question},
    state_dir,
};

use crate::{
    failure::Failure,
    place::{Addresses, Place, PlaceArgs},
};

/// How long a gateway may take until it is ready; after that the client gets what is there.
const START: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOG: &str = "up.log";
/// A longer log of earlier gateways is begun anew.
const LOG_MAX: u64 = 4 << 20;

/// The URL of the MCP endpoint of the gateway at `place`.
pub(super) async fn running(args: &PlaceArgs, place: &Place, no_start: bool) -> Result<String, Failure> {
    let failed = |source| Failure::System { what: "the gateway cannot be started", source };
    let mut child = None;
    if place.addresses().is_none() {
        if no_start {
            let (socket, others) = (place.socket(), crate::place::running());
            return Err(Failure::NotRunning { place: place.describe(), socket, others });
        }
        let started = start(args, place).map_err(failed)?;
        say(&format!("only1mcp: a gateway for {} is started, as process {}\n", place.describe(), started.id()));
        child = Some(started);
    }
    let deadline = tokio::time::Instant::now() + START;
    while tokio::time::Instant::now() < deadline {
        let addresses = place.addresses();
        if let Some(addresses) = &addresses
            && is_ready(addresses).await
        {
            return Ok(addresses.mcp.clone());
        }
        // Another client may have been faster; then the one started here ends by itself.
        let ended = child.as_mut().map(Child::try_wait).transpose().map_err(failed)?.flatten();
        if ended.is_some_and(|status| !status.success()) && addresses.is_none() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It serves what it can.
    if let Some(addresses) = place.addresses() {
        return Ok(addresses.mcp);
    }
    let log = place.state_dir.join(LOG);
    let said = fs::read_to_string(&log).unwrap_or_default();
    let said = said.lines().last().unwrap_or("it said nothing").to_owned();
    Err(Failure::NotStarted { place: place.describe(), said, log })
}

/// Whether a revision is live and its servers have had a moment to come up: before, a call finds no tool.
async fn is_ready(addresses: &Addresses) -> bool {
    let ops = addresses.ops.strip_prefix("http://").and_then(|ops| ops.parse().ok());
    match ops {
        Some(ops) => Healthcheck { ops, question: Question::Ready }.is_well().await,
        None => true,
    }
}

/// It goes on when its client ends: other clients may have come meanwhile.
fn start(args: &PlaceArgs, place: &Place) -> std::io::Result<Child> {
    state_dir::create_private(&place.state_dir)?;
    let path = place.state_dir.join(LOG);
    if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_MAX) {
        fs::remove_file(&path)?;
    }
    // Of several that start at once, one stays; what each says is kept.
    let log = fs::OpenOptions::new().create(true).append(true).open(path)?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("up");
    for (flag, path) in [("--config", &args.config), ("--state-dir", &args.state_dir)] {
        if let Some(path) = path {
            command.arg(flag).arg(path);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()
}
