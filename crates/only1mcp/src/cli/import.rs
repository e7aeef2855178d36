//! `import`: the servers of MCP clients into a configuration of ours. Shows what it would do, and does it after a yes.
//! `export`: the other direction, the entry that leads a client to the gateway.

mod client;
mod target;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use config_file::{AddError, Format, Imported, Source};
use model::{Owner, Violation};
use runtime::{escape::say, exit};
use serde_json::{Value, json};

use super::{Lines, Output, render, tools, validate};
use crate::{
    args::{Client, ExportArgs, Format as Answer, ImportArgs},
    failure::Failure,
};
use client::{Homes, found, short};
use target::Target;

/// What is to happen.
#[derive(Default)]
struct Plan {
    /// Servers in the words of our file, with the file each is from.
    add: Vec<(String, Value)>,
    /// Ids of servers that are there already, with the files that have them.
    same: Vec<(String, String)>,
    /// Ids that another server has, with the file it is in and that one's place.
    clashes: Vec<(String, String, String)>,
    notes: Vec<Violation>,
    /// Why a file is not read.
    broken: Vec<Violation>,
    /// Files, what each is of, and how many servers it has.
    files: Vec<(String, Option<Client>, usize)>,
}

pub(super) fn import(args: &ImportArgs) -> Result<Output, Failure> {
    let homes = Homes::of_this_user();
    let target = Target::find(args.config.as_deref())?;
    let into = short(&target.path, &homes);
    let before = config_file::own(&target.source());
    let mut plan = Plan::default();
    let own = match before {
        Ok(own) => own,
        Err(violations) => return Ok(validate::invalid(&into, &violations)),
    };
    plan.collect(args, &homes, own.into_iter().map(|server| (into.clone(), server)));
    let mut shown = plan.shown(&into);
    if !plan.broken.is_empty() {
        shown.line("nothing is written: a file cannot be read; name those to import, to leave it out");
        return Ok(plan.answer(&into, shown, false, exit::REFUSED));
    }
    if plan.add.is_empty() {
        shown.line("nothing to add");
        return Ok(plan.answer(&into, shown, false, exit::NOTHING_TO_DO));
    }
    let servers: Vec<Value> = plan.add.iter().map(|(_, server)| server.clone()).collect();
    let text = match config_file::add(&target.source(), &servers) {
        Ok(text) => text,
        Err(AddError::Invalid(violations)) => return Ok(validate::invalid(&into, &violations)),
        Err(AddError::Layout) => return Err(Failure::Layout { path: target.path }),
    };
    if !args.yes {
        let asks = args.output.output == Answer::Text && io::stdin().is_terminal() && io::stderr().is_terminal();
        if !asks {
            return Ok(plan.unasked(&into, shown, args.output.output));
        }
        let columns = render::columns(io::stderr());
        say(&plan.complaints().within(columns));
        say(&shown.within(columns));
        if !says_yes(&into) {
            let text = Lines::of("nothing is written");
            return Ok(Output { complaints: Lines::default(), ..plan.answer(&into, text, false, exit::REFUSED) });
        }
        target.write(&text)?;
        return Ok(Output { complaints: Lines::default(), ..plan.answer(&into, written(&into), true, exit::DONE) });
    }
    target.write(&text)?;
    shown.append(&written(&into));
    Ok(plan.answer(&into, shown, true, exit::DONE))
}

fn written(into: &str) -> Lines {
    Lines::of(format_args!(
        "{into} is written; `only1mcp up` serves it, `only1mcp export --client NAME` leads a client to it"
    ))
}

fn says_yes(into: &str) -> bool {
    say(&format!("write {}? [y/N] ", Lines::of(into).as_str().trim_end()));
    drop(io::stderr().flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

impl Plan {
    /// Reads the files, and sorts their servers by what is known of each id.
    fn collect(&mut self, args: &ImportArgs, homes: &Homes, own: impl Iterator<Item = (String, Value)>) {
        let files: Vec<(Option<Client>, PathBuf)> = if args.files.is_empty() {
            found(homes).into_iter().map(|(client, path)| (Some(client), path)).collect()
        } else {
            args.files.iter().map(|path| (None, path.clone())).collect()
        };
        let id = |server: &Value| server["id"].as_str().unwrap_or_default().to_owned();
        let mut known: BTreeMap<String, (String, Value)> =
            own.map(|(from, server)| (id(&server), (from, server))).collect();
        for (client, path) in files {
            let from = if is_stdin(&path) { validate::display(&path) } else { short(&path, homes) };
            let imported = match read(&path, client.is_some()) {
                Ok(imported) => imported,
                Err(violations) => {
                    self.broken.extend(violations);
                    continue;
                }
            };
            if !imported.of_client {
                // Settings of a client that has no servers are none of our business, unless they were named.
                if client.is_none() {
                    let message = format!("{}: no servers of an MCP client are in this file", validate::display(&path));
                    self.broken.push(Violation::new(None, "", message));
                }
                continue;
            }
            self.files.push((from.clone(), client, imported.servers.len()));
            self.notes.extend(imported.notes);
            self.notes.extend(validate::variables::unset(&imported.variables));
            for server in imported.servers {
                match known.get(&id(&server)) {
                    None => {
                        known.insert(id(&server), (from.clone(), server.clone()));
                        self.add.push((from.clone(), server));
                    }
                    Some((_, other)) if *other == server => self.same.push((id(&server), from.clone())),
                    Some((place, _)) => self.clashes.push((id(&server), from.clone(), place.clone())),
                }
            }
        }
    }

    fn answer(&self, into: &str, text: Lines, written: bool, code: u8) -> Output {
        Output { complaints: self.complaints(), code, ..Output::done(text, self.json(into, written)) }
    }

    /// What is not written for want of a yes. In JSON the notes stand with the plan, and are not what is wrong.
    fn unasked(&self, into: &str, shown: Lines, format: Answer) -> Output {
        let mut complaints = if format == Answer::Json { Lines::default() } else { self.complaints() };
        complaints.line("nothing is written: a yes cannot be asked for here");
        let next = Some("add --yes".to_owned());
        Output { complaints, next, ..self.answer(into, shown, false, exit::REFUSED) }
    }

    fn complaints(&self) -> Lines {
        let mut lines = Lines::default();
        self.broken.iter().for_each(|violation| lines.line(violation));
        self.notes.iter().for_each(|note| lines.line(note));
        lines
    }

    fn shown(&self, into: &str) -> Lines {
        let mut lines = Lines::default();
        if self.files.is_empty() && self.broken.is_empty() {
            lines.line("no file of an MCP client was found");
        }
        for (file, client, servers) in &self.files {
            let of = client.map_or_else(String::new, |client| format!(" ({})", client.title()));
            lines.line(format_args!("{file}{of}: {}", render::count(*servers, "server")));
            for (_, server) in self.add.iter().filter(|(from, _)| from == file) {
                lines.line(format_args!("  + {}: {}", server["id"].as_str().unwrap_or_default(), reached(server)));
            }
            for (id, _) in self.same.iter().filter(|(_, from)| from == file) {
                lines.line(format_args!("  = {id}: is there already"));
            }
            for (id, _, place) in self.clashes.iter().filter(|(_, from, _)| from == file) {
                lines.line(format_args!("  ! {id}: not carried over, since another server of this name is in {place}"));
            }
        }
        if !self.add.is_empty() {
            lines.line(format_args!("into {into}: {}", render::count(self.add.len(), "server")));
        }
        lines
    }

    fn json(&self, into: &str, written: bool) -> Value {
        let client = |client: Option<Client>| client.map(Client::title);
        let add = self.add.iter().map(|(from, server)| {
            let transport = &server["transport"];
            json!({
                "id": server["id"],
                "from": from,
                "type": transport["type"],
                "command": transport["command"],
                "args": arguments(transport),
                "url": transport["url"].as_str().map(without_query),
            })
        });
        let files = self
            .files
            .iter()
            .map(|(file, of, servers)| json!({ "file": file, "client": client(*of), "servers": servers }));
        json!({
            "into": into,
            "written": written,
            "files": files.collect::<Value>(),
            "add": add.collect::<Value>(),
            "same": self.same.iter().map(|(id, from)| json!({ "id": id, "from": from })).collect::<Value>(),
            "clashes": self.clashes.iter().map(|(id, from, with)| json!({ "id": id, "from": from, "with": with })).collect::<Value>(),
            "notes": self.notes.iter().map(render::violation_json).collect::<Value>(),
            "violations": self.broken.iter().map(render::violation_json).collect::<Value>(),
        })
    }
}

/// How a server is reached, without what looks like a secret.
fn reached(server: &Value) -> String {
    let transport = &server["transport"];
    match transport["command"].as_str() {
        Some(command) => {
            let words = arguments(transport).into_iter().map(|argument| format!(" {argument}"));
            format!("starts {command}{}", words.collect::<String>())
        }
        None => without_query(transport["url"].as_str().unwrap_or_default()).to_owned(),
    }
}

fn arguments(transport: &Value) -> Vec<&str> {
    let arguments: Vec<&str> = transport["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let before = std::iter::once(None).chain(arguments.iter().copied().map(Some));
    let pairs = before.zip(&arguments);
    pairs
        .map(|(before, argument)| if model::is_secret_argument(before, argument) { "***" } else { *argument })
        .collect()
}

fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The servers of a file, which was named, or `found` where a client has it.
fn read(path: &Path, found: bool) -> Result<Imported, Vec<Violation>> {
    let text = validate::read(path).map_err(|error| vec![error.into()])?;
    if found && !config_file::may_have_servers(&text) {
        return Ok(Imported::default());
    }
    // Its path tells the directory of a project.
    let absolute = std::path::absolute(path).ok().filter(|_| !is_stdin(path));
    let name = absolute.map_or_else(|| validate::display(path), |path| path.display().to_string());
    config_file::import(&Source { owner: Owner::file(), name: name.into(), format: Format::of(path), text })
}

/// The command that leads to the gateway from wherever a client starts it.
fn bridge(args: &ExportArgs) -> Vec<String> {
    let program = env::current_exe().map_or_else(|_| "only1mcp".to_owned(), |program| program.display().to_string());
    let mut command = vec![program, "connect".to_owned()];
    if let Some(url) = &args.url {
        command.extend(["--url".to_owned(), url.clone()]);
    } else if let Ok(place) = args.place.find_running() {
        if !place.is_demo {
            command.extend(["--config".to_owned(), place.config.display().to_string()]);
        }
        if args.place.state_dir.is_some() {
            command.extend(["--state-dir".to_owned(), place.state_dir.display().to_string()]);
        }
    }
    command
}

pub(super) fn export(args: &ExportArgs) -> Result<Output, Failure> {
    let url = tools::url(args.url.as_deref(), &args.place)?;
    let homes = Homes::of_this_user();
    let file = args.client.of_user(&homes).first().map(|file| short(file, &homes));
    Ok(exported(args.client, file.as_deref(), &url, &bridge(args)))
}

/// What the `client` needs in its `file`.
fn exported(client: Client, file: Option<&str>, url: &str, bridge: &[String]) -> Output {
    let snippet = client.snippet(url, bridge);
    let place = file.map_or_else(String::new, |file| format!(", in {file}"));
    let json = json!({ "client": client.title(), "file": file, "url": url, "text": snippet });
    let mut text = Lines::default();
    snippet.lines().for_each(|line| text.verbatim(line));
    let complaints = Lines::of(format_args!("for {}{place}:", client.title()));
    Output { complaints, ..Output::done(text, json) }
}
