//! How much a server may send unsolicited, per time: a server that floods is read more slowly, so that it delays only
//! itself, and no other child on the shared thread.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mcp::sse::{Decoder, Event, EventTooLarge};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::call::life;

/// What one message costs: this sets how many messages a second are read in the long run.
const COST: Duration = Duration::from_micros(100);
/// How much may be owed before reading stops: 2,000 messages at once.
const CREDIT: Duration = Duration::from_millis(200);
/// This many bytes cost as much as one message.
const BYTES: u64 = 4 << 10;
/// What a reply costs, in messages: over HTTP it is an exchange of its own, perhaps over a connection of its own.
const REPLY: u64 = 20;
/// What is read past between messages (comments, ids, empty lines) is in pieces of a few bytes, each of which is work.
const FRAMING: u64 = 8;
/// Bytes that end a line.
const LINE_END: usize = 2;
/// A piece of a body, and an event of it, costs what so many bytes cost: there may be one for each byte.
const PIECE: u64 = 256;
/// After this many messages at a time, other tasks run first.
const TURN: u32 = 32;
/// How long a stream that sends less than half of `TURN` at a time waits at most for what its server's other streams
/// have sent.
const COURTESY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// Messages since the last charge.
    said: u32,
    /// Bytes, and what counts as bytes, that do not yet make a whole message.
    bytes: u64,
    paid_until: Option<Instant>,
}

impl Unasked {
    pub(super) fn add(&mut self, bytes: usize) {
        self.said = self.said.saturating_add(1);
        self.count(bytes as u64 / BYTES * BYTES);
    }

    /// White space around a message. A line end is no more than what every message has.
    pub(super) fn add_blank(&mut self, bytes: usize) {
        if bytes > LINE_END {
            self.count(bytes as u64);
        }
    }

    /// A piece in which so many bytes were no part of any message.
    pub(super) fn add_piece(&mut self, framing: usize) {
        self.count(PIECE + FRAMING * framing as u64);
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.said = self.said.saturating_add(u32::try_from(self.bytes / BYTES).unwrap_or(u32::MAX));
        self.bytes %= BYTES;
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.said == 0
    }

    /// Whether other tasks should run first now, and until when nothing more may be read.
    pub(super) fn charge(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let said = std::mem::take(&mut self.said);
        (said >= TURN, owe(&mut self.paid_until, COST.saturating_mul(said), now))
    }

    /// Like [`Self::charge`], for one of the many streams of a server, which share one allowance.
    fn charge_shared(&mut self, together: &Together, now: Instant) -> Option<Instant> {
        let said = self.said;
        let together = together.owe(COST.saturating_mul(said), now);
        let together = if said < TURN / 2 { together.map(|until| until.min(now + COURTESY)) } else { together };
        self.charge(now).1.max(together)
    }
}

/// Until when nothing more may be read, if too much is owed.
fn owe(paid_until: &mut Option<Instant>, cost: Duration, now: Instant) -> Option<Instant> {
    let until = paid_until.map_or(now, |until| until.max(now)) + cost;
    *paid_until = Some(until);
    (until > now + CREDIT).then(|| until - CREDIT)
}

/// Unsolicited messages on all streams of an HTTP server, whichever task reads them: there may be one stream for each
/// call.
#[derive(Debug, Default)]
pub(crate) struct Together(Mutex<Option<Instant>>);

impl Together {
    /// Each stream gets its own time to go on, so that the streams do not all go on at once.
    fn owe(&self, cost: Duration, now: Instant) -> Option<Instant> {
        owe(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), cost, now)
    }
}

/// The pace at which unsolicited messages over HTTP are read: each has its cost, and other tasks run first now and
/// then.
#[derive(Debug, Default)]
pub(super) struct Pace {
    unasked: Unasked,
    /// Messages handled since other tasks had their turn.
    handled: u32,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A message that no call asked for.
    pub(super) fn add(&mut self, bytes: usize) {
        self.unasked.add(bytes);
        self.handled += 1;
    }

    /// The server sent a request, and a reply is on its way.
    pub(super) fn replied(&mut self) {
        self.unasked.count(REPLY * BYTES);
        self.handled += u32::try_from(REPLY).unwrap_or(TURN);
    }

    /// The next event of `piece`. Bytes that are no part of its message are charged.
    pub(super) fn next(&mut self, decoder: &mut Decoder, piece: &mut &[u8]) -> Result<Option<Event>, EventTooLarge> {
        let before = decoder.held() + piece.len();
        let event = decoder.next(piece);
        let message = event.as_ref().map_or(0, |event| event.as_ref().map_or(0, |event| event.data.len()));
        self.unasked.add_piece(before.saturating_sub(decoder.held() + piece.len() + message));
        self.handled += 1;
        event
    }

    /// Ready when the next message may be handled. What was handled is charged at each turn: a piece of a body may hold
    /// dozens of requests, whose replies would keep the core from its other calls.
    pub(super) fn poll_turn(&mut self, together: &Together, context: &mut Context<'_>) -> Poll<()> {
        if self.handled >= TURN {
            self.handled = 0;
            self.charge(together);
            if self.pause.is_none() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.poll_pause(context)
    }

    /// Ready when more may be read.
    pub(super) fn poll_read(&mut self, together: &Together, context: &mut Context<'_>) -> Poll<()> {
        self.charge(together);
        self.poll_pause(context)
    }

    fn charge(&mut self, together: &Together) {
        if !self.unasked.is_nothing()
            && let Some(until) = self.unasked.charge_shared(together, Instant::now())
        {
            self.pause = Some(Box::pin(sleep_until(until)));
        }
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(life::deaf_until(pause.as_mut().poll(context)));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_flood_is_read_at_the_rate_of_its_cost() {
        let (mut unasked, start) = (Unasked::default(), Instant::now());
        let say = |unasked: &mut Unasked, messages: u32, at: u64| {
            (0..messages).for_each(|_| unasked.add(60));
            let now = start + Duration::from_millis(at);
            let (turn, until) = unasked.charge(now);
            (turn, until.map(|until| until.since(start)))
        };
        assert_eq!(say(&mut unasked, 31, 0), (false, None));
        assert_eq!(say(&mut unasked, 1_969, 0), (true, None));
        assert_eq!(say(&mut unasked, 1_000, 0), (true, Some(100)));
        assert_eq!(say(&mut unasked, 1, 100), (false, Some(100)), "all of the credit is used");
        assert_eq!(say(&mut unasked, 1, 10_000), (false, None), "and is had back with time");
        (0..1_000).for_each(|_| unasked.add_piece(0));
        assert_eq!(unasked.said, 62, "pieces of a body cost little, and something");
        unasked.add_piece(16 << 10);
        assert_eq!(unasked.said, 94, "a piece of comments alone costs more than one of an answer");
        unasked.add(16 << 20);
        assert!(unasked.charge(start + Duration::from_secs(10)).1.is_some(), "bytes count, too");
        (0..100_000).for_each(|_| unasked.add_blank(2));
        assert!(unasked.is_nothing(), "line ends cost nothing");
        unasked.add_blank(64 << 10);
        assert_eq!(unasked.said, 16, "padding costs what bytes cost");
    }

    #[test]
    fn the_streams_of_one_server_share_a_rate_and_go_on_one_after_the_other() {
        let (together, now) = (Together::default(), Instant::now());
        let mut streams: Vec<_> = (0..100).map(|_| Unasked::default()).collect();
        let until: Vec<_> = streams
            .iter_mut()
            .filter_map(|unasked| {
                (0..400).for_each(|_| unasked.add(60));
                unasked.charge_shared(&together, now)
            })
            .map(|until| until.since(now))
            .collect();
        assert_eq!(until.len(), 95, "none owes too much alone");
        assert!(until.is_sorted() && until.windows(2).all(|pair| pair[0] < pair[1]), "{until:?}");
        assert_eq!(until.last(), Some(&3_800), "what forty thousand cost, less the credit");
        let mut quiet = Unasked::default();
        quiet.add(60);
        let until = quiet.charge_shared(&together, now).map(|until| until.since(now));
        assert_eq!(until, Some(1_000), "who says little does not wait for all that others said");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_piece_full_of_requests_few_are_answered_at_a_time() {
        let (together, mut pace, mut at) = (Together::default(), Pace::default(), Vec::new());
        let start = Instant::now();
        for _ in 0..200 {
            pace.add(60);
            pace.replied();
            poll_fn(|context| pace.poll_turn(&together, context)).await;
            at.push(Instant::now().since(start));
        }
        // 21 messages each, less the credit.
        assert!((210..240).contains(at.last().unwrap()), "{at:?}");
        let beyond_the_credit = &at[at.partition_point(|at| *at == 0)..];
        assert!(beyond_the_credit.len() > 90, "{at:?}");
        assert!(beyond_the_credit.windows(3).all(|three| three[0] < three[2]), "{at:?}");
    }

    trait Since {
        fn since(self, start: Instant) -> u128;
    }

    impl Since for Instant {
        fn since(self, start: Instant) -> u128 {
            (self - start).as_millis()
        }
    }
}
