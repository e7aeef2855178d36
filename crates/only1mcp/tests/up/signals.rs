//! What signals do to a gateway, and what it says at its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use testkit::wait;

use super::{Home, Up, signal};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

impl Home {
    /// As [`Home::up`], in a session without a terminal, as services run.
    fn up_as_service(&self) -> Up {
        let inner = self.command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"]);
        let mut command = Command::new("setsid");
        command.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir(self.path());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let log = self.path().join("up.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Up { child, ready, log }
    }
}

#[test]
fn a_hangup_has_the_file_read_again_and_ends_nothing() {
    let home = Home::new();
    let mut up = home.up_as_service();
    assert!(up.ready.ends_with("revision 1\n"), "{}{}", up.ready, up.said());
    for round in 1..=2 {
        signal(&up.child, Signal::SIGHUP);
        let read_again = || up.said().lines().filter(|line| line.contains("read again")).count() >= round;
        wait::until_true("the file to be read again", LIMIT, read_again).unwrap();
    }
    assert_eq!(up.child.try_wait().unwrap(), None);
    assert_eq!(home.run(&["call", "calculator__add", r#"{"a": 40, "b": 2}"#]).1, "42\n");
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_hangs_at_the_end_is_named() {
    let home = Home::new();
    let mut up = home.up(&["--drain", "1s"]);
    let mut call = home.command(&["call", "clock__wait", r#"{"seconds": 600}"#]);
    let call = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while home.json(&["status", "--output", "json"])["routers"][0]["in_flight"] != 1 {}
    signal(&up.child, Signal::SIGTERM);
    assert_eq!(up.child.wait().unwrap().code(), Some(1), "{}", up.said());
    let expected = "only1mcp: calls in flight were cut off: clock (1)\n";
    assert!(up.said().contains(expected), "{}", up.said());
    let told = call.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
}
