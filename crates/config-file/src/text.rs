//! A text in either format, as the tree that both have in common.

use std::sync::Arc;

use model::Violation;

use crate::known::{Items, Known};
use crate::report::Report;
use crate::tree::{Node, Places};
use crate::{Format, comments, control, toml, yaml};

/// The tree of a text, in which one item stands for each run of known servers. Violations that do not stop the parser
/// are reported; the error is the one that stopped it.
pub(crate) fn tree(
    text: &str,
    format: Format,
    file: &Arc<str>,
    known: &Known,
    report: &mut Report,
) -> Result<(Node, Items), Violation> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, message)) = control::character(text) {
        return Err(Violation::new(Some(Places::of(text).mark(at).in_file(file)), "", message));
    }
    match format {
        Format::Yaml => yaml::tree(&comments::blank(text), file, known, report),
        Format::Toml => Ok((toml::tree(text, file, report)?, Items::default())),
    }
}
