//! What a service manager receives over the life of a process.

use std::{os::linux::net::SocketAddrExt, path::Path};

use super::*;
use crate::shutdown::Shutdown;

fn heard(socket: &StdDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    messages
}

#[tokio::test(start_paused = true)]
async fn it_hears_of_each_step_and_of_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = StdDatagram::bind(&path).unwrap();
    let watchdog = Some(Duration::from_secs(6));
    let manager = NotifySocket { socket: connect(path.as_os_str()).unwrap(), watchdog };
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(shutdown.clone());
    let gate = readiness.gate("configuration");
    let life = async {
        // Time is paused: it passes when there is nothing else to do, so these wait for all that has to happen by then.
        let beat = async || tokio::time::sleep(Duration::from_secs(1)).await;
        beat().await;
        let more = "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000\n";
        assert_eq!(heard(&socket), ["STATUS=not ready: configuration: starting\n", more]);
        gate.close("first\nsecond");
        beat().await;
        gate.open_to("revision 1");
        shutdown.advance(Phase::Ready);
        beat().await;
        let expected = ["STATUS=not ready: configuration: first\\nsecond\n", "READY=1\nSTATUS=ready: revision 1\n"];
        assert_eq!(heard(&socket), expected);
        // The next two signs of life, at three and six seconds.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(heard(&socket), ["WATCHDOG=1\n"; 2]);
        shutdown.trigger();
        beat().await;
        assert_eq!(heard(&socket), ["STOPPING=1\nSTATUS=not ready: it is unready\n"]);
        shutdown.advance(Phase::Closing);
    };
    tokio::join!(life, manager.follow(readiness.clone()));
}

#[test]
fn a_name_that_is_no_file_is_reached_too() {
    let name = format!("only1mcp-test-{}", std::process::id());
    let abstract_name = address(OsStr::new(&format!("@{name}"))).unwrap();
    assert_eq!(abstract_name.as_abstract_name(), Some(name.as_bytes()));
    assert_eq!(address(OsStr::new("/run/notify")).unwrap().as_pathname(), Some(Path::new("/run/notify")));
}
