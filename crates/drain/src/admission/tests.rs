//! One thread at a time; every interleaving of several is searched by `tests/loom.rs`.

use super::{Admission, Cordoned, State};

#[test]
fn opens_cordons_opens_and_closes_for_ever() {
    let word = Admission::new();
    assert!(word.enter() && word.enter());
    assert!(!word.try_close(), "an open word does not close");
    assert_eq!(word.cordon(), Cordoned { in_flight: 2, first: true });
    assert!(!word.enter(), "cordoned");
    assert!(!word.leave(), "one is left");
    assert_eq!(word.cordon(), Cordoned { in_flight: 1, first: false });
    assert!(!word.try_close(), "one is left");

    assert!(word.uncordon());
    assert!(word.enter());
    assert!(!word.leave() && !word.leave(), "the last one out of an open endpoint is nobody's business");
    assert_eq!((word.state(), word.in_flight()), (State::Open, 0));

    assert_eq!(word.cordon(), Cordoned { in_flight: 0, first: true });
    assert!(word.try_close());
    assert!(word.try_close(), "closed stays closed");
    assert!(!word.uncordon() && !word.enter());
    assert_eq!(word.cordon(), Cordoned { in_flight: 0, first: false });
    assert_eq!(word.state(), State::Closed);
}

#[test]
fn the_last_one_out_of_a_cordoned_endpoint_knows() {
    let word = Admission::new();
    assert!(word.enter() && word.enter());
    word.cordon();
    assert!(!word.leave());
    assert!(word.leave());
    assert!(word.try_close());
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "left without having entered")]
fn leaving_twice_is_a_bug_that_shows() {
    let word = Admission::new();
    assert!(word.enter());
    word.leave();
    word.leave();
}
