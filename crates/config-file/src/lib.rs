//! How a configuration is spelled: YAML or TOML texts of one or several owners become one snapshot, or the list of
//! everything that is wrong with them, each with its line and column.
//!
//! Only this crate reads and writes keys of the file; messages elsewhere quote some. What the keys mean, and which
//! combinations are wrong, is defined in `model`. Here a text is parsed, typed, checked against the known keys, and
//! merged.

#![forbid(unsafe_code)]

mod comments;
mod control;
mod difference;
mod foreign;
mod import;
mod key;
mod known;
mod layer;
mod lookalikes;
mod names;
mod policy;
mod presented;
mod read;
mod report;
mod schema;
mod server;
mod spell;
mod text;
mod toml;
mod tree;
mod values;
mod variables;
mod votes;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use model::{Draft, DraftTransport, Located, Owner, Policy, Position, Snapshot, Violation};

use serde::{Deserialize, Serialize};

pub use difference::{Difference, differences};
pub use import::{AddError, Imported, add, import, may_have_servers, own};
pub use known::Known;
pub use read::{ReadError, read, read_stream};
pub use schema::schema;
pub use spell::{spell, yaml};

use crate::known::Passage;
use crate::layer::Layer;
use crate::report::Report;
use crate::tree::Node;

/// The largest text that is parsed, in bytes; also the limit for all layers together.
pub const MAX_BYTES: u64 = 16 << 20;

/// The format of a text. Both formats spell the same tree of keys; equal trees have equal digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON as well, which is YAML.
    #[default]
    Yaml,
    Toml,
}

impl Format {
    /// By the end of a file's name: TOML for `.toml`, else YAML.
    pub fn of(name: impl AsRef<Path>) -> Self {
        let toml = name.as_ref().extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if toml { Self::Toml } else { Self::Yaml }
    }
}

/// The text of one owner, as written.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    pub owner: Owner,
    /// The part of a position before `:line:column`: a path, or the name of a layer.
    pub name: Arc<str>,
    pub format: Format,
    pub text: String,
}

/// Without the text, which may hold secrets.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { owner, name, format, text } = self;
        let mut shown = f.debug_struct("Source");
        shown.field("owner", owner).field("name", name).field("format", format).field("bytes", &text.len()).finish()
    }
}

/// Merges the layers, the file's first and then the others in the order of their owners, into one snapshot.
/// Servers are appended; a key that two layers set is refused, as is an id that two servers have.
///
/// The error lists the violations of all layers, in that order and then by place: every one up to a thousand.
pub fn parse(sources: &[Source]) -> Result<Snapshot, Vec<Violation>> {
    merge(sources).judge().map(|judged| judged.snapshot)
}

/// The first half of [`parse`]: reads, types and merges the texts.
pub fn merge(sources: &[Source]) -> Merged<'_> {
    merge_without(sources, &[], &Known::default())
}

/// The same for a change of layers, at less cost where most servers are described by the same lines as before.
/// `in_force`: the owners of layers that do not change. Secrets that are masked there are reported, and refuse nothing.
pub fn merge_again<'s>(sources: &'s [Source], in_force: &'s [Owner], known: &Known) -> Merged<'s> {
    let merged = merge_without(sources, in_force, known);
    let as_before = merged.report.is_good() && known.holds_under(&merged.draft.policy);
    if merged.report.shortened && !as_before { merge_without(sources, in_force, &Known::default()) } else { merged }
}

fn merge_without<'s>(sources: &'s [Source], in_force: &'s [Owner], known: &Known) -> Merged<'s> {
    let mut layers: Vec<&Source> = sources.iter().collect();
    layers.sort_by_key(|source| (source.owner != Owner::file(), &source.owner));
    let start = layers.first().map_or_else(|| "(no source)".into(), |source| source.name.clone());
    let at = Position { file: start, line: 1, column: 1 };
    let mut draft = Draft { policy: Policy::default(), backends: Vec::new(), known: Vec::new(), at };
    let mut report = Report::default();
    let mut servers_at = None;
    for source in &layers {
        let before = draft.backends.len();
        Layer::new(&source.name, &mut report, known).read(&source.text, source.format, &mut draft, &mut servers_at);
        if in_force.contains(&source.owner) {
            draft.backends.iter_mut().skip(before).for_each(|backend| backend.in_force = true);
        }
    }
    draft.at = servers_at.unwrap_or(draft.at);
    votes::refuse_unheld(&draft, &mut report);
    // If servers were written but could not be read, a violation that there are none would mislead.
    draft.policy.allow_empty |= report.servers_lost;
    Merged { sources, in_force, draft, report, names: layers.into_iter().map(|source| source.name.clone()).collect() }
}

/// Whether two texts differ in nothing but comments and the way they are laid out, or, as files of clients, in what is
/// not about servers. Keys in another order, and texts that cannot be parsed, count as different.
pub fn means_the_same(one: (&str, Format), other: (&str, Format)) -> bool {
    let tree = |(text, format)| text::tree(text, format, &"".into(), &Known::default(), &mut Report::default()).ok();
    let same = |one: &Node, other: &Node| one.value.means(&other.value) || foreign::have_the_same(one, other);
    one == other || tree(one).zip(tree(other)).is_some_and(|((one, _), (other, _))| same(&one, &other))
}

/// Layers that are one draft, with what was found wrong so far.
pub struct Merged<'s> {
    sources: &'s [Source],
    in_force: &'s [Owner],
    draft: Draft,
    report: Report,
    /// In the order of the layers.
    names: Vec<Arc<str>>,
}

impl Merged<'_> {
    /// What of clients' servers is not carried over, and settings that are allowed but probably not meant, each with
    /// its place.
    pub fn advice(&self) -> Vec<Violation> {
        let mut advice = self.report.notes.clone();
        advice.extend(self.draft.advice());
        advice
    }

    /// The second half of [`parse`]: whether the draft makes sense as a whole.
    pub fn judge(mut self) -> Result<Judged, Vec<Violation>> {
        let (values, shortened) = (self.report.taken.values, self.report.shortened);
        let (advice, of_clients) = (self.advice(), self.report.notes.len());
        let passages = std::mem::take(&mut self.report.passages);
        let (sources, in_force) = (self.sources, self.in_force);
        match self.report.finish(self.draft.into_snapshot(), &self.names) {
            Ok(snapshot) => Ok(Judged { snapshot, advice, of_clients, passages, values }),
            // Only the whole texts tell where the fault is.
            Err(_) if shortened => merge_without(sources, in_force, &Known::default()).judge(),
            Err(mut violations) => {
                lookalikes::name(&mut violations, sources);
                Err(violations)
            }
        }
    }

    /// The names of the environment variables that the servers need, each with the first place that names it.
    pub fn variables(&self) -> Vec<Located<String>> {
        variables::named(&self.draft)
    }

    /// The programs that the servers start.
    pub fn programs(&self) -> impl Iterator<Item = Program<'_>> {
        let enabled = self.draft.backends.iter().filter(|backend| backend.policy.enabled);
        enabled.filter_map(|backend| match backend.transport.as_ref()? {
            DraftTransport::Stdio { command, env, .. } => {
                let path = env.iter().find(|(name, _)| name.value == "PATH").map(|(_, value)| value.value.as_str());
                Some(Program { command: command.as_ref()?, path })
            }
            DraftTransport::Http { .. } => None,
        })
    }
}

/// A program that a server starts, as its author wrote it.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    pub command: &'a Located<String>,
    /// The server's own `PATH`.
    pub path: Option<&'a str>,
}

/// What the texts say.
pub struct Judged {
    pub snapshot: Snapshot,
    /// As [`Merged::advice`].
    pub advice: Vec<Violation>,
    /// How much of the advice is about clients' servers; it comes first.
    of_clients: usize,
    /// Where the servers stand in the texts.
    passages: Vec<Option<Passage>>,
    values: usize,
}

impl Judged {
    /// What [`merge_again`] can go by next time.
    pub fn known(&self) -> Known {
        Known::of(&self.snapshot, &self.passages, &self.advice[self.of_clients..], self.values)
    }
}

impl std::fmt::Debug for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judged").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Merged<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merged").field("draft", &self.draft).finish_non_exhaustive()
    }
}
