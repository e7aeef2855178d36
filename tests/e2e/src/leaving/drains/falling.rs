//! An endpoint that leaves step by step while another one takes over: which share of new sessions it gets at each step,
//! and how fast the sessions that it has move away.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, fault,
    raw::{Raw, call},
    wait,
};
use tokio::time::Instant;

use super::LIMIT;
use crate::{
    Figures, Size,
    leaving::crowd::{Crowd, Order},
};

const TWINS: [&str; 2] = ["one", "other"];
/// From a decision until it is what routers do.
const PROPAGATION: Duration = Duration::from_millis(100);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    shares(size, &mut figures)?;
    moves(size, &mut figures)?;
    Ok(figures)
}

/// One server with two endpoints.
struct Stage {
    file: ConfigFile,
    /// Without the server.
    document: Document,
    backends: [DemoServer; 2],
    gateway: Gateway,
    _scratch: Scratch,
}

impl Stage {
    fn up(drain: Value) -> Result<Self, Fault> {
        let scratch = Scratch::new("falling")?;
        let [one, other] = TWINS;
        let backends = [DemoServer::start(one, &scratch, &[])?, DemoServer::start(other, &scratch, &[])?];
        // Of each session no more than a few calls come.
        let document = Document::default().key("limits", json!({ "sessions": 1_000_000 })).key("drain", drain);
        let twins = Server::http("twins", &backends[1].url()).transport("urls", json!([backends[0].url()]));
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.clone().with(twins).yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        let stage = Self { file, document, backends, gateway, _scratch: scratch };
        wait::until_true("both endpoints", LIMIT, || stage.digests().is_ok_and(|digests| digests.len() == 2))?;
        Ok(stage)
    }

    /// Of the endpoints that are up.
    fn digests(&self) -> Result<Vec<String>, Fault> {
        let status = self.gateway.status()?;
        let endpoints = status["servers"][0]["endpoints"].as_array().into_iter().flatten();
        let up = endpoints.filter(|endpoint| endpoint["tools"] != 0);
        Ok(up.filter_map(|endpoint| endpoint["digest"].as_str().map(str::to_owned)).collect())
    }
}

/// How a share falls, by steps.
#[derive(Clone, Copy)]
struct Fall {
    interval: Duration,
    /// Percent of the whole share.
    reduction: u32,
}

impl Fall {
    fn steps(self) -> u32 {
        100_u32.div_ceil(self.reduction)
    }

    fn lasts(self) -> Duration {
        self.interval * self.steps()
    }

    /// What is left of the whole share after so many steps.
    fn left(self, step: u32) -> f64 {
        f64::from(100_u32.saturating_sub(step * self.reduction)) / 100.0
    }
}

/// Where one new session went.
struct Sample {
    asked: Instant,
    answered: Instant,
    /// Index into [`TWINS`].
    twin: usize,
}

/// One endpoint falls, by an operator's order; meanwhile clients begin sessions, one after the other, so that no choice
/// is about which endpoint is busier.
fn shares(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let fall = size.pick(
        Fall { interval: Duration::from_secs(15), reduction: 10 },
        Fall { interval: Duration::from_secs(1), reduction: 25 },
    );
    let stage = Stage::up(json!({ "graceful": { "timeout_seconds": 5 } }))?;
    let digest = stage.digests()?.swap_remove(0);
    let stop = AtomicBool::new(false);
    let (ordered, samples) = thread::scope(|scope| {
        let newcomers = scope.spawn(|| newcomers(&stage.gateway, &stop));
        let fell = falls(&stage, fall, &digest);
        stop.store(true, Ordering::Relaxed);
        let samples = newcomers.join().map_err(|_| fault("the newcomers panicked"))??;
        Ok::<_, Fault>((fell?, samples))
    })?;
    judge(size, fall, ordered, &samples, figures)
}

/// Lets the endpoint go. Returns the moments before and after the order, when it is over.
fn falls(stage: &Stage, fall: Fall, digest: &str) -> Result<[Instant; 2], Fault> {
    let (reduction, interval) = (fall.reduction.to_string(), format!("{}s", fall.interval.as_secs()));
    let how = ["--strategy", "progressive", "--weight-reduction", &reduction, "--interval", &interval];
    let before = Instant::now();
    let what = ["drain", "twins", "--endpoint", digest, "--output", "json"];
    let drain = stage.gateway.cli(&[&what[..], &how].concat())?.expect(0)?.json()?;
    let ordered = [before, Instant::now()];
    // The fall takes its time; what follows it is looked at for as long as a step lasts.
    thread::sleep(fall.lasts() + fall.interval);
    wait::until_true("the end of the fall", LIMIT, || {
        let drains = stage.gateway.cli(&["drains", "--all", "--output", "json"]).and_then(|drains| drains.json());
        let drains = drains.unwrap_or_default();
        let same = |other: &&Value| other["id"] == drain["id"];
        drains.as_array().into_iter().flatten().find(same).is_some_and(|drain| drain["state"] == "done")
    })?;
    Ok(ordered)
}

/// Sessions of one call each, until `stop`.
fn newcomers(gateway: &Gateway, stop: &AtomicBool) -> Result<Vec<Sample>, Fault> {
    let (mut raw, mut samples) = (Raw::open(gateway.mcp)?, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        raw.begin()?;
        let asked = Instant::now();
        let answer = raw.ask(&call(1, "twins__whoami", json!({})))?.json();
        samples.push(Sample { asked, answered: Instant::now(), twin: twin(&answer["result"])? });
    }
    Ok(samples)
}

/// Which of the twins `whoami` answered.
fn twin(result: &Value) -> Result<usize, Fault> {
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let found = TWINS.iter().position(|name| said["name"] == *name);
    found.ok_or_else(|| fault(format!("neither of the twins answered: {result}")))
}

/// How many new sessions went to the twin, and how many there were.
fn count(samples: &[Sample], twin: usize, [from, to]: [Instant; 2]) -> [usize; 2] {
    let during = || samples.iter().filter(|sample| sample.asked >= from && sample.answered < to);
    [during().filter(|sample| sample.twin == twin).count(), during().count()]
}

fn judge(
    size: Size,
    fall: Fall,
    [before, after]: [Instant; 2],
    samples: &[Sample],
    figures: &mut Figures,
) -> Result<(), Fault> {
    // Of each step the part that is surely its own, wherever between the two moments the order was taken.
    let step = |step: u32| [after + PROPAGATION + fall.interval * step, before + fall.interval * (step + 1)];
    let last = samples.last().ok_or_else(|| fault("no session was begun"))?;
    let stays = last.twin;
    let [gone, seen] = count(samples, 1 - stays, step(fall.steps()));
    figures.demand("sessions_after_the_fall", seen, "some", seen > 0);
    figures.demand("late_at_the_one_that_left", gone, "0", gone == 0);
    let counts: Vec<[usize; 2]> = (0..fall.steps()).map(|number| count(samples, 1 - stays, step(number))).collect();
    let shares: Vec<f64> = counts.iter().map(|[of_it, all]| *of_it as f64 / (*all).max(1) as f64).collect();
    let least = counts.iter().map(|[_, all]| *all).min().unwrap_or_default();
    let wanted = size.pick(8000, 100);
    figures.demand("new_sessions_a_step", least, &format!("{wanted} at least"), least >= wanted);
    let percent: Vec<String> = shares.iter().map(|share| format!("{:.1}", share * 100.0)).collect();
    figures.note("shares_percent", percent.join(","));
    // Its whole share is that of one of two. A fall of few sessions says little: there, noise is allowed for.
    let points = size.pick(2.0, 12.0);
    let off = |curve: fn(f64) -> f64| {
        let off = (0..).zip(&shares).map(|(step, share)| (share - curve(fall.left(step))).abs() * 100.0);
        off.fold(0.0, f64::max)
    };
    let line = off(|left| left / 2.0);
    figures.demand("off_the_line_points", format!("{line:.1}"), &format!("{points} at most"), line <= points);
    // What it would be if only the weight of the one fell, and the other's were as before.
    figures.note("off_the_weights_points", format!("{:.1}", off(|left| left / (left + 1.0))));
    let noise = size.pick(0.0, points / 100.0);
    let rises = shares.windows(2).filter(|pair| pair[1] >= pair[0] + noise).map(|pair| format!("{pair:?}"));
    figures.none("steps_that_did_not_fall", rises);
    Ok(())
}

/// A change takes one endpoint away, and sessions that call all the time move to the other one at their pace.
fn moves(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let (clients, rate, reduction) = size.pick((2000, 25, 10), (300, 20, 25));
    let fall = Fall { interval: Duration::from_secs(size.pick(3, 1)), reduction };
    let progressive =
        json!({ "rate": rate, "weight_reduction": reduction, "interval_seconds": fall.interval.as_secs() });
    let stage = Stage::up(json!({ "strategy": "progressive", "progressive": progressive }))?;
    let crowd = Crowd::open(stage.gateway.mcp, clients)?;
    let mut homes = Homes::of(&crowd, clients)?;
    let held = homes.at.iter().filter(|home| **home == Some(0)).count();
    let revision = stage.gateway.revision()?;
    let alone = Server::http("twins", &stage.backends[1].url());
    stage.file.replace(&stage.document.clone().with(alone).yaml())?;
    let begun = Client::open(stage.gateway.mcp)?.wait_revision(revision + 1, LIMIT)?;
    let pace = Duration::from_millis(200);
    while begun.elapsed() < fall.lasts() + fall.interval {
        let round = Instant::now();
        homes.ask(&crowd)?;
        // The pace of the rounds: each session calls five times a second.
        thread::sleep(pace.saturating_sub(round.elapsed()));
    }
    // Without the beginning, whose moment is not known that well, and what goes when the endpoint takes no calls.
    let [from, to] = [begun + 2 * pace, begun + fall.lasts() - 2 * pace];
    let moved = homes.moved.iter().filter(|at| (from..to).contains(*at)).count();
    let a_second = f64::from(u32::try_from(moved)?) / (to - from).as_secs_f64();
    let off = (a_second / f64::from(rate) - 1.0).abs();
    let most = size.pick(0.1, 0.3);
    figures.note("sessions_held", held);
    figures.demand("moved_a_second", format!("{a_second:.1}"), &format!("{rate} within {most}"), off <= most);
    let until_the_end = homes.moved.iter().filter(|at| **at < to).count();
    figures.demand("moved", until_the_end, "fewer than were held", until_the_end < held);
    figures.note("moved_as_counted", stage.gateway.metric("only1mcp_router_sessions_moved_total", ""));
    figures
        .none("not_moved_in_the_end", homes.at.iter().filter(|home| **home != Some(1)).map(|home| format!("{home:?}")));
    figures.none("calls_failed_while_moving", homes.failed);
    Ok(())
}

/// Where the session of each client is.
struct Homes {
    at: Vec<Option<usize>>,
    /// When sessions were first seen at the other endpoint.
    moved: Vec<Instant>,
    failed: Vec<String>,
}

impl Homes {
    fn of(crowd: &Crowd, clients: usize) -> Result<Self, Fault> {
        let mut homes = Self { at: vec![None; clients], moved: Vec::new(), failed: Vec::new() };
        homes.ask(crowd)?;
        Ok(homes)
    }

    /// Each session calls once.
    fn ask(&mut self, crowd: &Crowd) -> Result<(), Fault> {
        let order = Order { tool: "twins__whoami".to_owned(), arguments: json!({}), tag: "home".to_owned() };
        for (home, call) in self.at.iter_mut().zip(crowd.call(&order)?.wait()?) {
            let reply = call.answer.map_err(|error| error.to_string());
            let result = reply.and_then(|reply| reply.content.map_err(|error| error.to_string()));
            let now = match result {
                Ok(result) => twin(&result)?,
                Err(why) => {
                    self.failed.push(why);
                    continue;
                }
            };
            if home.replace(now).is_some_and(|before| before != now) {
                self.moved.push(call.ended);
            }
        }
        Ok(())
    }
}
