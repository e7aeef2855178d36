//! When a session counts as lost, and what becomes of it.

use futures_util::future::join_all;
use mcp::ErrorCode;
use router::call::Cause;
use router::endpoint::{EndpointEvent, EndpointPhase, Lease};
use router::forward;

use super::bench::{Bench, PATIENCE, call_of, tool_call};
use super::connected;
use super::server::{Plan, Seen, Server};

fn deleted(seen: &Seen, session: &str) -> bool {
    seen.requests.iter().any(|request| request.method == "DELETE" && request.header("mcp-session-id") == session)
}

fn pings(server: &Server) -> usize {
    server.seen().requests.iter().filter(|request| request.body.contains(r#""method":"ping""#)).count()
}

#[tokio::test]
async fn a_lost_session_is_renewed_once_for_all_calls_and_nothing_runs_twice() {
    for (status, lost_by_id) in [(404, false), (400, false), (404, true), (400, true)] {
        let (server, small) = connected(Plan { lost: status, lost_by_id, ..Plan::default() }).await;
        server.forget_sessions();
        let ids: Vec<_> = (1..=20).map(|id| tool_call(&id.to_string(), "echo")).collect();
        let answers = join_all(ids.iter().map(|call| small.whole(call))).await;
        assert!(answers.iter().all(|answer| answer.contains(r#""result""#)));
        let seen = server.seen();
        assert_eq!((seen.initialized, seen.executed), (2, 20));
        assert_eq!(small.endpoint.state().upstream_session.as_deref(), Some("session-2"));
        assert!(pings(&server) <= 2, "many callers, one confirmation");
        assert_eq!(small.event().await, EndpointEvent::Renewed);
        assert!(small.events.try_next().is_none(), "told once");
        small.endpoint.shut_down().await;
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_had_again_is_a_loss() {
    let (server, small) = connected(Plan { lost: 404, ..Plan::default() }).await;
    server.forget_sessions();
    server.refuse_initialize();
    let error = small.call(&tool_call("1", "echo")).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Down, false));
    assert!(error.message.contains("status 503"), "{error}");
    assert!(matches!(small.event().await, EndpointEvent::Lost { .. }));
    assert_eq!(small.endpoint.state().phase, EndpointPhase::Down);
}

/// A tool that charged a card and then failed: the status is about the call, whatever it may mean elsewhere.
#[tokio::test]
async fn a_status_in_a_session_that_stands_is_the_answer_to_the_call() {
    let nameless = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32007,"message":"no card","data":[1]}}"#;
    let worded = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32007,"message":"no card","data":[1]}}"#;
    for status in [400, 401, 403, 404, 405, 409, 410, 422, 429, 500, 502, 503, 504] {
        for body in ["", "no card", r#"{"error":"path is required"}"#, nameless, worded] {
            let (server, small) = connected(Plan { fails: Some((status, body)), ..Plan::default() }).await;
            let answers = join_all(["1", "2", "3"].map(|id| small.call_by(id))).await;
            for answer in answers {
                if body.starts_with(r#"{"jsonrpc""#) {
                    assert!(answer.contains("-32007 no card [1]"), "{status} {body}: {answer}");
                } else {
                    assert!(
                        answer.contains(&format!("-32603 server `small` answered with status {status}")),
                        "{answer}"
                    );
                }
            }
            let seen = server.seen();
            assert_eq!((seen.executed, seen.initialized), (3, 1), "{status} {body}");
            assert!(!deleted(&seen, "session-1"), "{status} {body}");
            assert!(pings(&server) <= 2, "{status} {body}");
            assert_eq!(small.endpoint.state().phase, EndpointPhase::Up);
            small.endpoint.shut_down().await;
        }
    }
}

impl Bench {
    /// Code, message and data of the error with which a call ends.
    async fn call_by(&self, id: &str) -> String {
        let error = match self.call(&tool_call(id, "echo")).await {
            Ok(router::call::Answer::Whole(answer)) => {
                let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["id"].to_string(), id);
                let error = &answer["error"];
                return format!("{} {} {}", error["code"], error["message"].as_str().unwrap(), error["data"]);
            }
            Ok(_) => panic!("expected one message"),
            Err(error) => error,
        };
        assert!(error.sent, "{error}");
        assert_ne!(error.code, ErrorCode::UNAVAILABLE, "that says that nothing was executed");
        format!("{} {} {}", error.code, error.message, error.data.unwrap_or_default())
    }
}

/// Some servers refuse every ping; then a refused ping says nothing about the session.
#[tokio::test]
async fn a_server_that_knows_no_ping_loses_no_session_by_it() {
    let (server, small) =
        connected(Plan { fails: Some((404, "no such card")), ping_status: 404, ..Plan::default() }).await;
    assert!(small.call_by("1").await.contains("status 404"));
    assert_eq!((server.seen().executed, server.seen().initialized), (1, 1));
    small.endpoint.shut_down().await;

    let (server, small) = connected(Plan { lost: 404, ping_status: 404, ..Plan::default() }).await;
    server.forget_sessions();
    assert!(small.whole(&tool_call("1", "echo")).await.contains("result"));
    assert_eq!((server.seen().executed, server.seen().initialized), (1, 2));
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_replaced_session_is_deleted_once_its_last_call_has_ended() {
    let (server, small) = connected(Plan { lost: 404, ..Plan::default() }).await;
    let lease = Lease::admit(&small.endpoint, model::Revision(1)).unwrap();
    let mut slow = Box::pin(forward(&lease, call_of(&tool_call("1", "slow")), None, || false));
    tokio::select! {
        _ = &mut slow => panic!("it is slow"),
        () = server.until(|seen| seen.executed == 1) => {}
    }
    server.forget_sessions();
    small.whole(&tool_call("2", "echo")).await;
    assert_eq!(small.endpoint.state().upstream_session.as_deref(), Some("session-2"));
    small.endpoint.ping(PATIENCE).await.unwrap();
    assert!(!deleted(&server.seen(), "session-1"));
    server.release();
    slow.await.unwrap();
    server.until(|seen| deleted(seen, "session-1")).await;
    assert_eq!(server.seen().executed, 2);
    drop(lease);
    small.endpoint.shut_down().await;
    assert!(deleted(&server.seen(), "session-2"));
}

/// One of several servers behind one address does not know the session, and will not make another one.
#[tokio::test]
async fn a_renewal_that_fails_leaves_a_session_that_serves() {
    let (server, small) = connected(Plan { lost: 404, remembers: true, ..Plan::default() }).await;
    server.forget_sessions();
    server.refuse_initialize();
    let error = small.call(&tool_call("1", "echo")).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Status(404), true));
    assert_eq!(small.endpoint.state().phase, EndpointPhase::Up);
    assert!(small.whole(&tool_call("2", "echo")).await.contains("result"));
    assert_eq!(server.seen().executed, 1);
    assert!(small.events.try_next().is_none(), "nothing has changed");
    let attempts = || server.seen().requests.iter().filter(|request| request.body.contains("initialize\"")).count();
    let before = attempts();
    let error = small.call(&tool_call("3", "fail")).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Status(400), true));
    assert_eq!((server.seen().executed, attempts()), (2, before), "what was found before says nothing of this call");
    small.endpoint.shut_down().await;
}

/// The server has made a session, and then goes away before it can be used.
#[tokio::test]
async fn a_session_that_is_never_used_is_deleted() {
    let server = Server::start(Plan { notification_status: 500, ..Plan::default() });
    let small = super::bench::bench(super::http(&server.url()), model::Limits::default());
    small.endpoint.bring_up(tokio::time::Instant::now() + PATIENCE).await.unwrap_err();
    server.until(|seen| deleted(seen, "session-1")).await;
}

#[tokio::test]
async fn a_session_whose_greeting_cannot_be_used_is_deleted() {
    let unknown = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2099-01-01","capabilities":{},
        "serverInfo":{"name":"small","version":"1"}}}"#;
    for greeting in [("application/json", unknown), ("text/event-stream", ": soon\n\n"), ("text/html", "<p>")] {
        let server = Server::start(Plan { greeting: Some(greeting), ..Plan::default() });
        let small = super::bench::bench(super::http(&server.url()), model::Limits::default());
        small.endpoint.bring_up(tokio::time::Instant::now() + PATIENCE).await.unwrap_err();
        server.until(|seen| deleted(seen, "session-1")).await;
    }
}

/// A server with the configured header `X-Key`, and a URL, out of files.
struct Rotated {
    directory: tempfile::TempDir,
    small: Bench,
}

impl Rotated {
    async fn up(server: &Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reference = |name| format!("${{file:{}}}", directory.path().join(name).display());
        let headers = [("X-Key".to_owned(), reference("key"))];
        let transport = model::Transport::Http { url: reference("url"), headers: headers.into() };
        let small = super::bench::bench(transport, model::Limits::default());
        let rotated = Self { directory, small };
        rotated.becomes("url", &server.url());
        rotated.becomes("key", "the-old-key");
        rotated.small.up().await;
        rotated
    }

    fn becomes(&self, name: &str, value: &str) {
        std::fs::write(self.directory.path().join(name), value).unwrap();
    }
}

#[tokio::test]
async fn what_leads_elsewhere_by_now_goes_over_no_connection_to_where_it_led() {
    let (old, new) = (Server::start(Plan { lost: 404, ..Plan::default() }), Server::start(Plan::default()));
    let rotated = Rotated::up(&old).await;
    rotated.small.whole(&tool_call("1", "echo")).await;
    rotated.becomes("url", &new.url());
    rotated.becomes("key", "the-new-key");
    old.forget_sessions();
    assert!(rotated.small.whole(&tool_call("2", "echo")).await.contains("result"));
    assert!(rotated.small.whole(&tool_call("3", "echo")).await.contains("result"));
    assert_eq!((new.seen().initialized, new.seen().executed, old.seen().initialized), (1, 2, 1));
    old.until(|seen| deleted(seen, "session-1")).await;
    assert!(old.seen().requests.iter().all(|request| request.header("x-key") == "the-old-key"));
    rotated.small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_ping_finds_that_the_configured_values_have_changed() {
    let (old, new) = (Server::start(Plan::default()), Server::start(Plan::default()));
    let rotated = Rotated::up(&old).await;
    rotated.small.endpoint.ping(PATIENCE).await.unwrap();
    rotated.becomes("key", "the-new-key");
    rotated.small.endpoint.ping(PATIENCE).await.unwrap();
    assert_eq!(rotated.small.event().await, EndpointEvent::Renewed);
    old.until(|seen| seen.initialized == 2 && deleted(seen, "session-1")).await;
    rotated.becomes("url", &new.url());
    rotated.small.endpoint.ping(PATIENCE).await.unwrap();
    assert_eq!(rotated.small.event().await, EndpointEvent::Renewed);
    assert!(rotated.small.whole(&tool_call("1", "echo")).await.contains("result"));
    assert_eq!((old.seen().executed, new.seen().executed), (0, 1));
    rotated.small.endpoint.shut_down().await;
}

#[tokio::test]
async fn credentials_that_were_exchanged_are_used_by_the_next_call_and_repeat_none() {
    let server = Server::start(Plan { fails: Some((401, "the-old-key: your card was refused")), ..Plan::default() });
    let rotated = Rotated::up(&server).await;
    rotated.becomes("key", "the-new-key");
    for call in ["1", "2", "3"] {
        let refused = rotated.small.call_by(call).await;
        assert!(refused.contains("status 401"), "{refused}");
    }
    let seen = server.seen();
    assert_eq!((seen.executed, seen.initialized), (3, 2));
    let calls = seen.requests.iter().filter(|request| request.body.contains("tools/call"));
    assert_eq!(
        calls.map(|call| call.header("x-key")).collect::<Vec<_>>(),
        ["the-old-key", "the-new-key", "the-new-key"]
    );
    rotated.small.endpoint.shut_down().await;
}
