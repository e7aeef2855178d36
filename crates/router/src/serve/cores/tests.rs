//! The end of a core that was not meant to end.

use super::*;

#[test]
fn a_core_that_panics_stops_the_process_and_is_not_waited_for() {
    let (shutdown, (busy, seen)) = (Shutdown::new(), watch::channel(2));
    let running = Running { index: 0, busy, shutdown: shutdown.clone() };
    let core = std::thread::spawn(move || {
        let _running = running;
        panic!("as a core would");
    });
    let cores = Cores { threads: vec![core], busy: seen.clone() };
    assert!(!cores.join(), "the process says that it did not end in peace");
    assert!(shutdown.is_triggered());
    assert_eq!(*seen.borrow(), 1, "the other one is still waited for");
}
