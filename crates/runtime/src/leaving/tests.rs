//! What others see of a process that leaves, and when they see nothing.

use super::*;

const DRAIN: Duration = Duration::from_secs(30);

fn now() -> u64 {
    Clock::start().unix_millis()
}

#[test]
fn what_a_process_still_finishes_is_seen_until_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(look(directory.path(), now()), []);
    let leaving = Leaving::begin(directory.path(), Clock::start(), DRAIN, 12).unwrap();
    let seen = look(directory.path(), now());
    assert_eq!(seen.iter().map(|left| (left.pid, left.calls)).collect::<Vec<_>>(), [(std::process::id(), 12)]);
    assert!(seen[0].within > DRAIN / 2 && seen[0].within <= DRAIN, "{seen:?}");
    leaving.write(7).unwrap();
    assert_eq!(look(directory.path(), now())[0].calls, 7);
    drop(leaving);
    assert_eq!(look(directory.path(), now()), []);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_file_of_a_process_that_was_killed_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("leaving-17"), "12 99999999999999").unwrap();
    fs::write(directory.path().join("leaving-else"), "not ours").unwrap();
    assert_eq!(look(directory.path(), now()), []);
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["leaving-else"]);
}

#[tokio::test]
async fn its_end_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let gone = || gone(directory.path().to_owned(), Clock::start());
    gone().await;
    let leaving = Leaving::begin(directory.path(), Clock::start(), DRAIN, 1).unwrap();
    tokio::time::timeout(2 * LOOK_EVERY, gone()).await.unwrap_err();
    drop(leaving);
    gone().await;
}
