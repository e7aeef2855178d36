//! A TOML text as a tree. All syntax errors are listed, as far as the parser can go on.

use std::sync::Arc;

use model::Violation;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue, Error};
use toml_parser::lexer::TokenKind;

use crate::report::Report;
use crate::tree::{Entry, MAX_DEPTH, MAX_VALUES, Mark, Node, Places, ScalarKind, Value};

/// Tokens of a text; about six make a value. The parser keeps all of them at once.
const MAX_TOKENS: usize = 6 * MAX_VALUES;
/// Tables and lists of a text, made by `a.b`, `[a]` or `{}`; the parser takes a kilobyte for a table.
const MAX_TABLES: usize = 200_000;

pub(crate) fn tree(text: &str, file: &Arc<str>, report: &mut Report) -> Result<Node, Violation> {
    let places = Places::of(text);
    let refusal = |at: Mark, message: String| Violation::new(Some(at.in_file(file)), "", message);
    if let Some((at, most)) = too_many(text) {
        return Err(refusal(places.mark(at), format!("more than {most}")));
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut errors = errors.into_iter().map(|error| refusal(place(&error, &places), plain_words(error.message())));
    if let Some(first) = errors.next() {
        errors.for_each(|error| report.push(error));
        return Err(first);
    }
    let mut builder = Builder { places, built: report.taken.values };
    let value = Value::Map(builder.table(root.into_inner(), 0).map_err(|(at, message)| refusal(at, message))?);
    report.taken.values = builder.built;
    Ok(Node { at: Mark::START, value })
}

/// Where there is more than the parser can keep, and of what.
fn too_many(text: &str) -> Option<(usize, String)> {
    let mut tables = 0;
    for (tokens, token) in toml_parser::Source::new(text).lex().enumerate() {
        tables += usize::from(matches!(
            token.kind(),
            TokenKind::Dot | TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket
        ));
        let most = match (tokens >= MAX_TOKENS, tables > MAX_TABLES) {
            (true, _) => format!("{MAX_TOKENS} words and signs"),
            (false, true) => format!("{MAX_TABLES} dots and opening brackets"),
            (false, false) => continue,
        };
        return Some((token.span().start(), most));
    }
    None
}

struct Builder<'a> {
    places: Places<'a>,
    /// With the values of the layers before.
    built: usize,
}

type Refused = (Mark, String);

impl Builder<'_> {
    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Result<Vec<Entry>, Refused> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let key_at = self.places.mark(key.span().start);
            entries.push(Entry { key: key.into_inner().into_owned(), key_at, value: self.node(value, depth + 1)? });
        }
        // As written: the parser sorts by name.
        entries.sort_by_key(|entry| entry.key_at);
        Ok(entries)
    }

    fn node(&mut self, node: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Refused> {
        let at = self.places.mark(node.span().start);
        self.built += 1;
        if depth > MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        if self.built > MAX_VALUES {
            return Err((at, format!("more than {MAX_VALUES} values")));
        }
        let scalar = |text: String, kind| Value::Scalar { text, kind };
        let value = match node.into_inner() {
            DeValue::String(text) => scalar(text.into_owned(), ScalarKind::Text),
            DeValue::Integer(number) => scalar(decimal(&number), ScalarKind::Number),
            DeValue::Float(number) => scalar(number.as_str().to_owned(), ScalarKind::Number),
            DeValue::Boolean(flag) => scalar(flag.to_string(), ScalarKind::Flag(flag)),
            // A date is a text in YAML, too.
            DeValue::Datetime(time) => scalar(time.to_string(), ScalarKind::Text),
            DeValue::Array(items) => {
                let nodes = items.into_iter().map(|item| self.node(item, depth + 1));
                Value::List(nodes.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Map(self.table(table, depth)?),
        };
        Ok(Node { at, value })
    }
}

/// `0xff` and `1_000` are spellings of 255 and 1000.
fn decimal(number: &DeInteger<'_>) -> String {
    match number.radix() {
        10 => number.as_str().to_owned(),
        radix => {
            u64::from_str_radix(number.as_str(), radix).map_or_else(|_| number.to_string(), |value| value.to_string())
        }
    }
}

fn place(error: &Error, places: &Places<'_>) -> Mark {
    error.span().map_or(Mark::START, |span| places.mark(span.start))
}

fn plain_words(message: &str) -> String {
    match message {
        "duplicate key" => "this key is already given".into(),
        "recursion limit" | "cannot recurse further; max recursion depth met" => {
            format!("nested more than {MAX_DEPTH} levels deep")
        }
        _ => format!("not valid TOML: {}", message.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}
