//! Properties of every text: no panic, no hang, and the layout of a file has no meaning.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::named;
use crate::{Source, parse};

fn source(text: String) -> Source {
    named("f.yaml", text)
}

/// Whatever the verdict, each violation has a place that exists in the text.
fn judged(text: String) {
    // A lone carriage return ends a line, too; and what is missing at the end is missed after it.
    let lines = u32::try_from(text.matches(['\n', '\r']).count()).unwrap() + 2;
    let both = [source(text.clone()), named("f.toml", text)].map(|source| parse(&[source]).err());
    for violation in both.into_iter().flatten().flatten() {
        let at = violation.at.expect("a text has positions");
        assert!((1..=lines).contains(&at.line) && at.column >= 1, "{at}");
        assert!(!violation.message.contains('\n') && !violation.path.contains('\n'), "{}", violation.message);
    }
}

const GOOD: &str = include_str!("../../../../tests/fixtures/config/valid/everything.yaml");

const WORDS: [&str; 42] = [
    "servers",
    "id",
    "transport",
    "type",
    "stdio",
    "command",
    "drain",
    "limits",
    "naming",
    ": ",
    ":",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    " ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: *a",
    "? ",
    "| ",
    ">-\n",
    "!!str ",
    "# x\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "1",
    " = ",
    "[[",
    "]]\n",
    ".",
    "\"\"\"",
    "2026-01-01",
];

#[derive(Debug, Clone)]
pub(super) enum Edit {
    Delete(Index, usize),
    Insert(Index, String),
    Truncate(Index),
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![select(&WORDS[..]).prop_map(str::to_owned), any::<char>().prop_map(String::from)];
    prop_oneof![
        3 => (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        5 => (any::<Index>(), piece).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        1 => any::<Index>().prop_map(Edit::Truncate),
    ]
}

pub(super) fn edited(good: &str, edits: Vec<Edit>) -> String {
    let mut text: Vec<char> = good.chars().collect();
    for edit in edits {
        match edit {
            _ if text.is_empty() => break,
            Edit::Delete(at, length) => {
                let at = at.index(text.len());
                text.drain(at..text.len().min(at + length));
            }
            Edit::Insert(at, piece) => {
                let at = at.index(text.len());
                text.splice(at..at, piece.chars());
            }
            Edit::Truncate(at) => text.truncate(at.index(text.len())),
        }
    }
    text.into_iter().collect()
}

/// A configuration as a tree whose layout is not decided yet. Lists keep their order, mappings do not.
enum Tree {
    Leaf(&'static str),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
}

fn sample() -> Tree {
    use Tree::{Leaf, List, Map};
    let headers = Map(vec![("Authorization", Leaf("Bearer ${env:TOKEN}")), ("X-Trace", Leaf("on")), ("A", Leaf("7"))]);
    let env = Map(vec![("B", Leaf("1")), ("A", Leaf("true")), ("EMPTY", Leaf("\"\""))]);
    let files = vec![
        ("type", Leaf("stdio")),
        ("command", Leaf("npx")),
        ("args", List(vec![Leaf("-y"), Leaf("some-server"), Leaf("8080")])),
        ("env", env),
    ];
    let search = vec![("type", Leaf("http")), ("url", Leaf("https://example.org/mcp")), ("headers", headers)];
    Map(vec![
        ("version", Leaf("\"1.0\"")),
        ("naming", Leaf("none")),
        ("limits", Map(vec![("idle", Leaf("5m")), ("total", Leaf("1h30m")), ("request_bytes", Leaf("1MiB"))])),
        (
            "hot_reload",
            Map(vec![("watcher", Map(vec![("debounce_ms", Leaf("20")), ("poll_interval_ms", Leaf("70"))]))]),
        ),
        (
            "servers",
            List(vec![
                Map(vec![("id", Leaf("files")), ("transport", Map(files)), ("critical", Leaf("true"))]),
                Map(vec![
                    ("id", Leaf("search")),
                    ("transport", Map(search)),
                    ("tools", List(vec![Leaf("b"), Leaf("a")])),
                ]),
            ]),
        ),
    ])
}

/// Decides the layout by numbers it is given, over and over.
struct Layout<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    out: String,
}

impl Layout<'_> {
    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().unwrap() % of
    }

    fn break_line(&mut self, indent: usize) {
        for _ in 0..self.choose(3) {
            let comment = ["\n", "\n   # a comment: [", "  # about the line before", " "][usize::from(self.choose(4))];
            // A second comment at the end of a line would be part of the first, which is as good.
            self.out.push_str(comment);
        }
        write!(self.out, "\n{:indent$}", "").unwrap();
    }

    fn shuffled<'t, T>(&mut self, items: &'t [T]) -> Vec<&'t T> {
        let mut keyed: Vec<(u8, &T)> = items.iter().map(|item| (self.choose(255), item)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, item)| item).collect()
    }

    fn leaf(&mut self, text: &str, in_flow: bool) {
        let plain = !in_flow && !text.contains(['{', '$']) || text.starts_with('"');
        // Quotes make a text of what is a number elsewhere, so only texts may have them.
        let text_like = text.parse::<f64>().is_err() && !matches!(text, "true" | "false") && !text.starts_with('"');
        match self.choose(3) {
            0 if text_like => write!(self.out, "\"{text}\"").unwrap(),
            1 if text_like => write!(self.out, "'{text}'").unwrap(),
            _ if plain || !text_like => self.out.push_str(text),
            _ => write!(self.out, "'{text}'").unwrap(),
        }
    }

    fn flow(&mut self, tree: &Tree) {
        match tree {
            Tree::Leaf(text) => self.leaf(text, true),
            Tree::List(items) => {
                self.out.push_str("[ ");
                for item in items {
                    self.flow(item);
                    self.out.push_str(" , ");
                }
                self.out.push(']');
            }
            Tree::Map(entries) => {
                self.out.push('{');
                for (key, value) in self.shuffled(entries) {
                    write!(self.out, "{key}:  ").unwrap();
                    self.flow(value);
                    self.out.push(',');
                }
                self.out.push('}');
            }
        }
    }

    fn block(&mut self, tree: &Tree, indent: usize) {
        if indent > 0 && self.choose(4) == 0 || matches!(tree, Tree::Leaf(_)) {
            self.out.push(' ');
            if let Tree::Leaf(text) = tree {
                self.leaf(text, false)
            } else {
                self.flow(tree)
            }
            return;
        }
        let inner = indent + 1 + usize::from(self.choose(4));
        match tree {
            Tree::Leaf(_) => unreachable!("written above"),
            Tree::List(items) => {
                for item in items {
                    self.break_line(indent);
                    self.out.push('-');
                    self.block(item, inner);
                }
            }
            Tree::Map(entries) => {
                for (key, value) in self.shuffled(entries) {
                    self.break_line(indent);
                    write!(self.out, "{key}:").unwrap();
                    self.block(value, inner);
                }
            }
        }
    }
}

fn laid_out(choices: &[u8]) -> String {
    let mut layout = Layout { choices: choices.iter().cycle(), out: String::new() };
    layout.block(&sample(), 0);
    layout.out + "\n"
}

const GOOD_TOML: &str = include_str!("../../../../docs/examples/everything.toml");

proptest! {
    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        judged(text);
    }

    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..200)) {
        judged(String::from_utf8_lossy(&bytes).into_owned());
    }

    #[test]
    fn any_mix_of_yaml_is_judged(words in vec(select(&WORDS[..]), 0..80)) {
        judged(words.concat());
    }

    #[test]
    fn any_edit_of_a_good_file_is_judged(edits in vec(edit(), 1..6)) {
        judged(edited(GOOD, edits.clone()));
        judged(edited(GOOD_TOML, edits));
    }

    #[test]
    fn layout_means_nothing(choices in vec(any::<u8>(), 1..200)) {
        let text = laid_out(&choices);
        let plain = parse(&[source(laid_out(&[1]))]).unwrap();
        match parse(&[source(text.clone())]) {
            Ok(snapshot) => prop_assert_eq!(snapshot.digest(), plain.digest(), "{}", text),
            Err(violations) => prop_assert!(false, "{violations:#?}\n{text}"),
        }
    }
}
