//! One run: chaos first, then quiet, in which everything has to come to its end.

use std::time::Duration;

use crate::content::{CURSED, Fate, Layers};
use crate::fault::Faults;
use crate::world::World;
use crate::world::traffic::{Exchanges, LONGEST};

/// A run is at least that long …
pub const MIN_EVENTS: u64 = 500;
/// … and commits at least that often.
pub const MIN_REVISIONS: usize = 5;

/// How long people are busy and faults happen.
const CHAOS: Duration = Duration::from_secs(80);
/// The quiet afterwards: the longest back-off, once for a source and once for a router, and the longest exchange.
const QUIET: Duration = Duration::from_secs(130 + LONGEST.as_secs());

/// The result of one seed.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    pub events: u64,
    pub revisions: usize,
    pub faults: Faults,
    pub exchanges: Exchanges,
    /// From the end of the faults until everything agreed.
    pub settled_in: Duration,
    /// The first violation of a rule.
    pub violation: Option<String>,
    /// Line by line, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed. With `trace`, everything that happens is written down.
pub fn run(seed: u64, trace: bool) -> Report {
    let mut world = World::new(seed, trace);
    let end = world.now + CHAOS;
    while world.checker.violations.is_empty() && world.now < end {
        world.step();
    }
    let quiet = world.now;
    world.calm();
    world.settle();
    let settled_in = world.now - quiet;
    Report {
        seed,
        events: world.events,
        revisions: world.checker.revisions(),
        faults: world.faults,
        exchanges: world.totals,
        settled_in,
        violation: world.checker.violations.into_iter().next(),
        trace: world.trace.unwrap_or_default(),
    }
}

impl World {
    /// Faults stop, and what they broke is repaired.
    fn calm(&mut self) {
        self.note(|| "calm".into());
        self.chaos = false;
        for router in &mut self.routers {
            router.down.clear();
            router.secretless.clear();
        }
        if let Some(old) = self.managers.first().filter(|manager| manager.fenced).map(|manager| manager.life) {
            self.end_manager(old);
        }
    }

    fn settle(&mut self) {
        let mut end = self.now + QUIET;
        let mut look = self.now;
        let mut missing = String::new();
        while self.checker.violations.is_empty() {
            self.step();
            if self.now < look {
                continue;
            }
            look = self.now + Duration::from_secs(1);
            let enough = self.events >= MIN_EVENTS && self.checker.revisions() >= MIN_REVISIONS;
            let broken = self.file.text.as_ref().is_some_and(|text| text.fate == Fate::Broken);
            if self.head().is_none() && broken {
                // A log was lost while the file had no content: its author has to repair that.
                self.edit_well();
            }
            match self.settled() {
                Ok(()) if enough => return self.account(),
                Ok(()) => {
                    self.edit_well();
                    end = self.now + QUIET;
                }
                Err(why) => missing = why,
            }
            if self.now > end {
                self.fail(format!("not settled {QUIET:?} after the last fault: {missing}"));
            }
        }
    }

    /// Every exchange has ended exactly once, or is under way.
    fn account(&mut self) {
        let Exchanges { admitted, finished, evicted, lost, .. } = self.totals;
        let under_way = self.in_flight();
        if admitted != finished + evicted + lost + under_way {
            self.fail(format!(
                "{admitted} admitted, {finished} finished, {evicted} evicted, {lost} lost, {under_way} under way"
            ));
        }
    }

    /// Checks what has to be true once faults have stopped; the error says what is not true yet.
    fn settled(&self) -> Result<(), String> {
        let Some((revision, known)) = self.head() else { return Err("there is no revision".into()) };
        let Some(manager) = self.present_manager() else { return Err("no config-manager".into()) };
        if !self.file.is_settled() {
            return Err("the file is being written".into());
        }
        let digest = self.file.digest();
        let source = manager.desk.source().ok_or("no file")?;
        if source.cursor() != digest {
            return Err(format!("the file's last content {digest:?} was not judged: {:?}", source.state()));
        }
        if let Some(text) =
            self.file.text.as_ref().filter(|text| text.fate == Fate::Whole && self.checker.rolled_over != digest)
        {
            let cursed = text.servers.iter().any(|server| server.version == CURSED);
            let layers = Layers { file: Some(text.clone()), api: manager.layers.api.clone() };
            let wanted = self.contents.known_of(&layers);
            if !cursed && wanted.is_none_or(|wanted| wanted != known.content.digest) {
                return Err(format!("the file says {wanted:?}, {revision} is {:?}", known.content.digest));
            }
        }
        if !self.checker.all_ended(manager.life) {
            return Err("a proposal has no end, or a caller no answer".into());
        }
        self.all_have(revision, &known)?;
        self.departed()?;
        self.overlay_is_told()?;
        self.drains_over()
    }
}
