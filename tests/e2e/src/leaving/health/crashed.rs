//! A program that is killed, and cannot start again for a while: `status` says so within a second.

use std::{fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    Client, ConfigFile, Distribution, Document, Fault, Gateway, Scratch, Server, System, binaries, fault, wait,
};
use tokio::time::Instant;

use super::{LIMIT, only};
use crate::{Figures, Size};

const SHOWN: Duration = Duration::from_secs(1);

pub(super) fn run(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let rounds = size.pick(20, 1);
    let scratch = Scratch::new("crashed")?;
    let may_run = scratch.file("may-run");
    fs::write(&may_run, "")?;
    // Without the file it ends as by `kill -9`.
    let script = "[ -e \"$1\" ] || kill -9 $$; exec \"$2\" demo-server --stdio";
    let (program, file) = (binaries::path("only1mcp")?, may_run.display().to_string());
    let crm = Server::stdio("crm", Path::new("/bin/sh"), &["-c", script, "sh", &file, &program.display().to_string()]);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &Document::default().with(crm).yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let (mut took, mut wrong) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let pid = wait::until("its process", LIMIT, || pid_of(&gateway).ok())?;
        fs::remove_file(&may_run)?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        let killed = Instant::now();
        let mut last = String::new();
        let shown = wait::until_true("the crash in `status`", SHOWN * 5, || {
            last = gateway.cli(&["status"]).map_or_else(|error| error.to_string(), |cli| cli.stdout + &cli.stderr);
            tells(&last)
        });
        took.push(killed.elapsed());
        wrong.extend(shown.err().map(|_| format!("round {round}: {last}")));
        // The times between attempts grow, and it says the next one each time.
        let grows = wait::until_true("longer times between attempts", LIMIT, || {
            gateway.status().is_ok_and(|status| next_attempt(&status).is_some_and(|next| next >= 1000))
        });
        wrong.extend(grows.err().map(|error| format!("round {round}: {error}")));
        fs::write(&may_run, "")?;
        gateway.cli(&["restart", "crm"])?.expect(0)?;
        let mut client = Client::open(gateway.mcp)?;
        let answers = || client.text("crm__echo", &serde_json::json!({ "text": "back" })).is_ok();
        wait::until_true("it to answer again", LIMIT, answers)?;
    }
    let took = Distribution::of(took);
    figures.demand("crashes", took.len(), &rounds.to_string(), took.len() == rounds);
    figures.none("crashes_not_told", wrong);
    let in_time = took.max() <= size.pick(SHOWN, SHOWN * 3);
    figures.demand("crash_in_status_after", &took, "1000 ms at most", in_time);
    Ok(())
}

/// How it ended, and when it is tried next.
fn tells(status: &str) -> bool {
    let mut lines = status.lines().filter(|line| line.contains("crm"));
    let next = |line: &str| {
        let after = line.split_once("retry in ").or_else(|| line.split_once("next try in "));
        after.is_some_and(|(_, next)| next.starts_with(|first: char| first.is_ascii_digit()))
    };
    // A shell says 137 of what SIGKILL ended.
    lines.any(|line| (line.contains("exit 137") || line.contains("signal 9")) && next(line))
}

fn endpoint(status: &serde_json::Value) -> Result<&serde_json::Value, Fault> {
    only(&only(&status["servers"])?["endpoints"])
}

fn pid_of(gateway: &Gateway) -> Result<i32, Fault> {
    let status = gateway.status()?;
    let endpoint = endpoint(&status)?;
    let is_up = endpoint["state"] == "healthy" || endpoint["state"] == "unknown";
    let pid = endpoint["pid"].as_i64().filter(|_| is_up).ok_or_else(|| fault(format!("no process in {endpoint}")))?;
    Ok(i32::try_from(pid)?)
}

fn next_attempt(status: &serde_json::Value) -> Option<u64> {
    endpoint(status).ok()?["next_attempt_ms"].as_u64()
}
