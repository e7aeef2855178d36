//! Which connections stay and which are displaced, in paused time.

use futures_util::FutureExt;

use super::*;

fn filled(standings: &[Standing]) -> (Places, Vec<Place>) {
    let places = Places::new("test_connections", standings.len());
    let taken = standings.iter().map(|standing| places.take(*standing).now_or_never().unwrap()).collect();
    (places, taken)
}

fn gone(taken: &[Place]) -> Vec<usize> {
    (0..taken.len()).filter(|index| taken[*index].displaced.is_cancelled()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_oldest_that_showed_least_goes_first() {
    use Standing::{Known, Silent, Stranger};
    let (places, taken) = filled(&[Known, Stranger, Silent, Stranger, Silent]);
    let mut later = Vec::new();
    for expected in [&[2][..], &[2, 4], &[1, 2, 4], &[1, 2, 3, 4]] {
        tokio::time::advance(SETTLED).await;
        later.push(places.take(Known).await);
        assert_eq!(gone(&taken), expected);
    }
    // All are known now: one of them has to leave by itself.
    tokio::time::advance(SETTLED * 100).await;
    assert!(places.take(Silent).now_or_never().is_none());
    drop(later.pop());
    let last = places.take(Silent).now_or_never().unwrap();
    assert_eq!(gone(&taken), [1, 2, 3, 4]);
    assert!(last.displaced().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_has_just_come_is_left_its_time() {
    let (places, taken) = filled(&[Standing::Silent; 2]);
    let begun = Instant::now();
    let _third = places.take(Standing::Silent).await;
    assert_eq!((begun.elapsed() >= SETTLED, gone(&taken)), (true, vec![0]));
    // A connection that ends makes room at once.
    let (places, mut taken) = filled(&[Standing::Silent; 2]);
    let begun = Instant::now();
    let (next, ()) = tokio::join!(places.take(Standing::Silent), async { drop(taken.pop()) });
    assert_eq!((begun.elapsed(), gone(&taken)), (Duration::ZERO, vec![]));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_show_more_while_it_lasts() {
    let (places, taken) = filled(&[Standing::Silent; 3]);
    taken[0].shown().reaches(Standing::Known);
    taken[0].shown().reaches(Standing::Stranger);
    taken[1].shown().reaches(Standing::Stranger);
    tokio::time::advance(SETTLED).await;
    let _a = places.take(Standing::Silent).await;
    assert_eq!(gone(&taken), [2]);
    // A younger silent one is not settled, and so the older stranger goes.
    let _b = places.take(Standing::Silent).now_or_never().unwrap();
    assert_eq!(gone(&taken), [1, 2]);
}
