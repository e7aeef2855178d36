//! A configuration under constant change, with backends that stay and backends that come, go and move.

use std::collections::{BTreeMap, BTreeSet};

use testkit::{ConfigFile, DemoServer, Document, Fault, Scratch, Server, Tally, demo};

/// Servers that no change touches.
pub const STEADY: [&str; 2] = ["steady-http", "steady-stdio"];
/// Servers that are always there and are changed in place: one gets another URL, one another environment.
pub const EDITED: [&str; 2] = ["moving", "edited"];
/// Servers that come and go.
pub const GUESTS: [&str; 2] = ["guest-http", "guest-stdio"];

/// The file, the backends, and which servers each revision has.
#[derive(Debug)]
pub struct World {
    pub scratch: Scratch,
    pub file: ConfigFile,
    document: Document,
    steady: DemoServer,
    /// The two places between which `moving` moves.
    places: [DemoServer; 2],
    guest: DemoServer,
    /// How often the configuration was changed.
    changes: u64,
    /// By revision, the servers that it has.
    servers: BTreeMap<u64, BTreeSet<&'static str>>,
}

impl World {
    /// Starts the HTTP backends and writes the first configuration; `key` adds to it.
    pub fn new(name: &str, key: impl FnOnce(Document) -> Document) -> Result<Self, Fault> {
        let scratch = Scratch::new(name)?;
        let start = |name: &str, more: &[&str]| DemoServer::start(name, &scratch, more);
        let steady = start("steady-http", &[])?;
        let places = [start("here", &[])?, start("there", &["--reply", "sse"])?];
        let guest = start("guest-http", &[])?;
        let document = key(Document::default())
            .with(Server::http("steady-http", &steady.url()))
            .with(demo::stdio("steady-stdio", "steady-stdio", &scratch)?)
            .with(Server::http("moving", &places[0].url()))
            .with(demo::stdio("edited", "edited", &scratch)?);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        Ok(Self { scratch, file, document, steady, places, guest, changes: 0, servers: BTreeMap::new() })
    }

    /// Notes that what the file says now is `revision`.
    pub fn is_live_as(&mut self, revision: u64) {
        let all = STEADY.iter().chain(&EDITED).chain(&GUESTS);
        let present = all.copied().filter(|id| self.document.has(id)).collect();
        self.servers.insert(revision, present);
    }

    /// Whether `revision` has the server; `None` of a revision that was never live.
    pub fn has(&self, revision: u64, server: &str) -> Option<bool> {
        self.servers.get(&revision).map(|servers| servers.contains(server))
    }

    /// The server that the next change is about.
    pub fn next_subject(&self) -> &'static str {
        match self.changes % 4 {
            0 => "edited",
            1 => "guest-http",
            2 => "moving",
            _ => "guest-stdio",
        }
    }

    /// Changes one server and moves the new file onto the old one.
    pub fn change(&mut self) -> Result<(), Fault> {
        let (subject, number) = (self.next_subject(), self.changes);
        self.changes += 1;
        let edited =
            || Ok::<_, Fault>(demo::stdio("edited", "edited", &self.scratch)?.env("TURN", &number.to_string()));
        match subject {
            "edited" => self.document.put(edited()?),
            "moving" => {
                let place = usize::from(number % 8 < 4);
                self.document.put(Server::http("moving", &self.places[place].url()));
            }
            guest if self.document.has(guest) => self.document.remove(guest),
            "guest-http" => self.document.put(Server::http("guest-http", &self.guest.url())),
            _ => self.document.put(demo::stdio("guest-stdio", "guest-stdio", &self.scratch)?),
        }
        Ok(self.file.replace(&self.document.yaml())?)
    }

    /// The port of the HTTP backend that stays.
    pub fn steady_port(&self) -> u16 {
        self.steady.address().port()
    }

    /// What all backends have carried out.
    pub fn tally(&self) -> Result<Tally, Fault> {
        Ok(Tally::read(&self.scratch.folder("counts")?)?)
    }
}
