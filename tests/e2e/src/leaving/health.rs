//! Of five servers one at a time falls ill. What is ill is found, gets no calls while others can take them, and comes
//! back little by little; the other four notice nothing.

mod crashed;
mod many;
mod passive;
mod visitors;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    ConfigFile, Distribution, Document, Fault, Gateway, Scratch, Server, fault,
    load::{Deed, Load, Pick, Plan},
    wait,
};
use tokio::time::Instant;

use super::backend::{Backend, Ill};
use crate::{Figures, Size};
use visitors::{Failure, Visitors};

const BACKENDS: usize = 5;
const INTERVAL: Duration = Duration::from_millis(200);
/// Within which a probe has failed for good: with the interval and its jitter below two intervals.
const TIMEOUT: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(30);
/// In the short form other tests run beside.
const SLACK: Duration = Duration::from_millis(600);
/// Calls to the pool that failed later than this after a fault began are too many.
const PASSIVE: Duration = Duration::from_secs(1);
const ILLS: [Ill; 5] = [Ill::Killed, Ill::Hangs, Ill::Slow, Ill::Garbage, Ill::Flaps];

pub(crate) fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    active(size, &mut figures)?;
    passive::run(size, &mut figures)?;
    many::probes(size, &mut figures)?;
    many::changes(size, &mut figures)?;
    crashed::run(size, &mut figures)?;
    Ok(figures)
}

/// Five backends, each a server of its own, and all of them one more: the pool.
struct Stage {
    backends: Vec<Backend>,
    gateway: Gateway,
    _file: ConfigFile,
    _scratch: Scratch,
}

impl Stage {
    fn up(health: &Value, limits: &Value) -> Result<Self, Fault> {
        let scratch = Scratch::new("health")?;
        let backends = (0..BACKENDS).map(|_| Backend::start()).collect::<Result<Vec<_>, Fault>>()?;
        let mut document = Document::default().key("health", health.clone()).key("limits", limits.clone());
        for (number, backend) in backends.iter().enumerate() {
            document.put(Server::http(&format!("one-{number}"), &backend.url("one")));
        }
        let others: Vec<String> = backends[1..].iter().map(|backend| backend.url("pool")).collect();
        document.put(Server::http("pool", &backends[0].url("pool")).transport("urls", json!(others)));
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        let stage = Self { backends, gateway, _file: file, _scratch: scratch };
        wait::until_true("all endpoints to be up", LIMIT, || stage.up_of("pool") == BACKENDS as u64)?;
        Ok(stage)
    }

    /// How many endpoints of a server are up and not unhealthy.
    fn up_of(&self, server: &str) -> u64 {
        self.gateway.metric("only1mcp_server_up{", &format!("server=\"{server}\""))
    }

    /// Every second call goes to the pool, or all of them.
    fn load(&self, rate: u32, pool_alone: bool) -> Result<Load, Fault> {
        let mut names: Vec<Arc<str>> = (0..BACKENDS).map(|number| format!("one-{number}").into()).collect();
        names.push("pool".into());
        let choose = move |slot: u64| {
            let single = usize::try_from(slot / 2).unwrap_or_default() % BACKENDS;
            let at = if pool_alone || slot.is_multiple_of(2) { BACKENDS } else { single };
            Pick { server: Arc::clone(&names[at]), deed: Deed::Echo }
        };
        Load::start(Plan {
            endpoints: vec![self.gateway.mcp],
            clients: 32,
            balanced: false,
            rate,
            tag: "health-".to_owned(),
            choose: Box::new(choose),
        })
    }
}

/// One fault of one backend.
struct Episode {
    victim: usize,
    ill: Ill,
    began: Instant,
    /// When its own server was found unwell; none of one that is well every now and then.
    found: Option<Instant>,
    mended: Instant,
    /// When all was up again.
    back: Instant,
    /// The first visit that it got after that.
    first_visit: Option<Instant>,
}

fn active(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let slow_start = size.pick(Duration::from_secs(2), Duration::from_millis(600));
    let health = json!({
        "interval": "200ms", "timeout": "100ms", "unhealthy_threshold": 1, "healthy_threshold": 1,
        "slow_start": format!("{}ms", slow_start.as_millis()),
        "ejection": { "failures": 5, "time": "500ms", "time_max": "1s" },
    });
    let mut stage = Stage::up(&health, &json!({ "connect": "1s", "idle": "1s", "total": "2s" }))?;
    let mut load = stage.load(size.pick(400, 200), false)?;
    let visitors = Visitors::come(stage.gateway.mcp)?;
    load.wait_answered(100)?;
    let (rounds, lasts) = (size.pick(50, 2), size.pick(Duration::from_millis(1500), Duration::from_millis(700)));
    let (mut episodes, mut empty) = (Vec::new(), 0);
    for round in 0..rounds {
        let (victim, ill) = ((round + round / ILLS.len()) % BACKENDS, ILLS[round % ILLS.len()]);
        let episode = play(&mut stage, victim, ill, lasts, &mut empty);
        episodes.push(episode.map_err(|error| error.during(format!("round {round}: {ill:?} of {victim}")))?);
        if ill != Ill::Flaps {
            let from = episodes[round].back;
            let grown = wait::until("visits to come back", LIMIT, || stage.backends[victim].first_visit(from))?;
            episodes[round].first_visit = Some(grown);
            // The time over which its share grows, which is looked at afterwards.
            wait::holds_for("the load", slow_start * 2, || Ok(!load.is_over()))?;
        }
    }
    let all_ill = all_ill(&mut stage, &load)?;
    let (began, visits, report) = (load.began(), visitors.leave()?, load.stop()?);
    figures.note("calls", report.samples.len());
    figures.note("visits", visits.count);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    let with_all_ill = report.samples.iter().map(|sample| began + sample.sent);
    let with_all_ill = with_all_ill.filter(|sent| *sent >= all_ill.0 && *sent < all_ill.1).count();
    figures.demand("calls_when_all_were_ill", with_all_ill, "some", with_all_ill > 0);
    figures.demand("faults", episodes.len(), &rounds.to_string(), episodes.len() == rounds);
    found(&episodes, size, figures);
    let shows = PASSIVE + size.pick(Duration::ZERO, SLACK);
    others(visits.failures(&report, began), &episodes, all_ill, shows, figures);
    figures.demand("pool_was_empty", empty, "0", empty == 0);
    grows(&stage, &episodes, slow_start, size, figures);
    Ok(())
}

fn play(stage: &mut Stage, victim: usize, ill: Ill, lasts: Duration, empty: &mut usize) -> Result<Episode, Fault> {
    let server = format!("one-{victim}");
    let began = stage.backends[victim].fail(ill)?;
    let found = if ill == Ill::Flaps {
        None
    } else {
        wait::until_true("it to be found unwell", LIMIT, || stage.up_of(&server) == 0)?;
        Some(Instant::now())
    };
    wait::holds_for("the fault", lasts.saturating_sub(began.elapsed()), || {
        *empty += usize::from(stage.up_of("pool") == 0);
        Ok(true)
    })?;
    let mended = stage.backends[victim].mend()?;
    wait::until_true("it to be well again", LIMIT, || stage.up_of(&server) == 1 && stage.up_of("pool") == 5)?;
    Ok(Episode { victim, ill, began, found, mended, back: Instant::now(), first_visit: None })
}

/// When all of them say that they are ill, calls go on: health never empties a pool. Returns when that was.
fn all_ill(stage: &mut Stage, load: &Load) -> Result<(Instant, Instant), Fault> {
    let from = Instant::now();
    for backend in &mut stage.backends {
        backend.fail(Ill::PingsFail)?;
    }
    wait::until_true("all to be found unwell", LIMIT, || stage.up_of("pool") == 0)?;
    load.wait_answered(200)?;
    let to = Instant::now();
    for backend in &mut stage.backends {
        backend.mend()?;
    }
    wait::until_true("all to be well again", LIMIT, || stage.up_of("pool") == BACKENDS as u64)?;
    Ok((from, to))
}

/// How long it took until each fault was found by probes.
fn found(episodes: &[Episode], size: Size, figures: &mut Figures) {
    let took = |episode: &Episode| episode.found.map(|found| found - episode.began);
    let all = Distribution::of(episodes.iter().filter_map(took));
    figures.note("found_after", &all);
    let most = INTERVAL * 2 + size.pick(Duration::ZERO, SLACK);
    let late = episodes.iter().filter(|episode| took(episode).is_some_and(|took| took > most));
    figures.none("found_late", late.map(|one| format!("{:?} after {:?}", one.ill, took(one).unwrap_or_default())));
    figures.note("probe_times_out_after_ms", TIMEOUT.as_millis());
    let healed = Distribution::of(episodes.iter().map(|episode| episode.back - episode.mended));
    figures.note("back_after", healed);
}

/// All calls to the other four succeed; and those to the pool, once the fault had time to show.
fn others(
    failures: Vec<Failure>,
    episodes: &[Episode],
    (ill_from, ill_to): (Instant, Instant),
    shows: Duration,
    figures: &mut Figures,
) {
    let (mut of_others, mut of_pool, mut with_all_ill) = (Vec::new(), Vec::new(), Vec::new());
    let mut excused = BTreeMap::<Ill, usize>::new();
    for failure in failures {
        let Failure { server, sent, ended, why } = failure;
        let in_all_ill = ended >= ill_from && sent < ill_to;
        // What was sent before a fault may be in flight when it begins.
        let episode = episodes.iter().find(|episode| ended >= episode.began && sent < episode.back);
        match (&*server, episode) {
            ("pool", _) if in_all_ill => with_all_ill.push(why),
            // A server with one endpoint, which is ill.
            (_, _) if in_all_ill => {}
            ("pool", Some(one)) if one.ill == Ill::Flaps || sent < one.began + shows => {
                *excused.entry(one.ill).or_default() += 1;
            }
            ("pool", _) => of_pool.push(why),
            (server, Some(one)) if server == format!("one-{}", one.victim) => {}
            (server, _) => of_others.push(format!("{server}: {why}")),
        }
    }
    figures.none("failed_of_the_pool_when_all_were_ill", with_all_ill);
    figures.none("failed_of_the_others", of_others);
    figures.none("failed_of_the_pool_later_than_1s", of_pool);
    figures.note("failed_of_the_pool_before", format!("{excused:?}").replace(' ', ""));
}

/// What comes back gets less than its share at first, and all of it in the end. Over all faults, since calls are few.
fn grows(stage: &Stage, episodes: &[Episode], slow_start: Duration, size: Size, figures: &mut Figures) {
    let share = |from: u32, to: u32| {
        let (mut own, mut all) = (0, 0);
        for episode in episodes {
            let Some(first) = episode.first_visit else { continue };
            let (from, to) = (first + slow_start * from / 10, first + slow_start * to / 10);
            own += stage.backends[episode.victim].visits(from, to);
            all += stage.backends.iter().map(|backend| backend.visits(from, to)).sum::<usize>();
        }
        (own * BACKENDS) as f64 / all.max(1) as f64
    };
    let (early, late) = (share(0, 3), share(13, 20));
    let judged = size == Size::Full;
    figures.demand("share_at_first", format!("{early:.2}"), "0.6 at most", !judged || early <= 0.6);
    figures.demand("share_in_the_end", format!("{late:.2}"), "0.7 at least", !judged || late >= 0.7);
}

/// The only entry of a list.
fn only(list: &Value) -> Result<&Value, Fault> {
    list.as_array().and_then(|list| list.first()).ok_or_else(|| fault(format!("nothing in {list}")))
}
