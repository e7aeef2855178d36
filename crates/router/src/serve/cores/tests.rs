//! The end of a core that was not meant to end.

use std::io::{Read, Write};

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

#[test]
fn a_client_that_finds_no_place_reads_that_whatever_it_had_sent() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&[b'x'; 100 << 10]).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    runtime.block_on(async { farewell(TcpStream::from_std(stream).unwrap()).await });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, TURNED_AWAY);
}
