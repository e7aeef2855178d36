//! What changes on the way to OpenMetrics, and what must not.

use super::{accepted, from_prometheus};
use crate::telemetry::exemplars::Exemplars;

#[test]
fn counters_lose_their_suffix_where_families_are_named_and_nothing_else_changes() {
    let text = "# HELP calls_total Calls of a \"tool\".\n# TYPE calls_total counter\ncalls_total{a=\"b\"} 3\n\n\
                # TYPE up gauge\nup 1\n\n";
    let expected = "# HELP calls Calls of a \\\"tool\\\".\n# TYPE calls counter\ncalls_total{a=\"b\"} 3\n\
                    # TYPE up gauge\nup 1\n# EOF\n";
    assert_eq!(from_prometheus(text, &Exemplars::default()), expected);
}

#[test]
fn bounds_of_buckets_are_floating_point_numbers() {
    let text = "# TYPE t histogram\nt_bucket{le=\"0.5\"} 1\nt_bucket{le=\"1\"} 2\nt_bucket{le=\"+Inf\"} 2\nt_sum 1\nt_count 2\n";
    let converted = from_prometheus(text, &Exemplars::default());
    assert!(
        converted.contains("t_bucket{le=\"0.5\"} 1\nt_bucket{le=\"1.0\"} 2\nt_bucket{le=\"+Inf\"} 2\n"),
        "{converted}"
    );
}

#[test]
fn whoever_names_it_and_does_not_refuse_it_takes_it() {
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert!(accepted(prometheus));
    assert!(!accepted("text/plain;version=0.0.4"));
    assert!(!accepted("*/*"));
    assert!(!accepted("application/openmetrics-text; q=0, text/plain"));
}
