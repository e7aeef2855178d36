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

    let peer = readiness.dependency("peer");
    let mut moves = readiness.moves();
    let ((), (), ()) = tokio::join!(readiness.ready(), moves.next(), async { file.open() });
    assert!(readiness.is_ready(), "nobody waits for a dependency");
    let expected = serde_json::json!([{"name": "peer", "open": false, "reason": "starting"}]);
    assert_eq!(serde_json::to_value(readiness.report().dependencies).unwrap(), expected);
    let ((), ()) = tokio::join!(moves.next(), async { peer.open() });
    let ((), ()) = tokio::join!(moves.next(), async { shutdown.trigger() });
    assert!(!readiness.is_ready());
    assert!(readiness.report().gates.iter().all(|gate| gate.open));
}

#[tokio::test]
async fn a_part_that_is_only_shown_keeps_nobody_away() {
    let readiness = Readiness::new(Shutdown::new());
    let (live, record) = (readiness.gate("configuration"), readiness.only_shown().gate("record"));
    assert_eq!(readiness.report().to_string(), "not ready: configuration: starting; but record: starting");
    live.open_to("revision 41");
    record.close("the disk is full");
    readiness.ready().await;
    let report = readiness.report();
    assert_eq!(report.to_string(), "ready: revision 41; but record: the disk is full");
    let read = serde_json::from_slice(&serde_json::to_vec(&report).unwrap()).unwrap();
    assert_eq!(report, read);

    let mut moves = readiness.moves();
    let ((), ()) = tokio::join!(moves.next(), async { live.open_to("revision 42") });
    record.open();
    assert_eq!(readiness.report().to_string(), "ready: revision 42");
}
