//! No orphan and no zombie: whatever ends (the endpoint, the router, the keeper), the whole tree of a child is gone.
//!
//! This process is the reaper of last resort, so every orphan becomes its child and is seen.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use model::Limits;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::bench::bench;
use crate::calls::server;

/// A process that has an endpoint: says `up PID`, ends it when told to, says `down`.
pub fn hold(trees: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let small = bench(server(trees), Limits::default());
        small.up().await;
        println!("up {}", small.endpoint.state().pid.unwrap());
        let told = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
        told.await.unwrap();
        small.endpoint.shut_down().await;
        println!("down");
    });
}

struct Held {
    router: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    keeper: Pid,
    tree: Vec<Pid>,
}

fn held() -> Held {
    let program = std::env::current_exe().unwrap();
    let mut router =
        Command::new(program).args(["hold", "2"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(router.stdout.take().unwrap()).lines();
    let up = lines.next().unwrap().unwrap();
    let server = Pid::from_raw(up.strip_prefix("up ").unwrap().parse().unwrap());
    let keeper = parent_of(server).unwrap();
    assert_eq!(parent_of(keeper), Some(Pid::from_raw(i32::try_from(router.id()).unwrap())));
    // The server, and per tree two shells with two sleeps each.
    let tree = wait_for(|| Some(descendants(keeper)).filter(|tree| tree.len() == 1 + 2 * 2 * 3));
    Held { router, lines, keeper, tree }
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    fields.nth(1)?.parse().ok().map(Pid::from_raw)
}

fn descendants(of: Pid) -> Vec<Pid> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<_> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect();
    let is_below = |pid: &Pid| {
        let mut above = *pid;
        while let Some(parent) = parent_of(above) {
            if parent == of {
                return true;
            }
            above = parent;
        }
        false
    };
    pids.into_iter().filter(is_below).collect()
}

fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::yield_now();
    }
}

/// All are gone within 2 s of now; those that came to us are reaped by us, as an init process would.
fn all_gone(pids: &[Pid]) {
    let begun = Instant::now();
    wait_for(|| {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        pids.iter().all(|pid| parent_of(*pid).is_none()).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
}

pub fn a_tree_ends_when_its_endpoint_does() {
    let Held { mut router, mut lines, keeper, tree } = held();
    let begun = Instant::now();
    router.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "down");
    // The server ignores the end of its stdin but not SIGTERM, which is sent 2 s later.
    assert!((2..4).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(tree.iter().chain([&keeper]).all(|pid| parent_of(*pid).is_none()), "gone, and reaped by keeper and router");
    assert!(router.wait().unwrap().success());
}

pub fn a_tree_ends_when_its_router_is_killed() {
    let Held { mut router, lines: _open, keeper, tree } = held();
    router.kill().unwrap();
    router.wait().unwrap();
    all_gone(&[tree, vec![keeper]].concat());
}

pub fn a_tree_ends_when_its_keeper_is_killed() {
    let Held { mut router, mut lines, keeper, tree } = held();
    // A process that moved to a session of its own is beyond the reach of a router whose keeper is dead.
    let reachable: Vec<_> =
        tree.iter().copied().filter(|pid| session_of(*pid) == session_of(tree_root(&tree))).collect();
    let fled: Vec<_> = tree.iter().copied().filter(|pid| !reachable.contains(pid)).collect();
    kill(keeper, Signal::SIGKILL).unwrap();
    all_gone(&[reachable, vec![keeper]].concat());
    router.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "down");
    assert!(router.wait().unwrap().success());
    fled.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
    all_gone(&fled);
}

fn tree_root(tree: &[Pid]) -> Pid {
    *tree.iter().min().unwrap()
}

fn session_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getsid(Some(pid)).ok()
}
