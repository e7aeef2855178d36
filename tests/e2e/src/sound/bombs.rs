//! Hostile documents and requests, under an address space of 1 GiB: each is refused in time and with its place, memory
//! does not grow, and a good one afterwards takes as long as before.

mod documents;
mod requests;

use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

use serde_json::json;
use testkit::{Client, ConfigFile, Document, Fault, Gateway, Scratch, System, demo, fault, gateway::Cli};
use tokio::time::Instant;

use crate::{Figures, Size};

/// The address space of the gateway, and of each program that judges a document.
const ADDRESS_SPACE: &str = "--as=1073741824";
/// How long a release build may take to refuse, and a build without optimisation.
const REFUSED_IN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(12)];
/// The most that the held memory may have grown at the end.
const GROWTH_MAX: u64 = 64 << 20;
/// A good call or change may take so much longer than before.
const SLOWER: Duration = Duration::from_millis(250);

/// What a bomb is answered, and how long that took.
struct Answer {
    took: Duration,
    said: String,
}

/// What falls short of one bomb.
type Shortfall = Option<String>;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let scratch = Scratch::new("bombs")?;
    let good = Document::default().with(demo::stdio("one", "one", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &good.yaml())?;
    // Each thread's arena reserves 64 MiB of addresses, whatever is in it.
    let environment = [("MALLOC_ARENA_MAX", "2")];
    let gateway = Gateway::up_under(&["prlimit", ADDRESS_SPACE], &scratch, file.path(), &environment)?;
    let mut stage = Stage { scratch, gateway, file, good, limit: size.pick(REFUSED_IN[0], REFUSED_IN[1]), edits: 0 };
    let mut figures = Figures::default();
    stage.play(size, &mut figures)?;
    Ok(figures)
}

struct Stage {
    scratch: Scratch,
    gateway: Gateway,
    file: ConfigFile,
    good: Document,
    limit: Duration,
    edits: u32,
}

/// How long what is good takes.
struct Usual {
    call: Duration,
    change: Duration,
}

impl Stage {
    fn play(&mut self, size: Size, figures: &mut Figures) -> Result<(), Fault> {
        self.usual()?;
        let before = self.usual()?;
        let held = self.gateway.memory("VmRSS:")?;
        self.gateway.forget_peak()?;
        let (mut slowest, mut short) = (Duration::ZERO, Vec::new());
        let documents = documents::all(size);
        for document in &documents {
            for door in document.doors(size) {
                let answer = self.put(document, door)?;
                slowest = slowest.max(answer.took);
                let name = format!("{} ({door:?})", document.name);
                short.extend(tell(name, &answer, document.wrong(&answer).or_else(|| self.late(&answer))));
            }
        }
        figures.note("held_after_documents_mib", self.gateway.memory("VmRSS:")? >> 20);
        let requests = requests::all();
        for request in &requests {
            let answer = request.send(&self.gateway, self.limit)?;
            slowest = slowest.max(answer.took);
            short.extend(tell(request.name.to_owned(), &answer, request.wrong(&answer).or_else(|| self.late(&answer))));
        }
        let peak = self.gateway.memory("VmHWM:")?;
        let after = self.usual()?;
        let growth = self.gateway.memory("VmRSS:")?.saturating_sub(held);
        figures.demand("documents", documents.len(), "40 at full size", size == Size::Short || documents.len() >= 40);
        figures.demand("requests", requests.len(), "40", requests.len() >= 40);
        figures.note("slowest_ms", slowest.as_millis());
        figures.note("peak_mib", peak >> 20);
        figures.note("held_before_mib", held >> 20);
        figures.demand("growth_mib", growth >> 20, "less than 64", growth < GROWTH_MAX);
        let slower = after.call > before.call * 3 + SLOWER || after.change > before.change * 3 + SLOWER;
        let times = format!("{}/{} ms", after.call.as_millis(), after.change.as_millis());
        let wanted = format!("about {}/{} ms, as before", before.call.as_millis(), before.change.as_millis());
        figures.demand("good_call_and_change", times, &wanted, !slower);
        figures.none("not_refused_as_they_should", short);
        Ok(())
    }

    fn late(&self, answer: &Answer) -> Shortfall {
        (answer.took > self.limit).then(|| format!("took {:?}", answer.took))
    }

    /// A call, and a change of the file, each to its end.
    fn usual(&mut self) -> Result<Usual, Fault> {
        let start = Instant::now();
        let reply = Client::open(self.gateway.mcp)?.call("one__echo", &json!({ "text": "still" }));
        if !reply.is_ok_and(|reply| reply.content.is_ok_and(|content| content.to_string().contains("still"))) {
            return Err(fault("a good call failed"));
        }
        let call = start.elapsed();
        self.edits += 1;
        let before = self.gateway.revision()?;
        let start = Instant::now();
        let text = format!("{}limits: {{ in_flight_per_endpoint: {} }}\n", self.good.yaml(), 100 + self.edits);
        self.file.replace(&text)?;
        self.gateway.cli(&["reload"])?;
        let change = start.elapsed();
        let now = self.gateway.revision()?;
        if now != before + 1 {
            return Err(fault(format!("a good change made revision {now} of {before}")));
        }
        Ok(Usual { call, change })
    }

    /// The answer to a document at this door. The live revision stays live.
    fn put(&self, document: &documents::Bomb, door: documents::Door) -> Result<Answer, Fault> {
        let path = self.scratch.file(&format!("bomb.{}", document.format));
        document.write(&path)?;
        let before = self.gateway.revision()?;
        let file = path.to_str().ok_or_else(|| fault("the scratch folder is no text"))?;
        let start = Instant::now();
        let said = match door {
            documents::Door::Validate => self.validate(file)?,
            documents::Door::File => {
                fs::rename(&path, self.file.path())?;
                self.gateway.cli(&["reload"])?
            }
            documents::Door::Api => self.gateway.cli(&["apply", file, "--owner", "bombs"])?,
        };
        let took = start.elapsed();
        if door == documents::Door::File && self.file.path().is_dir() {
            fs::remove_dir(self.file.path())?;
        }
        let live = self.gateway.revision()?;
        if said.code != 1 || live != before {
            return Err(fault(format!("{} ({door:?}) made revision {live} of {before}: {said:?}", document.name)));
        }
        Ok(Answer { took, said: said.stdout + &said.stderr })
    }

    fn validate(&self, file: &str) -> Result<Cli, Fault> {
        let inner = testkit::gateway::command(&self.scratch.folder("home")?)?;
        let mut limited = std::process::Command::new("prlimit");
        limited.arg(ADDRESS_SPACE).arg(inner.get_program()).args(["validate", file]);
        Cli::run(&mut limited)
    }
}

/// Prints one line for each case, to watch the run.
fn tell(name: String, answer: &Answer, wrong: Shortfall) -> Shortfall {
    let text = answer.said.rsplit("\r\n\r\n").next().filter(|body| !body.is_empty()).unwrap_or(&answer.said);
    let said: String = text.lines().next().unwrap_or_default().chars().take(150).collect();
    let verdict = if wrong.is_some() { "NOT RIGHT: " } else { "" };
    drop(writeln!(io::stderr(), "{:>6} ms  {name}: {verdict}{said}", answer.took.as_millis()));
    wrong.map(|wrong| format!("{name}: {wrong}"))
}
