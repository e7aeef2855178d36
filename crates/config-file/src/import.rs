//! Servers of a client's file in the words of ours, and how they are added to a file of ours.

mod layout;

use std::time::Duration;

use model::{Draft, DraftTransport, Located, Policy, Position, Violation, may_download};
use serde_json::Value;

use crate::layer::Layer;
use crate::report::Report;
use crate::spell::spell;
use crate::{Format, Known, Source, merge, variables};

/// The time to connect of a server that is downloaded before it first runs.
const FIRST_RUN: Duration = Duration::from_secs(60);

/// What a client's file has for us.
#[derive(Debug, Default)]
pub struct Imported {
    /// As `servers` of a configuration has them; valid by themselves, with ids that differ.
    pub servers: Vec<Value>,
    /// What is not carried over, and what is probably not meant, each with its place.
    pub notes: Vec<Violation>,
    /// As [`crate::Merged::variables`].
    pub variables: Vec<Located<String>>,
    /// Whether there is a key of a client at all.
    pub of_client: bool,
}

/// Whether a text may have servers of a client, as far as a glance tells. Settings of an editor may be all sorts of
/// things.
pub fn may_have_servers(text: &str) -> bool {
    // `mcpServers`, `servers`, `context_servers`, `mcp_servers`.
    text.contains("ervers")
}

/// The servers of a client's file.
pub fn import(source: &Source) -> Result<Imported, Vec<Violation>> {
    let at = Position { file: source.name.clone(), line: 1, column: 1 };
    let policy = Policy { allow_empty: true, ..Policy::default() };
    let mut draft = Draft { policy, backends: Vec::new(), known: Vec::new(), at };
    let mut report = Report::default();
    let known = Known::default();
    let of_client = Layer::new(&source.name, &mut report, &known).import(&source.text, source.format, &mut draft);
    for backend in &mut draft.backends {
        if let Some(DraftTransport::Stdio { command: Some(command), .. }) = &backend.transport
            && may_download(&command.value).is_some()
        {
            backend.policy.connect.get_or_insert(FIRST_RUN);
        }
    }
    let mut notes = std::mem::take(&mut report.notes);
    notes.extend(draft.advice());
    let variables = variables::named(&draft);
    let snapshot = report.finish(draft.into_snapshot(), std::slice::from_ref(&source.name))?;
    let Value::Array(servers) = spell(&snapshot)["servers"].take() else { return Ok(Imported::default()) };
    Ok(Imported { servers, notes, variables, of_client })
}

/// Why servers cannot be added to a text.
#[derive(Debug)]
pub enum AddError {
    /// It is no configuration itself.
    Invalid(Vec<Violation>),
    /// Its servers are laid out in a way that has no place for more; for instance all on one line.
    Layout,
}

/// The servers of a configuration, in the words of the file.
pub fn own(source: &Source) -> Result<Vec<Value>, Vec<Violation>> {
    let Value::Array(servers) = document(source)?["servers"].take() else { return Ok(Vec::new()) };
    Ok(servers)
}

/// All that a configuration says; it may be one without servers.
fn document(source: &Source) -> Result<Value, Vec<Violation>> {
    let mut merged = merge(std::slice::from_ref(source));
    merged.draft.policy.allow_empty = true;
    Ok(spell(&merged.judge()?.snapshot))
}

/// The text of a configuration with more servers after its own, whose ids must be others. Nothing else of it changes.
pub fn add(source: &Source, servers: &[Value]) -> Result<String, AddError> {
    let mut before = document(source).map_err(AddError::Invalid)?;
    let text = match source.format {
        Format::Yaml => layout::yaml(&source.text, servers).ok_or(AddError::Layout)?,
        Format::Toml => layout::toml(&source.text, servers),
    };
    // Whatever the layout is: all that was there must be there, and nothing but the servers added.
    let added = Source { text, ..source.clone() };
    let mut after = document(&added).map_err(|_| AddError::Layout)?;
    let (Value::Array(mut all), Value::Array(own)) = (after["servers"].take(), before["servers"].take()) else {
        return Err(AddError::Layout);
    };
    let new = all.split_off(own.len().min(all.len()));
    if all == own && new == servers && before == after { Ok(added.text) } else { Err(AddError::Layout) }
}
