//! The fields and the message of a log line. All foreign values get into the log through this one place, so that no
//! value can break a line or control a terminal.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Debug},
    io,
};

use serde_json::value::RawValue;
use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::{MakeVisitor, VisitFmt, VisitOutput},
    fmt::{MakeWriter, format::Writer},
};

use crate::escape;

/// `message name=value name=value`, where a value that is more than one word is quoted, as in logfmt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields;

#[derive(Debug)]
pub(super) struct Line<'a> {
    writer: Writer<'a>,
    is_empty: bool,
    written: fmt::Result,
}

impl<'a> MakeVisitor<Writer<'a>> for Fields {
    type Visitor = Line<'a>;

    fn make_visitor(&self, writer: Writer<'a>) -> Line<'a> {
        Line { writer, is_empty: true, written: Ok(()) }
    }
}

impl Line<'_> {
    fn field(&mut self, name: &str, value: &str) {
        if self.written.is_ok() {
            self.written = self.write(name, value);
        }
    }

    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        // Italics for the name and faint for the sign, where there is a terminal.
        let (italic, faint, plain) =
            if self.writer.has_ansi_escapes() { ("\u{1b}[3m", "\u{1b}[2m", "\u{1b}[0m") } else { ("", "", "") };
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        if name == "message" {
            return self.writer.write_str(&escape::line(value));
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        write!(self.writer, "{italic}{name}{plain}{faint}={plain}")?;
        self.writer.write_str(value)
    }
}

/// One value of logfmt: the text as it is if it is a plain word or quoted already, or else in quotes.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    let plain = |character: char| !matches!(character, ' ' | '"' | '=' | '\\');
    let is_word = !text.is_empty() && text.chars().all(plain) && matches!(escape::line(text), Cow::Borrowed(_));
    if is_word || (text.starts_with('"') && is_quoted(text)) { Cow::Borrowed(text) } else { Cow::Owned(quoted(text)) }
}

/// The text in quotes, with the escapes of JSON, which readers of logfmt know.
pub(super) fn quoted(text: &str) -> String {
    escape::json(&serde_json::Value::from(text).to_string()).into_owned()
}

fn is_quoted(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok() && matches!(escape::line(text), Cow::Borrowed(_))
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.field("message", value),
            name => self.field(name, &quoted(value)),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.field(field.name(), &word(&crate::fault::chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.field("message", &text),
            name => self.field(name, &word(&text)),
        }
    }
}

impl VisitOutput<fmt::Result> for Line<'_> {
    fn finish(self) -> fmt::Result {
        self.written
    }
}

impl VisitFmt for Line<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        &mut self.writer
    }
}

/// The writer of JSON lines. Their strings are escaped already, except for characters that JSON allows unescaped and
/// that are unsafe for a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<M>(pub(super) M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Json<M> {
    type Writer = Json<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Json(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Json<W> {
    /// Each call gets a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(escape::json(text).as_bytes())?,
            Err(_) => self.0.write_all(line.escape_ascii().to_string().as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests;
