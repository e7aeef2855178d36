//! How long a change takes before few and many servers, what processor time it takes, and what they take of memory.

use std::{fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};
use testkit::{Fault, distribution::ms, fault, wait};

use crate::{Figures, Size, main_job::reload_time::Stage};

/// Demo servers; the servers of a configuration share them.
const PROCESSES: usize = 20;
const CHANGES: u64 = 50;
/// Until all servers are up.
const LIMIT: Duration = Duration::from_secs(120);
const CPU_MAX_MS: f64 = 30.0;
const PSS_MAX_MB: f64 = 45.0;

pub fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: it is about times, and about many servers"));
    }
    let mut figures = Figures::default();
    let measure = |servers: usize| {
        let mut stage = Stage::up(servers, servers.min(PROCESSES))?;
        wait::until_true("all servers to be up", LIMIT, || {
            stage.gateway.cli(&["status"]).is_ok_and(|cli| cli.code == 0)
        })?;
        let (pid, pss) = (stage.gateway.pid(), pss_mb(stage.gateway.pid())?);
        let before = cpu_ms(pid)?;
        let applied = stage.change(CHANGES)?.applied;
        let cpu = (cpu_ms(pid)? - before) / CHANGES as f64;
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

/// Processor time that the process has had, its own and the kernel's.
fn cpu_ms(pid: i32) -> Result<f64, Fault> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold anything; the state is the third field, these are 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks = fields.map(str::parse::<u32>).sum::<Result<u32, _>>().map_err(|error| fault(error.to_string()))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or_else(|| fault("the system has no ticks"))?;
    Ok(f64::from(ticks) * 1e3 / per_second as f64)
}

/// Memory, shared pages by halves, thirds and so on.
fn pss_mb(pid: i32) -> Result<f64, Fault> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u32>().ok());
    kib.map(|kib| f64::from(kib) * 1024.0 / 1e6).ok_or_else(|| fault(format!("no Pss of process {pid}")))
}
