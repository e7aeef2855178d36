//! Files of MCP clients, as their users have them: imported, served, exported, imported again; and a client that is led
//! to the gateway by what `export` prints.

mod accounted;
mod jsonc;
mod led;
mod planted;
mod real_servers;

use std::{sync::Mutex, thread};

use testkit::{Fault, Scratch, fault};

use crate::{Figures, Size};
use planted::{CLIENTS, Planted};

/// Gateways at a time.
const WORKERS: usize = 4;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let chosen = &CLIENTS[..size.pick(CLIENTS.len(), 4)];
    figures.demand("files", chosen.len(), "12 at full size", chosen.len() >= size.pick(12, 4));
    let scratches = chosen.iter().map(|client| Scratch::new(client.name)).collect::<Result<Vec<_>, _>>()?;
    let waiting = Mutex::new(chosen.iter().zip(&scratches));
    let tripped = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().map_err(|_| fault("another file panicked"))?.next();
                let Some((client, scratch)) = next else { return Ok(done) };
                done.push(Planted::new(client, scratch)?.trip().map_err(|error| error.during(client.name))?);
            }
        };
        let running: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        let ended: Vec<Result<Vec<planted::Trip>, Fault>> =
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(fault("it panicked")))).collect();
        ended.into_iter().collect::<Result<Vec<_>, _>>()
    })?;
    let tripped: Vec<planted::Trip> = tripped.into_iter().flatten().collect();
    let sum = |count: fn(&planted::Trip) -> usize| tripped.iter().map(count).sum::<usize>();
    figures.demand("servers", sum(|trip| trip.servers), "several", sum(|trip| trip.servers) > chosen.len());
    figures.note("notes", sum(|trip| trip.notes));
    figures.demand("calls", sum(|trip| trip.calls), "some", sum(|trip| trip.calls) >= chosen.len());
    figures.none("lost_without_a_word", tripped.iter().flat_map(|trip| &trip.lost));
    figures.none("not_as_before", tripped.iter().flat_map(|trip| &trip.wrong));
    if size == Size::Full {
        real_servers::run(&mut figures)?;
    }
    Ok(figures)
}
