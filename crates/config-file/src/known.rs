//! Reading again: an item of `servers` whose lines stood in a text before, word for word, is neither parsed nor judged
//! anew.
//!
//! The text is parsed with one item `0` in place of each run of such items, and as many empty lines as they had, so
//! that all else stays at its place. The result is that of the whole text, for these reasons:
//!
//! - A parser reads from left to right. At the `-` of an item of a block list nothing is open but the list and what is
//!   around it, so what the parser makes of the item's lines follows from them and from the column of the `-`, as long
//!   as the text has neither anchors nor tags.
//! - When they were read, these lines led from the `-` of one server to that of the next one of the list: the parser
//!   gave both servers the places right after these two `-`, and none in between. Now it gives the place of the first
//!   to `0`, and the next `-` stands in the same column again.
//! - What depends on more than the lines is the same (the policy), or is judged anew (in `model`).
//!
//! Where anything is not as expected, and where anything is wrong with the texts, the whole texts are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use model::{Digest, FixedBackend, MAX_ADVICE, Policy, Snapshot, Violation};

use crate::tree::{Mark, Node, ScalarKind, Value};

/// The servers that were read and found right, by the lines that describe them. It is a memory of one process: another
/// release may read the same lines differently.
#[derive(Default)]
pub struct Known {
    policy: Policy,
    /// How many values the texts have at most.
    pub(crate) values: usize,
    servers: HashMap<Digest, Arc<FixedBackend>>,
}

/// Without the servers, which may hold secrets.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

/// The lines of one server.
pub(crate) struct Passage {
    digest: Digest,
    file: Arc<str>,
    lines: Range<u32>,
}

impl Known {
    /// Remembers the servers of a snapshot by their passages. A server with advice is read each time, so that the
    /// advice is given each time.
    pub(crate) fn of(snapshot: &Snapshot, passages: &[Option<Passage>], advice: &[Violation], values: usize) -> Self {
        let advised = |passage: &Passage| {
            let mut places = advice.iter().filter_map(|advice| advice.at.as_ref());
            places.any(|at| at.file == passage.file && passage.lines.contains(&at.line))
        };
        let all_is_said = advice.len() < MAX_ADVICE;
        let servers = passages.iter().zip(&snapshot.backends).filter_map(|(passage, backend)| {
            let passage = passage.as_ref().filter(|passage| all_is_said && !advised(passage))?;
            Some((passage.digest, Arc::clone(backend)))
        });
        Self { policy: snapshot.policy.clone(), values, servers: servers.collect() }
    }

    pub(crate) fn holds_under(&self, policy: &Policy) -> bool {
        self.policy == *policy
    }
}

/// The items of `servers` in one text, as far as they can be told by their lines alone.
#[derive(Default)]
pub(crate) struct Items {
    indent: usize,
    items: Vec<Item>,
    /// The item that is looked at next.
    next: usize,
    known: usize,
    taken: usize,
}

struct Item {
    line: u32,
    start: usize,
    /// Absent in the last one: nothing shows where it ends.
    digest: Option<Digest>,
    known: Option<Arc<FixedBackend>>,
    /// The parser began a server here.
    begun: bool,
}

impl Items {
    pub(crate) fn of(text: &str, known: &Known) -> Self {
        let mut found = Self::default();
        // The parser takes a single one for a line break.
        if text.contains('\r') {
            return found;
        }
        let (mut start, mut below) = (0, false);
        for (line, content) in (1..).zip(text.split_inclusive('\n')) {
            let item = content.trim_start_matches(' ');
            let indent = content.len() - item.len();
            if below && item.starts_with("- ") && (found.items.is_empty() || indent == found.indent) {
                found.indent = indent;
                found.items.push(Item { line, start, digest: None, known: None, begun: false });
            }
            below |= content.starts_with("servers:");
            start += content.len();
        }
        for at in 1..found.items.len() {
            let end = found.items[at].start;
            let item = &mut found.items[at - 1];
            let digest = Digest::of_bytes(&text.as_bytes()[item.start..end]);
            item.digest = Some(digest);
            item.known = known.servers.get(&digest).cloned();
            found.known += usize::from(item.known.is_some());
        }
        found
    }

    pub(crate) fn count_of_known(&self) -> usize {
        self.known
    }

    pub(crate) fn has_known(&self) -> bool {
        self.known > 0
    }

    /// Whether each known server was met where it was expected.
    pub(crate) fn all_taken(&self) -> bool {
        self.taken == self.known
    }

    /// The text with one item in place of each run of known ones.
    pub(crate) fn shortened<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.has_known() {
            return text.into();
        }
        let mut short = String::new();
        let mut copied = 0;
        let mut rest = &self.items[..];
        while let Some(first) = rest.iter().position(|item| item.known.is_some()) {
            rest = &rest[first..];
            let run = rest.iter().take_while(|item| item.known.is_some()).count();
            // The last item is not known.
            let (from, to) = (&rest[0], &rest[run]);
            short.push_str(&text[copied..from.start]);
            short.extend(std::iter::repeat_n(' ', self.indent));
            short.push_str("- 0");
            short.extend((from.line..to.line).map(|_| '\n'));
            copied = to.start;
            rest = &rest[run..];
        }
        short.push_str(&text[copied..]);
        short.into()
    }

    /// The item that a server at this place is, if it is one. Servers come in the order of the text.
    pub(crate) fn begin(&mut self, at: Mark) -> Option<usize> {
        while self.items.get(self.next).is_some_and(|item| item.line < at.line) {
            self.next += 1;
        }
        let item = self.items.get_mut(self.next).filter(|item| item.line == at.line)?;
        item.begun = u32::try_from(self.indent + 3).is_ok_and(|column| column == at.column);
        item.begun.then_some(self.next)
    }

    /// The known servers that this one stands for, with their items.
    pub(crate) fn take(&mut self, item: usize, node: &Node) -> Vec<(usize, Arc<FixedBackend>)> {
        if !matches!(&node.value, Value::Scalar { text, kind: ScalarKind::Number } if text == "0") {
            return Vec::new();
        }
        let run = self.items.iter().enumerate().skip(item).map_while(|(at, item)| Some((at, item.known.clone()?)));
        let run: Vec<_> = run.collect();
        self.taken += run.len();
        run
    }

    /// The lines of an item, if the next one begins a server, too: then they are all of the item. That server must be
    /// the next one of the list.
    pub(crate) fn passage(&self, item: usize, file: &Arc<str>) -> Option<Passage> {
        let (item, next) = (self.items.get(item)?, self.items.get(item + 1)?);
        let whole = item.known.is_some() || item.begun && next.begun;
        let digest = item.digest.filter(|_| whole)?;
        Some(Passage { digest, file: file.clone(), lines: item.line..next.line })
    }
}
