//! The one description of all metrics: each crate lists its metrics as values. The help texts, the series that exist
//! from the start, and docs/metrics.md are made from these lists.
//!
//! Names follow Prometheus' rules: `only1mcp_`, the part of the system, what is measured, its base unit; counters end
//! in `_total`. All series of a name have the same labels, and no two crates share a name, because `only1mcp up` shows
//! all four services on one page.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Counter,
    Gauge,
    Histogram,
}

impl Sort {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub sort: Sort,
    pub labels: &'static [Label],
    /// One sentence; without quotes and backslashes, which formats escape differently.
    pub help: &'static str,
}

/// A label and the values it takes; none are named when they come from the configuration or the system.
#[derive(Clone, Copy, Debug)]
pub struct Label(pub &'static str, pub &'static [&'static str]);

impl Metric {
    pub const fn counter(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self { name, sort: Sort::Counter, labels, help }
    }

    pub const fn gauge(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self { name, sort: Sort::Gauge, labels, help }
    }

    pub const fn histogram(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self { name, sort: Sort::Histogram, labels, help }
    }

    /// The unit its name ends in; 1 for a plain number.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or("1")
    }

    /// Every combination of the labels' values; none when one of them cannot be listed.
    fn series(&self) -> Vec<Vec<metrics::Label>> {
        self.labels.iter().fold(vec![Vec::new()], |series, Label(name, values)| {
            let with = |value: &'static str, one: &Vec<metrics::Label>| {
                one.iter().cloned().chain([metrics::Label::from_static_parts(name, value)]).collect()
            };
            values.iter().flat_map(|value| series.iter().map(move |one| with(value, one))).collect()
        })
    }
}

/// Gives each metric its help text, and registers the counters and histograms whose series are known: a counter starts
/// at 0, so that its first increase shows.
pub fn describe(metrics: &'static [Metric]) {
    for metric in metrics {
        match metric.sort {
            Sort::Counter => {
                describe_counter!(metric.name, metric.help);
                metric.series().into_iter().for_each(|labels| counter!(metric.name, labels).increment(0));
            }
            Sort::Gauge => describe_gauge!(metric.name, metric.help),
            Sort::Histogram => {
                describe_histogram!(metric.name, metric.help);
                metric.series().into_iter().for_each(|labels| drop(histogram!(metric.name, labels)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
