//! How long a change takes before few and many servers, what processor time it takes, and what they take of memory.

use std::{fs, thread, time::Duration};

use nix::unistd::{SysconfVar, sysconf};
use testkit::{Fault, distribution::ms, fault, wait};
use tokio::time::Instant;

use crate::{
    Figures, Size,
    main_job::reload_time::{Reload, Stage},
};

/// Demo servers; the servers of a configuration share them.
const PROCESSES: usize = 20;
const CHANGES: u64 = 50;
/// Until all servers are up.
const LIMIT: Duration = Duration::from_secs(120);
/// Two intervals of probes, so that each server is probed as often as it is meant to be.
const REST: Duration = Duration::from_secs(20);
const CPU_MAX_MS: f64 = 30.0;
const PSS_MAX_MB: f64 = 45.0;

pub fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: it is about times, and about many servers"));
    }
    let mut figures = Figures::default();
    let measure = |servers: usize| {
        let mut stage = settled(servers, Reload::Command)?;
        let pid = stage.gateway.pid();
        let (at_rest, pss) = (rate_at_rest(pid)?, pss_mb(pid)?);
        let (before, start) = (cpu_ms(pid)?, Instant::now());
        let applied = stage.change(CHANGES)?.applied;
        // Without what the gateway does all the time, such as probes of all servers.
        let cpu = (cpu_ms(pid)? - before - at_rest * start.elapsed().as_secs_f64()) / CHANGES as f64;
        Ok::<_, Fault>((format!("{}/{}", ms(applied.median()), ms(applied.p99())), cpu, pss))
    };
    for (servers, name) in [(1, "p50/p99_ms_before_1"), (200, "p50/p99_ms_before_200")] {
        figures.note(name, measure(servers)?.0);
    }
    let (applied, cpu, pss) = measure(2_000)?;
    figures.note("p50/p99_ms_before_2000", applied);
    let mut demand = |name, value: f64, most: f64| {
        figures.demand(name, format!("{value:.1}"), &format!("{most} at most"), value <= most);
    };
    demand("cpu_ms_per_change_before_2000", cpu, CPU_MAX_MS);
    demand("idle_pss_mb_before_2000", pss, PSS_MAX_MB);
    Ok(figures)
}

/// A gateway before so many servers, all of them up.
pub(super) fn settled(servers: usize, reload: Reload) -> Result<Stage, Fault> {
    let stage = Stage::up(servers, servers.min(PROCESSES), reload)?;
    wait::until_true("all servers to be up", LIMIT, || stage.gateway.cli(&["status"]).is_ok_and(|cli| cli.code == 0))?;
    Ok(stage)
}

/// Milliseconds of processor time a second, while nothing changes.
fn rate_at_rest(pid: i32) -> Result<f64, Fault> {
    let (before, start) = (cpu_ms(pid)?, Instant::now());
    // No event to wait for: the time is what is measured.
    thread::sleep(REST);
    Ok((cpu_ms(pid)? - before) / start.elapsed().as_secs_f64())
}

/// Processor time that the process has had, its own and the kernel's.
pub(crate) fn cpu_ms(pid: i32) -> Result<f64, Fault> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold anything; the state is the third field, these are 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks = fields.map(str::parse::<u32>).sum::<Result<u32, _>>().map_err(|error| fault(error.to_string()))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or_else(|| fault("the system has no ticks"))?;
    Ok(f64::from(ticks) * 1e3 / per_second as f64)
}

/// Memory, shared pages by halves, thirds and so on.
pub(crate) fn pss_mb(pid: i32) -> Result<f64, Fault> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u32>().ok());
    kib.map(|kib| f64::from(kib) * 1024.0 / 1e6).ok_or_else(|| fault(format!("no Pss of process {pid}")))
}
