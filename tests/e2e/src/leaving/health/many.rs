//! Many servers: what probing them costs, and that exactly those are probed that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use serde_json::json;
use testkit::{Client, ConfigFile, Distribution, Document, Fault, Gateway, Scratch, Server, distribution::ms, wait};
use tokio::time::Instant;

use super::{super::backend::Backend, LIMIT};
use crate::{Figures, Size, second_cut::reload::cpu_ms};

/// Servers share them, each with a path of its own.
const BACKENDS: usize = 20;
const CPU_MAX_PERCENT: f64 = 3.0;
const LATE_MAX: Duration = Duration::from_millis(500);

/// 200 servers, probed every 10 s.
pub(super) fn probes(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let (servers, interval) = (size.pick(200, 20), size.pick(Duration::from_secs(10), Duration::from_millis(500)));
    let rounds = size.pick(6, 3);
    let scratch = Scratch::new("probes")?;
    let backends = (0..BACKENDS).map(|_| Backend::start()).collect::<Result<Vec<_>, Fault>>()?;
    let health = json!({ "interval": format!("{}ms", interval.as_millis()) });
    let mut document = Document::default().key("health", health);
    for (number, backend) in (0..servers).zip(backends.iter().cycle()) {
        document.put(Server::http(&format!("s{number}"), &backend.url(&format!("s{number}"))));
    }
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let up = || gateway.metric("only1mcp_server_up{", "");
    wait::until_true("all servers to be up", LIMIT * 4, || up() == servers as u64)?;
    // Every server was probed once, so that what follows is the loop and not its beginning.
    let begun = Instant::now();
    let probed = |from: Instant| backends.iter().map(|backend| backend.pinged(from).len()).sum::<usize>();
    wait::until_true("each server to be probed", LIMIT * 4, || probed(begun) == servers)?;
    let (start, before) = (Instant::now(), cpu_ms(gateway.pid())?);
    // The time over which it is measured.
    wait::holds_for("the gateway", interval * rounds, || Ok(true))?;
    let cpu = (cpu_ms(gateway.pid())? - before) / (start.elapsed().as_secs_f64() * 10.0);
    figures.note("probed_servers", servers);
    let judged = size == Size::Full;
    let wanted = format!("{CPU_MAX_PERCENT} of one core at most");
    figures.demand("cpu_percent", format!("{cpu:.2}"), &wanted, !judged || cpu <= CPU_MAX_PERCENT);

    // A tenth of the interval is jitter, to either side.
    let (mut late, mut count) = (Vec::new(), 0);
    let mut last: BTreeMap<String, Instant> = BTreeMap::new();
    for ping in backends.iter().flat_map(Backend::pings).filter(|ping| ping.at >= begun) {
        if let Some(before) = last.insert(ping.path, ping.at) {
            let gap = ping.at - before;
            late.push(gap.saturating_sub(interval + interval / 5));
            count += usize::from(ping.at >= start);
        }
    }
    let due = servers * usize::try_from(rounds)?;
    figures.demand("probes", count, &format!("about {due}"), count * 10 >= due * 8 && count * 10 <= due * 13);
    let late = Distribution::of(late);
    let in_time = late.p99() < LATE_MAX;
    figures.demand("probe_loop_p99_ms", ms(late.p99()), "below 500", in_time);
    Ok(())
}

/// Random changes: the monitor has the servers that there are, and probes them and no others.
pub(super) fn changes(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let (changes, look_every, most) = (size.pick(500, 8), size.pick(25, 4), size.pick(30, 8));
    let interval = Duration::from_millis(200);
    let scratch = Scratch::new("monitors")?;
    let backend = Backend::start()?;
    let mut document = Document::default().key("health", json!({ "interval": "200ms" }));
    let mut random = Rng::with_seed(10);
    let mut paths: BTreeMap<usize, String> = BTreeMap::new();
    let put = |document: &mut Document, paths: &mut BTreeMap<usize, String>, number: usize, turn: usize| {
        let path = format!("s{number}-{turn}");
        document.put(Server::http(&format!("s{number}"), &backend.url(&path)));
        paths.insert(number, path);
    };
    put(&mut document, &mut paths, 0, 0);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let mut client = Client::open(gateway.mcp)?;
    let (mut kinds, mut wrong, mut looks) = ([0, 0, 0], Vec::new(), 0);
    for change in 1..=changes {
        let number = random.usize(..most);
        match (paths.contains_key(&number), paths.len() > 1 && random.bool()) {
            (true, true) => {
                document.remove(&format!("s{number}"));
                paths.remove(&number);
                kinds[2] += 1;
            }
            (known, _) => {
                put(&mut document, &mut paths, number, change);
                kinds[usize::from(known)] += 1;
            }
        }
        file.replace(&document.yaml())?;
        client.wait_revision(gateway.revision + u64::try_from(change)?, LIMIT)?;
        let monitored = || gateway.metric("only1mcp_health_endpoints{", "");
        let same = wait::until_true("its set", LIMIT, || monitored() == paths.len() as u64);
        wrong.extend(same.err().map(|_| format!("change {change}: {} of {}", monitored(), paths.len())));
        if change % look_every == 0 {
            looks += 1;
            wrong.extend(
                differs(&backend, &paths.values().cloned().collect(), interval)?
                    .map(|why| format!("change {change}: {why}")),
            );
        }
    }
    let [added, updated, removed] = kinds;
    figures.note("added/updated/removed", format!("{added}/{updated}/{removed}"));
    figures.demand("changes", added + updated + removed, &changes.to_string(), kinds.iter().sum::<usize>() == changes);
    figures.demand("looks", looks, "some", looks > 0);
    figures.none("monitors_differ_from_servers", wrong);
    Ok(())
}

/// What is probed over some intervals, beside what should be.
fn differs(backend: &Backend, wanted: &BTreeSet<String>, interval: Duration) -> Result<Option<String>, Fault> {
    // A probe that was begun before may come still.
    let from = Instant::now() + interval / 2;
    let all = wait::until_true("a probe of each", LIMIT, || wanted.is_subset(&backend.pinged(from)));
    // Long enough for one more of each.
    wait::holds_for("the probes", interval * 2, || Ok(true))?;
    let pinged = backend.pinged(from);
    let gone: Vec<_> = pinged.difference(wanted).collect();
    let missing: Vec<_> = wanted.difference(&pinged).collect();
    Ok((all.is_err() || !gone.is_empty()).then(|| format!("probed though gone: {gone:?}; not probed: {missing:?}")))
}
