//! The connections of clients on one data core: what each connection waits for, and since when. The time that a client
//! may take is bounded: no silent client holds a connection and its memory for ever.
//!
//! An event on a connection is noted where it happens, without a call to the clock: the core's sweep keeps the time.
//! The sweep also decides which connections are closed.

mod io;
mod needed;
mod patience;
mod remembered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use model::Time;

use super::in_flight::{InFlight, Presence, Slot};
use crate::budget::{Behind, Budget, Charge};
use crate::session::Listener;
pub(crate) use io::Io;
pub(crate) use needed::Needed;
use patience::HEAD;
pub(crate) use patience::Patience;
use remembered::Remembered;

/// A connection that has asked and was silent for less time is not given up for another one.
const SETTLED: Duration = Duration::from_secs(1);
/// For so many sweeps a connection that has not asked yet is not given up for another one: its request may be on its
/// way, or here and not read yet. Sweeps and not time, because the process may not run for a while. Where nothing else
/// makes room, new connections wait meanwhile, so that those of a flood cannot take the place of a client that came
/// among them.
const ARRIVES: u64 = 4;
/// A client that found no place tries again within this time, if it still wants one.
const CROWDED: Duration = Duration::from_secs(2);

/// Why the router closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// No request began in time.
    Silent,
    /// The head of a request did not come in time.
    SlowHead,
    /// The client was silent for too long after it was served.
    Idle,
    /// The client did not read (`limits.write`), or read too slowly while others waited.
    Unread,
    /// Another client needed the place, and this client did nothing with it.
    Displaced,
}

impl Closed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::SlowHead => "slow_head",
            Self::Idle => "idle",
            Self::Unread => "unread",
            Self::Displaced => "displaced",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// No request has come yet.
    New,
    /// The body of a request is incomplete.
    Body,
    /// A request is being answered.
    Serving,
    /// The answer has begun, and its body may go on; the next request has not begun.
    Answered,
    /// A part of the next request's head has come.
    Head,
}

/// What a client does with its place, the least useful first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Never,
    Nothing,
    /// Its request is incomplete.
    Sends,
    /// The client has closed its side, and most likely reads nothing either; but it may still want its answer.
    Ended,
    /// The client listens, and another stream of its session has listened for longer.
    ListensAsWell,
    Listens,
}

/// What the sweep tells a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Check whether the client is still there: nothing is read while a call runs.
    Look,
    Close(Closed),
}

/// What kind of answer a client is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Little,
    /// A large answer, which has its share of the room.
    Large,
    /// Notifications: the client has no more to send, so its connection ends when it closes its side.
    Notifications,
}

/// How a client reads what its socket did not take at once, until a sweep finds that it has caught up.
#[derive(Debug, Clone, Copy, Default)]
struct Unread {
    /// Since when the socket has taken nothing; none if nothing waits for it.
    stalled: Option<Time>,
    /// Bytes taken since the last sweep.
    taken: usize,
    behind: Behind,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// Counts the connections of its core: of several that came at one time, it tells the older one.
    number: u64,
    /// The number of sweeps before it came.
    came: u64,
    turn: Cell<Turn>,
    /// When the turn began, or when bytes last came in.
    since: Cell<Time>,
    /// The connection waits for bytes from its client.
    reading: Cell<bool>,
    unread: Cell<Option<Unread>>,
    /// The charge for bytes that wait for the socket to take them.
    unsent: RefCell<Option<Charge>>,
    /// The kind of its last answer.
    takes: Cell<Takes>,
    pub(crate) remembered: Remembered,
    /// The stream that the client listens on, if that was its last answer.
    listener: RefCell<Option<Listener>>,
    /// Whether the client is there, as of the last look.
    presence: Cell<Presence>,
    /// The call that the client waits for.
    call: Cell<Option<Slot>>,
    told: Cell<Option<Told>>,
    waker: RefCell<Option<Waker>>,
    place: Cell<usize>,
}

/// All connections of a core.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    now: Cell<Time>,
    sweeps: Cell<u64>,
    all: RefCell<Vec<Rc<Client>>>,
    entered: Cell<u64>,
    /// How many clients have unread bytes.
    unread: Cell<usize>,
    /// When all clients were last looked at, and not only those that do not read.
    looked: Cell<Time>,
    /// When it was last judged how far clients are behind.
    judged: Cell<Time>,
    /// When a new client last found no place.
    crowded: Cell<Option<Time>>,
}

/// How often all clients are looked at: their limits are counted in seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same while new clients find no place.
const LOOK_CROWDED: Duration = Duration::from_millis(200);

impl Clients {
    pub(crate) fn enter(&self) -> Rc<Client> {
        let mut all = self.all.borrow_mut();
        let number = self.entered.get() + 1;
        self.entered.set(number);
        let client = Rc::new(Client {
            number,
            came: self.sweeps.get(),
            turn: Cell::new(Turn::New),
            since: Cell::new(self.now.get()),
            reading: Cell::new(false),
            unread: Cell::new(None),
            unsent: RefCell::new(None),
            takes: Cell::new(Takes::Little),
            remembered: Remembered::default(),
            listener: RefCell::new(None),
            presence: Cell::new(Presence::Here),
            call: Cell::new(None),
            told: Cell::new(None),
            waker: RefCell::new(None),
            place: Cell::new(all.len()),
        });
        all.push(Rc::clone(&client));
        client
    }

    fn leave(&self, client: &Client) {
        self.caught_up(client);
        *client.unsent.borrow_mut() = None;
        let mut all = self.all.borrow_mut();
        all.swap_remove(client.place.get());
        if let Some(moved) = all.get(client.place.get()) {
            moved.place.set(client.place.get());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// The time as of the last sweep.
    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    fn stalls(&self, client: &Client) {
        let unread = client.unread.get().unwrap_or_else(|| {
            self.unread.set(self.unread.get() + 1);
            Unread::default()
        });
        client.unread.set(Some(Unread { stalled: unread.stalled.or_else(|| Some(self.now.get())), ..unread }));
    }

    fn caught_up(&self, client: &Client) {
        if client.unread.take().is_some() {
            self.unread.set(self.unread.get() - 1);
        }
    }

    /// Keeps the time, and closes connections whose clients have taken too long.
    pub(crate) fn sweep(&self, now: Time, patience: &Patience) {
        self.now.set(now);
        self.sweeps.set(self.sweeps.get() + 1);
        let (every, served) = if self.is_crowded() { (LOOK_CROWDED, Duration::ZERO) } else { (LOOK_EVERY, SETTLED) };
        let look = now.since(self.looked.get()) >= every;
        if !look && patience.head >= HEAD && self.unread.get() == 0 {
            return;
        }
        if look {
            self.looked.set(now);
        }
        for client in &*self.all.borrow() {
            if let Some(why) = client.is_overdue(now, patience) {
                client.close(why);
            } else if look && client.is_served() && now.since(client.since.get()) >= served {
                client.look();
            }
        }
    }

    /// Whether a new client found no place a short while ago.
    fn is_crowded(&self) -> bool {
        self.crowded.get().is_some_and(|crowded| self.now.get().since(crowded) < CROWDED)
    }

    /// Gives up one client that holds what others need, and that has read nothing for a while or is too far behind. Of
    /// these clients, the one that has read nothing for longest goes. Returns whether there was one.
    pub(crate) fn give_up_unread(&self, needed: Needed) -> bool {
        let now = self.now.get();
        let lasted = now.since(self.judged.replace(now));
        if self.unread.get() == 0 {
            return false;
        }
        let needed = Needed { places: needed.places || self.is_crowded(), ..needed };
        let all = self.all.borrow();
        let given_up = all.iter().filter_map(|client| Some((self.stalled_too_long(client, lasted, needed)?, client)));
        let longest = given_up.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, client)| client.close(Closed::Unread))
    }

    /// Since when the client has read nothing, if it is to be given up for that.
    fn stalled_too_long(&self, client: &Client, lasted: Duration, needed: Needed) -> Option<Time> {
        let mut unread = client.unread.get()?;
        let Some(since) = unread.stalled else {
            self.caught_up(client);
            return None;
        };
        let (hesitation, others_wait) = needed.of(client.takes.get());
        let taken = std::mem::take(&mut unread.taken) as u64;
        let behind = unread.behind.is_too_far(taken, lasted, others_wait);
        client.unread.set(Some(unread));
        let silent = hesitation.is_some_and(|hesitation| self.now.get().since(since) >= hesitation);
        ((behind || silent) && client.is_open()).then_some(since)
    }

    /// Makes room for a new connection by giving up one that does nothing. Returns whether there was one. First go
    /// connections that have never asked, then idle ones, then those with an incomplete request, and last those that
    /// only listen.
    ///
    /// Of connections that listen, one whose session has an older stream goes before the only one of a session.
    pub(crate) fn displace(&self) -> bool {
        let displaced = self.least_useful().is_some_and(|client| client.close(Closed::Displaced));
        if !displaced {
            self.crowded.set(Some(self.now.get()));
        }
        displaced
    }

    /// Whether a new connection waits to be let in: all places are taken, and none of those that might make room has
    /// been there for long enough.
    pub(crate) fn keeps_waiting(&self, places: usize) -> bool {
        let is_new = |client: &Rc<Client>| client.turn.get() == Turn::New && client.is_open();
        self.len() >= places && self.least_useful().is_none() && self.all.borrow().iter().any(is_new)
    }

    fn least_useful(&self) -> Option<Rc<Client>> {
        let all = self.all.borrow();
        let candidates = all.iter().filter(|client| client.is_open());
        let unused = candidates.filter_map(|client| Some((client.use_of(self)?, client)));
        let least = unused.min_by_key(|(used, client)| (*used, client.since.get(), client.number));
        least.map(|(_, client)| Rc::clone(client))
    }
}

impl Client {
    /// A request has come.
    pub(crate) fn asks(&self) {
        self.turn.set(Turn::Serving);
    }

    /// The body of the request did not come with the head.
    pub(crate) fn sends(&self, now: Time) {
        self.turn.set(Turn::Body);
        self.since.set(now);
    }

    /// The request is complete.
    pub(crate) fn note_sent(&self, now: Time) {
        self.asks();
        self.since.set(now);
    }

    /// The client waits for that call.
    pub(crate) fn waits_for(&self, call: Slot, in_flight: &InFlight) {
        self.call.set(Some(call));
        in_flight.note_presence(call, self.presence.get());
    }

    /// Records whether the client is still there.
    fn note_presence(&self, presence: Presence, in_flight: &InFlight) {
        self.presence.set(presence);
        if let Some(call) = self.call.get() {
            in_flight.note_presence(call, presence);
        }
    }

    /// The call that the client waited for is over.
    pub(crate) fn waits_no_more(&self) {
        self.call.set(None);
    }

    /// Whether no request is being read or served.
    pub(crate) fn may_ask(&self) -> bool {
        matches!(self.turn.get(), Turn::New | Turn::Answered)
    }

    /// The answer to the request is complete, or begins.
    pub(crate) fn note_answered(&self, takes: Takes) {
        self.turn.set(Turn::Answered);
        self.reading.set(false);
        self.takes.set(takes);
    }

    /// The kind of the answer changes while it is sent.
    pub(crate) fn takes(&self, takes: Takes) {
        self.takes.set(takes);
    }

    /// The answer is a stream of notifications, which goes on.
    pub(crate) fn listens(&self, listener: Listener) {
        self.since.set(listener.since);
        *self.listener.borrow_mut() = Some(listener);
    }

    /// What the client does with its place, if it may lose that place.
    fn use_of(&self, clients: &Clients) -> Option<Use> {
        let settled = clients.now.get().since(self.since.get()) >= SETTLED;
        match self.turn.get() {
            // Only after the first read: the request may be here already, and until then it may be on its way.
            Turn::New => (self.reading.get() && clients.sweeps.get() - self.came >= ARRIVES).then_some(Use::Never),
            Turn::Body => settled.then_some(Use::Sends),
            Turn::Answered if self.reading.get() => settled.then_some(Use::Nothing),
            Turn::Head => settled.then_some(Use::Nothing),
            Turn::Answered if self.takes.get() == Takes::Notifications && settled => {
                let listener = self.listener.borrow();
                let further = listener.as_ref().is_some_and(Listener::is_further);
                Some(if further { Use::ListensAsWell } else { Use::Listens })
            }
            Turn::Answered | Turn::Serving => (self.presence.get() == Presence::Ended && settled).then_some(Use::Ended),
        }
    }

    /// Whether a request is being answered, so that the connection does not notice when the client closes its side.
    fn is_served(&self) -> bool {
        match self.turn.get() {
            Turn::Serving => true,
            Turn::Answered => !self.reading.get() && self.takes.get() != Takes::Notifications,
            Turn::New | Turn::Body | Turn::Head => false,
        }
    }

    /// The socket takes no more, and `bytes` bytes wait for it.
    fn owes(&self, bytes: usize, budget: &Budget) {
        self.unsent.borrow_mut().get_or_insert_with(|| budget.nothing()).set(bytes);
    }

    /// The socket has taken something.
    fn moves(&self, bytes: usize) {
        if let Some(unread) = self.unread.get() {
            self.unread.set(Some(Unread { stalled: None, taken: unread.taken + bytes, ..unread }));
            *self.unsent.borrow_mut() = None;
        }
    }

    /// The connection waits for the client's next bytes.
    fn waits(&self, now: Time) {
        if !self.reading.replace(true) && self.turn.get() != Turn::New {
            self.since.set(now);
        }
    }

    /// Bytes have come.
    fn speaks(&self, now: Time) {
        if self.turn.get() == Turn::Answered {
            self.turn.set(Turn::Head);
            self.since.set(now);
        }
    }

    /// Sets the waker of the connection's task, to be woken when the connection is closed.
    pub(crate) fn lives_in(&self, waker: Waker) {
        *self.waker.borrow_mut() = Some(waker);
    }

    fn is_open(&self) -> bool {
        self.closed().is_none()
    }

    fn closed(&self) -> Option<Closed> {
        match self.told.get() {
            Some(Told::Close(why)) => Some(why),
            Some(Told::Look) | None => None,
        }
    }

    /// Has the connection check whether its client is still there.
    fn look(&self) {
        if self.is_open() {
            self.told.set(Some(Told::Look));
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// Has the connection end with an error at its next read or write.
    fn close(&self, why: Closed) -> bool {
        self.told.set(Some(Told::Close(why)));
        metrics::counter!("only1mcp_router_connections_closed_total", "reason" => why.as_str()).increment(1);
        tracing::debug!(reason = why.as_str(), "a client's connection is given up");
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn is_overdue(&self, now: Time, patience: &Patience) -> Option<Closed> {
        let lasts = |since: Time| now.since(since.max(patience.since));
        let after = |limit: Duration, why| (lasts(self.since.get()) >= limit).then_some(why);
        if !self.is_open() {
            return None;
        }
        let stalled = self.unread.get().and_then(|unread| unread.stalled);
        if stalled.is_some_and(|stalled| lasts(stalled) >= patience.write) {
            return Some(Closed::Unread);
        }
        match self.turn.get() {
            Turn::New => after(patience.first_head, Closed::Silent),
            Turn::Head => after(patience.head, Closed::SlowHead),
            Turn::Answered if self.reading.get() => after(patience.idle, Closed::Idle),
            Turn::Answered | Turn::Body | Turn::Serving => None,
        }
    }
}

#[cfg(test)]
mod tests;
