//! Servers over Streamable HTTP: what goes over the wire, how often, and with what result.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, unreachable_pub, reason = "all of this is a test")]

#[path = "upstream_stdio/bench.rs"]
mod bench;
#[path = "upstream_http/floods.rs"]
mod floods;
#[path = "upstream_http/half_read.rs"]
mod half_read;
#[path = "upstream_http/manners.rs"]
mod manners;
#[path = "upstream_http/raw.rs"]
mod raw;
#[path = "upstream_http/resumed.rs"]
mod resumed;
#[path = "upstream_http/said.rs"]
mod said;
#[path = "upstream_http/server.rs"]
mod server;
#[path = "upstream_http/sessions.rs"]
mod sessions;

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Limits, Revision, Transport};
use router::call::{Answer, Cause};
use router::endpoint::{EndpointEvent, Lease};
use router::forward;
use tokio::time::{Instant, timeout};

use bench::{Bench, PATIENCE, bench, call_of, tool_call};
use server::{Plan, Server};

async fn connected(plan: Plan) -> (Server, Bench) {
    let server = Server::start(plan);
    let bench = bench(http(&server.url()), Limits::default());
    bench.up().await;
    (server, bench)
}

fn http(url: &str) -> Transport {
    let headers = BTreeMap::from([("X-Key".to_owned(), "k".to_owned())]);
    Transport::Http { url: url.to_owned(), headers }
}

/// The texts of an answer that is a stream.
async fn stream(small: &Bench, message: &str) -> Vec<String> {
    let Answer::Events(mut events) = small.call(message).await.unwrap() else { panic!("expected a stream") };
    let mut texts = Vec::new();
    while let Some(event) = timeout(PATIENCE, events.next()).await.expect("an event is due") {
        texts.push(String::from_utf8(event.unwrap().to_vec()).unwrap());
    }
    texts
}

#[tokio::test]
async fn json_answers_come_over_one_connection_with_the_clients_ids() {
    let (server, small) = connected(Plan::default()).await;
    assert_eq!(small.endpoint.state().upstream_session.as_deref(), Some("session-1"));
    for id in ["1", "\"1\"", "-7", "\"ä\\n\""] {
        let answer = small.whole(&tool_call(id, "echo")).await;
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tool":"echo"}}}}"#));
    }
    small.endpoint.ping(PATIENCE).await.unwrap();
    assert_eq!(server.seen().connections, 1);
    let seen = server.seen();
    let request = seen.requests.last().unwrap();
    assert_eq!(request.header("mcp-session-id"), "session-1");
    assert_eq!(request.header("mcp-protocol-version"), "2025-11-25");
    assert_eq!(request.header("x-key"), "k");
    assert_eq!(request.header("accept"), "application/json, text/event-stream");
    small.endpoint.shut_down().await;
    let seen = server.seen();
    assert_eq!(seen.requests.last().unwrap().method, "DELETE");
    assert_eq!(seen.connections, 1);
}

#[tokio::test]
async fn event_streams_are_read_in_any_pieces_and_their_connection_is_used_again() {
    for piece in [1, 3, 7, 10_000] {
        let (server, small) = connected(Plan { sse: Some(piece), ..Plan::default() }).await;
        for round in 1..=3 {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":"c{round}","method":"tools/call","params":{{"_meta":{{"progressToken":"t"}},"name":"x"}}}}"#
            );
            let messages = stream(&small, &call).await;
            assert_eq!(messages.len(), 3, "{messages:?}");
            assert!(messages[0].contains(r#""progressToken":"t""#), "{messages:?}");
            assert!(messages[1].contains("notifications/message"));
            assert_eq!(messages[2], format!(r#"{{"jsonrpc":"2.0","id":"c{round}","result":{{"tool":"x"}}}}"#));
        }
        // The server's request on the stream was answered, on the same connection or on one more.
        let answered = |seen: &server::Seen| seen.requests.iter().filter(|r| r.body.contains("-32601")).count() == 3;
        server.until(answered).await;
        assert!(server.seen().connections <= 2, "{}", server.seen().connections);
        small.endpoint.shut_down().await;
    }
}

#[tokio::test]
async fn an_event_stream_that_ends_early_is_resumed() {
    let (server, small) = connected(Plan { sse: Some(5), interrupts: true, ..Plan::default() }).await;
    let messages = stream(&small, &tool_call("\"c\"", "x")).await;
    assert_eq!(messages.last().unwrap(), r#"{"jsonrpc":"2.0","id":"c","result":{"tool":"x"}}"#);
    assert_eq!(server.seen().executed, 1);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_call_waits_for_a_server_that_is_down_where_calls_are_held() {
    let server = Server::start(Plan::default());
    server.change_key("not yet");
    for hold in [None, Some(Duration::from_millis(50)), Some(PATIENCE)] {
        let small = bench(http(&server.url()), Limits { hold, ..Limits::default() });
        small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err();
        let call = tool_call("1", "echo");
        if hold == Some(PATIENCE) {
            let up = async {
                server.change_key("k");
                small.up().await
            };
            let (answer, _) = tokio::join!(small.whole(&call), up);
            assert!(answer.contains("echo"), "{answer}");
        } else {
            assert_eq!(small.call(&call).await.unwrap_err().cause, Cause::Down, "{hold:?}");
        }
        small.endpoint.shut_down().await;
    }
}

#[tokio::test]
async fn a_secret_that_was_exchanged_is_read_again_when_the_old_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "old\n").unwrap();
    let server = Server::start(Plan::default());
    server.change_key("old");
    let headers = BTreeMap::from([("X-Key".to_owned(), format!("${{file:{}}}", file.display()))]);
    let small = bench(Transport::Http { url: server.url(), headers }, Limits::default());
    small.up().await;
    server.change_key("new");
    let error = small.call(&tool_call("1", "echo")).await.unwrap_err();
    assert_eq!((error.cause, error.data.as_deref()), (Cause::Status(401), Some(r#"{"status":401}"#)));
    std::fs::write(&file, "new\n").unwrap();
    small.whole(&tool_call("2", "echo")).await;
    assert_eq!(server.seen().executed, 1);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn only_what_was_not_sent_goes_again() {
    // Connections that are closed while idle: no call fails.
    let (server, small) = connected(Plan { close_after: Some(1), ..Plan::default() }).await;
    for id in 1..=5 {
        small.whole(&tool_call(&id.to_string(), "echo")).await;
    }
    assert_eq!(server.seen().executed, 5);
    small.endpoint.shut_down().await;

    // The connection is closed instead of an answer: the call may have been executed.
    let (server, small) = connected(Plan { hang_up: 1, ..Plan::default() }).await;
    let error = small.call(&tool_call("1", "echo")).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Lost, true));
    assert_eq!(server.seen().executed, 1);
    small.endpoint.shut_down().await;

    // Unless running the call twice does no harm.
    let (server, small) = connected(Plan { hang_up: 1, ..Plan::default() }).await;
    let lease = Lease::admit(&small.endpoint, Revision(1)).unwrap();
    let mut call = call_of(&tool_call("1", "echo"));
    call.idempotent = true;
    assert!(matches!(forward(&lease, call, None, || false).await.unwrap(), Answer::Whole(_)));
    assert_eq!(server.seen().executed, 2);
    drop(lease);
    small.endpoint.shut_down().await;
}

/// The clock is paused: it moves on when all tasks wait.
#[tokio::test(start_paused = true)]
async fn connections_are_given_up_before_the_server_does_once_it_has_shown_when() {
    let (server, small) = connected(Plan { idle: Some(Duration::from_secs(5)), ..Plan::default() }).await;
    for (pause, connections) in [(3000, 1), (5100, 2), (3000, 2), (4500, 3)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        small.whole(&tool_call("1", "echo")).await;
        assert_eq!(server.seen().connections, connections, "after {pause} ms");
    }
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn calls_wait_for_a_server_that_restarts() {
    let (mut server, small) = connected(Plan::default()).await;
    server.stop().await;
    let call = tool_call("1", "echo");
    let (answer, ()) = tokio::join!(small.whole(&call), async { server.start_again() });
    assert!(answer.contains(r#""result""#));
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let (server, small) = connected(Plan { silent: true, ..Plan::default() }).await;
    let lease = Lease::admit(&small.endpoint, Revision(1)).unwrap();
    let mut call = Box::pin(forward(&lease, call_of(&tool_call("\"mine\"", "echo")), None, || false));
    tokio::select! {
        _ = &mut call => panic!("the server is silent"),
        () = server.until(|seen| seen.executed == 1) => {}
    }
    let sent: serde_json::Value = serde_json::from_str(&server.seen().requests.last().unwrap().body).unwrap();
    drop(call);
    let cancelled =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{}}}}}"#, sent["id"]);
    server.until(|seen| seen.requests.last().unwrap().body == cancelled).await;
}

#[tokio::test]
async fn announced_changes_are_told() {
    let (server, small) = connected(Plan { announces: true, ..Plan::default() }).await;
    assert_eq!(small.event().await, EndpointEvent::ListChanged, "what was announced before the stream is lost");
    server.announce();
    assert_eq!(small.event().await, EndpointEvent::ListChanged);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn refusals_say_what_arrived() {
    let fails = async |plan: Plan, expected: &str| {
        let server = Server::start(plan);
        let small = bench(http(&server.url()), Limits { response_bytes: 5000, ..Limits::default() });
        let error = match timeout(PATIENCE, small.endpoint.bring_up(Instant::now() + PATIENCE)).await.unwrap() {
            Ok(_) => small.call(&tool_call("1", "big")).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        // The reference is random.
        let (reason, _) = error.split_once(" (reference ").unwrap_or((&error, ""));
        assert_eq!(reason, expected);
    };
    fails(
        Plan { initialize_status: 401, ..Plan::default() },
        "initialize: server `small` answered with status 401 Unauthorized; go away",
    )
    .await;
    fails(
        Plan { initialize_status: 307, ..Plan::default() },
        "initialize: server `small` answered with status 307 Temporary Redirect; go away; it has moved to /elsewhere, which \
         the configuration must name",
    )
    .await;
    fails(Plan { padding: 6000, ..Plan::default() }, "the answer of server `small` is larger than 5000 bytes").await;
    let gone = bench(http("http://127.0.0.1:9/mcp"), Limits { connect: Duration::from_secs(1), ..Limits::default() });
    let error = gone.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err().to_string();
    let expected = "initialize: server `small` cannot be reached at 127.0.0.1:9: Connection refused (os error 111)";
    assert!(error.starts_with(expected), "{error}");
}
