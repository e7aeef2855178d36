//! Processes take the place of a router, and of a whole gateway, over and over: by `--upgrade`, and by a signal. Half of
//! the load that the machine can carry goes on, streams are open, and nobody is refused. A new process that cannot serve
//! leaves the old one in its place.

mod broken;
mod places;
mod streams;

use std::{sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use testkit::{
    Fault, Supervised, fault,
    load::{Deed, Load, Pick, Plan, Report},
    process_tree, wait,
};

use crate::{Figures, Size};
use broken::Broken;
use places::{Place, RouterPlace, UpPlace, forsaken};
use streams::Streams;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(90);
/// What 64 clients that call as fast as they can get at most.
const AS_FAST_AS_THEY_CAN: u32 = 100_000;
/// Of the load in the short form, since other tests run beside.
const RATE_SHORT: u32 = 200;
/// Every so many turns the process is told by a signal, and starts its successor itself.
const BY_SIGNAL_EVERY: usize = 4;

pub(crate) fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let mut router = RouterPlace::up()?;
    let half = half_of_capacity(&router, size, &mut figures)?;
    upgrades(&mut router, size.pick(200, 3), half, size, &mut figures)?;
    drop(router);
    let mut up = UpPlace::up()?;
    upgrades(&mut up, size.pick(50, 3), half, size, &mut figures)?;
    drop(up);
    broken(size, half, &mut figures)?;
    Ok(figures)
}

/// Calls a second.
fn half_of_capacity(place: &dyn Place, size: Size, figures: &mut Figures) -> Result<u32, Fault> {
    let mut all = load(place, AS_FAST_AS_THEY_CAN, size, "capacity-")?;
    // The time over which it is measured.
    wait::holds_for("the load", size.pick(Duration::from_secs(10), Duration::from_millis(500)), || Ok(true))?;
    let report = all.stop()?;
    figures.none("failed_at_capacity", &report.failures);
    let capacity = report.samples.len() as f64 / report.duration.as_secs_f64();
    figures.note("capacity_per_s", format!("{capacity:.0}"));
    let half = format!("{:.0}", capacity / 2.0).parse::<u32>()?.max(1);
    Ok(size.pick(half, half.min(RATE_SHORT)))
}

fn load(place: &dyn Place, rate: u32, size: Size, tag: &str) -> Result<Load, Fault> {
    let names: [Arc<str>; 2] = ["http".into(), "stdio".into()];
    let choose = move |slot: u64| Pick {
        server: Arc::clone(&names[usize::from(slot % 2 == 1)]),
        deed: if slot % 16 == 5 && rate < AS_FAST_AS_THEY_CAN { Deed::Sleep(50) } else { Deed::Echo },
    };
    Load::start(Plan {
        endpoints: vec![place.mcp()],
        clients: size.pick(64, 8),
        balanced: false,
        rate,
        tag: tag.to_owned(),
        choose: Box::new(choose),
    })
}

/// So many, one after the other.
fn upgrades(place: &mut dyn Place, wanted: usize, rate: u32, size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let mut load = load(place, rate, size, "upgrade-")?;
    let streams = Streams::open(place.mcp(), size.pick(16, 4))?;
    load.wait_answered(100)?;
    let before = children(place.pid())?;
    let (mut done, mut by_signal, mut left, mut turn) = (0, 0, Vec::new(), 0);
    while done < wanted {
        turn += 1;
        if turn % BY_SIGNAL_EVERY == 2 && done + 2 <= wanted {
            left.extend(replaced_by_signal(place)?);
            (done, by_signal) = (done + 2, by_signal + 1);
        } else {
            left.extend(replaced(place)?);
            done += 1;
        }
        load.wait_answered(50)?;
    }
    let settled = wait::until_true("as many children as at first", LIMIT, || {
        children(place.pid()).is_ok_and(|now| now.len() == before.len())
    });
    let report = load.stop()?;
    let name = place.name();
    figures.note(name, done);
    figures.demand("by_signal", by_signal, "some", by_signal > 0);
    figures.demand("children", before.len(), "some, and as many afterwards", !before.is_empty() && settled.is_ok());
    figures.none("left_behind", left);
    judge(&report, figures);
    streams.close(figures)
}

fn judge(report: &Report, figures: &mut Figures) {
    let refused = report.failures.iter().filter(|why| why.contains("cannot connect again"));
    figures.none("refused", refused);
    figures.none("failed", &report.failures);
    figures.demand("failures_counted", report.failed, "0", report.failed == 0);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    figures.note("calls", report.samples.len());
    figures.note("connected_anew", report.closed);
    figures.note("p50/p99/max", report.latency());
}

/// By a process that is started with `--upgrade`. Returns what of the old one is left when it has ended.
fn replaced(place: &mut dyn Place) -> Result<Vec<String>, Fault> {
    let children = children(place.pid())?;
    let mut old = place.succeed()?;
    in_peace(&mut old)?;
    left_of(&children)
}

/// By a process that the running one starts when a signal tells it to; then that one, which is no child of ours, is
/// replaced by one that is.
fn replaced_by_signal(place: &mut dyn Place) -> Result<Vec<String>, Fault> {
    let first = children(place.pid())?;
    let old = place.process();
    old.signal(Signal::SIGUSR2);
    let next = forsaken(old)?;
    in_peace(old)?;
    let mut left = left_of(&first)?;
    place.wait_ready()?;
    let second = children(next.0)?;
    drop(place.succeed()?);
    next.wait_gone()?;
    left.extend(left_of(&second)?);
    Ok(left)
}

fn in_peace(old: &mut Supervised) -> Result<(), Fault> {
    let status = old.wait(LIMIT)?;
    if status.success() {
        return Ok(());
    }
    Err(fault(format!("the old process ended with {status}: {}", old.stderr_tail(5))))
}

/// The processes of its servers, and what keeps them.
fn children(pid: i32) -> Result<Vec<i32>, Fault> {
    let found: Vec<i32> = process_tree::descendants(pid).into_iter().map(|process| process.pid).collect();
    if found.is_empty() { Err(fault(format!("process {pid} has no children"))) } else { Ok(found) }
}

/// Those of them that still run.
fn left_of(children: &[i32]) -> Result<Vec<String>, Fault> {
    let running = || {
        let found = children.iter().filter_map(|pid| process_tree::find(*pid));
        found.filter(|process| process.state != 'Z').collect::<Vec<_>>()
    };
    // They end before the process does, or with it.
    let gone = wait::until_true("the end of its children", Duration::from_secs(2), || running().is_empty());
    Ok(if gone.is_ok() {
        Vec::new()
    } else {
        running().into_iter().map(|process| format!("{} {}", process.pid, process.name)).collect()
    })
}

/// Programs that cannot take over, where the old one looks for its own.
fn broken(size: Size, rate: u32, figures: &mut Figures) -> Result<(), Fault> {
    let rounds = size.pick(20, 3);
    let mut places: Vec<Box<dyn Place>> = vec![Box::new(RouterPlace::up()?)];
    if size == Size::Full {
        places.push(Box::new(UpPlace::up()?));
    }
    for mut place in places {
        let mut load = load(&*place, rate, size, "broken-")?;
        load.wait_answered(50)?;
        let (pid, mut seen) = (place.pid(), 0);
        for round in 0..rounds {
            let kind = Broken::of(round, size);
            kind.tried(&mut *place, round).map_err(|error| error.during(format!("round {round}, {kind:?}")))?;
            seen += 1;
            load.wait_answered(50)?;
        }
        let same = place.pid() == pid && place.process().is_alive();
        figures.demand("broken", seen, &rounds.to_string(), seen == rounds);
        figures.demand("the_old_one_serves", u8::from(same), "1", same);
        // With a good program again it works.
        place.mend()?;
        replaced_by_signal(&mut *place)?;
        load.wait_answered(50)?;
        judge(&load.stop()?, figures);
    }
    Ok(())
}
