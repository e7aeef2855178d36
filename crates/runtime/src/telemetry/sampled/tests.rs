//! Gauges that are looked at when they are asked for.

use tokio::sync::mpsc;

use super::{Fill, limit, lock, look, queue};
use crate::telemetry::Metrics;

#[test]
fn the_fullest_of_one_name_is_shown_and_what_is_gone_is_forgotten() {
    let metrics = Metrics::install();
    let (empty, full) = (mpsc::channel::<u8>(8), mpsc::channel::<u8>(4));
    queue("sampled_test", &empty.0);
    queue("sampled_test", &full.0);
    full.0.try_send(1).unwrap();
    look();
    let shown = metrics.render();
    assert!(shown.contains("only1mcp_limit_used{limit=\"sampled_test\"} 1\n"), "{shown}");
    assert!(shown.contains("only1mcp_limit_max{limit=\"sampled_test\"} 4\n"), "{shown}");
    drop((empty, full));
    look();
    assert!(metrics.render().contains("only1mcp_limit_used{limit=\"sampled_test\"} 0\n"));
    assert!(lock(&super::LIMITS).iter().all(|(name, _)| *name != "sampled_test"));
}

#[test]
fn ever_new_ones_of_one_name_push_out_those_that_are_gone() {
    for _ in 0..100 {
        let (sender, _receiver) = mpsc::channel::<()>(1);
        queue("sampled_test_many", &sender);
    }
    limit("sampled_test_many", || Some(Fill { used: 0, max: 1 }));
    assert_eq!(lock(&super::LIMITS).iter().filter(|(name, _)| *name == "sampled_test_many").count(), 1);
}
