//! The threads that serve clients, and how the rest of the router reaches them.

mod listening;

use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::shutdown::{Phase, Shutdown};
use runtime::telemetry::Sparing;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::watch;

use super::connection::connection;
use crate::core::clients::{Io, Patience};
use crate::core::in_flight::Presence;
use crate::core::seats::{Dealt, Seat};
use crate::core::{Busy, Command, Core, Everywhere, Mailbox, Mailboxes, Shared};
pub use listening::ListenError;
pub(crate) use listening::Listening;
use listening::{BACKLOG, Door};

/// The precision of the time limits of calls.
const SWEEP_EVERY: Duration = Duration::from_millis(25);
/// How long clients whose exchanges are cut off at the end have to take the last answer.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How many clients of a core are told at one time that there is no place, with time to read it.
const TURNED_AWAY_AT_ONCE: usize = 16;
/// How long such a client has to read that, and to send the rest of its request.
const FAREWELL: Duration = Duration::from_millis(500);
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// A log line that clients can cause in a loop.
static CANNOT_ACCEPT: Sparing = Sparing::new("cannot_accept", 10, Duration::from_secs(10));

/// The running cores.
#[derive(Debug)]
pub(crate) struct Cores {
    threads: Vec<JoinHandle<()>>,
    /// How many cores still have something in flight.
    busy: watch::Receiver<usize>,
}

impl Cores {
    /// The cores serve until `shutdown` says `Draining`, finish their exchanges until `Closing`, and then cut them off.
    pub(crate) fn start(
        listening: Listening,
        everywhere: &Everywhere,
        mailboxes: Mailboxes,
        shared: &Arc<Shared>,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let (busy_sender, busy) = watch::channel(mailboxes.0.len());
        let kept = listening.kept;
        let cores = listening.sockets.into_iter().zip(mailboxes.0).enumerate();
        let start = |(index, (sockets, mailbox)): (usize, (Vec<TcpListener>, _))| {
            let door = Door { sockets, kept };
            let (shared, everywhere, shutdown) = (Arc::clone(shared), everywhere.clone(), shutdown.clone());
            let running = Running { index, busy: busy_sender.clone(), shutdown: shutdown.clone() };
            std::thread::Builder::new().name(format!("data-{index}")).spawn(move || {
                let _running = running;
                let core = Rc::new(Core::new(shared, everywhere, index));
                if let Err(error) = run(&core, door, mailbox, &shutdown) {
                    tracing::error!(%error, index, "a data core cannot run; the process stops");
                    shutdown.trigger();
                }
            })
        };
        let threads = cores.map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, busy })
    }

    /// Returns once no core has anything in flight.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut busy = self.busy.clone();
        async move {
            // An error means that all cores have ended.
            drop(busy.wait_for(|busy| *busy == 0).await);
        }
    }

    /// After `Closing`: blocks until all cores have ended, and returns whether none of them panicked.
    pub(crate) fn join(self) -> bool {
        let panicked = self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if panicked > 0 {
            tracing::error!(panicked, "data cores panicked");
        }
        panicked == 0
    }
}

/// Counts one core as possibly having something in flight. Dropped when the core's thread ends, however it ends.
struct Running {
    index: usize,
    busy: watch::Sender<usize>,
    shutdown: Shutdown,
}

impl Drop for Running {
    /// If one core were missing, the process would keep refusing the clients that the system gives to that core.
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(index = self.index, "a data core panicked; the process stops");
            self.shutdown.trigger();
        }
        self.busy.send_modify(|busy| *busy -= 1);
    }
}

fn run(core: &Rc<Core>, door: Door, mailbox: Mailbox, shutdown: &Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let served = runtime.block_on(async {
        tokio::select! {
            served = work(core, door, mailbox, shutdown) => served,
            () = shutdown.reached(Phase::Closing) => {
                cut_off(core).await;
                Ok(())
            }
        }
    });
    // A request that is cut off now must not go on in the background.
    core.closing.set(true);
    served
}

/// Every exchange still in flight gets an answer that says why there is no other.
async fn cut_off(core: &Core) {
    core.drain();
    core.everywhere.note_cut_off(core.in_flight.counts());
    core.in_flight.stop();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let ended = async {
        loop {
            tokio::select! {
                () = core.connections.wait() => return,
                // A client that does not read now will not.
                _ = sweep.tick() => core.clients.sweep(core.now(), &Patience::closing()),
            }
        }
    };
    drop(tokio::time::timeout(LAST_WORDS, ended).await);
}

/// Runs the core until it drains and nothing is left.
async fn work(core: &Rc<Core>, door: Door, mailbox: Mailbox, shutdown: &Shutdown) -> io::Result<()> {
    let Mailbox { mut commands, mut dealt } = mailbox;
    let listeners = door.sockets.into_iter().map(tokio::net::TcpListener::from_std);
    let mut listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = std::pin::pin!(shutdown.reached(Phase::Draining));
    loop {
        // Until the next sweep, which keeps the time.
        let lets_in = core.drains() || !core.clients.keeps_waiting(core.places());
        tokio::select! {
            accepted = accept(&listeners), if lets_in => match accepted {
                Ok(stream) => deal(core, stream),
                Err(error) => refused_by_system(core, &error).await,
            },
            Some(dealt) = dealt.recv(), if lets_in => take(core, dealt),
            Some(command) = commands.recv() => obey(core, command),
            _ = sweep.tick() => {
                look_around(core);
                if core.drains() && core.connections.is_empty() && core.in_flight.len() == 0 {
                    // A connection that another core has passed on is served; from here on, no core passes one to this
                    // core.
                    dealt.close();
                    match dealt.try_recv() {
                        Ok(dealt) => take(core, dealt),
                        Err(TryRecvError::Disconnected) => return Ok(()),
                        // A connection is being passed on at this moment.
                        Err(TryRecvError::Empty) => {}
                    }
                }
            }
            () = &mut draining, if !core.drains() => {
                for listener in std::mem::take(&mut listeners) {
                    // Others accept what waits in a socket that outlives this process.
                    if !door.kept && !shutdown.is_succeeded() {
                        last_in(core, listener.into_std()?);
                    }
                }
                core.drain();
            }
        }
    }
}

/// The periodic work of a core: time limits, and what other threads see of this core.
fn look_around(core: &Core) {
    let now = core.now();
    core.in_flight.sweep(now);
    core.sweep_clients(now);
    let in_flight = &core.in_flight;
    let busy = Busy { connections: core.clients.len(), exchanges: in_flight.len() };
    core.everywhere.show(core.index, busy, in_flight.longest(now), in_flight.abandoned());
    core.forget(now);
}

/// Serves the connections that the system has already accepted. With the socket closed, later clients are refused at
/// once and do not wait in vain.
fn last_in(core: &Rc<Core>, socket: TcpListener) {
    // As many as wait in the socket's queue, and those that the system accepts meanwhile.
    let last: Vec<_> = std::iter::from_fn(|| socket.accept().ok()).take(2 * usize::from(BACKLOG)).collect();
    drop(socket);
    for (stream, _) in last {
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => let_in(core, stream, core.everywhere.seats.take(core.index)),
            Err(error) => tracing::debug!(%error, "a connection is lost at the end"),
        }
    }
}

/// The next connection on any of the sockets.
async fn accept(listeners: &[tokio::net::TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|context| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(context));
        let accepted = accepted.find(Poll::is_ready).unwrap_or(Poll::Pending);
        accepted.map_ok(|(stream, _)| stream)
    })
    .await
}

/// Gives a connection that came in here to the core with the fewest connections.
fn deal(core: &Rc<Core>, stream: TcpStream) {
    let seats = &core.everywhere.seats;
    let seat = seats.deal(core.index);
    if seat.core() == core.index {
        return let_in(core, stream, seat);
    }
    let passed = stream.into_std().map(|stream| core.everywhere.pass(Dealt { stream, seat }));
    match passed {
        Ok(None) => {}
        Ok(Some(Dealt { stream, .. })) => take(core, Dealt { stream, seat: seats.take(core.index) }),
        Err(error) => tracing::debug!(%error, "a connection is lost on its way to another core"),
    }
}

/// Lets in a connection that came in on another core.
fn take(core: &Rc<Core>, Dealt { stream, seat }: Dealt) {
    match TcpStream::from_std(stream) {
        Ok(stream) => let_in(core, stream, seat),
        Err(error) => tracing::debug!(%error, "a connection is lost on its way from another core"),
    }
}

/// Lets in a connection, if there is a place for it or another connection can be displaced.
fn let_in(core: &Rc<Core>, stream: TcpStream, seat: Seat) {
    if !has_place(core) {
        return turn_away(core, stream);
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let served = connection(Rc::clone(core), Io::new(core, stream));
    drop(core.connections.spawn_local(async move {
        served.await;
        drop(seat);
    }));
}

fn has_place(core: &Core) -> bool {
    core.clients.len() < core.places() || core.clients.displace()
}

/// Tells a client that there is no place for it.
fn turn_away(core: &Core, stream: TcpStream) {
    metrics::counter!("only1mcp_router_connections_refused_total").increment(1);
    tracing::debug!("a client is turned away: as many as may are connected (limits.connections)");
    if core.turned_away.len() < TURNED_AWAY_AT_ONCE {
        drop(core.turned_away.spawn_local(farewell(stream)));
    } else {
        // The socket is new, so it has room for the answer.
        drop(SockRef::from(&stream).send(TURNED_AWAY));
    }
}

/// A socket that is closed while bytes of its client are unread is reset, and the client may lose the answer: what it
/// sends is read until it has closed its side.
async fn farewell(mut stream: TcpStream) {
    let told = async {
        stream.write_all(TURNED_AWAY).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(tokio::time::timeout(FAREWELL, told).await);
}

/// Out of file descriptors, most likely: connections wait in the queue until a descriptor is free.
async fn refused_by_system(core: &Core, error: &io::Error) {
    if let Some(left_out) = CANNOT_ACCEPT.line() {
        tracing::warn!(%error, left_out, "a connection cannot be accepted");
    }
    core.clients.displace();
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn obey(core: &Core, command: Command) {
    match command {
        Command::Cancel { session, request } => core.in_flight.cancel(session, &request),
        Command::Evict { endpoint } => core.in_flight.evict(endpoint),
        Command::GiveUp { endpoint } => drop(core.in_flight.give_up(endpoint, Presence::Ended)),
    }
}

#[cfg(test)]
mod tests;
