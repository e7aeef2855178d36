//! One layer: its text as a tree, its keys held against the tables.

use std::sync::Arc;

use model::{Draft, Located, Position, Violation};

use crate::key::{Key, Kind};
use crate::known::{Items, Known};
use crate::names::{child, nearest, show};
use crate::policy::POLICY;
use crate::report::Report;
use crate::text::tree;
use crate::tree::{Entry, Mark, Node, Value};
use crate::values::{self, Wrong, describe, is_null};
use crate::{Format, MAX_BYTES};

const COMMENT: &str = "comments begin with `#`; this was read as a part of the key after it";

pub(crate) struct Layer<'a> {
    pub(crate) file: &'a Arc<str>,
    pub(crate) report: &'a mut Report,
    known: &'a Known,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(file: &'a Arc<str>, report: &'a mut Report, known: &'a Known) -> Self {
        Self { file, report, known }
    }

    /// Adds what the text says to the draft; `servers_at` is where the first layer has its servers.
    pub(crate) fn read(&mut self, text: &str, format: Format, draft: &mut Draft, servers_at: &mut Option<Position>) {
        let Some((root, mut items)) = self.tree(text, format) else {
            self.report.servers_lost = true;
            return;
        };
        let Some(entries) = self.map(&root, "", "a mapping with `servers` and other keys") else {
            self.report.servers_lost = true;
            return;
        };
        let sorted = self.sorted(entries);
        for entry in sorted.ours() {
            match entry.key.as_str() {
                "version" => self.version(entry),
                "$schema" => drop(self.value(&entry.value, "$schema", values::text)),
                _ => {}
            }
        }
        let mut seen = Vec::new();
        let section = Section { path: "", name: "" };
        let mut see = |_, path, entry: &Entry| seen.push((path, entry.key_at));
        for entry in sorted.ours() {
            self.section(std::slice::from_ref(*entry), section, &POLICY, &mut draft.policy, &mut see);
        }
        for (path, mark) in seen {
            self.set_once(path, mark);
        }
        for entry in sorted.ours().iter().filter(|entry| entry.key == "servers") {
            servers_at.get_or_insert_with(|| entry.key_at.in_file(self.file));
            self.servers(&entry.value, &mut items, draft);
        }
        self.foreign_or_refuse(&sorted, draft);
        self.report.misread |= !items.all_taken();
        // Servers of clients have no lines that are known.
        self.report.passages.resize_with(draft.backends.len() + draft.known.len(), || None);
    }

    pub(crate) fn tree(&mut self, text: &str, format: Format) -> Option<(Node, Items)> {
        if text.len() as u64 > MAX_BYTES {
            let message = format!("the text has {} bytes; expected at most {MAX_BYTES}", text.len());
            self.refuse(Mark::START, "", message);
            return None;
        }
        self.report.taken.bytes += text.len() as u64;
        if self.report.taken.bytes > MAX_BYTES {
            let together = self.report.taken.bytes;
            let message =
                format!("with this layer, all layers together have {together} bytes; expected at most {MAX_BYTES}");
            self.refuse(Mark::START, "", message);
            return None;
        }
        match tree(text, format, self.file, self.known, self.report) {
            Ok(tree) => Some(tree),
            Err(violation) => {
                self.report.push(violation);
                None
            }
        }
    }

    fn version(&mut self, entry: &Entry) {
        // Without quotes `1.0` is a number, and means the same.
        match &entry.value.value {
            Value::Scalar { text, .. } if text == "1.0" => {}
            Value::Scalar { text, .. } => {
                let message = format!("expected `\"1.0\"`, the only version of this format, found `{}`", show(text));
                self.refuse(entry.value.at, "version", message);
            }
            Value::List(_) | Value::Map(_) => {
                let message = format!("expected `\"1.0\"`, found {}", describe(&entry.value));
                self.refuse(entry.value.at, "version", message);
            }
        }
    }

    /// Two layers may not set the same key: whichever won, the owner of the other would be surprised.
    fn set_once(&mut self, path: String, mark: Mark) {
        let at = mark.in_file(self.file);
        match self.report.set.get(&path) {
            Some(first) => {
                let message = format!("this key is already set at {first}; only one layer may set it");
                self.report.push(Violation::new(Some(at), path, message));
            }
            None => {
                self.report.set.insert(path, at);
            }
        }
    }

    /// Reads a section of a table, and those below it; `seen` gets each key that was there, with its path in
    /// the file.
    pub(crate) fn section<T>(
        &mut self,
        entries: &[Entry],
        section: Section<'_>,
        table: &Table<T>,
        target: &mut T,
        seen: &mut impl FnMut(&'static str, String, &Entry),
    ) {
        for entry in entries {
            let path = child(section.path, &entry.key);
            let name = child(section.name, &entry.key);
            if let Some(key) = table.keys.iter().find(|key| key.path == name) {
                if matches!(key.kind, Kind::Elsewhere(_)) {
                    continue;
                }
                if let Err(wrong) = key.read(&entry.value, target) {
                    self.wrong(entry.value.at, &path, wrong);
                }
                seen(key.path, path, entry);
            } else if table.not_yet.contains(&name.as_str()) {
                self.refuse(entry.key_at, &path, "this key is known, but not available in this release");
            } else if table.children(&name).next().is_some() {
                if let Some(inner) = self.map(&entry.value, &path, "a mapping") {
                    self.section(inner, Section { path: &path, name: &name }, table, target, seen);
                }
            } else {
                // Comparing with all keys takes a while, and a text of nothing but unknown keys would multiply that.
                let suggestion = (!self.report.is_full())
                    .then(|| {
                        nearest(&entry.key, table.children(section.name))
                            .or_else(|| table.elsewhere(&entry.key, section.name))
                    })
                    .flatten();
                self.unknown(entry, section.path, suggestion);
            }
        }
    }

    /// Refuses a key that is in no table.
    pub(crate) fn unknown(&mut self, entry: &Entry, path: &str, suggestion: Option<String>) {
        let full = child(path, &entry.key);
        if let Some(meant) = &suggestion {
            self.report.covered.add(self.file, &child(path, meant));
        }
        self.report.servers_lost |= path.is_empty() && suggestion.as_deref() == Some("servers");
        let message = if is_comment(&entry.key) { COMMENT } else { "unknown key" };
        let violation = Violation::new(Some(entry.key_at.in_file(self.file)), full, message);
        self.report.push(violation.suggest(suggestion));
    }

    /// The entries of a mapping; one whose lines are all comments is an empty one.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, path: &str, expected: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ if is_null(node) => Some(&[]),
            Value::Scalar { .. } | Value::List(_) => {
                self.refuse(node.at, path, format!("expected {expected}, found {}", describe(node)));
                None
            }
        }
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, path: &str, expected: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(nodes) => Some(nodes),
            _ if is_null(node) => Some(&[]),
            Value::Scalar { .. } | Value::Map(_) => {
                self.refuse(node.at, path, format!("expected {expected}, found {}", describe(node)));
                None
            }
        }
    }

    /// A value by one of the readers of `values`, or a violation at its place.
    pub(crate) fn value<T>(
        &mut self,
        node: &Node,
        path: &str,
        read: impl FnOnce(&Node) -> Result<T, Wrong>,
    ) -> Option<T> {
        match read(node) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.wrong(node.at, path, wrong);
                None
            }
        }
    }

    pub(crate) fn located<T>(&self, value: T, at: Mark, path: &str) -> Located<T> {
        Located { value, at: at.in_file(self.file), path: path.into() }
    }

    pub(crate) fn refuse(&mut self, at: Mark, path: &str, message: impl Into<String>) {
        self.wrong(at, path, Wrong { message: message.into(), suggestion: None });
    }

    fn wrong(&mut self, at: Mark, path: &str, wrong: Wrong) {
        self.report.covered.add(self.file, path);
        let violation = Violation::new(Some(at.in_file(self.file)), path, wrong.message);
        self.report.push(violation.suggest(wrong.suggestion));
    }
}

/// The keys of the file below one point. The reader, the schema and the reference are all made from it.
pub(crate) struct Table<T: 'static> {
    pub(crate) keys: &'static [Key<T>],
    /// The sections of these keys, with the subject of each.
    pub(crate) sections: &'static [(&'static str, &'static str)],
    /// Keys that a later release will understand, each with all keys inside it.
    pub(crate) not_yet: &'static [&'static str],
}

/// Where a section is: its path in the file, and its name in the table.
#[derive(Clone, Copy)]
pub(crate) struct Section<'p> {
    pub(crate) path: &'p str,
    pub(crate) name: &'p str,
}

impl<T> Table<T> {
    /// The names directly below a section, some of them several times.
    pub(crate) fn children<'s>(&self, section: &'s str) -> impl Iterator<Item = &'static str> + use<'s, T> {
        self.keys.iter().filter_map(move |key| {
            let below = match section {
                "" => key.path,
                _ => key.path.strip_prefix(section)?.strip_prefix('.')?,
            };
            below.split('.').next()
        })
    }

    /// The path of a key that is right elsewhere: deeper in the section, where it may have another name, or in another
    /// one.
    fn elsewhere(&self, name: &str, section: &str) -> Option<String> {
        let paths = || self.keys.iter().map(|key| key.path);
        let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
        let below = paths().filter(|path| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')));
        let meant = nearest(name, below.clone().map(last));
        let deeper = meant.and_then(|meant| below.clone().find(|path| last(path) == meant));
        let same = paths().filter(|path| last(path) == name);
        deeper.or_else(|| same.min_by_key(|path| path.matches('.').count())).map(str::to_owned)
    }
}

/// Whether the key is a comment of JSON with comments. YAML takes it for the beginning of a key, up to the next colon.
pub(crate) fn is_comment(key: &str) -> bool {
    key.starts_with("//") || key.starts_with("/*")
}
