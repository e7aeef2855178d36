//! The entries of the tables of keys: the purpose of each key, the values it takes, and how a value is stored in its
//! place. The reader, the JSON Schema and the reference are all made from these tables.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::Instructions;
use model::units::{DURATION_PATTERN, SIZE_PATTERN, show_bytes, show_duration};
use serde_json::{Value, json};

use crate::presented;
use crate::tree::Node;
use crate::values::{self, Unit, Wrong};

/// A key by its dotted path; the sections in between follow from the paths of the table.
pub(crate) struct Key<T: 'static> {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind<T>,
    /// The effect of the key, as editors and the reference show it.
    pub(crate) doc: &'static str,
    /// What holds where it is not written, for a key without a default of its own.
    pub(crate) without: &'static str,
}

pub(crate) enum Kind<T: 'static> {
    /// Read by other means than the table; a fragment of JSON Schema describes its values.
    Elsewhere(fn() -> Value),
    Flag(fn(&mut T) -> &mut bool),
    Count(fn(&mut T) -> &mut u32, RangeInclusive<u32>),
    /// A number, of the unit that the key's name ends with.
    Counted(Unit, fn(&mut T) -> &mut Duration, RangeInclusive<u64>),
    Duration(fn(&mut T) -> &mut Duration, RangeInclusive<Duration>),
    Bytes(fn(&mut T) -> &mut u64, RangeInclusive<u64>),
    Permille(fn(&mut T) -> &mut u32),
    /// At most so many letters.
    Text(fn(&mut T) -> &mut Option<String>, usize),
    Labels(fn(&mut T) -> &mut BTreeMap<String, String>),
    /// At most so many names.
    Names(fn(&mut T) -> &mut Vec<String>, usize),
    /// The path of a URL.
    Path(fn(&mut T) -> &mut Option<String>),
    Instructions(fn(&mut T) -> &mut Instructions),
    /// The words, and those that a later release will understand.
    Choice(&'static [Word<T>], &'static [&'static str]),
}

pub(crate) type Word<T> = (&'static str, fn(&mut T));

impl<T> Key<T> {
    pub(crate) const fn new(path: &'static str, kind: Kind<T>, doc: &'static str) -> Self {
        Self { path, kind, doc, without: "" }
    }

    pub(crate) const fn inherited(path: &'static str, kind: Kind<T>, doc: &'static str, without: &'static str) -> Self {
        Self { path, kind, doc, without }
    }

    pub(crate) fn read(&self, node: &Node, target: &mut T) -> Result<(), Wrong> {
        match &self.kind {
            Kind::Elsewhere(_) => {}
            Kind::Flag(place) => *place(target) = values::flag(node)?,
            Kind::Count(place, range) => *place(target) = values::count(node, range)?,
            Kind::Counted(unit, place, range) => {
                *place(target) = values::counted_duration(node, *unit, range)?;
            }
            Kind::Duration(place, range) => *place(target) = values::duration(node, range)?,
            Kind::Bytes(place, range) => *place(target) = values::bytes(node, range)?,
            Kind::Permille(place) => *place(target) = values::permille(node)?,
            Kind::Text(place, most) => *place(target) = Some(presented::text(node, *most)?),
            Kind::Labels(place) => *place(target) = presented::labels(node)?,
            Kind::Names(place, most) => *place(target) = values::names(node, *most)?,
            Kind::Path(place) => *place(target) = Some(values::path(node)?),
            Kind::Instructions(place) => *place(target) = presented::instructions(node)?,
            Kind::Choice(words, not_yet) => {
                let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
                let chosen = values::choice(node, &names, not_yet)?;
                if let Some((_, set)) = words.iter().find(|(name, _)| *name == chosen) {
                    set(target);
                }
            }
        }
        Ok(())
    }

    /// Which values it takes, as JSON Schema; ranges that a schema cannot check are said in words.
    pub(crate) fn schema(&self) -> Value {
        let mut doc = self.doc.to_owned();
        let mut fragment = match &self.kind {
            Kind::Elsewhere(fragment) => fragment(),
            Kind::Flag(_) => json!({ "type": "boolean" }),
            Kind::Count(_, range) => json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }),
            Kind::Counted(_, _, range) => {
                json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
            }
            Kind::Duration(_, range) => {
                let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
                doc.push_str(&format!("; from {least} to {most}"));
                json!({ "type": "string", "pattern": DURATION_PATTERN, "examples": [least] })
            }
            Kind::Bytes(_, range) => {
                doc.push_str(&format!("; from {} to {}", show_bytes(*range.start()), show_bytes(*range.end())));
                json!({
                    "type": ["integer", "string"],
                    "minimum": range.start(),
                    "maximum": range.end(),
                    "pattern": SIZE_PATTERN,
                    "examples": [show_bytes(*range.start())],
                })
            }
            Kind::Permille(_) => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Kind::Text(_, most) => json!({ "type": "string", "minLength": 1, "maxLength": most, "examples": ["text"] }),
            Kind::Labels(_) => presented::schema_of_labels(),
            Kind::Names(_, most) => {
                let item = json!({ "type": "string", "minLength": 1, "maxLength": values::NAME_MAX });
                json!({ "type": "array", "items": item, "maxItems": most, "examples": [["read"]] })
            }
            Kind::Path(_) => {
                json!({ "type": "string", "pattern": values::PATH, "maxLength": values::PATH_MAX, "examples": ["/health"] })
            }
            Kind::Instructions(_) => presented::schema_of_instructions(),
            Kind::Choice(words, _) => {
                json!({ "type": "string", "enum": words.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
            }
        };
        if !self.without.is_empty() {
            doc.push_str(&format!("; without it: {}", self.without));
        }
        fragment["description"] = doc.into();
        fragment
    }
}

impl<T: Default + Clone + PartialEq> Key<T> {
    /// The default, as it would be written; `None` for a key without default.
    pub(crate) fn default(&self) -> Option<Value> {
        if let Kind::Elsewhere(fragment) = &self.kind {
            return fragment().get("default").cloned();
        }
        self.value(&T::default()).filter(|_| self.without.is_empty())
    }
}

impl<T: Clone + PartialEq> Key<T> {
    /// The value that `target` has for the key, as it would be written; `None` if it has none.
    pub(crate) fn value(&self, of: &T) -> Option<Value> {
        let mut target = of.clone();
        let value = match &self.kind {
            Kind::Elsewhere(_) => return None,
            Kind::Flag(place) => (*place(&mut target)).into(),
            Kind::Count(place, _) => (*place(&mut target)).into(),
            Kind::Counted(unit, place, _) => unit.count(*place(&mut target)).into(),
            Kind::Duration(place, _) => show_duration(*place(&mut target)).into(),
            Kind::Bytes(place, _) => show_bytes(*place(&mut target)).into(),
            Kind::Permille(place) => (f64::from(*place(&mut target)) / 1000.0).into(),
            Kind::Text(place, _) => place(&mut target).as_deref()?.into(),
            Kind::Labels(place) => json!(place(&mut target)),
            Kind::Names(place, _) => Some(json!(place(&mut target))).filter(|names| *names != json!([]))?,
            Kind::Path(place) => place(&mut target).as_deref()?.into(),
            Kind::Instructions(place) => presented::instructions_as_written(place(&mut target)).into(),
            Kind::Choice(words, _) => {
                // The word that stands for the present value: setting it changes nothing.
                let chosen = words.iter().find(|(_, set)| {
                    let mut other = target.clone();
                    set(&mut other);
                    other == target
                });
                chosen.map(|(name, _)| *name)?.into()
            }
        };
        // `place` may insert a default (`get_or_insert_default`): if it did, the key was not set.
        (target == *of).then_some(value)
    }
}
