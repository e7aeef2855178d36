//! Gates and phases together decide readiness.

use super::*;

#[tokio::test]
async fn ready_means_every_gate_open_and_nobody_asked_to_stop() {
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(shutdown.clone());
    let (log, file) = (readiness.gate("log"), readiness.gate("file"));
    log.open();
    assert!(!readiness.is_ready());
    file.close("no such file: x.yaml");
    let report = serde_json::to_value(readiness.report()).unwrap();
    let expected = serde_json::json!({
        "ready": false, "phase": "starting",
        "gates": [{"name": "file", "open": false, "reason": "no such file: x.yaml"}, {"name": "log", "open": true}],
    });
    assert_eq!(report, expected);

    let ((), (), ()) = tokio::join!(readiness.ready(), readiness.changed(false), async { file.open() });
    assert!(readiness.is_ready());
    let ((), ()) = tokio::join!(readiness.changed(true), async { shutdown.trigger() });
    assert!(!readiness.is_ready());
    assert!(readiness.report().gates.iter().all(|gate| gate.open));
}
