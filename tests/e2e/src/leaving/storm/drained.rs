//! One drain after the other, each looked at from its beginning until it is cancelled.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use serde_json::{Value, json};
use testkit::{Client, Fault, System, fault, wait};
use tokio::time::Instant;

use super::{PAIR, Stage};
use crate::Figures;

const LIMIT: Duration = Duration::from_secs(20);

/// What is asked for, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An endpoint that takes no more calls.
    Graceful,
    /// An endpoint whose share has fallen before the drain is cancelled.
    Fallen,
    /// An endpoint whose drain is cancelled in the middle.
    Falling,
    /// A server, at once.
    Immediate,
}

const KINDS: [Kind; 4] = [Kind::Graceful, Kind::Fallen, Kind::Falling, Kind::Immediate];

impl Kind {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Graceful => &["--strategy", "graceful"],
            Self::Fallen => &["--strategy", "progressive", "--interval", "100ms", "--weight-reduction", "50"],
            Self::Falling => &["--strategy", "progressive", "--interval", "250ms", "--weight-reduction", "5"],
            Self::Immediate => &["--strategy", "immediate"],
        }
    }
}

/// A drain that was cancelled.
pub(super) struct Drained {
    id: String,
    looks: usize,
    /// What of it was lost, or came too late.
    wrong: Vec<String>,
}

/// Who drains and cancels.
pub(super) struct Operator<'a> {
    stage: &'a Stage,
    /// Of the endpoints of [`PAIR`].
    digests: [String; 2],
    /// Calls that they had carried out before the drain before.
    carried: [usize; 2],
}

impl<'a> Operator<'a> {
    pub(super) fn new(stage: &'a Stage) -> Result<Self, Fault> {
        let found = wait::until("both endpoints", LIMIT, || {
            let status = stage.gateway.status().ok()?;
            let pair = status["servers"].as_array()?.iter().find(|server| server["id"] == "pair")?.clone();
            let up = pair["endpoints"].as_array()?.iter().filter(|endpoint| endpoint["tools"] != 0);
            let digests = up.filter_map(|endpoint| endpoint["digest"].as_str().map(str::to_owned));
            <[String; 2]>::try_from(digests.collect::<Vec<_>>()).ok()
        })?;
        let mut operator = Self { stage, digests: found, carried: [0; 2] };
        // Which digest is whose is seen by who answers while one of them is away.
        let drain = operator.begin(&["--endpoint", &operator.digests[0], "--strategy", "graceful"], "pair")?;
        wait::until_true("the first of them to be away", LIMIT, || {
            operator.find(&drain["id"]).is_ok_and(|drain| drain.is_some_and(|drain| drain["state"] == "done"))
        })?;
        if operator.answering()? == PAIR[0] {
            operator.digests.swap(0, 1);
        }
        operator.cli(&["drain", "--cancel", "pair"])?;
        Ok(operator)
    }

    /// Drains what carries most calls, looks at that drain for so long, and cancels it.
    pub(super) fn drain(&mut self, number: u32, holds: Duration) -> Result<Drained, Fault> {
        let kind = KINDS[number as usize % KINDS.len()];
        let carried = [self.carried_by(PAIR[0])?, self.carried_by(PAIR[1])?];
        let [one, other] = [0, 1].map(|twin| carried[twin] - self.carried[twin]);
        self.carried = carried;
        let twin = usize::from(other > one);
        let drain = match kind {
            Kind::Immediate => self.begin(kind.options(), "quiet")?,
            Kind::Graceful | Kind::Fallen | Kind::Falling => {
                self.begin(&[&["--endpoint", &self.digests[twin]], kind.options()].concat(), "pair")?
            }
        };
        let mut wrong = Vec::new();
        let (looks, last) = self.hold(&drain, twin, holds, &mut wrong)?;
        let share = last["weight_permille"].as_u64().unwrap_or_default();
        let as_asked = match kind {
            Kind::Falling => last["state"] == "draining" && (1..1000).contains(&share),
            Kind::Graceful | Kind::Fallen | Kind::Immediate => last["state"] == "done" && share == 0,
        };
        if !as_asked {
            wrong.push(format!("{kind:?} when it was cancelled: {last}"));
        }
        if kind == Kind::Immediate && Client::open(self.stage.gateway.mcp)?.text("quiet__whoami", &json!({})).is_ok() {
            wrong.push(format!("{kind:?}: a drained server took a call"));
        }
        self.cancel(kind, &drain, twin, &mut wrong)?;
        Ok(Drained { id: drain["id"].to_string(), looks, wrong })
    }

    /// Looks at the drain again and again. Returns how often, and what was seen last.
    fn hold(
        &self,
        drain: &Value,
        twin: usize,
        holds: Duration,
        wrong: &mut Vec<String>,
    ) -> Result<(usize, Value), Fault> {
        let (start, mut looks, mut last) = (Instant::now(), 0, drain.clone());
        let mut away: Option<usize> = None;
        while start.elapsed() < holds {
            looks += 1;
            match self.find(&drain["id"])? {
                None => wrong.push(format!("after {:?} it is not there any more: {drain}", start.elapsed())),
                Some(now) if ["server", "endpoint", "strategy", "started"].iter().any(|key| now[key] != drain[key]) => {
                    wrong.push(format!("it was {drain} and became {now}"));
                }
                Some(now) => last = now,
            }
            if drain["server"] == "pair" && last["state"] == "done" && away.is_none() {
                away = Some(self.carried_by(PAIR[twin])?);
            }
            // The pace of the looks.
            thread::sleep(holds / 10);
        }
        let carried = self.carried_by(PAIR[twin])?;
        if let Some(more) = away.map(|before| carried - before).filter(|more| *more > 0) {
            wrong.push(format!("{more} calls came to an endpoint that was away: {drain}"));
        }
        Ok((looks, last))
    }

    fn cancel(&self, kind: Kind, drain: &Value, twin: usize, wrong: &mut Vec<String>) -> Result<(), Fault> {
        let id = drain["id"].as_str().unwrap_or_default();
        let answer = self.cli(&["drain", "--cancel", id])?;
        let ended = &answer["ended"][0];
        let count = |key: &str| ended[key].as_u64().unwrap_or(u64::MAX);
        let adds_up = ["finished", "evicted", "in_flight"].map(count).into_iter().fold(0, u64::saturating_add)
            == count("total")
            && count("lost") == 0;
        if ended["id"] != drain["id"] || ended["state"] != "cancelled" || !adds_up {
            wrong.push(format!("cancelled: {answer}"));
        }
        if self.find(&drain["id"])?.is_some() {
            wrong.push(format!("{id} holds although it was cancelled"));
        }
        wait::until_true(&format!("calls again after {kind:?}"), LIMIT, || match kind {
            Kind::Immediate => Client::open(self.stage.gateway.mcp)
                .is_ok_and(|mut client| client.text("quiet__whoami", &json!({})).is_ok()),
            Kind::Graceful | Kind::Fallen | Kind::Falling => self.answering().is_ok_and(|name| name == PAIR[twin]),
        })
    }

    pub(super) fn judge(&self, drained: &[Drained], wanted: u32, figures: &mut Figures) -> Result<(), Fault> {
        let ids: BTreeSet<&str> = drained.iter().map(|drain| drain.id.as_str()).collect();
        figures.demand("drains_cancelled", ids.len(), &wanted.to_string(), ids.len() == wanted as usize);
        let fewest = drained.iter().map(|drain| drain.looks).min().unwrap_or_default();
        figures.demand("looks_at_each", fewest, "2 at least", fewest >= 2);
        figures.none("drains_wrong", drained.iter().flat_map(|drain| &drain.wrong));
        let held = self.held()?;
        figures.none("held_in_the_end", held.iter().filter(|drain| drain["cause"] == "admin"));
        Ok(())
    }

    fn begin(&self, options: &[&str], server: &str) -> Result<Value, Fault> {
        self.cli(&[&["drain", server], options].concat())
    }

    fn cli(&self, args: &[&str]) -> Result<Value, Fault> {
        self.stage.gateway.cli(&[args, &["--output", "json"]].concat())?.expect(0)?.json()
    }

    /// What runs or holds a server.
    fn held(&self) -> Result<Vec<Value>, Fault> {
        let held = self.cli(&["drains"])?;
        held.as_array().cloned().ok_or_else(|| fault(format!("no list: {held}")))
    }

    fn find(&self, id: &Value) -> Result<Option<Value>, Fault> {
        Ok(self.held()?.into_iter().find(|drain| drain["id"] == *id))
    }

    /// Which endpoint a new session gets.
    fn answering(&self) -> Result<String, Fault> {
        let text = Client::open(self.stage.gateway.mcp)?.text("pair__whoami", &json!({}))?;
        let said: Value = serde_json::from_str(&text)?;
        said["name"].as_str().map(str::to_owned).ok_or_else(|| fault(format!("no name in {said}")))
    }

    /// How many calls the backend has begun.
    fn carried_by(&self, name: &str) -> Result<usize, Fault> {
        let counts = self.stage.scratch.folder("counts")?.join(name);
        Ok(fs::read(counts).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count())
    }
}
