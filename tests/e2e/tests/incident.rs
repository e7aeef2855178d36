//! What an operator on call is told: of servers that hang, end and leave, and of an edit that has to be undone.

use std::{collections::BTreeSet, fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use testkit::{ConfigFile, Document, Fault, Gateway, Scratch, Supervised, demo, fault, gateway, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// A `watch` of that gateway.
fn watch(gateway: &Gateway, scratch: &Scratch, name: &str, more: &[&str]) -> Result<Supervised, Fault> {
    let mut command = gateway::command(scratch.path())?;
    command.arg("watch").args(more).arg("--state-dir").arg(gateway.state_dir());
    Supervised::start(name, &mut command, &scratch.folder("logs")?)
}

/// The next event that is wanted, after `seen` lines; counts them.
fn next(watch: &Supervised, seen: &mut usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
    let (mut line, before) = (0, *seen);
    watch.wait_stdout(what, LIMIT, |text| {
        line += 1;
        let event: Value = serde_json::from_str(text).ok().filter(|event| line > before && wanted(event))?;
        *seen = line;
        Some(event)
    })
}

fn pid(gateway: &Gateway, server: &str) -> Result<Pid, Fault> {
    let status = gateway.cli(&["status", "--output", "json"])?.json()?;
    let servers = status["servers"].as_array().into_iter().flatten();
    let pid = servers.filter(|one| one["id"] == server).find_map(|one| one["endpoints"][0]["pid"].as_i64());
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| fault(format!("no process: {status}")))?;
    Ok(Pid::from_raw(pid))
}

#[test]
fn servers_that_are_restarted_hang_end_and_leave_are_told_with_the_reason() -> Result<(), Fault> {
    let scratch = Scratch::new("watch")?;
    let health = json!({ "interval": "200ms", "timeout": "200ms", "unhealthy_threshold": 2 });
    let mut document = Document::default().key("health", health);
    document.put(demo::stdio("a", "a", &scratch)?.key("restart_unhealthy", json!(true)));
    document.put(demo::stdio("b", "b", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    // What is told of a server then is what becomes of it.
    wait::until_true("both to be found healthy", LIMIT, || {
        let status = gateway.cli(&["status", "--output", "json"]).and_then(|status| status.json());
        let servers = status.map(|status| status["servers"].as_array().cloned().unwrap_or_default());
        servers.is_ok_and(|servers| servers.len() == 2 && servers.iter().all(|one| one["verdict"] == "healthy"))
    })?;
    let all = watch(&gateway, &scratch, "all", &["--output", "json"])?;
    let some = watch(&gateway, &scratch, "some", &["--server", "a", "--kind", "server"])?;
    let mut seen = 0;
    for _ in 0..3 {
        next(&all, &mut seen, "a connection", |event| event["kind"] == "connected")?;
    }
    some.wait_stdout("its connection", LIMIT, |line| line.contains("health-monitor  connected").then_some(()))?;

    let mut of_a = |kind: &str, says: &str| {
        let event = next(&all, &mut seen, &format!("{kind}: {says}"), |event| {
            event["server"] == "a" && event["kind"] == kind && event["message"].as_str().unwrap_or("").contains(says)
        })?;
        Ok::<_, Fault>(event)
    };
    gateway.cli(&["restart", "a"])?.expect(0)?;
    of_a("starting", "an operator asked for it")?;
    of_a("healthy", "")?;

    kill(pid(&gateway, "a")?, Signal::SIGSTOP)?;
    let hangs = of_a("unhealthy", "ping: no answer within 200")?;
    assert_eq!((&hangs["facts"]["previous"], &hangs["about"]), (&json!("healthy"), &json!("server")), "{hangs}");
    assert!(hangs["facts"]["streak"].as_u64() >= Some(2), "{hangs}");
    of_a("starting", "judged unhealthy")?;
    of_a("healthy", "")?;

    kill(pid(&gateway, "a")?, Signal::SIGKILL)?;
    of_a("starting", "was ended by signal 9")?;
    of_a("healthy", "")?;

    gateway.cli(&["drain", "a", "--wait"])?.expect(0)?;
    of_a("done", "0 evicted")?;
    gateway.cli(&["drain", "--cancel", "a"])?.expect(0)?;
    of_a("cancelled", "")?;

    document.remove("b");
    file.replace(&document.yaml())?;
    let committed = next(&all, &mut seen, "the change", |event| event["kind"] == "committed")?;
    assert_eq!(committed["facts"]["servers"], json!(["b"]));
    assert_eq!(committed["message"], "revision 2 by file: -b");

    gateway.process.stop()?;
    let gone = |event: &Value| event["kind"] == "disconnected";
    let mut services = BTreeSet::new();
    for _ in 0..3 {
        services.insert(next(&all, &mut seen, "the end", gone)?["service"].to_string());
    }
    assert_eq!(services.len(), 3, "{services:?}");

    let mut told = Vec::new();
    some.wait_stdout("the end", LIMIT, |line| {
        told.push(line.to_owned());
        line.contains("disconnected").then_some(())
    })?;
    let of_servers = told.iter().filter(|line| line.contains("  server a  ")).count();
    assert!(of_servers >= 6 && of_servers + 2 == told.len(), "{told:#?}");
    Ok(())
}

#[test]
fn an_edit_that_takes_tools_away_is_explained_undone_and_told_to_be_in_the_file_still() -> Result<(), Fault> {
    let scratch = Scratch::new("undo")?;
    let text = Document::default().with(demo::stdio("a", "a", &scratch)?).yaml();
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &text)?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let says = |arguments: &[&str], code: i32, parts: &[&str]| -> Result<(), Fault> {
        let said = gateway.cli(arguments)?.expect(code)?;
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(parts.iter().all(|part| all.contains(part)), "{arguments:?}: {parts:?} in {all}");
        Ok(())
    };
    let fewer = Document::default().with(demo::stdio("a", "a", &scratch)?.key("tools", json!(["add", "echo"]))).yaml();
    fs::write(scratch.file("fewer.yaml"), &fewer)?;
    let filter = "tools: all → [\"add\",\"echo\"]";
    says(&["diff", scratch.file("fewer.yaml").to_str().unwrap_or_default()], 0, &[filter, "clients lose "])?;
    file.replace(&fewer)?;
    gateway.cli(&["reload"])?;
    says(&["diff"], 0, &["revision 1 → revision 2", filter, "clients lose "])?;
    says(&["history"], 0, &[&format!("~a({filter}; 7 tools gone)")])?;

    let undone = ["revision 2 is undone:", "tools: [\"add\",\"echo\"] → all", "clients gain "];
    let back = ["still says what was undone", "change in it what `only1mcp diff "];
    says(&["rollback"], 0, &[&undone[..], &back[..]].concat())?;
    let others = "next: nothing from before that is kept; what can be brought back: 2, by `only1mcp rollback NUMBER`";
    says(&["rollback"], 1, &["revision 3 is live, by a rollback to 1 already", others])?;

    let layer = Document::default().with(demo::stdio("b", "b", &scratch)?).yaml();
    let layer = layer.lines().skip_while(|line| !line.starts_with("servers")).collect::<Vec<_>>().join("\n");
    fs::write(scratch.file("layer.yaml"), layer)?;
    fs::write(scratch.file("bad.yaml"), "servers: [{ id: b }]\n")?;
    let dry = |name: &str, code: i32, parts: &[&str]| {
        let path = scratch.file(name);
        says(&["apply", path.to_str().unwrap_or_default(), "--owner", "ops", "--dry-run"], code, parts)
    };
    dry("layer.yaml", 0, &["~ layer api:ops: added", "+ server b: added", "what it offers is known once it is up"])?;
    dry("bad.yaml", 1, &["bad.yaml:1:", "not valid"])?;
    says(&["apply", "--remove", "--owner", "ops", "--dry-run"], 2, &["no difference"])?;
    let history = gateway.cli(&["history", "--refused", "--output", "json"])?.json()?;
    assert_eq!(
        history.as_array().map(Vec::len),
        Some(4),
        "three revisions, and the rollback that was refused: {history}"
    );
    gateway.process.stop()?;
    Ok(())
}
