//! The fields and the message of a log line. All foreign values get into the log through this one place, so that no
//! value can break a line or control a terminal.

use std::{
    error::Error,
    fmt::{self, Debug, Write as _},
    io,
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::{MakeVisitor, VisitFmt, VisitOutput},
    fmt::{MakeWriter, format::Writer},
};

use crate::escape;

/// `message name=value name=value`.
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
    fn field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if self.written.is_ok() {
            self.written = self.write(name, value);
        }
    }

    fn write(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        // Italics for the name and faint for the sign, where there is a terminal.
        let (italic, faint, plain) =
            if self.writer.has_ansi_escapes() { ("\u{1b}[3m", "\u{1b}[2m", "\u{1b}[0m") } else { ("", "", "") };
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.strip_prefix("r#").unwrap_or(name);
            write!(self.writer, "{italic}{name}{plain}{faint}={plain}")?;
        }
        escape::Line(&mut self.writer).write_fmt(value)
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.field("message", format_args!("{value}")),
            name => self.field(name, format_args!("{value:?}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.field(field.name(), format_args!("{}", crate::fault::chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field.name(), format_args!("{value:?}"));
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
