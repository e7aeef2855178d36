//! One gateway with all servers of the cases behind it, and what can be asked about one of them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, ConfigFile, Document, Fault, Gateway, Scratch, Server, System, client::CallError, fault, wait};
use tokio::time::Instant;

use super::{expect, stdio_server};

/// Longer than anything takes that is as it should be, on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(12);
/// An answer that comes at once is here by then, and none that waits for a limit is.
const AT_ONCE: Duration = Duration::from_secs(6);

/// Ends before its folder goes.
pub(super) struct Hall {
    pub(super) gateway: Gateway,
    pub(super) scratch: Scratch,
}

impl Hall {
    pub(super) fn open(scratch: Scratch, servers: Vec<Server>) -> Result<Self, Fault> {
        // Silence is far above what comes at once, and far below what a run can wait for.
        let limits = json!({ "idle": "20s", "connect": "8s" });
        let document = servers.into_iter().fold(Document::default().key("limits", limits), Document::with);
        Self::start(scratch, &document)
    }

    /// Another gateway, with this document alone.
    pub(super) fn start(scratch: Scratch, document: &Document) -> Result<Self, Fault> {
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        Ok(Self { gateway, scratch })
    }

    /// What the client is told of a call of `tool` of the server, once that tool is listed.
    pub(super) fn call(&self, server: &str, tool: &str) -> Result<Told, Fault> {
        let name = format!("{server}__{tool}");
        let mut client = self.wait_listed(&name)?;
        Self::call_with(&mut client, &name)
    }

    pub(super) fn call_with(client: &mut Client, name: &str) -> Result<Told, Fault> {
        let start = Instant::now();
        let content = match client.call(name, &json!({})) {
            Ok(reply) => reply.content.map_err(|error| error.to_string()),
            // An SDK shows its user this text, too.
            Err(error @ CallError::Status(..)) => Err(error.to_string()),
            Err(error @ (CallError::Broken(_) | CallError::Wrong(_))) => return Err(fault(format!("{name}: {error}"))),
        };
        Ok(Told { content, after: start.elapsed() })
    }

    /// A client that sees the tool.
    pub(super) fn wait_listed(&self, name: &str) -> Result<Client, Fault> {
        let mut client = Client::open(self.gateway.mcp)?;
        let listed = |client: &mut Client| client.tools().is_ok_and(|tools| tools.iter().any(|tool| tool == name));
        let waited = wait::until_true(&format!("the tool {name}"), SOON, || listed(&mut client));
        let server = name.split("__").next().unwrap_or_default();
        waited.map_err(|error| error.during(self.server(server).unwrap_or_default()))?;
        Ok(client)
    }

    /// Checks that a call of the tool `t` succeeds.
    pub(super) fn serves(&self, server: &str) -> Result<(), Fault> {
        self.call(server, "t")?.is_well()
    }

    /// Its entry in the status.
    pub(super) fn server(&self, server: &str) -> Result<Value, Fault> {
        let status = self.gateway.status()?;
        let found = status["servers"].as_array().into_iter().flatten().find(|known| known["id"] == server);
        found.cloned().ok_or_else(|| fault(format!("no server {server} in the status")))
    }

    /// Why it does not serve, as the status says it.
    pub(super) fn trouble(&self, server: &str) -> Result<String, Fault> {
        let found = wait::until(&format!("the trouble of {server}"), SOON, || self.in_trouble(server));
        found.map_err(|error| error.during(self.server(server).unwrap_or_default()))
    }

    /// The same, if it is in trouble now.
    pub(super) fn in_trouble(&self, server: &str) -> Option<String> {
        let shown = self.server(server).ok()?;
        let error = shown["endpoints"][0]["error"].as_str().filter(|error| !error.is_empty())?;
        Some(error.to_owned())
    }

    /// What `status` prints.
    pub(super) fn status_text(&self) -> Result<String, Fault> {
        Ok(self.gateway.cli(&["status"])?.stdout)
    }

    /// The lines of `status` about a server outside of its table, once there are any that have all `words`.
    pub(super) fn warned(&self, server: &str, words: &[&str]) -> Result<String, Fault> {
        let notes = || -> Option<String> {
            let text = self.status_text().ok()?;
            let about = text.lines().filter(|line| line.contains(':') && !line.starts_with(server));
            let about = about.filter(|line| line.split([' ', ':', '`', ',']).any(|word| word == server));
            let found: Vec<&str> = about.filter(|line| words.iter().all(|word| line.contains(word))).collect();
            (!found.is_empty()).then(|| found.join("\n"))
        };
        let found = wait::until(&format!("a note about {server} with {words:?} in the status"), SOON, notes);
        found.map_err(|error| error.during(self.server(server).unwrap_or_default()))
    }

    /// How many requests with this method a program behind the hall was sent.
    pub(super) fn told(&self, server: &str, method: &str) -> usize {
        stdio_server::count(&self.scratch.file("scripts"), server, method)
    }

    /// What the gateway has logged.
    pub(super) fn log(&self) -> Result<Vec<u8>, Fault> {
        Ok(std::fs::read(self.scratch.folder("logs")?.join("up.err"))?)
    }
}

/// What a client was told, and after what time.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) content: Result<Value, String>,
    after: Duration,
}

impl Told {
    pub(super) fn is_well(&self) -> Result<(), Fault> {
        expect(self.content.is_ok(), "a result", self.text())
    }

    /// All that the client can show.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Ok(result) => result.to_string(),
            Err(error) => error.clone(),
        }
    }

    pub(super) fn came_at_once(&self) -> Result<(), Fault> {
        expect(self.after < AT_ONCE, "an answer at once", format!("{} after {:?}", self.text(), self.after))
    }

    /// An error at once, with these words and none of those.
    pub(super) fn fails(&self, wanted: &[&str], unwanted: &[&str]) -> Result<(), Fault> {
        expect(self.content.is_err(), "an error", self.text())?;
        self.came_at_once()?;
        super::says(&self.text(), wanted, unwanted)
    }
}
