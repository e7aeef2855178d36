//! `stats`: how long the last drains took, and what became of their calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wire::pb::drain::v1::{Drain, ListRequest};

use super::{Lines, Output, render};
use crate::{admin::Admin, args::StatsArgs, failure::Failure};

/// The drains that count: the last ones that are over.
const LAST: usize = 100;

pub(crate) async fn run(args: &StatsArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let call = service.client.list(ListRequest { all: true });
    Ok(show(&admin.ask(&service.target, call).await?.drains))
}

/// Of some drains.
#[derive(Debug, Default)]
struct Stats {
    /// In milliseconds, in order: of those that were not cancelled.
    took: Vec<u64>,
    cancelled: usize,
    finished: u64,
    evicted: u64,
    lost: u64,
    /// Of those that had time.
    overran: u64,
}

impl Stats {
    fn of<'a>(drains: impl Iterator<Item = &'a Drain>) -> Self {
        let mut stats = Self::default();
        for drain in drains {
            if is_cancelled(drain) {
                stats.cancelled += 1;
            } else {
                stats.took.push(drain.ended_unix_ms.saturating_sub(drain.started_unix_ms));
            }
            stats.finished += drain.finished;
            stats.evicted += drain.evicted;
            stats.lost += drain.lost;
            stats.overran += if drain.strategy == "immediate" { 0 } else { drain.evicted };
        }
        stats.took.sort_unstable();
        stats
    }

    fn count(&self) -> usize {
        self.took.len() + self.cancelled
    }

    /// The least time that so many percent of the drains needed at most; none where all were cancelled.
    fn percentile(&self, percent: usize) -> u64 {
        let rank = (self.took.len() * percent).div_ceil(100).max(1);
        self.took.get(rank - 1).copied().unwrap_or_default()
    }

    /// The standard deviation, in milliseconds.
    fn sigma(&self) -> u64 {
        let number = self.took.len().max(1) as f64;
        let mean = self.took.iter().map(|took| *took as f64).sum::<f64>() / number;
        let variance = self.took.iter().map(|took| (*took as f64 - mean).powi(2)).sum::<f64>() / number;
        u64::try_from(Duration::from_secs_f64(variance.sqrt() / 1000.0).as_millis()).unwrap_or(u64::MAX)
    }

    fn row(&self, name: &str) -> [String; 9] {
        let none = self.took.is_empty();
        let time = |millis| if none { "-".to_owned() } else { render::duration(Duration::from_millis(millis)) };
        [
            name.to_owned(),
            self.count().to_string(),
            self.cancelled.to_string(),
            time(self.percentile(50)),
            time(self.percentile(99)),
            time(self.sigma()),
            self.finished.to_string(),
            self.evicted.to_string(),
            self.lost.to_string(),
        ]
    }

    fn as_json(&self) -> Value {
        json!({
            "count": self.count(),
            "cancelled": self.cancelled,
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "sigma_ms": self.sigma(),
            "finished": self.finished,
            "evicted": self.evicted,
            "lost": self.lost,
        })
    }
}

pub(super) fn show(drains: &[Drain]) -> Output {
    let mut over: Vec<&Drain> = drains
        .iter()
        .filter(|drain| (drain.state == "done" || is_cancelled(drain)) && drain.ended_unix_ms > 0)
        .collect();
    over.sort_by_key(|drain| std::cmp::Reverse(drain.ended_unix_ms));
    over.truncate(LAST);
    let mut by_server: BTreeMap<&str, Vec<&Drain>> = BTreeMap::new();
    for drain in &over {
        by_server.entry(&drain.server).or_default().push(drain);
    }
    let servers: Vec<_> =
        by_server.iter().map(|(server, drains)| (*server, Stats::of(drains.iter().copied()))).collect();
    let all = Stats::of(over.iter().copied());
    let mut json = all.as_json();
    json["servers"] = servers.iter().map(|(server, stats)| with_server(server, stats)).collect();
    if over.is_empty() {
        return Output::done(Lines::of("no drain is over yet"), json!({ "drains": json }));
    }
    let rows: Vec<_> = servers.iter().map(|(server, stats)| stats.row(server)).chain([all.row("all")]).collect();
    let heads = ["SERVER", "DRAINS", "CANCELLED", "P50", "P99", "SIGMA", "FINISHED", "EVICTED", "LOST"];
    let mut text = render::table(heads, &rows);
    for (server, stats) in servers.iter().filter(|(_, stats)| stats.overran > 0) {
        text.line(format_args!(
            "note: the deadline ended {} of {server}; `drain.graceful.timeout_seconds` gives them more time",
            render::count(stats.overran, "call")
        ));
    }
    Output::done(text, json!({ "drains": json }))
}

fn is_cancelled(drain: &Drain) -> bool {
    drain.state == "cancelled"
}

fn with_server(server: &str, stats: &Stats) -> Value {
    let mut json = stats.as_json();
    json["server"] = server.into();
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(server: &str, millis: u64, evicted: u64) -> Drain {
        let (started, state) = (1_000, "done".to_owned());
        let times = Drain { started_unix_ms: started, ended_unix_ms: started + millis, ..Drain::default() };
        Drain { server: server.into(), state, finished: 2, evicted, total: 2 + evicted, ..times }
    }

    #[test]
    fn the_last_hundred_that_are_over_count() {
        let mut drains: Vec<_> = (1..=150).map(|millis| drain("files", millis, 0)).collect();
        drains.push(Drain { state: "draining".into(), ended_unix_ms: 0, ..drain("files", 9_000, 0) });
        let shown = show(&drains).json;
        let times = json!({ "count": 100, "cancelled": 0, "p50_ms": 100, "p99_ms": 149, "sigma_ms": 28 });
        let calls = json!({ "finished": 200, "evicted": 0, "lost": 0 });
        for (key, value) in [times, calls].iter().flat_map(|part| part.as_object().unwrap()) {
            assert_eq!(shown["drains"][key], *value, "{key}");
        }
    }

    #[test]
    fn a_cancelled_drain_is_one_of_them_and_says_nothing_about_their_times() {
        let cancelled = Drain { state: "cancelled".into(), ..drain("files", 9_000, 1) };
        let shown = show(&[drain("files", 40, 0), cancelled.clone()]).json;
        let expected = json!({ "count": 2, "cancelled": 1, "p50_ms": 40, "p99_ms": 40, "finished": 4, "evicted": 1 });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(shown["drains"][key], *value, "{key}");
        }
        let alone = show(&[cancelled]);
        assert!(alone.text.as_str().contains("files   1       1          -    -    -"), "{}", alone.text.as_str());
    }

    #[test]
    fn each_server_has_its_own_line_and_advice_names_what_was_measured() {
        let at_once = Drain { strategy: "immediate".into(), ..drain("web", 1, 7) };
        let shown = show(&[drain("files", 30_000, 3), drain("files", 10_000, 0), at_once]);
        let text = shown.text.as_str();
        assert_eq!(text.lines().filter(|line| line.starts_with("note: ")).count(), 1, "{text}");
        assert!(text.contains("the deadline ended 3 calls of files;"), "{text}");
        assert_eq!(shown.json["drains"]["servers"][0]["sigma_ms"], 10_000);
        assert_eq!(shown.json["drains"]["servers"][1]["server"], "web");
        let none = show(&[]);
        assert_eq!((none.text.as_str(), &none.json["drains"]["count"]), ("no drain is over yet\n", &json!(0)));
    }
}
