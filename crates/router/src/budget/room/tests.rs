//! Which answers get room, and when.

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
    let first = room.taken(60);
    assert!(!room.is_wanted());
    let (mut large, mut small) = (room.share(1, 50, BUFFERED), room.share(2, 10, BUFFERED));
    assert!(poll(&mut large).is_none() && poll(&mut small).is_none() && room.is_wanted());
    drop(first);
    let (large, small) = (poll(&mut large), poll(&mut small));
    assert!(large.is_some() && small.is_some() && !room.is_wanted());
    assert!(poll(&mut room.share(3, 41, BUFFERED)).is_none());
    drop((large, small));
    assert_eq!(room.with(|queue| queue.taken), 0);
}

#[test]
fn one_larger_than_the_room_leaves_half_of_it() {
    let room = Room::default();
    let mut larger = poll(&mut room.share(1, 1000, BUFFERED)).expect("all is free");
    let other = poll(&mut room.share(2, 50, BUFFERED)).expect("that is half of it");
    let mut small = room.share(3, 1, BUFFERED);
    assert!(poll(&mut small).is_none());
    larger.shrink(49);
    assert!(poll(&mut small).is_some(), "what is not needed is free at once");
    drop(other);
}

#[test]
fn one_that_leaves_makes_way() {
    let room = Room::default();
    let held = room.taken(60);
    let (large, mut small) = (room.share(1, 50, BUFFERED), room.share(2, 10, BUFFERED));
    assert!(poll(&mut small).is_none(), "behind the large one");
    drop(large);
    assert!(poll(&mut small).is_some() && !room.is_wanted());
    // A place that is dropped after it was granted takes nothing with it.
    let unseen = room.share(1, 50, BUFFERED);
    drop(held);
    assert!(!room.is_wanted());
    drop(unseen);
    assert!(poll(&mut room.share(1, 50, BUFFERED)).is_some());
    assert_eq!(room.with(|queue| queue.taken), 0);
}

#[test]
fn servers_take_turns() {
    let room = Room::default();
    let held = (poll(&mut room.share(1, 50, BUFFERED)).expect("all is free"), room.taken(50));
    let mut greedy: Vec<_> = (0..3).map(|_| room.share(1, 50, BUFFERED)).collect();
    let (mut modest, mut late) = (room.share(2, 50, BUFFERED), room.share(3, 50, BUFFERED));
    assert!(poll(&mut modest).is_none());
    drop(held);
    assert!(poll(&mut greedy[0]).is_none());
    let modest = poll(&mut modest).expect("the first server has had its turn");
    let late = poll(&mut late).expect("this one has had none");
    assert!(poll(&mut greedy[0]).is_none(), "there is no room");
    drop(modest);
    let first = poll(&mut greedy[0]).expect("no other server waits");
    drop(late);
    assert!(poll(&mut greedy[1]).is_none(), "its server has half of the room");
    assert!(poll(&mut room.share(4, 50, BUFFERED)).is_some(), "which is in no other's way");
    drop(first);
    assert!(poll(&mut greedy[1]).is_some());
    drop(greedy);
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
    let _others = room.taken(50);
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
    assert!(taken == 50 && lines <= REMEMBERED + 1 && !room.is_wanted(), "{taken} {lines}");
}

#[test]
fn a_server_has_no_more_than_it_leaves_to_others() {
    let room = Room::default();
    let shares: Vec<_> = (0..90).map_while(|number| poll(&mut room.share(number % 3, 5, BUFFERED))).collect();
    assert_eq!(shares.len(), 15, "a quarter each, and as much is left");
    assert!(poll(&mut room.share(4, 25, BUFFERED)).is_some());
    drop(shares);
    assert_eq!(room.with(|queue| queue.taken), 0);
}

#[tokio::test]
async fn what_grows_beyond_the_room_takes_nothing_from_others_and_is_one_at_a_time() {
    let room = Room::default();
    let begin = |server| poll(&mut room.share(server, 20, BUFFERED)).expect("there is room");
    let (mut slow, mut other) = (begin(1), begin(2));
    assert!(slow.try_grow(40) && slow.try_grow(500), "nothing is beyond the room yet");
    assert!(other.try_grow(30) && !other.try_grow(31), "there is one");
    assert!(poll(&mut room.share(3, 20, BUFFERED)).is_some(), "others have their part");
    let mut grows = Box::pin(other.grow(49));
    assert!(futures_util::poll!(&mut grows).is_pending() && slow.is_wanted());
    drop(slow);
    grows.await;
    assert!(!room.is_wanted() && other.try_grow(50), "all the room is its own");
    drop(other);
    assert_eq!(room.with(|queue| (queue.taken, queue.stuck)), (0, 0));
}

#[tokio::test]
async fn what_is_complete_lets_the_next_go_on_as_far_as_there_is_room() {
    let room = Room::default();
    let begin = |server| poll(&mut room.share(server, 20, BUFFERED)).expect("there is room");
    let (mut first, mut other) = (begin(1), begin(2));
    assert!(first.try_grow(70), "beyond the room: a server has no more than it leaves to others");
    let mut grows = Box::pin(other.grow(70));
    assert!(futures_util::poll!(&mut grows).is_pending());
    first.complete(70);
    assert_eq!(room.with(|queue| queue.taken), 90, "it has room for all of it now, and its client has not got it");
    grows.await;
    assert!(other.try_grow(500), "this one goes on beyond the room");
    other.complete(500);
    let mut third = begin_more(&room, 3, 5);
    let mut grows = Box::pin(third.grow(30));
    assert!(futures_util::poll!(&mut grows).is_pending(), "there is no room for so much");
    drop(first);
    grows.await;
    drop((other, third));
    assert_eq!(room.with(|queue| (queue.taken, queue.stuck)), (0, 0));
}

fn begin_more(room: &Room, server: u64, bytes: u64) -> Share {
    poll(&mut room.share(server, bytes, BUFFERED)).expect("there is room")
}

#[tokio::test]
async fn the_only_answer_of_a_server_that_is_stuck_leaves_an_eighth() {
    let room = Room::default();
    let (mut beyond, mut only) = (begin_more(&room, 1, 20), begin_more(&room, 2, 20));
    assert!(beyond.try_grow(500));
    assert!(!only.try_grow(60), "more than it leaves to others");
    only.grow(68).await;
    assert_eq!(room.with(|queue| queue.taken), 88);
    let mut grows = Box::pin(only.grow(69));
    assert!(futures_util::poll!(&mut grows).is_pending());
    drop(beyond);
    grows.await;
}

#[tokio::test]
async fn answers_that_all_grow_beyond_the_room_end_one_after_the_other() {
    let room = Room::default();
    let answer = async |server: u64| {
        let mut share = room.share(server, 10, BUFFERED).await;
        for bytes in (10..400).step_by(7) {
            share.grow(bytes).await;
            tokio::task::yield_now().await;
        }
    };
    let all = futures_util::future::join_all((0..40).map(|number| answer(number % 4)));
    tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("none waits for ever");
    assert_eq!(room.with(|queue| (queue.taken, queue.stuck)), (0, 0));
}
