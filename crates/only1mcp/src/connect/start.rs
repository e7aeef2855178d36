//! The gateway that a client is connected to, which is started if none runs.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use runtime::{escape::say, state_dir};

use crate::{
    failure::Failure,
    place::{Place, PlaceArgs},
};

/// How long a gateway may take until it can be asked. Its servers may take longer.
const START: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOG: &str = "up.log";

/// The URL of the gateway's MCP endpoint.
pub(super) async fn running(args: &PlaceArgs, no_start: bool) -> Result<String, Failure> {
    let place = args.find()?;
    if let Some(addresses) = place.addresses() {
        return Ok(addresses.mcp);
    }
    if no_start {
        let (socket, others) = (place.socket(), crate::place::running());
        return Err(Failure::NotRunning { place: place.describe(), socket, others });
    }
    let failed = |source| Failure::System { what: "the gateway cannot be started", source };
    let mut child = start(args, &place).map_err(failed)?;
    say(&format!("only1mcp: a gateway for {} is started, as process {}\n", place.describe(), child.id()));
    let deadline = tokio::time::Instant::now() + START;
    while tokio::time::Instant::now() < deadline {
        // Another client may have been faster; then the one started here ends by itself.
        if let Some(addresses) = place.addresses() {
            return Ok(addresses.mcp);
        }
        if child.try_wait().map_err(failed)?.is_some_and(|status| !status.success()) && place.addresses().is_none() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let log = place.state_dir.join(LOG);
    let said = fs::read_to_string(&log).unwrap_or_default();
    let said = said.lines().last().unwrap_or("it said nothing").to_owned();
    Err(Failure::NotStarted { place: place.describe(), said, log })
}

/// It goes on when its client ends: other clients may have come meanwhile.
fn start(args: &PlaceArgs, place: &Place) -> std::io::Result<Child> {
    state_dir::create_private(&place.state_dir)?;
    let log = fs::File::create(place.state_dir.join(LOG))?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("up");
    for (flag, path) in [("--config", &args.config), ("--state-dir", &args.state_dir)] {
        if let Some(path) = path {
            command.arg(flag).arg(path);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()
}
