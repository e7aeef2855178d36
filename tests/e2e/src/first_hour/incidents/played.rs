//! One incident from its planting to its end, and all that was seen meanwhile.

use std::fs;

use serde_json::Value;
use testkit::{
    Fault, Scratch, Supervised, binaries,
    gateway::{self, Cli},
    wait,
};

use super::{
    situations::{Cure, Situation},
    stage::{LIMIT, Stage},
};

pub(super) struct Played {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) page: &'static str,
    pub(super) dead: bool,
    /// Commands as they were typed, or what was done by hand, with what came of it.
    pub(super) steps: Vec<Step>,
    /// In which forms the cause was told: in `status`, or in the command that it names.
    told: Vec<&'static str>,
    /// Whether `status` itself named the second command, where one was needed.
    pub(super) named: bool,
    pub(super) to_cause: usize,
    pub(super) to_cure: usize,
    pub(super) cured: bool,
    pub(super) looks: Vec<Look>,
    pub(super) watched: Vec<String>,
    wanted: &'static [&'static str],
    /// Paths and names of this run, with what a reader sees in their place.
    pub(super) places: Vec<(String, &'static str)>,
}

pub(super) enum Step {
    Typed { command: String, code: i32, output: String },
    Done { what: &'static str },
}

/// One `status` while the incident lasts.
pub(super) struct Look {
    pub(super) code: i32,
    /// By what it shows itself: a server that takes no calls, or a file that is refused.
    pub(super) is_dead: bool,
    pub(super) shown: String,
}

impl Look {
    fn of(said: &Cli) -> Result<Self, Fault> {
        let status = said.json()?;
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        let dead = servers.iter().filter(|server| {
            let failed = !server["endpoints"][0]["error"].is_null();
            match server["verdict"].as_str().unwrap_or_default() {
                "unhealthy" | "failing" => true,
                // One in its first attempt is not dead yet.
                "starting" => failed,
                _ => false,
            }
        });
        let dead: Vec<String> = dead.map(|server| format!("{} is {}", server["id"], server["verdict"])).collect();
        let is_refused = status["source"]["state"] == "refused";
        let is_dead = is_refused || !dead.is_empty();
        Ok(Self { code: said.code, is_dead, shown: format!("{} {}", dead.join(", "), status["source"]["state"]) })
    }
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
        dead: situation.dead,
        steps,
        told,
        named,
        to_cause,
        to_cure: situation.cure.len(),
        cured: false,
        looks,
        watched: Vec::new(),
        wanted: situation.watched,
        places: places(&stage)?,
    };
    for cure in situation.cure {
        played.steps.push(carry_out(cure, &mut stage)?);
    }
    wait::until_true("the cure", LIMIT, || {
        (situation.is_well)(&stage) && stage.gateway.cli(&["status"]).is_ok_and(|status| status.code == 0)
    })
    .map_err(|error| error.during(stage.gateway.cli(&["status"]).map_or_else(|_| String::new(), |said| said.stdout)))?;
    played.cured = true;
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
    let (mut looks, mut last) = (Vec::new(), String::new());
    let waited = wait::until("the gateway to notice", LIMIT, || {
        let look = || {
            let said = stage.gateway.cli(&["status", "--output", "json"])?;
            Ok::<_, Fault>((Look::of(&said)?, said.json()?))
        };
        match look() {
            Ok((look, status)) => {
                looks.push(look);
                last = status.to_string();
                // More than one look, where it shows at once.
                ((situation.shows)(&status) && looks.len() > 1).then_some(Ok(()))
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
    let command = format!("only1mcp {}", arguments.join(" "));
    Step::Typed { command, code: said.code, output: format!("{}{}", said.stdout, said.stderr) }
}

fn places(stage: &Stage<'_>) -> Result<Vec<(String, &'static str)>, Fault> {
    let programs = binaries::folder()?;
    Ok(vec![
        (stage.scratch.path().display().to_string(), "/srv/only1mcp"),
        (programs.display().to_string(), "/usr/bin"),
    ])
}
