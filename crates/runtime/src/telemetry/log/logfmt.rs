//! Log lines as logfmt: nothing but `key=value`, separated by blanks, for programs that read logs.

use std::fmt::{self, Debug, Write as _};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::fields::word;

/// `time=… level=… target=… msg=… name=value`; the fields of the spans around it come last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str("time=")?;
        SystemTime.format_time(&mut writer)?;
        let meta = event.metadata();
        write!(writer, " level={} target={}", meta.level().as_str().to_ascii_lowercase(), meta.target())?;
        // The message comes first, wherever it stands in the source.
        let mut fields = Read::default();
        event.record(&mut fields);
        write!(writer, " msg={}{}", word(&fields.message), fields.others)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

#[derive(Default)]
struct Read {
    message: String,
    /// Each with a blank before it.
    others: String,
}

impl Read {
    fn field(&mut self, field: &Field, value: &str) {
        let name = field.name();
        match name.strip_prefix("r#").unwrap_or(name) {
            "message" => value.clone_into(&mut self.message),
            name => write!(self.others, " {name}={}", word(value)).expect("writing to a String cannot fail"),
        }
    }
}

impl Visit for Read {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.field(field, &crate::fault::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, &format!("{value:?}"));
    }
}
