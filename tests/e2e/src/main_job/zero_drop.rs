//! 64 keep-alive clients call through 100 changes of the file, and notice none.

use testkit::{Fault, Gateway};

use crate::{
    Figures, Size,
    sound::bounded::company::Company,
    traffic::{self, Traffic, Witness},
    world::World,
};

const RATE: u32 = 1500;

pub fn run(size: Size) -> Result<Figures, Fault> {
    beside(size, None)
}

/// With hostile peers, or without.
pub fn beside(size: Size, mut company: Option<Company>) -> Result<Figures, Fault> {
    let (clients, changes, calls) = (size.pick(64, 16), size.pick(100, 12), size.pick(200, 60));
    let mut world =
        World::new("drop", |document| company.iter().fold(document, |document, company| company.join(document)))?;
    let gateway = Gateway::up(&world.scratch, world.file.path())?;
    let mut figures = Figures::default();
    let first = gateway.revision;
    world.is_live_as(first);
    let mut traffic = Traffic::start(vec![gateway.mcp], clients, size.pick(RATE, RATE / 4))?;
    if let Some(company) = &mut company {
        company.begin(&[gateway.mcp])?;
    }
    // Until every client has called, so that all connections are there.
    traffic.load.wait_answered(calls * 5)?;
    let before = Witness::ask(&gateway, &world)?;
    let last = traffic.change(&mut world, first, changes, calls)?;
    let after = Witness::ask(&gateway, &world)?;
    let report = traffic.load.stop()?;
    if let Some(company) = company {
        company.end(&mut figures)?;
    }
    traffic::judge(&report, &world, &mut figures)?;
    traffic::demand_hits(&report, &mut figures);
    before.compare(&after, &mut figures);
    traffic::check_history(&gateway, first, last, &mut figures)?;
    let calls = report.samples.len();
    figures.demand("enough_calls", calls, "20000", size == Size::Short || calls >= 20_000);
    Ok(figures)
}
