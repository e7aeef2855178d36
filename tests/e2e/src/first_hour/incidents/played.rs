//! One incident from its planting to its end, and all that was seen meanwhile.

use std::{fs, time::Duration};

use serde_json::Value;
use testkit::{
    Fault, Scratch, Supervised,
    gateway::{self, Cli},
    wait,
};
use tokio::time::Instant;

use super::{
    situations::{Cure, Situation},
    stage::{LIMIT, Stage},
};
use crate::transcript::{self, Typed};

/// By then a gateway has noticed whatever is dead: it probes twice a second, two failures are enough, and each takes a
/// second at most. The rest is for a machine on which all incidents are played at once.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

pub(super) struct Played {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) page: &'static str,
    /// What has come of the cure, as the page says it.
    pub(super) then: &'static str,
    /// Commands as they were typed, or what was done by hand, with what came of it.
    pub(super) steps: Vec<Step>,
    /// In which forms the cause was told: in `status`, or in the command that it names.
    told: Vec<&'static str>,
    /// Whether `status` itself named the second command, where one was needed.
    pub(super) named: bool,
    pub(super) to_cause: usize,
    pub(super) to_cure: usize,
    pub(super) looks: Vec<Look>,
    pub(super) watched: Vec<String>,
    wanted: &'static [&'static str],
    /// Paths and names of this run, with what a reader sees in their place.
    pub(super) places: Vec<(String, &'static str)>,
}

pub(super) enum Step {
    Typed(Typed),
    Done { what: &'static str },
}

/// One `status` while the incident lasts.
pub(super) struct Look {
    pub(super) code: i32,
    /// The stage knows it, since it is what was planted; and the gateway shows it, has once told of trouble, or has had
    /// all the time that it may take to notice.
    pub(super) is_dead: bool,
    pub(super) shown: String,
}

impl Played {
    pub(super) fn is_told(&self, format: &str) -> bool {
        self.told.contains(&format)
    }

    /// Lines of `watch --output json` that are none.
    pub(super) fn unreadable(&self) -> Vec<String> {
        let readable = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|event| event["kind"].is_string());
        self.watched.iter().filter(|line| !readable(line)).map(|line| format!("{}: {line}", self.name)).collect()
    }

    /// What `watch` should have said.
    pub(super) fn unsaid(&self) -> Vec<String> {
        let said = |word: &str| self.watched.iter().any(|line| line.contains(word));
        self.wanted.iter().filter(|word| !said(word)).map(|word| format!("{}: {word}", self.name)).collect()
    }
}

pub(super) fn play(situation: &'static Situation, scratch: &Scratch) -> Result<Played, Fault> {
    let mut stage = (situation.open)(scratch)?;
    let watch = start_watch(&stage)?;
    (situation.plant)(&mut stage)?;
    let looks = look_until(&stage, situation)?;
    let Found { steps, told, named, to_cause } = find(&stage, situation)?;
    let mut played = Played {
        name: situation.name,
        title: situation.title,
        page: situation.page,
        then: situation.then,
        steps,
        told,
        named,
        to_cause,
        to_cure: situation.cure.len(),
        looks,
        watched: Vec::new(),
        wanted: situation.watched,
        places: transcript::places(stage.scratch)?,
    };
    for cure in situation.cure {
        played.steps.push(carry_out(cure, &mut stage)?);
    }
    wait::until_true("the cure", LIMIT, || {
        (situation.is_well)(&stage) && stage.gateway.cli(&["status"]).is_ok_and(|status| status.code == 0)
    })
    .map_err(|error| error.during(stage.gateway.cli(&["status"]).map_or_else(|_| String::new(), |said| said.stdout)))?;
    drop(watch);
    let said = fs::read_to_string(scratch.file("logs").join("watch.out"))?;
    played.watched = said.lines().map(str::to_owned).collect();
    Ok(played)
}

/// Its output is in `watch.out`.
fn start_watch(stage: &Stage<'_>) -> Result<Supervised, Fault> {
    let mut command = gateway::command(stage.scratch.path())?;
    command.args(["watch", "--output", "json", "--state-dir"]).arg(stage.gateway.state_dir());
    let watch = Supervised::start("watch", &mut command, &stage.scratch.folder("logs")?)?;
    watch.wait_stdout("that it is connected", LIMIT, |line| line.contains("connected").then_some(()))?;
    Ok(watch)
}

/// Looks again and again until the gateway has noticed.
fn look_until(stage: &Stage<'_>, situation: &Situation) -> Result<Vec<Look>, Fault> {
    let (mut looks, mut last) = (Vec::<Look>::new(), String::new());
    let planted = Instant::now();
    let waited = wait::until("the gateway to notice", LIMIT, || {
        let is_late = planted.elapsed() > NOTICED_WITHIN;
        let look = || {
            let said = stage.gateway.cli(&["status", "--output", "json"])?;
            Ok::<_, Fault>((said.code, said.json()?))
        };
        match look() {
            Ok((code, status)) => {
                let shows = (situation.shows)(&status);
                let is_noticed = shows || is_late || looks.iter().any(|earlier| earlier.code != 0);
                last = status.to_string();
                looks.push(Look { code, is_dead: situation.dead && is_noticed, shown: last.clone() });
                // More than one look, where it shows at once.
                (shows && looks.len() > 1).then_some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    });
    waited.map_err(|error| error.during(last))??;
    Ok(looks)
}

struct Found {
    steps: Vec<Step>,
    told: Vec<&'static str>,
    named: bool,
    to_cause: usize,
}

/// What a person types until the cause stands on the screen, and what a program asks.
fn find(stage: &Stage<'_>, situation: &Situation) -> Result<Found, Fault> {
    let tells = |text: &str| situation.cause.iter().all(|words| text.contains(words));
    let status = stage.gateway.cli(&["status"])?;
    let second = format!("only1mcp {}", situation.look.join(" "));
    let told_at_once = tells(&status.stdout);
    let named = told_at_once || status.stdout.contains(&second);
    let mut found = Found { steps: vec![typed(&["status"], &status)], told: Vec::new(), named, to_cause: 1 };
    let mut is_told = told_at_once;
    if !told_at_once && !situation.look.is_empty() {
        let said = stage.gateway.cli(situation.look)?;
        is_told = tells(&said.stdout);
        found.steps.push(typed(situation.look, &said));
        found.to_cause = 2;
    }
    found.told.extend(is_told.then_some("text"));
    let as_json = |arguments: &[&str]| stage.gateway.cli(&[arguments, &["--output", "json"]].concat());
    let told_as_json =
        tells(&as_json(&["status"])?.stdout) || (!situation.look.is_empty() && tells(&as_json(situation.look)?.stdout));
    found.told.extend(told_as_json.then_some("json"));
    Ok(found)
}

fn carry_out(cure: &Cure, stage: &mut Stage<'_>) -> Result<Step, Fault> {
    match cure {
        Cure::Command(arguments) => Ok(typed(arguments, &stage.gateway.cli(arguments)?)),
        Cure::Hand(what, act) => {
            act(stage)?;
            Ok(Step::Done { what })
        }
    }
}

fn typed(arguments: &[&str], said: &Cli) -> Step {
    Step::Typed(Typed::new(arguments, said))
}
