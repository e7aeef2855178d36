//! Who gets room, and when.

use std::task::Waker;

use super::*;

/// Eight times the room.
const BUFFERED: u64 = 8 * 100;

fn poll(place: &mut Place) -> Option<Share> {
    match Pin::new(place).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(share) => Some(share),
        Poll::Pending => None,
    }
}

#[test]
fn the_longest_waits_first_and_nobody_passes_it() {
    let room = Room::default();
    let first = poll(&mut room.share(1, 60, BUFFERED)).expect("all is free");
    assert!(!room.is_wanted());
    let (mut large, mut small) = (room.share(1, 70, BUFFERED), room.share(1, 10, BUFFERED));
    assert!(poll(&mut large).is_none() && poll(&mut small).is_none() && first.is_wanted());
    drop(first);
    let (large, small) = (poll(&mut large), poll(&mut small));
    assert!(large.is_some() && small.is_some() && !room.is_wanted());
    assert!(poll(&mut room.share(1, 21, BUFFERED)).is_none());
    drop((large, small));
    assert_eq!(room.with(|queue| queue.taken), 0);
}

#[test]
fn one_larger_than_the_room_gets_all_of_it() {
    let room = Room::default();
    let small = poll(&mut room.share(1, 1, BUFFERED)).expect("all is free");
    let mut larger = room.share(1, 1000, BUFFERED);
    assert!(poll(&mut larger).is_none());
    drop(small);
    let mut larger = poll(&mut larger).expect("it is alone");
    let mut small = room.share(1, 1, BUFFERED);
    assert!(poll(&mut small).is_none());
    larger.shrink(99);
    assert!(poll(&mut small).is_some(), "what is not needed is free at once");
}

#[test]
fn one_that_leaves_makes_way() {
    let room = Room::default();
    let held = poll(&mut room.share(1, 50, BUFFERED)).expect("all is free");
    let (large, mut small) = (room.share(1, 100, BUFFERED), room.share(1, 10, BUFFERED));
    assert!(poll(&mut small).is_none(), "behind the large one");
    drop(large);
    assert!(poll(&mut small).is_some() && !room.is_wanted());
    // One that leaves after it was let in takes nothing with it.
    let unseen = room.share(1, 100, BUFFERED);
    drop(held);
    assert!(!room.is_wanted());
    drop(unseen);
    assert!(poll(&mut room.share(1, 100, BUFFERED)).is_some());
}

#[test]
fn servers_take_turns() {
    let room = Room::default();
    let held = poll(&mut room.share(1, 100, BUFFERED)).expect("all is free");
    let mut greedy: Vec<_> = (0..3).map(|_| room.share(1, 100, BUFFERED)).collect();
    let (mut modest, mut late) = (room.share(2, 100, BUFFERED), room.share(3, 100, BUFFERED));
    assert!(poll(&mut modest).is_none());
    drop(held);
    assert!(poll(&mut greedy[0]).is_none());
    drop(poll(&mut modest).expect("the first server has had its turn"));
    drop(poll(&mut late).expect("this one has had none"));
    let first = poll(&mut greedy[0]).expect("no other server waits");
    assert!(poll(&mut greedy[1]).is_none());
    drop((first, greedy));
    assert!(!room.is_wanted());
}

#[test]
fn what_is_here_already_takes_room_and_waits_for_none() {
    let room = Room::default();
    let (first, second) = (room.taken(90), room.taken(90));
    let mut next = room.share(1, 20, BUFFERED);
    drop(first);
    assert!(poll(&mut next).is_none() && room.is_wanted());
    drop(second);
    assert!(poll(&mut next).is_some());
}

#[test]
fn of_a_crowd_whoever_stays_has_its_turn_and_nothing_is_left_of_it() {
    let room = Room::default();
    let mut held = poll(&mut room.share(0, 100, BUFFERED));
    let mut crowd: Vec<_> = (0..20_000).map(|number| Some(room.share(number % 700, 100, BUFFERED))).collect();
    for left in crowd.iter_mut().enumerate().filter(|(number, _)| number % 7 != 3).map(|(_, place)| place) {
        *left = None;
    }
    let mut stay: Vec<_> = crowd.into_iter().flatten().collect();
    assert_eq!(room.with(|queue| queue.waiting), stay.len());
    let mut turns = Vec::new();
    while !stay.is_empty() {
        drop(held.take());
        let next = stay.iter_mut().position(|place| poll(place).map(|share| held = Some(share)).is_some());
        turns.push(stay.remove(next.expect("one of them has its turn")).server);
    }
    let each_of_the_100 = BTreeMap::from_iter(turns[..100].iter().map(|server| (server, ())));
    assert_eq!(each_of_the_100.len(), 100, "each has a turn before one has its second");
    drop(held);
    let (taken, lines) = room.with(|queue| (queue.taken, queue.servers.len()));
    assert!(taken == 0 && lines <= REMEMBERED + 1 && !room.is_wanted(), "{taken} {lines}");
}
