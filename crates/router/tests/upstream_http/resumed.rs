//! Streams that ended before the answer: which call the messages on the next stream belong to, and how often it is
//! requested.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use router::call::Answer;
use tokio::time::timeout;

use super::bench::{Bench, PATIENCE, tool_call};
use super::manners::connected;
use super::raw::{Asked, Raw, Step, says, streams};
use super::stream;

/// A server whose answers begin with an event id and break off. `rest` gives its answer to a request for the rest of a
/// call, by the number of that call and the number of earlier requests.
async fn breaks_off(rest: impl Fn(u64, usize) -> Vec<Step> + Send + Sync + 'static) -> (Raw, Bench) {
    let (call, tries) = (AtomicU64::new(0), AtomicUsize::new(0));
    connected(move |asked| {
        if is_resuming(asked) {
            return Some(rest(call.load(Ordering::Relaxed), tries.fetch_add(1, Ordering::Relaxed)));
        }
        asked.is("tools/call").then(|| {
            call.store(asked.message["id"].as_u64().unwrap(), Ordering::Relaxed);
            [streams("text/event-stream", "id: 1\nretry: 0\ndata:\n\n"), vec![Step::Close]].concat()
        })
    })
    .await
}

fn is_resuming(asked: &Asked) -> bool {
    asked.is_get() && asked.head.contains("last-event-id: ")
}

fn answers(id: u64) -> String {
    format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n")
}

const MINE: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;

/// Some servers send the stream that all calls share to a client that requests the rest of one call's stream.
#[tokio::test]
async fn what_may_be_of_other_calls_on_a_stream_that_was_resumed_is_skipped() {
    let (_server, small) = breaks_off(|call, _| {
        let said = [
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\"secret\"}}\n\n"
                .into(),
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n".into(),
            answers(call - 1),
            format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"x\":NaN}}}}\n\n", call - 1),
            format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":{{\"code\":1,\"message\":\"x\"}}}}\n\n", call + 1),
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{}}\n\n".into(),
            answers(call),
        ];
        [streams("text/event-stream", &said.concat()), vec![Step::Hold]].concat()
    })
    .await;
    assert_eq!(stream(&small, &tool_call("7", "do")).await, [MINE]);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn the_rest_is_asked_for_again_after_a_failure_that_may_pass() {
    for failure in [
        vec![Step::Close],
        vec![Step::Write("HTTP/1.1 2".to_owned()), Step::Close],
        says("503 Service Unavailable", "Retry-After: 1\r\n", "restarting"),
        says("502 Bad Gateway", "", ""),
        says("429 Too Many Requests", "", ""),
    ] {
        let shown = format!("{failure:?}");
        let (server, small) = breaks_off(move |call, tries| {
            let mine = || [streams("text/event-stream", &answers(call)), vec![Step::Hold]].concat();
            if tries < 2 { failure.clone() } else { mine() }
        })
        .await;
        assert_eq!(stream(&small, &tool_call("7", "do")).await, [MINE], "{shown}");
        assert_eq!(server.count(is_resuming), 3, "{shown}");
        small.endpoint.shut_down().await;
    }
}

/// The clock is paused: it moves on when all tasks wait.
#[tokio::test(start_paused = true)]
async fn the_rest_is_not_asked_for_without_end() {
    for (status, tries) in [
        ("400 Bad Request", 1),
        ("404 Not Found", 1),
        ("405 Method Not Allowed", 1),
        ("501 Not Implemented", 1),
        ("503 Service Unavailable", 5),
    ] {
        let (server, small) = breaks_off(move |_, _| says(status, "", "")).await;
        let Answer::Events(mut events) = small.call(&tool_call("7", "do")).await.unwrap() else { panic!("a stream") };
        let error = timeout(PATIENCE, events.next()).await.expect("it is given up").unwrap().unwrap_err();
        assert!(error.sent && error.message.contains(&format!("status {status}")), "{error}");
        assert_eq!(server.count(is_resuming), tries, "{status}");
        small.endpoint.shut_down().await;
    }
}

/// A server may send a request before its session stands, and wait for the reply.
#[tokio::test]
async fn a_ping_before_the_answer_to_initialize_is_answered() {
    let greeting = Arc::new(AtomicU64::new(0));
    let answered = Arc::clone(&greeting);
    let (server, small) = connected(move |asked| {
        if asked.whole && asked.message["id"] == "p1" && asked.message.get("result").is_some() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        asked.is("initialize").then(|| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s1\r\n\r\n";
            let ping = "data: {\"jsonrpc\":\"2.0\",\"id\":\"p1\",\"method\":\"ping\"}\n\n";
            let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}"#;
            let answer =
                format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}\n\n", asked.message["id"]);
            let says = |text: &str| Step::Write(text.to_owned());
            vec![says(head), says(ping), Step::Pause(Duration::from_millis(500)), says(&answer), Step::Close]
        })
    })
    .await;
    assert_eq!(greeting.load(Ordering::Relaxed), 1);
    let seen = server.seen();
    let reply = seen.iter().find(|asked| asked.message["id"] == "p1").unwrap();
    assert!(reply.head.contains("mcp-session-id: s1\r\n"), "{}", reply.head);
    assert_eq!(server.count(|asked| asked.is("notifications/cancelled")), 0);
    small.endpoint.shut_down().await;
}
