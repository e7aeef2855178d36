//! What a table of keys says of each key, and how a value found under one is put in its place.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::tree::Node;
use crate::values::{self, Unit, Wrong};

/// A key by its dotted path; the sections in between follow from the paths of the table.
pub(crate) struct Key<T: 'static> {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind<T>,
}

pub(crate) enum Kind<T: 'static> {
    /// Read by other means than the table.
    Elsewhere,
    Flag(fn(&mut T) -> &mut bool),
    Count(fn(&mut T) -> &mut u32, RangeInclusive<u32>),
    /// A number, of the unit that the key's name ends with.
    Counted(Unit, fn(&mut T) -> &mut Duration, RangeInclusive<u64>),
    Duration(fn(&mut T) -> &mut Duration, RangeInclusive<Duration>),
    Bytes(fn(&mut T) -> &mut u64, RangeInclusive<u64>),
    Permille(fn(&mut T) -> &mut u32),
    /// The words, and those that a later release will understand.
    Choice(&'static [Word<T>], &'static [&'static str]),
}

pub(crate) type Word<T> = (&'static str, fn(&mut T));

impl<T> Key<T> {
    pub(crate) const fn new(path: &'static str, kind: Kind<T>) -> Self {
        Self { path, kind }
    }

    pub(crate) fn read(&self, node: &Node, target: &mut T) -> Result<(), Wrong> {
        match &self.kind {
            Kind::Elsewhere => {}
            Kind::Flag(place) => *place(target) = values::flag(node)?,
            Kind::Count(place, range) => *place(target) = values::count(node, range)?,
            Kind::Counted(unit, place, range) => {
                *place(target) = values::counted_duration(node, *unit, range)?;
            }
            Kind::Duration(place, range) => *place(target) = values::duration(node, range)?,
            Kind::Bytes(place, range) => *place(target) = values::bytes(node, range)?,
            Kind::Permille(place) => *place(target) = values::permille(node)?,
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
}
