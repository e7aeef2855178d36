//! Lists of metrics, and their descriptions.

use super::{Label, Metric};

#[test]
fn series_are_all_combinations_and_none_of_what_cannot_be_listed() {
    let both = Metric::counter("t_total", &[Label("a", &["1", "2"]), Label("b", &["x", "y", "z"])], "");
    assert_eq!(both.series().len(), 6);
    assert_eq!(Metric::counter("t_total", &[], "").series().len(), 1);
    assert!(Metric::counter("t_total", &[Label("a", &["1"]), Label("server", &[])], "").series().is_empty());
}

#[test]
fn a_unit_is_the_end_of_the_name() {
    assert_eq!(Metric::counter("process_cpu_seconds_total", &[], "").unit(), "seconds");
    assert_eq!(Metric::gauge("size_bytes", &[], "").unit(), "bytes");
    assert_eq!(Metric::gauge("routers", &[], "").unit(), "1");
}
