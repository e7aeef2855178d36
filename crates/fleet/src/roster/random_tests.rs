//! Whatever happens in whatever order: nothing is started twice, forgotten, or left running.

use model::ReplaceMode;
use proptest::prelude::*;

use std::collections::BTreeSet;

use super::*;
use crate::plan::tests::{backend, layout};

/// Which version of each server a snapshot has; the last one cannot run twice.
type Config = [Option<u8>; 3];
const ALONE: &str = "c";

#[derive(Debug, Clone)]
enum Step {
    Prepare(Config),
    Abort,
    Commit,
    Offer(Config),
    /// Answer a bring-up that is under way.
    Answer(prop::sample::Index, bool),
    Lose(prop::sample::Index),
    /// A call waits for one, whatever it does.
    Want(prop::sample::Index),
    /// The last exchange of one that is leaving has ended.
    Close(prop::sample::Index),
    End(prop::sample::Index),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let config = || prop::array::uniform3(prop::option::weighted(0.8, 0..3_u8));
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => config().prop_map(Step::Prepare),
        1 => Just(Step::Abort),
        3 => Just(Step::Commit),
        1 => config().prop_map(Step::Offer),
        8 => (index(), any::<bool>()).prop_map(|(which, ok)| Step::Answer(which, ok)),
        2 => index().prop_map(Step::Lose),
        2 => index().prop_map(Step::Want),
        4 => index().prop_map(Step::Close),
        4 => index().prop_map(Step::End),
        3 => (0..12_000_u16).prop_map(Step::Wait),
    ]
}

/// Shares with the live layout what has not changed, as a fleet does.
fn of(config: Config, live: Option<&Arc<Layout>>) -> Arc<Layout> {
    let backends = ["a", "b", ALONE].into_iter().zip(config).filter_map(|(id, version)| {
        let replace = if id == ALONE { ReplaceMode::StopFirst } else { ReplaceMode::Beside };
        Some(backend(id, &[&format!("http://{id}/{}", version?)], replace))
    });
    let whole = layout(&backends.collect::<Vec<_>>().iter().collect::<Vec<_>>());
    let shared = Layout::of(whole.content.clone(), live.map(Arc::as_ref));
    assert!(shared.backends == whole.backends && shared.keys().eq(whole.keys()));
    let differs = |key: &&EndpointKey| live.is_none_or(|live| !live.has(key));
    assert!(shared.changed_from(live.map(Arc::as_ref)).eq(whole.keys().filter(differs)));
    Arc::new(shared)
}

/// The world as far as the roster touches it.
struct World {
    roster: Roster,
    now: Time,
    revision: u64,
    attempts: u64,
    /// The attempt held, and whether it was reported.
    attempt: Option<(AttemptId, Arc<Layout>, bool)>,
    created: BTreeMap<Serial, EndpointKey>,
    /// Started once, and not ended since.
    running: BTreeSet<Serial>,
    bringing: BTreeSet<Serial>,
    ending: BTreeSet<Serial>,
}

impl World {
    fn new() -> Self {
        Self {
            roster: Roster::new(1),
            now: Time::ZERO,
            revision: 0,
            attempts: 0,
            attempt: None,
            created: BTreeMap::new(),
            running: BTreeSet::new(),
            bringing: BTreeSet::new(),
            ending: BTreeSet::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        self.roster.handle(self.now, event);
        self.carry_out();
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        self.roster.tick(self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.roster.poll_effect() {
            match effect {
                Effect::Act(Act::Create { serial, key, .. }) => {
                    assert!(self.created.insert(serial, key).is_none(), "{serial} made twice");
                }
                Effect::Act(Act::BringUp { serial, .. }) => {
                    assert!(self.created.contains_key(&serial), "{serial} was never made");
                    assert!(!self.ending.contains(&serial), "{serial} is ending");
                    assert!(self.bringing.insert(serial), "{serial} brought up twice at once");
                    self.running.insert(serial);
                }
                Effect::Act(Act::ShutDown { serial }) => {
                    assert!(self.created.contains_key(&serial) && self.ending.insert(serial), "{serial} ended twice");
                    self.bringing.remove(&serial);
                }
                Effect::Prepared { attempt, outcomes } => {
                    let (held, _, reported) = self.attempt.as_mut().expect("an attempt is held");
                    assert_eq!(*held, attempt);
                    assert!(!std::mem::replace(reported, true), "reported twice");
                    let all = outcomes.iter().all(|outcome| self.roster.is_wanted(&outcome.endpoint));
                    assert!(all, "{outcomes:?}");
                }
                Effect::Act(Act::List { .. })
                | Effect::Act(Act::NotListed { .. })
                | Effect::Act(Act::Limit { .. } | Act::Verdict { .. })
                | Effect::Publish { .. }
                | Effect::Act(Act::Restart { .. }) => {}
            }
        }
        self.check();
    }

    fn check(&self) {
        let members = self.roster.members();
        for key in self.roster.layout().into_iter().flat_map(|live| live.keys()) {
            let member = members.get(key).unwrap_or_else(|| panic!("{key} is live and not there"));
            assert!(!member.leaving && !self.ending.contains(&member.serial));
        }
        for (key, member) in members {
            assert_eq!(self.created.get(&member.serial), Some(key));
            assert_eq!(member.live, self.roster.layout().is_some_and(|live| live.has(key)), "{key}");
            assert_eq!(member.state.is_busy(), self.bringing.contains(&member.serial), "{key}: {:?}", member.state);
        }
        let alone = self.running.iter().filter(|serial| self.created[serial].backend.as_str() == ALONE);
        assert!(alone.count() <= 1, "two copies of one that cannot run twice");
        if let Some((_, layout, reported)) = &self.attempt {
            let busy = layout.changed_from(self.roster.layout().map(Arc::as_ref)).filter_map(|key| members.get(key));
            let busy = busy.into_iter().any(|member| member.state.is_busy());
            assert!(*reported || busy, "nothing is under way and nothing was reported");
        }
    }

    fn live(&mut self, layout: Arc<Layout>, prepared: Option<AttemptId>) {
        self.revision += 1;
        self.attempt.take_if(|(attempt, ..)| prepared == Some(*attempt));
        self.handle(Event::Live { revision: Revision(self.revision), layout, prepared });
    }

    fn abort(&mut self) {
        if let Some((attempt, ..)) = self.attempt.take() {
            self.handle(Event::Abort { attempt, keep_until: self.now + SPARE });
        }
    }

    fn step(&mut self, step: &Step) {
        let some = |from: Vec<Serial>, which: &prop::sample::Index| (!from.is_empty()).then(|| *which.get(&from));
        let members = self.roster.members().iter();
        match step {
            Step::Prepare(config) => {
                // As the follower does: the attempt before is given up first.
                self.abort();
                self.attempts += 1;
                let attempt = AttemptId { epoch: 1, sequence: self.attempts };
                let layout = of(*config, self.roster.layout());
                self.attempt = Some((attempt, Arc::clone(&layout), false));
                self.handle(Event::Prepare { attempt, layout, within: Duration::MAX });
            }
            Step::Abort => self.abort(),
            Step::Commit => {
                if let Some((attempt, layout, _)) = self.attempt.clone().filter(|(.., reported)| *reported) {
                    self.live(layout, Some(attempt));
                }
            }
            Step::Offer(config) => {
                self.abort();
                self.live(of(*config, self.roster.layout()), None);
            }
            Step::Answer(which, ok) => {
                if let Some(serial) = some(self.bringing.iter().copied().collect(), which) {
                    self.bringing.remove(&serial);
                    let result = if *ok { Ok(Offered::default()) } else { Err(Reason::own("no")) };
                    self.handle(Event::BroughtUp { serial, result });
                }
            }
            Step::Lose(which) => {
                let up = members.filter(|(_, member)| member.state.is_up()).map(|(_, member)| member.serial);
                if let Some(serial) = some(up.collect(), which) {
                    self.handle(Event::Lost { serial, reason: Reason::own("gone") });
                }
            }
            Step::Want(which) => {
                if let Some(serial) = some(members.map(|(_, member)| member.serial).collect(), which) {
                    self.handle(Event::Wanted { serial });
                }
            }
            Step::Close(which) => {
                let leaving = members.filter(|(key, member)| member.leaving && !self.roster.is_wanted(key));
                if let Some(serial) = some(leaving.map(|(_, member)| member.serial).collect(), which) {
                    self.handle(Event::Closed { serial });
                }
            }
            Step::End(which) => {
                if let Some(serial) = some(self.ending.iter().copied().collect(), which) {
                    self.ending.remove(&serial);
                    self.running.remove(&serial);
                    self.created.remove(&serial);
                    self.handle(Event::Ended { serial });
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(u64::from(*millis))),
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_started_twice_forgotten_or_left(steps in prop::collection::vec(step(), 0..120), first in any::<prop::sample::Index>()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        // In the end nothing is wanted, and nothing is left.
        world.step(&Step::Offer([None; 3]));
        for _ in 0..60 {
            for step in [Step::Answer(first, true), Step::Close(first), Step::End(first), Step::Wait(11_000)] {
                world.step(&step);
            }
        }
        prop_assert!(world.roster.members().is_empty(), "{:?}", world.roster.members());
        prop_assert!(world.running.is_empty() && world.created.is_empty());
    }
}
