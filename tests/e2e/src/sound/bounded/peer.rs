//! The interface of a hostile peer to the scenario.

use std::{
    net::SocketAddr,
    panic,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{Fault, Gateway, Scratch, Server, fault};
use tokio::time::Instant;

use super::{clients, operators, servers};

/// One kind of peer.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) attack: fn(&Scratch) -> Result<Box<dyn Attack>, Fault>,
}

impl Peer {
    /// Clients, servers, operators.
    pub(super) fn all() -> Vec<Self> {
        [clients::PEERS, servers::PEERS, operators::PEERS]
            .into_iter()
            .flatten()
            .map(|(name, attack)| Self { name, attack: *attack })
            .collect()
    }
}

pub(super) type Entry = (&'static str, fn(&Scratch) -> Result<Box<dyn Attack>, Fault>);

/// A peer, ready.
pub(super) trait Attack {
    /// Its entries in the configuration, if it is a server.
    fn servers(&self) -> Vec<Server> {
        Vec::new()
    }

    /// The program and its arguments that the gateway is started by, if it needs to be.
    fn under(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Does it until the target's end.
    fn act(&self, gateway: &Gateway, target: &Target) -> Result<(), Fault>;

    /// The number of its deeds that the target did not count.
    fn heard(&self) -> u64 {
        0
    }
}

/// The target of an attack, and for how long.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) mcp: SocketAddr,
    /// Counts what was done.
    pub(super) deeds: Arc<AtomicU64>,
    pub(super) until: Instant,
    /// Set when it ends earlier.
    pub(super) stopped: Arc<AtomicBool>,
}

impl Target {
    pub(super) fn new(mcp: SocketAddr, time: Duration) -> Self {
        Self { mcp, deeds: Arc::default(), until: Instant::now() + time, stopped: Arc::default() }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until || self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn did(&self) {
        self.deeds.fetch_add(1, Ordering::Relaxed);
    }

    /// The pace of an attack: the time between two deeds. Nothing is waited for by it.
    pub(super) fn pause(&self, time: Duration) {
        if !self.is_over() {
            thread::sleep(time);
        }
    }

    /// `deed` again and again on `threads` threads, with a pause after each. An error of a deed is what the gateway
    /// makes of it.
    pub(super) fn on_threads(&self, threads: usize, pause: Duration, deed: impl Deed) -> Result<(), Fault> {
        let threads = self.start(threads, pause, deed)?;
        let panicked = threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if panicked == 0 { Ok(()) } else { Err(fault("a thread of the peer panicked")) }
    }

    /// As [`Self::on_threads`], which go on meanwhile.
    pub(super) fn start(&self, threads: usize, pause: Duration, deed: impl Deed) -> Result<Vec<JoinHandle<()>>, Fault> {
        let start = |_| {
            let (target, deed) = (self.clone(), deed.clone());
            let all = move || {
                lowest_priority();
                while !target.is_over() {
                    drop(deed(&target));
                    target.pause(pause);
                }
            };
            thread::Builder::new().name("peer".to_owned()).spawn(all)
        };
        Ok((0..threads).map(start).collect::<Result<_, _>>()?)
    }
}

/// The calling thread, and those that it starts, get only idle processor time of this machine: a real hostile peer has
/// cores of its own elsewhere. A nice value is not enough: a nice thread still delays a ready one by some milliseconds.
fn lowest_priority() {
    let thread = nix::unistd::gettid().to_string();
    // A program of its own, so never for each connection: that would be the load. Without it, others only wait for the
    // machine.
    drop(Command::new("chrt").args(["--idle", "--pid", "0", &thread]).output());
}

/// Does `work` on a thread of that priority, which the programs that it starts inherit.
pub(super) fn at_lowest_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let all = || {
        lowest_priority();
        work()
    };
    thread::scope(|scope| scope.spawn(all).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// What a peer does again and again.
pub(super) trait Deed: Fn(&Target) -> Result<(), Fault> + Send + Clone + 'static {}

impl<F: Fn(&Target) -> Result<(), Fault> + Send + Clone + 'static> Deed for F {}
