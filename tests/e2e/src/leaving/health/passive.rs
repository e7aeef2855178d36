//! Without probes: what calls alone show.

use std::time::Duration;

use serde_json::json;
use testkit::{Distribution, Fault, wait};

use super::{BACKENDS, Ill, LIMIT, PASSIVE, SLACK, Stage, visitors::Visitors};
use crate::{Figures, Size};

const ILLS: [Ill; 3] = [Ill::Hangs, Ill::Garbage, Ill::Killed];

pub(super) fn run(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let ejection = json!({ "failures": 5, "time": "1s", "time_max": "2s" });
    // Probes are an hour apart.
    let health = json!({ "interval": "1h", "slow_start": "500ms", "ejection": ejection });
    let mut stage = Stage::up(&health, &json!({ "connect": "1s", "idle": "300ms", "total": "2s" }))?;
    let mut load = stage.load(size.pick(400, 200), true)?;
    let visitors = Visitors::come(stage.gateway.mcp)?;
    load.wait_answered(100)?;
    let rounds = size.pick(15, 1);
    let mut faults = Vec::new();
    for round in 0..rounds {
        let (victim, ill) = (round % BACKENDS, ILLS[round % ILLS.len()]);
        let began = stage.backends[victim].fail(ill)?;
        // The fault lasts for longer than it may take to be found.
        wait::holds_for("the load", PASSIVE * 2, || Ok(!load.is_over()))?;
        let mended = stage.backends[victim].mend()?;
        wait::until("visits to come back", LIMIT, || stage.backends[victim].first_visit(mended))?;
        faults.push((ill, began, mended));
        load.wait_answered(50)?;
    }
    let (start, visits, report) = (load.began(), visitors.leave()?, load.stop()?);
    let failures = visits.failures(&report, start);
    let (mut last, mut late) = (Vec::new(), Vec::new());
    for (ill, began, mended) in &faults {
        let sent = failures.iter().map(|failure| failure.sent).filter(|sent| sent >= began && sent < mended);
        let found = sent.max().unwrap_or(*began) - *began;
        last.push(found);
        if found > PASSIVE + size.pick(Duration::ZERO, SLACK) {
            late.push(format!("{ill:?} after {found:?}"));
        }
    }
    figures.demand("faults_without_probes", faults.len(), &rounds.to_string(), faults.len() == rounds);
    figures.note("last_failure_after", Distribution::of(last));
    figures.none("avoided_late", late);
    // What is tried again after an ejection works, so nothing fails while no backend is ill.
    let outside = failures
        .iter()
        .filter(|failure| !faults.iter().any(|(_, began, mended)| failure.ended >= *began && failure.sent < *mended));
    figures.none("failed_while_all_are_well", outside.map(|failure| &failure.why));
    Ok(())
}
