//! A YAML text as a tree.
//!
//! Aliases and merge keys (`<<`) are expanded here, within a bound; keys given twice, several documents and
//! tags are refused. A text that is no YAML at all gives one violation and no tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Violation;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::known::{Items, Known};
use crate::names::{descend, is_header, is_variable, show};
use crate::report::{Report, Size};
use crate::tree::{Entry, MAX_DEPTH, MAX_VALUES, Mark, Node, Places, ScalarKind, Value};
use crate::values::plain_kind;

/// Commas and opening brackets, wherever they stand: in texts and comments, too.
const MAX_HELD_BACK: usize = 2 * MAX_VALUES;
const LONGEST_PATH: usize = 120;
/// What anchors and aliases may add to the texts of all layers: values …
const MAX_EXPANDED: usize = 100_000;
/// … and bytes. A short alias may stand for a long text, as often as it likes.
const MAX_EXPANDED_BYTES: usize = 4 << 20;

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // An event made up by the parser, as for an empty text, has no place.
        Self { line: small(marker.line()).max(1), column: small(marker.col()).saturating_add(1) }
    }
}

pub(crate) fn tree(
    text: &str,
    file: &Arc<str>,
    known: &Known,
    report: &mut Report,
) -> Result<(Node, Items), Violation> {
    // The parser holds back a `[…]` or `{…}` that may still turn out to be a key, however long: gigabytes for a text
    // that is refused in the end.
    if let Some((at, _)) = text.match_indices([',', '[', '{']).nth(MAX_HELD_BACK) {
        let message = format!("more than {MAX_HELD_BACK} commas and opening brackets");
        return Err(Violation::new(Some(Places::of(text).mark(at).in_file(file)), "", message));
    }
    let items = Items::of(text, known);
    if items.has_known() && !std::mem::replace(&mut report.shortened, true) {
        report.taken.values += known.values;
    }
    let text = &items.shortened(text);
    let mut builder = Builder {
        events: Parser::new_from_str(text),
        text,
        file,
        plain: true,
        path: String::new(),
        anchors: BTreeMap::new(),
        built: Size { values: report.taken.values, bytes: 0 },
        report,
    };
    let root = builder.document()?;
    builder.report.taken.values = builder.built.values;
    if builder.plain {
        return Ok((root, items));
    }
    report.misread |= items.has_known();
    Ok((root, Items::default()))
}

struct Builder<'a, 'v> {
    events: Parser<'a, StrInput<'a>>,
    text: &'a str,
    file: &'a Arc<str>,
    path: String,
    /// There were no anchors and no tags.
    plain: bool,
    anchors: BTreeMap<usize, (Node, Size)>,
    /// With the values of the layers before.
    built: Size,
    report: &'v mut Report,
}

impl<'a> Builder<'a, '_> {
    fn document(&mut self) -> Result<Node, Violation> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second document begins here; a configuration is one document";
                    return Err(self.violation(span.start.into(), message));
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => root = Some(self.node(event, span, 0)?),
            }
        }
        let nothing = Value::Scalar { text: String::new(), kind: ScalarKind::Null };
        Ok(root.unwrap_or(Node { at: Mark::START, value: nothing }))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Violation> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Violation> {
        let at = Mark::from(span.start);
        if depth > MAX_DEPTH {
            return Err(self.violation(at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let before = self.built;
        self.built.values += 1;
        if self.built.values > MAX_VALUES {
            return Err(self.violation(at, format!("more than {MAX_VALUES} values")));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                self.built.bytes += text.len();
                let forced = self.tag(tag.as_deref(), &["str"], at);
                let kind = if style == ScalarStyle::Plain && !forced { plain_kind(&text) } else { ScalarKind::Text };
                (Value::Scalar { text: text.into_owned(), kind }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), &["seq"], at);
                (Value::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), &["map"], at);
                (Value::Map(self.map(depth)?), anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(self.violation(at, "not valid YAML: the document ends too early")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.plain = false;
            let Size { values, bytes } = self.built;
            let size = Size { values: values - before.values, bytes: bytes - before.bytes };
            self.expand(size, at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Violation> {
        let mut nodes = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(nodes);
            }
            let outer = self.path.len();
            self.path.push_str(&format!("[{}]", nodes.len()));
            nodes.push(self.node(event, span, depth + 1)?);
            self.path.truncate(outer);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Violation> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, Mark> = BTreeMap::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key_node = self.node(event, span, depth + 1)?;
            let key_at = key_node.at;
            let Value::Scalar { text: key, .. } = key_node.value else {
                self.push(key_at, "a key is a list or a mapping; expected a text");
                let (event, span) = self.next()?;
                self.node(event, span, depth + 1)?;
                continue;
            };
            let outer = self.path.len();
            // A key that is no name is shown by its index: it may be a secret.
            if key == "<<" || (is_variable(&key) && is_header(&key)) {
                descend(&mut self.path, &key);
            } else {
                self.path.push_str(&format!("[{}]", entries.len()));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = places.get(&key) {
                let first = first.in_file(self.file);
                self.push(key_at, format!("this key is already given at {first}"));
            } else {
                places.insert(key.clone(), key_at);
                if plain && key == "<<" {
                    self.merge_sources(value, &mut merged);
                } else {
                    entries.push(Entry { key, key_at, value });
                }
            }
            self.path.truncate(outer);
        }
        // Keys that are written out win over merged ones, and the first source wins over later ones.
        for node in merged {
            let Value::Map(more) = node.value else { continue };
            for entry in more {
                if !places.contains_key(&entry.key) {
                    places.insert(entry.key.clone(), entry.key_at);
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    fn merge_sources(&mut self, value: Node, merged: &mut Vec<Node>) {
        let at = value.at;
        let sources = match value.value {
            Value::List(nodes) => nodes,
            Value::Map(_) | Value::Scalar { .. } => vec![value],
        };
        if !sources.iter().all(|node| matches!(node.value, Value::Map(_))) {
            self.push(at, "`<<` merges a mapping or a list of mappings, usually an alias such as `*name`");
        }
        merged.extend(sources);
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<Node, Violation> {
        let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
            return Err(self.violation(at, "this alias stands inside the value it refers to"));
        };
        // Before the copy is made.
        self.expand(size, at)?;
        self.built.values += size.values;
        self.built.bytes += size.bytes;
        Ok(self.anchors[&anchor].0.clone())
    }

    fn expand(&mut self, size: Size, at: Mark) -> Result<(), Violation> {
        let expanded = &mut self.report.taken.expanded;
        expanded.values += size.values;
        expanded.bytes += size.bytes;
        let Size { values, bytes } = *expanded;
        let more = |limit: String| self.violation(at, format!("anchors and aliases expand to more than {limit}"));
        if values > MAX_EXPANDED {
            return Err(more(format!("{MAX_EXPANDED} values")));
        }
        if bytes > MAX_EXPANDED_BYTES {
            return Err(more(format!("{MAX_EXPANDED_BYTES} bytes")));
        }
        Ok(())
    }

    /// Whether the tag is one of ours; others are refused, because none would change what is read. The message does not
    /// quote the tag, since it may be a secret that begins with `!`.
    fn tag(&mut self, tag: Option<&Tag>, ours: &[&str], at: Mark) -> bool {
        let Some(tag) = tag else { return false };
        self.plain = false;
        let known = tag.is_yaml_core_schema() && ours.contains(&tag.suffix.as_str());
        if !known {
            let message = "the tag of this value (`!…`) is not understood here; remove it, or put a text that begins \
                with `!` in quotes";
            self.push(at, message);
        }
        known
    }

    fn syntax(&self, error: &ScanError) -> Violation {
        let at = Mark::from(*error.marker());
        let line = self.text.lines().nth(at.line as usize - 1).unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_json = is_json(self.file, self.text);
        // In JSON a tab may indent.
        if let Some(tab) = indent.find('\t').filter(|_| !is_json) {
            let at = Mark { column: u32::try_from(indent[..tab].chars().count()).unwrap_or(0) + 1, ..at };
            return self.violation(at, "not valid YAML: a tab indents this line; only spaces may");
        }
        // Where the text ends, a value can be missing only in a bracket.
        let is_open = error.info().contains("expected node content") && self.is_end(at);
        let why = plain_words(if is_open { "while parsing a flow" } else { error.info() });
        self.violation(at, format!("not valid {}: {why}", if is_json { "JSON" } else { "YAML" }))
    }

    /// Whether nothing stands there or after it.
    fn is_end(&self, at: Mark) -> bool {
        let mut lines = self.text.lines().skip(at.line as usize - 1);
        let here = lines.next().unwrap_or_default().chars().skip(at.column as usize - 1);
        here.chain(lines.flat_map(str::chars)).all(char::is_whitespace)
    }

    fn violation(&self, at: Mark, message: impl Into<String>) -> Violation {
        let mut path: String = self.path.chars().take(LONGEST_PATH).collect();
        if path.len() < self.path.len() {
            path.push('…');
        }
        Violation::new(Some(at.in_file(self.file)), path, message)
    }

    fn push(&mut self, at: Mark, message: impl Into<String>) {
        let violation = self.violation(at, message);
        self.report.push(violation);
    }
}

/// Whether its author takes the text for JSON.
fn is_json(file: &str, text: &str) -> bool {
    let ends = |endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    ends(&[".json", ".jsonc"]) || text.trim_start().starts_with('{') && !ends(&[".yaml", ".yml"])
}

/// The parser's messages, with what they usually mean for the author of a file.
const PLAIN_WORDS: [(&str, &str); 8] = [
    ("recursion limit exceeded", "brackets are nested too deeply"),
    ("quoted scalar, found unexpected end of stream", "this quote is never closed"),
    (
        "invalid indentation in quoted scalar",
        "this quote is not closed, or its text goes on in a line that is not indented",
    ),
    (
        "mapping values are not allowed",
        "a `:` cannot stand here; either a value contains `: ` and needs quotes, or a line above lacks its `:`",
    ),
    ("found unknown anchor", "no anchor of this name comes before this alias"),
    ("did not find expected '-' indicator", "not in line with the `-` of the list above; check the indentation"),
    ("did not find expected key", "not in line with the keys above; check the indentation"),
    ("while parsing a flow", "a bracket is not closed, or a `,` is missing before this place"),
];

fn plain_words(info: &str) -> String {
    if let Some((character, _)) = info.strip_prefix("unexpected character: `").and_then(|rest| rest.split_once('\'')) {
        return format!("`{}` cannot begin a value; put it in quotes", show(character));
    }
    match PLAIN_WORDS.iter().find(|(theirs, _)| info.contains(theirs)) {
        Some((_, ours)) => (*ours).to_owned(),
        None => info.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
