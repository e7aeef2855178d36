//! The request, and the content of the answer.

use super::*;

#[test]
fn every_address_is_asked_over_loopback() {
    for (listens, asked) in
        [("0.0.0.0:9452", "127.0.0.1:9452"), ("[::]:9452", "[::1]:9452"), ("10.0.0.7:80", "10.0.0.7:80")]
    {
        assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
    }
}

#[test]
fn an_answer_says_which_gate_is_closed_and_why() {
    let check = |status, body: &str, well, text: &str| {
        let expected = Answer { well, text: text.to_owned() };
        assert_eq!(Answer::new(status, body.as_bytes()), expected);
    };
    let away = StatusCode::SERVICE_UNAVAILABLE;
    check(StatusCode::OK, r#"{"ready":true,"phase":"ready","gates":[]}"#, true, "ready");
    check(StatusCode::OK, "alive\n", true, "alive");
    let closed = r#"{"ready":false,"phase":"starting","gates":[{"name":"a","open":true},{"name":"b","open":false,"reason":"no file"}]}"#;
    check(away, closed, false, "not ready: b: no file");
    check(away, r#"{"ready":false,"phase":"draining","gates":[]}"#, false, "not ready: it is draining");
    check(StatusCode::NOT_FOUND, "", false, "404 Not Found");
}

#[tokio::test]
async fn a_process_is_asked_over_its_ops_listener() {
    let shutdown = crate::Shutdown::new();
    let (tasks, readiness) = (crate::Tasks::new(shutdown.clone()), crate::Readiness::new(shutdown));
    let gate = readiness.gate("backends");
    let listener = crate::ops::OpsListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.unwrap();
    let ops = listener.local_addr();
    listener.serve(crate::ops::OpsNames::default(), readiness, crate::telemetry::init("healthcheck-test", "0"), &tasks);

    let ask = async |question| {
        let answer = Healthcheck { ops, question }.ask().await.unwrap();
        (answer.well, answer.text)
    };
    assert_eq!(ask(Question::Ready).await, (false, "not ready: backends: starting".to_owned()));
    assert_eq!(ask(Question::Live).await, (true, "alive".to_owned()));
    gate.open();
    assert_eq!(ask(Question::Ready).await, (true, "ready".to_owned()));
    assert!(tasks.join(Duration::from_secs(5)).await.is_clean());
    assert!(Healthcheck { ops, question: Question::Live }.ask().await.is_err());
}

#[tokio::test]
async fn a_process_that_says_nothing_is_not_waited_for() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    tokio::time::pause();
    let check = Healthcheck { ops: silent.local_addr().unwrap(), question: Question::Ready };
    assert_eq!(check.ask().await.unwrap_err().to_string(), "it took longer than 2s");
}
