//! Each control service is away for a while, under load: killed, stopped, or cut off from the routers. What the design
//! says of that (its section 12) holds line by line, and no call fails.

mod table;

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::{Fault, fault, services::Kind, wait};
use tokio::time::Instant;

use crate::{Figures, Size};
use table::Stage;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Killed,
    /// It has its connections, and does nothing.
    Stopped,
    /// It runs, and nothing passes between it and the routers.
    CutOff,
}

const ALL: [(Kind, Away); 6] = [
    (Kind::HealthMonitor, Away::Killed),
    (Kind::HealthMonitor, Away::Stopped),
    (Kind::HealthMonitor, Away::CutOff),
    (Kind::DrainCoordinator, Away::Killed),
    (Kind::DrainCoordinator, Away::Stopped),
    (Kind::DrainCoordinator, Away::CutOff),
];
const IN_SHORT: [(Kind, Away); 3] =
    [(Kind::HealthMonitor, Away::Killed), (Kind::HealthMonitor, Away::CutOff), (Kind::DrainCoordinator, Away::Stopped)];

pub(crate) fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let mut stage = Stage::up(size)?;
    let faults: &[(Kind, Away)] = size.pick(&ALL[..], &IN_SHORT[..]);
    let mut away = 0;
    for (kind, how) in faults {
        leave(&mut stage, *kind, *how, size).map_err(|error| error.during(format!("{kind:?}, {how:?}")))?;
        away += 1;
    }
    figures.demand("services_away", away, &faults.len().to_string(), away == faults.len());
    let held: usize = Kind::CONTROL[1..].iter().map(|kind| stage.link(*kind).ends().held).sum();
    figures.demand("reads_held_by_cuts", held, "some", held > 0);
    stage.config_manager_away(size).map_err(|error| error.during("config-manager away"))?;
    stage.judge(&mut figures)?;
    stage.router_away().map_err(|error| error.during("a router away"))?;
    stage.cold_start().map_err(|error| error.during("a start from disk"))?;
    // What does not hold is an error by now.
    figures.note("lines_of_the_table", 4);
    Ok(figures)
}

/// One service, away for two minutes.
fn leave(stage: &mut Stage, kind: Kind, how: Away, size: Size) -> Result<(), Fault> {
    let began = Instant::now();
    match how {
        Away::Killed => stage.services.service_mut(kind).kill()?,
        Away::Stopped => stage.services.service_mut(kind).process().signal(Signal::SIGSTOP),
        Away::CutOff => stage.link(kind).cut(),
    }
    let holds = while_away(stage, kind, how, size, began);
    match how {
        Away::Killed => stage.services.start(kind)?,
        Away::Stopped => stage.services.service_mut(kind).process().signal(Signal::SIGCONT),
        Away::CutOff => stage.link(kind).mend(),
    }
    holds?;
    stage.services.service_mut(kind).wait_ready()?;
    let routers = if kind == Kind::HealthMonitor { "only1mcp_health_routers" } else { "only1mcp_drain_routers" };
    let attached = || stage.services.service(kind).metrics().map_or(0, |page| table::value(&page, routers, ""));
    wait::until_true("both routers to be attached again", LIMIT, || attached() == 2)
}

/// The lines of the table, and the rest of the time.
fn while_away(stage: &mut Stage, kind: Kind, how: Away, size: Size, began: Instant) -> Result<(), Fault> {
    match kind {
        Kind::HealthMonitor => {
            // That it is away is known at once where its connections end.
            if how == Away::Killed || size == Size::Full {
                stage.passive_verdicts()?;
                stage.unknown_is_routable()?;
            }
            stage.changes_go_on()?;
        }
        Kind::DrainCoordinator => {
            stage.routers_drain_by_themselves()?;
            if how != Away::CutOff {
                stage.drains_of_operators_wait()?;
            }
        }
        Kind::ConfigManager | Kind::Router => return Err(fault("neither is what is away here")),
    }
    let lasts = size.pick(Duration::from_secs(120), Duration::ZERO).saturating_sub(began.elapsed());
    wait::holds_for("the load", lasts, || Ok(!stage.load.is_over()))?;
    stage.load.wait_answered(50)
}
