//! The admin API as third parties see it: a client that knows only reflection lists and calls every method of the four
//! processes, and gets each error that `docs/api.md` lists.

mod documented;
mod reflector;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use runtime::AdminToken;
use serde_json::{Value, json};
use testkit::{
    ConfigFile, Document, Fault, Scratch, Server, Services, Supervised, binaries, demo, fault, services::Kind, wait,
};
use tokio::time::Instant;

use crate::{Figures, Size};
use reflector::{Reflector, Refusal};

const CONFIG: &str = "only1mcp.config.v1.ConfigService";
const ROUTER: &str = "only1mcp.router.v1.RouterService";
const HEALTH: &str = "only1mcp.health.v1.HealthService";
const DRAIN: &str = "only1mcp.drain.v1.DrainService";
const PROCESS: &str = "only1mcp.process.v1.ProcessService";
const PROCESSES: [&str; 4] = ["config-manager", "router", "health-monitor", "drain-coordinator"];
const MANAGER: &str = PROCESSES[0];
/// A server that takes longer to come up than a change is waited for.
const SLOW: &str =
    "version: \"1.0\"\nservers:\n  - id: {id}\n    transport: { type: stdio, command: /bin/sleep, args: [\"60\"] }\n";

/// # Errors
/// When the client cannot be installed, or the scenario cannot be played to its end.
pub fn run(_: Size) -> Result<Figures, Fault> {
    let scratch = Scratch::new("surface")?;
    let document = Document::default()
        .key("hot_reload", json!({ "enabled": false }))
        .key("rollback", json!({ "history": { "max_snapshots": 1 } }))
        .with(demo::stdio("one", "one", &scratch)?)
        .with(demo::stdio("two", "two", &scratch)?)
        .with(Server::http("remote", "http://127.0.0.1:9/mcp"));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let services = Services::up(&scratch, file.path(), 1)?;
    let client = Reflector::start(&scratch.folder("logs")?)?;
    let token = fs::read_to_string(scratch.file("token"))?.trim().to_owned();
    let mut stage = Stage {
        scratch: &scratch,
        services,
        file,
        document,
        client,
        token,
        called: BTreeSet::new(),
        heard: BTreeMap::new(),
        figures: Figures::default(),
    };
    stage.play()?;
    Ok(stage.figures)
}

struct Stage<'a> {
    scratch: &'a Scratch,
    services: Services,
    file: ConfigFile,
    document: Document,
    client: Reflector,
    token: String,
    /// Methods that were called.
    called: BTreeSet<String>,
    /// By code and reason, the details of the errors that were heard.
    heard: BTreeMap<(String, String), Vec<String>>,
    figures: Figures,
}

impl Stage<'_> {
    fn play(&mut self) -> Result<(), Fault> {
        let mut listed = BTreeSet::new();
        for name in PROCESSES {
            let address = self.address(name).to_string();
            let token = self.token.clone();
            self.client.connect(name, &address, Some(&token))?;
            listed.extend(self.client.methods(name)?);
        }
        self.revisions()?;
        self.everything_else()?;
        let before = self.past()?;
        self.nonsense()?;
        self.what_is_not_there()?;
        let after = self.past()?;
        let same = if before == after { None } else { Some(format!("{before} became {after}")) };
        self.figures.none("errors_that_changed_something", same);
        self.who_comes_second()?;
        self.health()?;
        self.without_a_router()?;
        self.judge(&listed)
    }

    fn address(&self, name: &str) -> std::net::SocketAddr {
        match name {
            "router" => self.services.routers[0].grpc,
            "config-manager" => self.services.service(Kind::ConfigManager).grpc,
            "health-monitor" => self.services.service(Kind::HealthMonitor).grpc,
            _ => self.services.service(Kind::DrainCoordinator).grpc,
        }
    }

    /// A call that must end well.
    fn call(&mut self, name: &str, method: &str, request: Value) -> Result<Value, Fault> {
        self.call_with(name, method, json!({ "request": request, "timeout": 40 }))
    }

    fn call_with(&mut self, name: &str, method: &str, more: Value) -> Result<Value, Fault> {
        self.called.insert(method.to_owned());
        let ended = self.client.call(name, method, more)?;
        ended.map_err(|refusal| fault(format!("{method} on {name}: {refusal:?}")))
    }

    /// A call that must not.
    fn refused(&mut self, name: &str, method: &str, more: Value) -> Result<Refusal, Fault> {
        let ended = self.client.call(name, method, more)?;
        self.hear(method, ended)
    }

    fn hear(&mut self, what: &str, ended: Result<Value, Refusal>) -> Result<Refusal, Fault> {
        let refusal = ended.err().ok_or_else(|| fault(format!("{what} ended well")))?;
        self.heard.insert((refusal.code.clone(), refusal.reason.clone()), refusal.details.clone());
        Ok(refusal)
    }

    fn past(&mut self) -> Result<Value, Fault> {
        let status = self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))?;
        let history = self.call(MANAGER, &method(CONFIG, "ListRevisions"), json!({ "withRefused": true }))?;
        Ok(json!({ "revision": status["revision"], "digest": status["digest"], "history": history }))
    }

    fn outcome(&mut self, name: &str, request: Value, wanted: &str) -> Result<Value, Fault> {
        let answer = self.call(MANAGER, &method(CONFIG, name), request)?;
        let outcome = answer["outcome"].clone();
        if outcome["result"] == wanted { Ok(outcome) } else { Err(fault(format!("{name}: {outcome}"))) }
    }

    /// The calls that make revisions, and their refusals.
    fn revisions(&mut self) -> Result<(), Fault> {
        self.outcome("Reload", json!({}), "RESULT_NO_CHANGE")?;
        self.document.put(demo::stdio("three", "three", self.scratch)?);
        self.file.replace(&self.document.yaml())?;
        self.client.start_call("events", MANAGER, &method(CONFIG, "Watch"), json!({ "take": 3, "timeout": 40 }))?;
        let applied = self.outcome("Reload", json!({}), "RESULT_APPLIED")?;
        self.figures.demand("reload_revision", &applied["revision"], "\"2\"", applied["revision"] == "2");
        let events = self.client.finish("events")?.map_err(|refusal| fault(format!("Watch: {refusal:?}")))?;
        self.called.insert(method(CONFIG, "Watch"));
        self.figures.demand("events", events.as_array().map_or(0, Vec::len), "3", events[0]["kind"].is_string());

        self.file.replace("version: \"1.0\"\nnaming: prefx\nservers: []\n")?;
        let refused = self.outcome("Reload", json!({}), "RESULT_REFUSED")?;
        let violations = refused["violations"].as_array().map_or(0, Vec::len);
        let placed = refused["violations"][0]["line"] == 2 && refused["violations"][0]["suggestion"] == "prefix";
        self.figures.demand("reload_violations", violations, "2 with places", violations == 2 && placed);
        self.file.replace(&self.document.yaml())?;
        self.outcome("Reload", json!({ "force": true }), "RESULT_NO_CHANGE")?;

        let yaml = self.document.yaml();
        let valid = self.call(MANAGER, &method(CONFIG, "Validate"), json!({ "document": yaml }))?;
        let wrong = self.call(MANAGER, &method(CONFIG, "Validate"), json!({ "document": "version: 7" }))?;
        let told = valid["violations"] == json!([]) && wrong["violations"] != json!([]);
        self.figures.demand("validate", u8::from(told), "1", told);
        self.outcome("Apply", json!({ "name": "team", "document": self.layer("four")? }), "RESULT_APPLIED")?;
        // The rollback removes `four` again, which drains.
        self.outcome("Rollback", json!({ "reason": "acceptance" }), "RESULT_APPLIED")?;
        let live = self.call(MANAGER, &method(CONFIG, "GetRevision"), json!({}))?;
        let attributed = live["revision"]["actor"] == "token" && live["revision"]["reason"] == "acceptance";
        self.figures.demand("actor", &live["revision"]["actor"], "\"token\"", attributed);
        Ok(())
    }

    /// A layer with one server.
    fn layer(&self, id: &str) -> Result<String, Fault> {
        let mut servers = Document::default().with(demo::stdio(id, id, self.scratch)?).yaml();
        servers = servers.lines().filter(|line| !line.contains("naming")).collect::<Vec<_>>().join("\n");
        Ok(servers)
    }

    /// Once for each process that is named, however often it is asked for.
    fn restart(&mut self, seen: &Value) -> Result<(), Fault> {
        let restart = method(ROUTER, "Restart");
        let endpoints = seen["endpoints"].as_array().into_iter().flatten();
        let pid = endpoints.filter(|one| one["key"]["backend"] == "two").map(|one| one["pid"].clone()).next();
        let request = json!({ "server": "two", "pids": [pid] });
        let first = self.call("router", &restart, request.clone())?["endpoints"][0].clone();
        let again = self.call("router", &restart, request)?["endpoints"][0].clone();
        let once = first["previousPid"] == json!(pid) && first["pid"] != json!(pid) && again["pid"] == first["pid"];
        self.figures.demand("restarted_once", format!("{first} {again}"), "one process after the other", once);
        Ok(())
    }

    /// Every other method, on every process that has it.
    fn everything_else(&mut self) -> Result<(), Fault> {
        let seen = self.call("router", &method(ROUTER, "Inspect"), json!({}))?;
        self.figures.note("endpoints", seen["endpoints"].as_array().map_or(0, Vec::len));
        self.restart(&seen)?;
        let hello = |boot: &str| json!({ "hello": { "node": "stranger", "boot": boot } });
        let monitor = "health-monitor";
        self.call(monitor, &method(HEALTH, "ListVerdicts"), json!({}))?;
        let probing = json!([hello("a"), { "endpoints": {
            "endpoints": [{ "backend": "x", "variant": "default", "digest": "A".repeat(43) + "=" }],
            "policy": { "interval": "1s", "timeout": "1s", "unhealthyThreshold": 1, "healthyThreshold": 1 },
        } }]);
        let changes = json!({ "take": 1, "timeout": 40 });
        self.client.start_call("verdicts", monitor, &method(HEALTH, "Watch"), changes)?;
        self.call_with(monitor, &method(HEALTH, "Attach"), json!({ "request": probing, "take": 1, "timeout": 40 }))?;
        self.called.insert(method(HEALTH, "Watch"));
        let started = self.client.finish("verdicts")?;
        self.figures.demand("verdict_change", u8::from(started.is_ok()), "1", started.is_ok());

        let coordinator = "drain-coordinator";
        self.call(coordinator, &method(DRAIN, "Start"), json!({ "server": "one", "timeout": "5s" }))?;
        let all = self.call(coordinator, &method(DRAIN, "List"), json!({ "all": true }))?;
        let removal = all["drains"].as_array().into_iter().flatten().find(|drain| drain["cause"] == "removal").cloned();
        let removal = removal.ok_or_else(|| fault(format!("no drain of a removal: {all}")))?;
        self.call_with(coordinator, &method(DRAIN, "Watch"), json!({ "take": 1, "timeout": 40 }))?;
        let cancel = json!({ "request": { "id": removal["id"] }, "timeout": 40 });
        self.refused(coordinator, &method(DRAIN, "Cancel"), cancel)?;
        self.call(coordinator, &method(DRAIN, "Cancel"), json!({ "id": "one" }))?;
        let attach = json!({ "request": [hello("a")], "take": 1, "timeout": 40 });
        self.call_with(coordinator, &method(DRAIN, "Attach"), attach)?;

        let mut wrong = Vec::new();
        for name in PROCESSES {
            let set = json!({ "filter": "info,runtime=debug", "lasting": "600s" });
            self.call(name, &method(PROCESS, "SetLog"), set)?;
            let held = self.call(name, &method(PROCESS, "GetLog"), json!({}))?;
            let holds = held["filter"] == "info,runtime=debug" && held["fallback"] == "info";
            wrong.extend((!holds).then(|| format!("{name}: {held}")));
            self.call(name, &method(PROCESS, "SetLog"), json!({ "filter": "info" }))?;
            let loud = json!({ "request": { "filter": "loud" }, "timeout": 40 });
            let refused = self.refused(name, &method(PROCESS, "SetLog"), loud)?;
            let helps = refused.message.contains("off, error, warn, info, debug, trace");
            wrong.extend((!helps).then(|| format!("{name}: {}", refused.message)));
        }
        self.figures.none("log_filters_wrong", wrong);
        // The command line tool speaks the other version of reflection.
        let shown = self.services.cli(&["log", "info,router=debug", "--for", "10m", "--output", "json"])?.expect(0)?;
        let shown = shown.json()?.as_array().map_or(0, Vec::len);
        self.figures.demand("log_by_command", shown, "4", shown == PROCESSES.len());
        self.services.cli(&["log", "router=loud"])?.expect(1)?;
        // Two streams of one name, whose second ends the first.
        let follow = |boot: &str| json!({ "request": [hello(boot)], "timeout": 40 });
        self.client.start_call("first", MANAGER, &method(CONFIG, "Follow"), follow("a"))?;
        let mut second = follow("b");
        second["take"] = 1.into();
        // The order of two streams is not guaranteed, so the second one waits for what the first is offered.
        wait::until_true("the stranger to be attached", Duration::from_secs(20), || {
            self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))
                .is_ok_and(|status| status["routers"].to_string().contains("stranger"))
        })?;
        self.call_with(MANAGER, &method(CONFIG, "Follow"), second)?;
        let ended = self.client.finish("first")?;
        self.hear("Follow", ended).map(drop)
    }

    /// Malformed requests.
    fn nonsense(&mut self) -> Result<(), Fault> {
        let status = method(CONFIG, "GetStatus");
        self.refused(MANAGER, &status, json!({ "raw": "0aff", "timeout": 40 }))?;
        for unknown in [method(CONFIG, "Relaod"), "only1mcp.config.v2.ConfigService/Reload".to_owned()] {
            self.refused(MANAGER, &unknown, json!({ "raw": "", "timeout": 40 }))?;
        }
        self.refused(MANAGER, &method(CONFIG, "Apply"), json!({ "zeros": (64 << 20) + 1, "timeout": 40 }))?;
        let address = self.address(MANAGER).to_string();
        for (name, token) in [("nobody", None), ("stranger", Some("0123456789abcdef0123456789abcdef"))] {
            self.client.connect(name, &address, token)?;
            self.refused(name, &status, json!({ "raw": "", "timeout": 40 }))?;
        }
        let flooded = self.client.flood(MANAGER, 4 << 20)?;
        self.hear("a flood of questions", flooded)?;
        let soon = json!({ "metadata": [["grpc-timeout", "200m"]] });
        self.refused(MANAGER, &method(CONFIG, "Watch"), soon)?;
        let negative = json!({ "request": { "timeout": "-1s" }, "timeout": 40 });
        self.refused(MANAGER, &method(CONFIG, "Reload"), negative)?;
        Ok(())
    }

    fn what_is_not_there(&mut self) -> Result<(), Fault> {
        let get = method(CONFIG, "GetRevision");
        self.refused(MANAGER, &get, json!({ "request": { "revision": 4096 }, "timeout": 40 }))?;
        let unknown = json!({ "request": { "server": "nowhere" }, "timeout": 40 });
        self.refused("drain-coordinator", &method(DRAIN, "Start"), unknown)?;
        let unknown = json!({ "request": { "server": "nowhere" }, "timeout": 40 });
        self.refused("router", &method(ROUTER, "Restart"), unknown)?;
        let remote = json!({ "request": { "server": "remote" }, "timeout": 40 });
        self.refused("router", &method(ROUTER, "Restart"), remote)?;
        let unknown = json!({ "request": { "id": "nowhere" }, "timeout": 40 });
        self.refused("drain-coordinator", &method(DRAIN, "Cancel"), unknown)?;
        self.without_a_file()
    }

    /// A manager without a file, whose first revision comes over the API.
    fn without_a_file(&mut self) -> Result<(), Fault> {
        let mut command = Command::new(binaries::path("config-manager")?);
        command.args(["--grpc", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--state-dir"]);
        command.arg(self.scratch.file("state-without-file"));
        let manager = Supervised::start("without-file", &mut command, &self.scratch.folder("logs")?)?;
        let address = |line: &str| Some(line.split_once(" grpc=")?.1.split(' ').next()?.to_owned());
        let address = manager.wait_stderr("its address", Duration::from_secs(20), address)?;
        let token = fs::read_to_string(self.scratch.file("state-without-file").join(AdminToken::FILE))?;
        self.client.connect("without-file", &address, Some(token.trim()))?;
        self.refused("without-file", &method(CONFIG, "Reload"), json!({ "timeout": 40 }))?;
        let nothing = json!({ "name": "team", "document": "version: \"1.0\"\nallow_empty: true\nservers: []\n" });
        self.call("without-file", &method(CONFIG, "Apply"), nothing)?;
        self.refused("without-file", &method(CONFIG, "Rollback"), json!({ "timeout": 40 })).map(drop)
    }

    /// Changes that give way to others, and revisions that are gone.
    fn who_comes_second(&mut self) -> Result<(), Fault> {
        let (apply, back) = (method(CONFIG, "Apply"), method(CONFIG, "Rollback"));
        let slow = |id: &str| SLOW.replace("{id}", id);
        let pruned = json!({ "request": { "revision": 1 }, "timeout": 40 });
        self.refused(MANAGER, &back, pruned)?;
        let stale = json!({ "name": "team", "document": self.layer("five")?, "baseRevision": 1 });
        self.refused(MANAGER, &apply, json!({ "request": stale, "timeout": 40 }))?;
        let first = json!({ "request": { "name": "team", "document": slow("slow") }, "timeout": 40 });
        self.client.start_call("superseded", MANAGER, &apply, first)?;
        self.wait_stage("preparing")?;
        let second = self.layer("six")?;
        self.outcome("Apply", json!({ "name": "team", "document": second }), "RESULT_APPLIED")?;
        let ended = self.client.finish("superseded")?;
        self.hear("a superseded change", ended)?;

        let live = self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))?["revision"].clone();
        let based = json!({ "name": "other", "document": slow("slow"), "baseRevision": live });
        self.client.start_call("overtaken", MANAGER, &apply, json!({ "request": based, "timeout": 40 }))?;
        self.wait_stage("preparing")?;
        self.outcome("Rollback", json!({}), "RESULT_APPLIED")?;
        let ended = self.client.finish("overtaken")?;
        self.hear("an overtaken change", ended)?;
        self.refused(MANAGER, &back, json!({ "timeout": 40 })).map(drop)
    }

    fn wait_stage(&mut self, stage: &str) -> Result<(), Fault> {
        wait::until_true(stage, Duration::from_secs(20), || {
            self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))
                .is_ok_and(|status| status["pending"][0]["stage"] == stage)
        })
    }

    /// Each name that is documented serves, and no other.
    fn health(&mut self) -> Result<(), Fault> {
        let check = "grpc.health.v1.Health/Check";
        let mut wrong = Vec::new();
        let names = documented::dependencies()?;
        self.figures.note("health_names", names.len());
        for (name, process) in names {
            let answer = self.client.call(&process, check, json!({ "request": { "service": name }, "timeout": 40 }))?;
            if answer.as_ref().map(|answer| answer["status"].clone()) != Ok("SERVING".into()) {
                wrong.push(format!("{name} of {process}: {answer:?}"));
            }
        }
        let unknown = json!({ "request": { "service": "only1mcp.dependency/nothing" }, "timeout": 40 });
        let unknown = self.client.call("router", check, unknown)?;
        if unknown.as_ref().err().map(|refusal| refusal.code.as_str()) != Some("NOT_FOUND") {
            wrong.push(format!("an unknown name: {unknown:?}"));
        }
        self.figures.none("health_wrong", wrong);
        Ok(())
    }

    /// Without a router nothing can be decided: callers are told so in time, and their number is bounded.
    fn without_a_router(&mut self) -> Result<(), Fault> {
        self.services.routers[0].kill()?;
        wait::until_true("nobody to be attached", Duration::from_secs(20), || {
            self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))
                .is_ok_and(|status| status["routers"].as_array().is_some_and(Vec::is_empty))
        })?;
        // An existing server might be drained before the router is missed; the next call would then join that drain for
        // ever.
        let drain = json!({ "request": { "server": "nowhere" }, "timeout": 40 });
        wait::until_true("drain-coordinator to know", Duration::from_secs(20), || {
            self.refused("drain-coordinator", &method(DRAIN, "Start"), drain.clone())
                .is_ok_and(|refusal| refusal.reason == "NO_ROUTER")
        })?;
        self.document.put(demo::stdio("seven", "seven", self.scratch)?);
        self.file.replace(&self.document.yaml())?;
        let start = Instant::now();
        let reload = json!({ "timeout": 1.5 });
        let pending = self.call_with(MANAGER, &method(CONFIG, "Reload"), reload)?;
        let took = start.elapsed();
        let told = pending["outcome"]["warnings"].to_string().contains("pending: file by token, without_voter");
        let in_time = pending["outcome"]["result"] == "RESULT_PENDING" && told && took < Duration::from_millis(1500);
        self.figures.demand("pending_in_ms", took.as_millis(), "told before the deadline of 1500", in_time);
        let brief = |request: Value| json!({ "request": request, "timeout": 40 });
        let reloads = brief(json!({ "timeout": "3s" }));
        for refusal in self.client.many(1100, MANAGER, &method(CONFIG, "Reload"), reloads)? {
            self.hear("Reload", Err(refusal))?;
        }
        // Each takes a moment, so that most of them wait.
        let long = brief(json!({ "document": format!("servers: [{}]\n", "a,".repeat(150_000)) }));
        for refusal in self.client.many(64, MANAGER, &method(CONFIG, "Validate"), long)? {
            self.hear("Validate", Err(refusal))?;
        }
        let layers = brief(json!({ "name": "layer-{n}", "document": SLOW.replace("{id}", "slow"), "timeout": "3s" }));
        for refusal in self.client.many(300, MANAGER, &method(CONFIG, "Apply"), layers)? {
            self.hear("Apply", Err(refusal))?;
        }
        self.client.start_call("stopped", MANAGER, &method(CONFIG, "Reload"), json!({ "timeout": 40 }))?;
        self.call(MANAGER, &method(CONFIG, "GetStatus"), json!({}))?;
        self.services.service_mut(Kind::ConfigManager).process().signal(Signal::SIGTERM);
        let ended = self.client.finish("stopped")?;
        self.hear("a call of a process that stops", ended).map(drop)
    }

    fn judge(&mut self, listed: &BTreeSet<String>) -> Result<(), Fault> {
        self.figures.note("methods", listed.len());
        self.figures.none("methods_not_called", listed.difference(&self.called));
        let documented = documented::errors()?;
        self.figures.note("errors", documented.len());
        let missing = documented.iter().filter_map(|(error, details)| match self.heard.get(error) {
            None => Some(format!("{error:?} was never heard")),
            Some(heard) if heard != details => Some(format!("{error:?} has {heard:?}, documented are {details:?}")),
            Some(_) => None,
        });
        self.figures.none("errors_not_as_documented", missing.collect::<Vec<_>>());
        let unknown =
            self.heard.keys().filter(|error| !documented.contains_key(error)).map(|error| format!("{error:?}"));
        self.figures.none("errors_not_documented", unknown.collect::<Vec<_>>());
        Ok(())
    }
}

fn method(service: &str, name: &str) -> String {
    format!("{service}/{name}")
}
