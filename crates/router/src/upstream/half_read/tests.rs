//! When a large answer gives way.

use super::*;

#[test]
fn a_large_answer_gives_way_only_while_others_wait_and_if_it_is_slow() {
    let looks = |pressed: &mut Pressed, bytes_each: u64, others_wait: bool| {
        (1..=100).find(|_| {
            pressed.bytes += bytes_each;
            pressed.is_over(others_wait)
        })
    };
    assert_eq!(looks(&mut Pressed::default(), 0, false), None, "no other answer needs its room");
    assert_eq!(looks(&mut Pressed::default(), LEAST, true), None, "it is as fast as it must be");
    assert_eq!(looks(&mut Pressed::default(), 1, true), Some(6));
    assert_eq!(looks(&mut Pressed::default(), LEAST / 2, true), Some(11));
    let mut pressed = Pressed { bytes: 0, lasted: GRACE };
    assert!(!pressed.is_over(false) && !pressed.is_over(true), "its time begins anew with those who wait");
}
