//! A server on stdio has one process at a time: what was given up is gone before another one starts.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use model::{Limits, Transport};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use router::endpoint::BringUpFailure;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, PATIENCE, bench};

/// A program that notes in a directory that it runs, and whether another process of it lives. The first process never
/// answers and ignores requests to end; the later ones serve.
const STUBBORN: &str = r#"
for other in "$1"/*; do
    [ -e "$other" ] && kill -0 "$(basename "$other")" 2>/dev/null && : > "$1.twice"
done
if [ -n "$(ls "$1")" ]; then : > "$1/$$"; exec "$2" serve 0; fi
trap "" TERM
: > "$1/$$"
while :; do sleep 0.02; done
"#;

fn stubborn(notes: &Path) -> Transport {
    std::fs::create_dir(notes).unwrap();
    let program = std::env::current_exe().unwrap();
    let texts = ["-c", STUBBORN, "stubborn", notes.to_str().unwrap(), program.to_str().unwrap()];
    let args = texts.map(str::to_owned).to_vec();
    Transport::Stdio { command: "sh".into(), args, env: BTreeMap::new(), cwd: None }
}

fn noted(notes: &Path) -> Vec<String> {
    let all = std::fs::read_dir(notes).unwrap().flatten();
    all.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

async fn failed(small: &Bench, within: Duration) -> BringUpFailure {
    small.endpoint.bring_up(Instant::now() + within).await.unwrap_err().failure
}

pub async fn a_process_that_was_given_up_is_gone_before_the_next_starts() {
    let home = tempfile::tempdir().unwrap();
    let notes = home.path().join("notes");
    let small = bench(stubborn(&notes), Limits::default());
    let first = failed(&small, Duration::from_secs(1)).await;
    assert!(matches!(first, BringUpFailure::TimedOut { .. }), "{first}");
    let second = failed(&small, Duration::from_millis(200)).await;
    assert!(matches!(second, BringUpFailure::Lingers { .. }), "{second}");
    assert!(second.to_string().contains("has not ended within 100 ms"), "{second}");
    small.up().await;
    assert_eq!(noted(&notes).len(), 2);
    assert!(!home.path().join("notes.twice").exists(), "two processes of one server lived at once");
    small.endpoint.shut_down().await;
}

pub async fn an_endpoint_that_connects_has_ended_when_its_process_has() {
    let home = tempfile::tempdir().unwrap();
    let notes = home.path().join("notes");
    let small = bench(stubborn(&notes), Limits::default());
    let ends = async {
        let begun = async {
            while noted(&notes).is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, begun).await.unwrap();
        small.endpoint.shut_down().await;
        let pid = noted(&notes).remove(0);
        assert!(!Path::new("/proc").join(pid).exists(), "another endpoint would start beside it");
    };
    let (failure, ()) = tokio::join!(failed(&small, PATIENCE), ends);
    assert!(matches!(failure, BringUpFailure::Ended), "{failure}");
}

/// While another process has a lease on the program, the system blocks a process that wants to run it, as it does when
/// a file server is away.
pub async fn a_process_that_cannot_be_started_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("program");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let lease = lease_on(&program);
    let command = program.to_str().unwrap().to_owned();
    let small = bench(Transport::Stdio { command, args: vec![], env: BTreeMap::new(), cwd: None }, Limits::default());
    let given_up = failed(&small, Duration::from_millis(500)).await;
    assert!(matches!(given_up, BringUpFailure::TimedOut { .. }), "it is not held: {given_up}");
    let lingers = failed(&small, Duration::from_millis(100)).await;
    assert!(matches!(lingers, BringUpFailure::Lingers { .. }), "{lingers}");
    let begun = Instant::now();
    small.endpoint.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    drop(lease);
}

#[expect(unsafe_code, reason = "leases have no safe call")]
fn lease_on(program: &Path) -> std::fs::File {
    let file = std::fs::File::open(program).unwrap();
    // SAFETY: neither touches memory; by the signal, the system asks for the lease to be given back.
    let had = unsafe {
        signal(Signal::SIGIO, SigHandler::SigIgn).unwrap();
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    assert_eq!(had, 0, "{}", std::io::Error::last_os_error());
    file
}
