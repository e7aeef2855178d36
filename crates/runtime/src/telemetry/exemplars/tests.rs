//! Which trace a bucket keeps, and when it forgets.

use std::time::SystemTime;

use super::{Exemplar, Exemplars, SERIES_MAX, series};
use crate::telemetry::{TraceContext, openmetrics::from_prometheus};

fn seen(value: f64) -> Exemplar {
    let context = TraceContext::from_parts(0xa, 0xb, 1).expect("neither id is 0");
    Exemplar { context, value, at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1500) }
}

#[test]
fn an_exemplar_stands_behind_the_bucket_its_observation_fell_in() {
    let exemplars = Exemplars::default();
    exemplars.remember(series("t_seconds", &[("server", "one")]), seen(5e-6));
    let text = "# TYPE t_seconds histogram\nt_seconds_bucket{server=\"one\",le=\"0.000001\"} 0\n\
                t_seconds_bucket{server=\"one\",le=\"0.00001\"} 1\nt_seconds_bucket{server=\"two\",le=\"0.000001\"} 0\n\
                t_seconds_bucket{server=\"two\",le=\"0.00001\"} 1\n";
    let converted = from_prometheus(text, &exemplars);
    let trace = format!("{:032x}", 0xa);
    let expected = format!(
        "t_seconds_bucket{{server=\"one\",le=\"0.00001\"}} 1 # {{trace_id=\"{trace}\",span_id=\"000000000000000b\"}} \
         0.000005 1.500\n"
    );
    assert!(converted.contains(&expected), "{converted}");
    assert_eq!(converted.matches(" # {").count(), 1, "{converted}");
}

#[test]
fn an_observation_on_a_bound_is_below_it_and_the_newest_of_a_bucket_stays() {
    let exemplars = Exemplars::default();
    exemplars.remember(series("t", &[]), seen(1e-5));
    exemplars.remember(series("t", &[]), seen(2e-6));
    exemplars.remember(series("t", &[]), seen(1e9));
    assert_eq!(exemplars.of("t_bucket{", 1), Some(seen(2e-6)));
    assert_eq!(exemplars.of("t_bucket{", super::SECONDS.len()), Some(seen(1e9)));
    assert_eq!(exemplars.of("t_bucket{", 2), None);
}

#[test]
fn ever_new_series_do_not_fill_the_memory() {
    let exemplars = Exemplars::default();
    for number in 0..3 * SERIES_MAX {
        exemplars.remember(series("t", &[("server", &number.to_string())]), seen(1.0));
    }
    assert!(exemplars.0.lock().expect("nobody panicked").len() <= SERIES_MAX);
}
