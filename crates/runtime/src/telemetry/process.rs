//! Metrics of the operating system about this process, under the names that Prometheus' own clients use. Linux only;
//! other systems show nothing.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::Metric;

pub(crate) const METRICS: &[Metric] = &[
    Metric::counter("process_cpu_seconds_total", &[], "User and system CPU time spent."),
    Metric::gauge("process_resident_memory_bytes", &[], "Resident memory size."),
    Metric::gauge("process_virtual_memory_bytes", &[], "Virtual memory size."),
    Metric::gauge("process_threads", &[], "Threads."),
    Metric::gauge("process_open_fds", &[], "Open file descriptors."),
    Metric::gauge("process_max_fds", &[], "How many file descriptors may be open."),
    Metric::gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970."),
];

/// In Prometheus' text format. CPU time has fractions, which the counters of the recorder have not.
pub(super) fn render() -> String {
    let values = values().unwrap_or_default();
    let known = METRICS.iter().zip(values).filter_map(|(metric, value)| Some((metric, value?)));
    let family = |(metric, value): (&Metric, f64)| {
        let (name, help, sort) = (metric.name, metric.help, metric.sort.as_str());
        format!("# HELP {name} {help}\n# TYPE {name} {sort}\n{name} {value}\n\n")
    };
    known.map(family).collect()
}

/// In the order of [`METRICS`].
fn values() -> Option<[Option<f64>; 7]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may contain anything; behind it come numbers only, the third of all fields first.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let unit = |of: SysconfVar| sysconf(of).ok().flatten().map(|value| value as f64);
    let (tick, page) = (unit(SysconfVar::CLK_TCK), unit(SysconfVar::PAGE_SIZE));
    let seconds = |ticks: Option<f64>| Some(ticks? / tick?);
    let cpu = seconds(field(14).zip(field(15)).map(|(user, system)| user + system));
    let resident = field(24).zip(page).map(|(pages, page)| pages * page);
    let start = seconds(field(22)).zip(booted_at()).map(|(after, boot)| boot + after);
    let open = fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as f64);
    Some([cpu, resident, field(23), field(20), open, max_fds(), start])
}

fn booted_at() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
