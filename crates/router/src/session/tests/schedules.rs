//! Random schedules against a model that keeps, for each session, only the bounds of its idle time.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::gateway::{Fault, Gateway};
use crate::session::{Bounds, Sealed};

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    Use(usize),
    /// A share of the idle time, in thousandths.
    Idle(u64),
    Sweep,
    End(usize),
    FailedEnd(usize, Fault),
    /// Killed, and down for a share of the idle time.
    Restart(u64),
    /// In thousandths of the idle time.
    SetClock(i64),
    Reconfigure(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Clean), Just(Fault::Half)];
    prop_oneof![
        2 => Just(Step::Begin),
        6 => (0_usize..8).prop_map(Step::Use),
        5 => (0_u64..1300).prop_map(Step::Idle),
        2 => Just(Step::Sweep),
        1 => (0_usize..8).prop_map(Step::End),
        2 => ((0_usize..8), fault).prop_map(|(session, fault)| Step::FailedEnd(session, fault)),
        2 => (0_u64..600).prop_map(Step::Restart),
        2 => (-3000_i64..3000).prop_map(Step::SetClock),
        1 => prop_oneof![Just(1000_u64), Just(60_000), Just(7 * 86_400_000)].prop_map(Step::Reconfigure),
    ]
}

/// What must hold of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Live,
    /// After a restart it is not known exactly when the session was last used.
    Either,
    BeDead,
}

struct Modelled {
    sealed: Sealed,
    /// How long the session was idle, at least and at most; negative where time went back over a restart.
    idle: (i64, i64),
    /// The session has been idle for too long at some time, by the limit of that time.
    overdue: bool,
    dead: bool,
}

impl Modelled {
    fn must(&self, bounds: Bounds) -> Must {
        match () {
            () if self.dead || self.idle.0 > signed(bounds.idle) + SLACK => Must::BeDead,
            () if self.overdue || self.idle.1 > signed(bounds.idle) => Must::Either,
            () => Must::Live,
        }
    }

    fn passes(&mut self, least: i64, most: i64, bounds: Bounds) {
        self.idle = (self.idle.0 + least, self.idle.1 + most);
        self.overdue |= self.idle.1 > signed(bounds.idle);
    }
}

/// How much later than a use the next use may come without being noted.
const SLACK: i64 = 16;

struct Run {
    gateway: Gateway,
    all: Vec<Modelled>,
    /// The latest time that is surely on disk, and the coarsest grain in which uses may be written.
    written: u64,
    grain: u64,
    agreed: [usize; 3],
}

impl Run {
    fn step(&mut self, step: Step) {
        let bounds = self.gateway.bounds;
        let count = self.all.len();
        match step {
            Step::Begin => {
                let sealed = self.gateway.begin();
                self.all.push(Modelled { sealed, idle: (0, 0), overdue: false, dead: false });
            }
            Step::Use(at) => {
                self.used(at % count);
            }
            Step::Idle(share) => {
                let time = bounds.idle * share / 1000;
                self.gateway.elapse(time);
                self.all.iter_mut().for_each(|one| one.passes(signed(time), signed(time), bounds));
            }
            Step::Sweep => {
                self.gateway.pass(60_000);
                self.all.iter_mut().for_each(|one| one.passes(60_000, 60_000, bounds));
                self.written = self.gateway.stamp();
            }
            Step::End(at) => self.end(at % count, None),
            Step::FailedEnd(at, fault) => self.end(at % count, Some(fault)),
            Step::Restart(share) => self.restart(bounds.idle * share / 1000),
            Step::SetClock(share) => {
                self.gateway.set_clock(i64::try_from(bounds.idle / 1000).unwrap() * share);
            }
            Step::Reconfigure(idle) => {
                self.gateway.bounds.idle = idle;
                self.grain = self.grain.max(self.gateway.bounds.grain());
                let bounds = self.gateway.bounds;
                self.all.iter_mut().for_each(|one| one.passes(0, 0, bounds));
            }
        }
    }

    /// Uses the session, and compares the product with the model.
    fn used(&mut self, at: usize) -> bool {
        let must = self.all[at].must(self.gateway.bounds);
        let sealed = self.all[at].sealed.clone();
        let lives = self.gateway.uses(&sealed);
        match must {
            Must::Live => assert!(lives, "session {at} is in use"),
            Must::BeDead => assert!(!lives, "session {at} is dead"),
            Must::Either => {}
        }
        self.agreed[must as usize] += 1;
        let one = &mut self.all[at];
        one.dead = !lives;
        if lives {
            (one.idle, one.overdue) = ((0, SLACK), false);
        }
        lives
    }

    fn end(&mut self, at: usize, fault: Option<Fault>) {
        if !self.used(at) {
            return;
        }
        self.gateway.fault(fault);
        let sealed = self.all[at].sealed.clone();
        let ended = self.gateway.ends(&sealed);
        self.gateway.fault(None);
        assert_eq!(ended.is_ok(), fault.is_none());
        self.all[at].dead = fault.is_none();
    }

    fn restart(&mut self, down: u64) {
        let (stamp, bounds) = (self.gateway.stamp(), self.gateway.bounds);
        self.gateway.restart(down);
        // Where the clock was set back, time goes on from what was written last.
        let (wall, start) = (self.gateway.wall(), self.gateway.stamp());
        assert!(start >= wall && start >= self.written);
        let passed = signed(start) - signed(stamp);
        for one in &mut self.all {
            one.passes(passed - signed(self.grain), passed, bounds);
        }
    }
}

fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap()
}

#[test]
fn model_and_product_agree_on_who_lives() {
    let config = Config { cases: 200, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
    let idle = prop_oneof![Just(1000_u64), Just(60_000), Just(7 * 86_400_000)];
    let schedules = (idle, proptest::collection::vec(step(), 60));
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&schedules, |(idle, steps)| {
        let bounds = Bounds { idle, sessions: 1000 };
        let mut run =
            Run { gateway: Gateway::new(bounds), all: Vec::new(), written: 0, grain: bounds.grain(), agreed: [0; 3] };
        run.step(Step::Begin);
        steps.into_iter().for_each(|step| run.step(step));
        for at in 0..run.all.len() {
            run.used(at);
        }
        run.agreed.iter().zip(&mut AGREED.lock().unwrap()[..]).for_each(|(one, all)| *all += one);
        Ok(())
    });
    ran.unwrap();
    let agreed = *AGREED.lock().unwrap();
    let [live, either, dead] = agreed;
    assert!(live > 1000 && dead > 1000, "{agreed:?} say nothing");
    assert!(either * 4 < live + dead, "too much is left open: {agreed:?}");
}

static AGREED: std::sync::Mutex<[usize; 3]> = std::sync::Mutex::new([0; 3]);
