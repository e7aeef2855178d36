//! A parsed text: a tree in which every key and value knows its place, in either format.

use std::sync::Arc;

use model::Position;

pub(crate) const MAX_DEPTH: usize = 64;
/// Values of all layers together: scalars, lists and mappings alike.
pub(crate) const MAX_VALUES: usize = 250_000;

/// Line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Mark {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    pub(crate) fn in_file(self, file: &Arc<str>) -> Position {
        Position { file: file.clone(), line: self.line, column: self.column }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar { text: String, kind: ScalarKind },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Mark,
    pub(crate) value: Node,
}

impl Value {
    /// Whether both say the same, wherever in their texts they say it.
    pub(crate) fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar { text, kind }, Self::Scalar { text: other, kind: of_other }) => {
                (text, kind) == (other, of_other)
            }
            (Self::List(items), Self::List(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.value.means(&other.value))
            }
            (Self::Map(entries), Self::Map(others)) => {
                let same = |(entry, other): (&Entry, &Entry)| {
                    entry.key == other.key && entry.value.value.means(&other.value.value)
                };
                entries.len() == others.len() && entries.iter().zip(others).all(same)
            }
            (Self::Scalar { .. } | Self::List(_) | Self::Map(_), _) => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Flag(bool),
    Number,
    Text,
}

/// Finds the line and column of a byte, in a time that does not grow with the length of a line.
pub(crate) struct Places<'a> {
    text: &'a str,
    /// Where lines begin.
    lines: Vec<usize>,
    /// How many characters come before each block of [`BLOCK`] bytes.
    blocks: Vec<usize>,
}

const BLOCK: usize = 1024;

impl<'a> Places<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let blocks = text.as_bytes().chunks(BLOCK).scan(0, |sum, block| {
            let before = *sum;
            *sum += characters(block);
            Some(before)
        });
        Self { text, lines, blocks: blocks.collect() }
    }

    pub(crate) fn mark(&self, offset: usize) -> Mark {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let column = self.before(offset) - self.before(self.lines[line - 1]) + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Mark { line: small(line), column: small(column) }
    }

    fn before(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        let within = &self.text.as_bytes()[block * BLOCK..offset];
        self.blocks.get(block).copied().unwrap_or_else(|| characters(self.text.as_bytes())) + characters(within)
    }
}

/// Every character has one byte that does not continue another.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count()
}
