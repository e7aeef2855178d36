//! What is planted, how it shows, and what a person does about it.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{Document, Fault, Scratch, Server};

use super::stage::{Stage, endpoint, guarded, needs_data, quiet, upstream, upstream_url};

pub(super) struct Situation {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What the person on call is told.
    pub(super) page: &'static str,
    pub(super) open: for<'a> fn(&'a Scratch) -> Result<Stage<'a>, Fault>,
    pub(super) plant: fn(&mut Stage<'_>) -> Result<(), Fault>,
    /// Whether the gateway has noticed, by the JSON of `status`.
    pub(super) shows: fn(&Value) -> bool,
    /// Whether something is dead by what is planted; else clients notice it, and everything runs.
    pub(super) dead: bool,
    /// All of these stand where the cause is told.
    pub(super) cause: &'static [&'static str],
    /// The command that tells it, where `status` does not.
    pub(super) look: &'static [&'static str],
    pub(super) cure: &'static [Cure],
    pub(super) is_well: fn(&Stage<'_>) -> bool,
    /// What has come of the cure, as the page says it: where `status` ended with 1, that it ends with 0 again.
    pub(super) then: &'static str,
    /// Words that `watch` says meanwhile.
    pub(super) watched: &'static [&'static str],
}

/// One step of a cure.
pub(super) enum Cure {
    Command(&'static [&'static str]),
    /// What a person does elsewhere, as they would type or say it.
    Hand(&'static str, fn(&mut Stage<'_>) -> Result<(), Fault>),
}

use Cure::{Command, Hand};

const STATUS_IS_WELL: &str = "`only1mcp status` ends with 0 again";
const CALLS_ARE_ANSWERED: &str = "the calls of clients are answered again";

pub(super) static SITUATIONS: [Situation; 8] =
    [HUNG, CRASH_LOOP, SLOW, DEAD_UPSTREAM, WRONG_SECRET, BAD_EDIT, TOOL_GONE, COMES_BACK];

const HUNG: Situation = Situation {
    name: "hung",
    title: "A server hangs",
    page: "Calls of `notes` get no answer.",
    open: |scratch| Stage::open(scratch, base(scratch)?.with(quiet("notes", scratch)?)),
    plant: |stage| stage.signal("notes", Signal::SIGSTOP),
    shows: |status| endpoint(status, "notes")["verdict"] == "unhealthy",
    dead: true,
    cause: &["notes", "unhealthy", "no answer within"],
    look: &[],
    cure: &[Command(&["restart", "notes"])],
    is_well: |stage| stage.answers("notes__add"),
    then: STATUS_IS_WELL,
    watched: &["unhealthy"],
};

const CRASH_LOOP: Situation = Situation {
    name: "crash-loop",
    title: "A server crashes again and again",
    page: "`crm` is gone: its tools cannot be called.",
    open: |scratch| Stage::open(scratch, base(scratch)?.with(needs_data("crm", scratch)?)),
    plant: |stage| {
        fs::rename(stage.scratch.file("data"), stage.scratch.file("data.old"))?;
        stage.signal("crm", Signal::SIGKILL)
    },
    shows: |status| endpoint(status, "crm")["verdict"] == "failing" && waits_for_next_try(status, "crm"),
    dead: true,
    cause: &["crm: cannot open", "No such file or directory"],
    look: &["logs", "crm"],
    cure: &[
        Hand("put the data of `crm` back", |stage| {
            Ok(fs::rename(stage.scratch.file("data.old"), stage.scratch.file("data"))?)
        }),
        Command(&["restart", "crm"]),
    ],
    is_well: |stage| stage.answers("crm__add"),
    then: STATUS_IS_WELL,
    watched: &["its process"],
};

const SLOW: Situation = Situation {
    name: "slow",
    title: "A server is slow",
    page: "Calls of `search` take for ever, and many fail.",
    open: |scratch| {
        let limits = json!({ "idle": "400ms" });
        behind_http(scratch, |document, url| document.key("limits", limits).with(Server::http("search", url)))
    },
    plant: |stage| {
        stage.keep_calling("search__sleep", json!({ "ms": 2000 }));
        Ok(())
    },
    shows: |status| endpoint(status, "search")["verdict"] == "degraded",
    dead: false,
    cause: &["search", "degraded"],
    look: &[],
    cure: &[Command(&["drain", "search"])],
    is_well: |stage| !stage.answers("search__add") && stage.answers("notes__add"),
    then: "`search` gets no more calls",
    watched: &["degraded"],
};

const DEAD_UPSTREAM: Situation = Situation {
    name: "dead-upstream",
    title: "An upstream is dead",
    page: "Nothing of `search` works since a moment ago.",
    open: |scratch| behind_http(scratch, |document, url| document.with(Server::http("search", url))),
    plant: |stage| stage.stop_upstream(),
    shows: |status| ["unhealthy", "failing"].map(Value::from).contains(&endpoint(status, "search")["verdict"]),
    dead: true,
    cause: &["search", "refused"],
    look: &[],
    cure: &[Hand("start the upstream of `search` again; the gateway connects by itself", |stage| {
        stage.start_upstream()
    })],
    is_well: |stage| stage.answers("search__add"),
    then: STATUS_IS_WELL,
    watched: &["refused"],
};

const WRONG_SECRET: Situation = Situation {
    name: "wrong-secret",
    title: "A secret is not right any more",
    page: "`search` refuses everybody.",
    open: |scratch| {
        let secret = scratch.file("search.token");
        fs::write(&secret, "first")?;
        let wanted = Arc::new(Mutex::new("first".to_owned()));
        let bearer = json!({ "Authorization": format!("Bearer ${{file:{}}}", secret.display()) });
        let server = Server::http("search", &guarded(Arc::clone(&wanted))?).transport("headers", bearer);
        let mut stage = Stage::open(scratch, base(scratch)?.with(server))?;
        stage.wanted = wanted;
        Ok(stage)
    },
    plant: |stage| {
        *stage.wanted.lock().unwrap_or_else(PoisonError::into_inner) = "second".to_owned();
        Ok(())
    },
    shows: |status| endpoint(status, "search")["verdict"] == "unhealthy",
    dead: true,
    cause: &["search", "401"],
    look: &[],
    cure: &[Hand("write the present token into the file that `headers` names", |stage| {
        Ok(fs::write(stage.scratch.file("search.token"), "second")?)
    })],
    is_well: |stage| stage.answers("search__find"),
    then: STATUS_IS_WELL,
    watched: &["unhealthy"],
};

const BAD_EDIT: Situation = Situation {
    name: "bad-edit",
    title: "An edit is wrong",
    page: "I have added a tool to the file, and it does not turn up.",
    open: |scratch| Stage::open(scratch, base(scratch)?),
    plant: |stage| {
        let text = stage.document.yaml().replace("\"id\":\"notes\"", "\"id\":\"notes\",\"tols\":[\"add\"]");
        Ok(stage.file.replace(&text)?)
    },
    shows: |status| status["source"]["state"] == "refused",
    dead: true,
    cause: &["refused", "only1mcp.yaml:", ".tols: unknown key", "did you mean `tools`?"],
    look: &[],
    cure: &[Hand(
        "correct the file; or `only1mcp show > live.yaml`, and if that ends with 0, put it in the place of the file; \
         where it ends with 1, it has marks in place of values that may be secrets",
        |stage| {
            let shown = stage.gateway.cli(&["show"])?.expect(0)?;
            Ok(stage.file.replace(&shown.stdout)?)
        },
    )],
    is_well: |stage| stage.answers("notes__add"),
    then: STATUS_IS_WELL,
    watched: &["refused"],
};

const TOOL_GONE: Situation = Situation {
    name: "tool-gone",
    title: "An edit took a tool away",
    page: "Since some minutes ago `notes__add` does not exist any more.",
    open: |scratch| Stage::open(scratch, base(scratch)?),
    plant: |stage| {
        let notes = quiet("notes", stage.scratch)?.key("tools", json!(["echo", "whoami"]));
        stage.document.put(notes);
        stage.save()?;
        stage.wait_revision(2)
    },
    shows: |status| status["revision"] == 2,
    dead: false,
    cause: &["notes", "tools", "echo"],
    look: &["diff"],
    cure: &[Command(&["rollback"])],
    is_well: |stage| stage.answers("notes__add"),
    then: CALLS_ARE_ANSWERED,
    watched: &["committed"],
};

const COMES_BACK: Situation = Situation {
    name: "comes-back",
    title: "A change that was rolled back comes back",
    page: "`notes__add` is gone again, and we have rolled that back an hour ago.",
    open: |scratch| Stage::open(scratch, base(scratch)?),
    plant: |stage| {
        let notes = quiet("notes", stage.scratch)?.key("tools", json!(["echo", "whoami"]));
        stage.document.put(notes);
        stage.save()?;
        stage.wait_revision(2)?;
        stage.gateway.cli(&["rollback", "--reason", "notes__add is missing"])?.expect(0)?;
        // The next one to edit the file finds the undone line in it, and leaves it there.
        stage.document.put(quiet("files", stage.scratch)?);
        stage.save()?;
        stage.wait_revision(4)
    },
    shows: |status| status["revision"] == 4,
    dead: false,
    cause: &["rollback", "notes__add is missing", "notes"],
    look: &["history"],
    cure: &[Hand("take the line `tools:` out of the file", |stage| {
        stage.document.put(quiet("notes", stage.scratch)?);
        stage.save()?;
        stage.wait_revision(5)
    })],
    is_well: |stage| stage.answers("notes__add"),
    then: CALLS_ARE_ANSWERED,
    watched: &["committed"],
};

/// What is there beside the server that the incident is about.
fn base(scratch: &Scratch) -> Result<Document, Fault> {
    Ok(Document::default().with(quiet("notes", scratch)?))
}

fn behind_http<'a>(scratch: &'a Scratch, with: impl FnOnce(Document, &str) -> Document) -> Result<Stage<'a>, Fault> {
    let upstream = upstream(scratch, "127.0.0.1:0")?;
    let document = with(base(scratch)?, &upstream_url(scratch)?);
    Ok(Stage::open(scratch, document)?.with_upstream(upstream))
}

/// It has failed more than once, and stands still for long enough to be looked at.
fn waits_for_next_try(status: &Value, server: &str) -> bool {
    endpoint(status, server)["next_attempt_ms"].as_u64().is_some_and(|ms| ms > 500)
}
