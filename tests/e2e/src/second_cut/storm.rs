//! What clients notice of a configuration that changes all the time, before 2,000 servers.

use std::{thread, time::Duration};

use testkit::{
    Distribution, Fault, System as _, fault,
    load::{Deed, Load, Pick, Plan, Report},
};
use tokio::time::Instant;

use super::reload::{pss_mb, settled};
use crate::{
    Figures, Size,
    main_job::reload_time::{Reload, Stage},
};

const SERVERS: usize = 2_000;
/// Those that are called; the first one is the one that changes.
const CALLED: u64 = 64;
const CLIENTS: usize = 64;
const CALLS_A_SECOND: u32 = 3_000;
/// Before the first figure, and for it.
const CALM: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(10)];
const CHANGES: u32 = 100;
const CHANGE_EVERY: Duration = Duration::from_millis(200);
/// Of the 99th percentile, and of the memory at its peak.
const RATIO_MAX: f64 = 1.5;

pub fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: it is about times, and about many servers"));
    }
    let mut stage = settled(SERVERS, Reload::File)?;
    let pss = pss_mb(stage.gateway.pid())?;
    let [_, calm] = CALM.map(|time| {
        let mut load = calls(&stage)?;
        // No event to wait for: the load runs for a time.
        thread::sleep(time);
        load.stop()
    });
    let (mut load, before) = (calls(&stage)?, stage.gateway.revision()?);
    let peak = change(&mut stage)?;
    load.wait_revision(before + u64::from(CHANGES))?;
    let storm = load.stop()?;
    judge([calm?, storm], pss, peak)
}

fn calls(stage: &Stage) -> Result<Load, Fault> {
    let names: Vec<_> = (0..CALLED).map(|number| format!("s{number}").into()).collect();
    let choose = move |slot| Pick { server: std::sync::Arc::clone(&names[(slot % CALLED) as usize]), deed: Deed::Echo };
    Load::start(Plan {
        endpoints: vec![stage.gateway.mcp],
        clients: CLIENTS,
        balanced: false,
        rate: CALLS_A_SECOND,
        tag: "storm-".to_owned(),
        choose: Box::new(choose),
    })
}

/// All changes, at their pace. Returns the most memory that was seen, in MB.
fn change(stage: &mut Stage) -> Result<f64, Fault> {
    let (start, mut peak) = (Instant::now(), 0_f64);
    for turn in 1..=CHANGES {
        stage.write(turn.into())?;
        for due in [CHANGE_EVERY / 2, CHANGE_EVERY] {
            // The pace of the changes, whatever each of them takes.
            thread::sleep((start + CHANGE_EVERY * (turn - 1) + due).saturating_duration_since(Instant::now()));
            peak = peak.max(pss_mb(stage.gateway.pid())?);
        }
    }
    Ok(peak)
}

fn judge(reports: [Report; 2], pss: f64, peak: f64) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    figures.note("changes", CHANGES);
    figures.none("failed", reports.iter().flat_map(|report| &report.failures));
    let [calm, storm] = reports.map(|report| report.latency());
    figures.note("calm", &calm);
    figures.note("storm", &storm);
    let mut demand = |name, [before, after]: [f64; 2]| {
        let ratio = after / before;
        figures.demand(name, format!("{ratio:.2}"), &format!("{RATIO_MAX} at most"), ratio <= RATIO_MAX);
    };
    demand("p99_storm_of_calm", [&calm, &storm].map(|latency: &Distribution| latency.p99().as_secs_f64()));
    demand("peak_of_pss", [pss, peak]);
    Ok(figures)
}
