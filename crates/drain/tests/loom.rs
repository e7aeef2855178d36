//! Every interleaving of the admission word that loom can find:
//! `RUSTFLAGS="--cfg loom" cargo test -p drain --release --test loom --target-dir target/loom`.

#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drain::{Admission, State};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;

/// What a router's lease does: each admitted exchange leaves, also when it panics or is dropped half way.
struct Inside<'a>(&'a Admission);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// An exchange that uses the endpoint: it must find it alive.
fn exchange(word: &Admission, gone: &AtomicBool) -> bool {
    let entered = word.enter();
    if entered {
        let _inside = Inside(word);
        assert!(!gone.load(SeqCst), "somebody is inside an endpoint that was ended");
    }
    entered
}

/// What the fleet does once a close succeeds.
fn close(word: &Admission, gone: &AtomicBool) {
    if word.try_close() {
        gone.store(true, SeqCst);
        assert_eq!(word.in_flight(), 0, "closed with somebody in flight");
        assert!(!word.enter(), "admitted after the close");
    }
}

#[test]
fn nobody_is_inside_after_the_close() {
    loom::model(|| {
        let word = Arc::new(Admission::new());
        let gone = Arc::new(AtomicBool::new(false));
        let visitors: Vec<_> = (0..2)
            .map(|_| {
                let (word, gone) = (Arc::clone(&word), Arc::clone(&gone));
                thread::spawn(move || exchange(&word, &gone))
            })
            .collect();
        word.cordon();
        close(&word, &gone);
        for visitor in visitors {
            visitor.join().unwrap();
        }
        close(&word, &gone);
        assert!(gone.load(SeqCst), "when all have left, it closes at the first try");
    });
}

#[test]
fn the_count_at_the_cordon_is_exact() {
    loom::model(|| {
        let word = Arc::new(Admission::new());
        let visitors: Vec<_> = (0..2)
            .map(|_| {
                let word = Arc::clone(&word);
                thread::spawn(move || word.enter())
            })
            .collect();
        let cordoned = word.cordon();
        let entered = visitors.into_iter().map(|visitor| visitor.join().unwrap());
        let entered = entered.filter(|entered| *entered).count() as u64;
        assert!(cordoned.first);
        assert_eq!(cordoned.in_flight, entered, "refused ones never count, admitted ones always do");
        assert_eq!(word.in_flight(), entered);
    });
}

#[test]
fn exactly_one_leaver_learns_that_it_was_the_last() {
    loom::model(|| {
        let word = Arc::new(Admission::new());
        assert!(word.enter() && word.enter());
        word.cordon();
        let leavers: Vec<_> = (0..2)
            .map(|_| {
                let word = Arc::clone(&word);
                thread::spawn(move || word.leave() && word.try_close())
            })
            .collect();
        let last = leavers.into_iter().map(|leaver| leaver.join().unwrap()).filter(|last| *last).count();
        assert_eq!(last, 1);
        assert_eq!(word.state(), State::Closed);
    });
}

#[test]
fn opening_again_and_closing_exclude_each_other() {
    loom::model(|| {
        let word = Arc::new(Admission::new());
        let gone = Arc::new(AtomicBool::new(false));
        word.cordon();
        let closer = {
            let (word, gone) = (Arc::clone(&word), Arc::clone(&gone));
            thread::spawn(move || close(&word, &gone))
        };
        let visitor = {
            let (word, gone) = (Arc::clone(&word), Arc::clone(&gone));
            thread::spawn(move || exchange(&word, &gone))
        };
        let opened = word.uncordon();
        closer.join().unwrap();
        visitor.join().unwrap();
        assert_ne!(opened, gone.load(SeqCst), "it is open again or closed for ever, and never both");
        assert_eq!(word.enter(), opened);
    });
}

#[test]
fn a_panicking_exchange_leaves() {
    loom::model(|| {
        let word = Arc::new(Admission::new());
        assert!(word.enter());
        let panicking = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                let exchange = std::panic::AssertUnwindSafe(|| {
                    let _inside = Inside(&word);
                    std::panic::resume_unwind(Box::new("the exchange panicked"));
                });
                assert!(std::panic::catch_unwind(exchange).is_err());
            })
        };
        word.cordon();
        let early = word.try_close();
        panicking.join().unwrap();
        assert!(early || word.try_close());
    });
}
