//! `simulate --seeds N [--from S]` runs seeds and prints those that fail; `simulate --seed S --trace` replays one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::{Fault, Faults, Report, run};

const USAGE: &str = "usage: simulate [--seeds N] [--from SEED] [--seed SEED [--trace]] [--until-first]";

/// What was asked for.
struct Wish {
    from: u64,
    seeds: u64,
    trace: bool,
    /// Stop at the first seed that fails.
    until_first: bool,
}

#[derive(Default)]
struct Sum {
    runs: u64,
    events: u64,
    revisions: u64,
    least: (u64, usize),
    faults: Faults,
    exchanges: [u64; 5],
    slowest: std::time::Duration,
    failed: Vec<Report>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]
fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let mut sum = simulate(&wish);
    sum.failed.sort_by_key(|report| report.seed);
    for report in &sum.failed {
        for line in &report.trace {
            println!("{line}");
        }
        println!("seed {}: {}", report.seed, report.violation.as_deref().unwrap_or("no violation"));
    }
    println!(
        "{} seeds, {} failed; {} events (at least {} each), {} revisions (at least {} each), settled in at most {:?}",
        sum.runs,
        sum.failed.iter().filter(|report| report.violation.is_some()).count(),
        sum.events,
        sum.least.0,
        sum.revisions,
        sum.least.1,
        sum.slowest
    );
    let [admitted, finished, evicted, lost, turned_away] = sum.exchanges;
    println!(
        "exchanges: {admitted} admitted = {finished} finished + {evicted} evicted + {lost} lost + {} under way; {turned_away} turned away",
        admitted - finished - evicted - lost
    );
    let faults: Vec<_> = Fault::ALL.map(|fault| format!("{fault:?} {}", sum.faults.of(fault))).into();
    println!("faults: {}", faults.join(", "));
    let never = wish.seeds >= 1000 && Fault::ALL.iter().any(|fault| sum.faults.of(*fault) == 0);
    if never {
        println!("a kind of fault never happened");
    }
    if never || sum.failed.iter().any(|report| report.violation.is_some()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn wish() -> Option<Wish> {
    let mut wish = Wish { from: 0, seeds: 1000, trace: false, until_first: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next()?.parse().ok();
        match arg.as_str() {
            "--seeds" => wish.seeds = number()?,
            "--from" => wish.from = number()?,
            "--seed" => (wish.from, wish.seeds) = (number()?, 1),
            "--trace" => wish.trace = true,
            "--until-first" => wish.until_first = true,
            _ => return None,
        }
    }
    Some(wish)
}

/// Seeds are independent: every core takes the next one.
fn simulate(wish: &Wish) -> Sum {
    let next = AtomicU64::new(wish.from);
    let end = wish.from + wish.seeds;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut sum = Sum { least: (u64::MAX, usize::MAX), ..Sum::default() };
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return sum;
            }
            let report = run(seed, wish.trace);
            if wish.until_first && report.violation.is_some() {
                next.store(end, Ordering::Relaxed);
            }
            sum.take(report, wish.trace);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let sums = workers.into_iter().map(|worker| worker.join().expect("a run does not panic"));
        sums.reduce(Sum::and).unwrap_or_default()
    })
}

impl Sum {
    fn take(&mut self, report: Report, keep: bool) {
        self.runs += 1;
        self.events += report.events;
        self.revisions += report.revisions as u64;
        self.faults.add(&report.faults);
        let exchanges = report.exchanges;
        let parts = [exchanges.admitted, exchanges.finished, exchanges.evicted, exchanges.lost, exchanges.turned_away];
        self.exchanges = std::array::from_fn(|i| self.exchanges[i] + parts[i]);
        if report.violation.is_none() {
            self.least = (self.least.0.min(report.events), self.least.1.min(report.revisions));
            self.slowest = self.slowest.max(report.settled_in);
        }
        if keep || report.violation.is_some() {
            self.failed.push(report);
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.runs += other.runs;
        self.events += other.events;
        self.revisions += other.revisions;
        self.least = (self.least.0.min(other.least.0), self.least.1.min(other.least.1));
        self.faults.add(&other.faults);
        self.exchanges = std::array::from_fn(|i| self.exchanges[i] + other.exchanges[i]);
        self.slowest = self.slowest.max(other.slowest);
        self.failed.extend(other.failed);
        self
    }
}
