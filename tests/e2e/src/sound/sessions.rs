//! Random schedules of what can happen to sessions, played on real gateways, each held to a model after every step.
//!
//! Time is real: `limits.session_idle` is two seconds, and schedules wait. The wall clock is set by hours to months,
//! while the gateway runs or is down, through a library that is loaded into it. A full disk is a limit of the process
//! on the size of files, so that the write of an end stops within a line. Sweeps are the gateway's own, each second; a
//! step waits long enough for one. Gateways are killed (or stopped) when what they have answered is on its way to the
//! disk: a kill within the milliseconds before may lose a use, which the model does not cover.
//!
//! Where the model cannot tell, because of the time that a request takes or of the 1/32 of the idle time by which a
//! restart may lengthen a life, either answer is right, and binds the model from then on; these cases are counted and
//! bounded. The same steps in virtual time, with idle times up to 7 days that are reconfigured, are a test of the
//! router (`session::tests::schedules`, 200 schedules of 60 steps).

mod machine;
mod model;

use std::{thread, time::Duration};

use fastrand::Rng;
use testkit::{Fault, Scratch, fault, raw::Raw};
use tokio::time::Instant;

use crate::{Figures, Size};
use machine::{Ending, Machine, compile_clock};
use model::{Clocks, Must, Session};

const HOUR: i64 = 3600;
/// By what a clock is set, in seconds.
const JUMPS: [i64; 6] = [HOUR, -HOUR, 26 * HOUR, -25 * HOUR, 700 * HOUR, -710 * HOUR];
/// Longer than the time between two sweeps.
const SWEEP: Duration = Duration::from_millis(1300);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let (schedules, workers, steps) = size.pick((200, 8, 24), (4, 4, 12));
    let scratch = Scratch::new("clock")?;
    let library = compile_clock(&scratch)?;
    let played = thread::scope(|scope| {
        let work = |worker: usize| {
            let library = &library;
            scope.spawn(move || {
                let mine = (worker..schedules).step_by(workers);
                mine.map(|number| Schedule::play(number, steps, library)).collect::<Result<Vec<_>, Fault>>()
            })
        };
        let threads: Vec<_> = (0..workers).map(work).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(fault("a worker panicked"))));
        joined.collect::<Result<Vec<_>, Fault>>()
    })?;
    let mut total = Count::default();
    played.into_iter().flatten().for_each(|count| total.add(count));
    Ok(total.figures(schedules))
}

/// What was done and seen.
#[derive(Debug, Default)]
struct Count {
    schedules: usize,
    live: usize,
    dead: usize,
    either: usize,
    deletes: usize,
    failed_deletes: usize,
    kills: usize,
    stops: usize,
    clock_jumps: usize,
    disagreements: Vec<String>,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.live += other.live;
        self.dead += other.dead;
        self.either += other.either;
        self.deletes += other.deletes;
        self.failed_deletes += other.failed_deletes;
        self.kills += other.kills;
        self.stops += other.stops;
        self.clock_jumps += other.clock_jumps;
        self.disagreements.extend(other.disagreements);
    }

    fn figures(self, wanted: usize) -> Figures {
        let mut figures = Figures::default();
        figures.demand("schedules", self.schedules, &wanted.to_string(), self.schedules == wanted);
        for (name, value) in [("verdicts_live", self.live), ("verdicts_dead", self.dead)] {
            figures.demand(name, value, &format!("at least {wanted}"), value >= wanted);
        }
        let open = self.either * 5 <= self.live + self.dead;
        figures.demand("either", self.either, "a fifth of the others at most", open);
        figures.note("deletes", self.deletes);
        figures.demand("failed_deletes", self.failed_deletes, "some", self.failed_deletes > 0);
        figures.demand("kills", self.kills, "some", self.kills > 0);
        figures.note("stops", self.stops);
        figures.demand("clock_jumps", self.clock_jumps, "some", self.clock_jumps > 0);
        figures.none("disagreements", self.disagreements);
        figures
    }
}

/// One schedule as it is played.
struct Schedule {
    number: usize,
    machine: Machine,
    clients: Vec<Raw>,
    sessions: Vec<Session>,
    clocks: Clocks,
    random: Rng,
    history: Vec<String>,
    count: Count,
}

impl Schedule {
    fn play(number: usize, steps: usize, library: &std::path::Path) -> Result<Count, Fault> {
        let mut schedule = Self {
            number,
            machine: Machine::start(library)?,
            clients: Vec::new(),
            sessions: Vec::new(),
            clocks: Clocks::default(),
            random: Rng::with_seed(number as u64),
            history: Vec::new(),
            count: Count { schedules: 1, ..Count::default() },
        };
        for _ in 0..3 {
            schedule.begin()?;
        }
        // Each has all kinds of steps, in an order of its own.
        for step in 0..steps {
            let kind = if step < KINDS { (step + number) % KINDS } else { schedule.random.usize(..KINDS) };
            schedule.step(kind).map_err(|error| error.during(schedule.story()))?;
        }
        for at in 0..schedule.sessions.len() {
            schedule.uses(at)?;
        }
        Ok(schedule.count)
    }

    fn story(&self) -> String {
        format!("schedule {}: {}", self.number, self.history.join(", "))
    }

    fn step(&mut self, kind: usize) -> Result<(), Fault> {
        let at = self.random.usize(..self.sessions.len());
        match kind {
            0 | 1 => self.uses(at).map(drop),
            2 => self.idle(),
            3 => self.restart(Ending::Kill, 0),
            4 => self.deletes(at, None),
            5 => {
                let room = self.random.usize(..60) as u64;
                self.deletes(at, Some(room))
            }
            6 => {
                self.history.push("sweep".into());
                // A sweep leaves no trace when it finds nothing.
                thread::sleep(SWEEP);
                Ok(())
            }
            7 => self.jump(),
            8 => {
                let jump = JUMPS[self.random.usize(..JUMPS.len())];
                self.restart(Ending::Kill, jump)
            }
            9 => self.restart(Ending::Stop, 0),
            _ => self.begin(),
        }
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.history.push(format!("begin {}", self.sessions.len()));
        let asked = Instant::now();
        self.clients.push(self.machine.open()?);
        self.sessions.push(Session::begun(asked, Instant::now()));
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Fault> {
        let time = Duration::from_millis(200 + self.random.usize(..2200) as u64);
        self.history.push(format!("idle {time:?}"));
        // The schedule itself: sessions are judged by how long they were idle.
        thread::sleep(time);
        Ok(())
    }

    /// Whether it lives, in which product and model agree or not.
    fn uses(&mut self, at: usize) -> Result<bool, Fault> {
        let asked = Instant::now();
        let status = self.machine.ping(&self.clients[at])?;
        let answered = Instant::now();
        self.history.push(format!("use {at}: {status}"));
        let lives = match status {
            200 => true,
            404 => false,
            other => return Err(fault(format!("a ping was answered with {other}"))),
        };
        self.judge(at, lives, asked, answered);
        Ok(lives)
    }

    fn judge(&mut self, at: usize, lives: bool, asked: Instant, answered: Instant) {
        let session = &mut self.sessions[at];
        let must = session.must(asked, answered);
        match must {
            Must::Live => self.count.live += 1,
            Must::BeDead => self.count.dead += 1,
            Must::Either => self.count.either += 1,
        }
        if lives {
            session.was_used(asked, answered);
        } else {
            session.died();
        }
        if must == if lives { Must::BeDead } else { Must::Live } {
            self.count.disagreements.push(format!("session {at} must {must:?}; {}", self.story()));
        }
    }

    /// On a disk with so much room, if it is full.
    fn deletes(&mut self, at: usize, room: Option<u64>) -> Result<(), Fault> {
        if !self.uses(at)? {
            return Ok(());
        }
        let asked = Instant::now();
        let status = match room {
            Some(room) => self.machine.delete_on_full_disk(&self.clients[at], room)?,
            None => self.machine.delete(&self.clients[at])?,
        };
        self.history.push(format!("DELETE {at}{}: {status}", if room.is_some() { ", disk full" } else { "" }));
        match (status, room) {
            // Also where a sweep wrote a shorter journal just then.
            (204, _) => {
                self.count.deletes += 1;
                self.sessions[at].died();
            }
            (500, Some(_)) => {
                self.count.failed_deletes += 1;
                self.sessions[at].was_used(asked, Instant::now());
            }
            (other, _) => return Err(fault(format!("DELETE was answered with {other}"))),
        }
        Ok(())
    }

    fn jump(&mut self) -> Result<(), Fault> {
        let jump = JUMPS[self.random.usize(..JUMPS.len())];
        self.history.push(format!("clock {:+}h", jump / HOUR));
        self.count.clock_jumps += 1;
        let unseen = self.clocks.set(jump);
        self.machine.set_clock(jump, unseen)
    }

    fn restart(&mut self, ending: Ending, jump: i64) -> Result<(), Fault> {
        let pause = Duration::from_millis(self.random.usize(..500) as u64);
        self.history.push(format!("{ending:?}, clock {:+}h", jump / HOUR));
        let ended = Instant::now();
        self.machine.restart(ending, pause, jump)?;
        self.clocks.restart(jump, ended.elapsed(), &mut self.sessions);
        self.count.kills += usize::from(ending == Ending::Kill);
        self.count.stops += usize::from(ending == Ending::Stop);
        self.count.clock_jumps += usize::from(jump != 0);
        Ok(())
    }
}

/// Of steps.
const KINDS: usize = 11;
