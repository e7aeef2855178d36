//! Converts Prometheus text to OpenMetrics 1.0, which can hold exemplars.

use super::exemplars::Exemplars;

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a scraper that sends this `Accept` takes OpenMetrics.
pub(crate) fn accepted(accept: &str) -> bool {
    accept.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
            && !parts.any(|part| refused(&part.replace(' ', "")))
    })
}

/// The same families, series and values, with the exemplars of their buckets.
pub(crate) fn from_prometheus(text: &str, exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    // The series whose buckets are being written, and its next bucket.
    let (mut series, mut bucket) = (String::new(), 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            comment_line(&mut out, comment);
        } else if let Some((start, bound, count)) = bucket_line(line) {
            if series != start {
                start.clone_into(&mut series);
                bucket = 0;
            }
            let exemplar = exemplars.of(start, bucket).map(|one| one.text()).unwrap_or_default();
            bucket += 1;
            out.push_str(&format!("{start}le=\"{}\"}} {count}{exemplar}\n", canonical(bound)));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.push_str("# EOF\n");
    out
}

/// A counter's family is named without the suffix that its series have; a quote in a help text is escaped.
fn comment_line(out: &mut String, comment: &str) {
    let mut words = comment.splitn(3, ' ');
    let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
    let family = name.strip_suffix("_total").unwrap_or(name);
    let rest = if what == "HELP" { rest.replace('"', "\\\"") } else { rest.to_owned() };
    out.push_str(&format!("# {what} {family} {rest}\n"));
}

/// The text up to the bound, the bound, and the count.
fn bucket_line(line: &str) -> Option<(&str, &str, &str)> {
    let (start, rest) = line.rsplit_once("le=\"")?;
    let (bound, count) = rest.split_once("\"} ")?;
    let (name, _) = start.split_once('{')?;
    name.ends_with("_bucket").then_some((start, bound, count))
}

/// A bound is written as a floating-point number.
fn canonical(bound: &str) -> String {
    if bound.bytes().all(|byte| byte.is_ascii_digit()) { format!("{bound}.0") } else { bound.to_owned() }
}

#[cfg(test)]
mod tests;
