//! Servers with manners of their own: what is taken, what is refused and in which words, and what has an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::Limits;
use router::call::{Answer, CallError, Cause};
use router::endpoint::EndpointEvent;
use tokio::time::{Instant, timeout};

use super::bench::{Bench, PATIENCE, bench, tool_call};
use super::raw::{Asked, Raw, Step, says, streams};
use super::{http, stream};

pub async fn connected(script: impl Fn(&Asked) -> Option<Vec<Step>> + Send + Sync + 'static) -> (Raw, Bench) {
    let server = Raw::start(script).await;
    let small = bench(http(&server.url()), Limits::default());
    timeout(PATIENCE, small.up()).await.expect("it comes up");
    (server, small)
}

/// The error of one call, also where it stands in an event stream; soon, though the server leaves everything open.
async fn error(small: &Bench) -> String {
    failed(small).await.to_string()
}

pub async fn failed(small: &Bench) -> CallError {
    let soon = Duration::from_secs(10);
    let failed = async {
        match small.call(&tool_call("1", "do")).await {
            Ok(Answer::Whole(answer)) => panic!("{answer:?}"),
            Ok(Answer::Events(mut events)) => loop {
                match events.next().await.expect("an error") {
                    Ok(_) => {}
                    Err(error) => return error,
                }
            },
            Err(error) => error,
        }
    };
    let error = timeout(soon, failed).await.expect("at once");
    assert!(error.sent, "{error}");
    error
}

fn big_call() -> String {
    let padding = "x".repeat(8 << 20);
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"do","arguments":{{"x":"{padding}"}}}}}}"#
    )
}

fn is_big(asked: &Asked) -> bool {
    let length = asked.head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| length > 1 << 20)
}

#[tokio::test]
async fn an_early_refusal_is_read_while_the_request_is_being_written() {
    for status in ["413 Content Too Large", "401 Unauthorized", "503 Service Unavailable"] {
        let (server, small) =
            connected(move |asked| is_big(asked).then(|| [says(status, "", "too much"), vec![Step::Hold]].concat()))
                .await;
        let error = small.call(&big_call()).await.unwrap_err();
        let expected: u16 = status[..3].parse().unwrap();
        assert_eq!((error.cause, error.sent), (Cause::Status(expected), true));
        assert!(error.to_string().contains("too much"), "{error}");
        assert_eq!(server.count(|asked| asked.is("tools/call")), 0);
        // The connection has half a request in it.
        small.whole(&tool_call("2", "do")).await;
        let seen = server.seen();
        assert_ne!(seen.last().unwrap().connection, seen[0].connection);
        small.endpoint.shut_down().await;
    }
}

#[tokio::test]
async fn an_answer_may_begin_before_the_request_is_read() {
    let progress = r#"data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    let (server, small) = connected(move |asked| {
        if asked.is("tools/call") {
            let answer = format!(r#"data: {{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, asked.message["id"]);
            return Some(vec![Step::Write(format!("{answer}\n\n")), Step::Close]);
        }
        is_big(asked).then(|| streams("text/event-stream", &format!("{progress}\n\n")))
    })
    .await;
    let messages = stream(&small, &big_call()).await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[1], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(server.count(|asked| asked.is("tools/call")), 1, "all of it was written");
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn messages_without_an_answer_are_decided_on_the_head() {
    for head in [
        "HTTP/1.1 202 Accepted\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    ] {
        let (_server, small) = connected(move |asked| {
            asked.is("notifications/initialized").then(|| vec![Step::Write(head.to_owned()), Step::Hold])
        })
        .await;
        small.whole(&tool_call("1", "do")).await;
        small.endpoint.shut_down().await;
    }
    // The body of a refusal is read as far as it comes.
    let (_server, small) = connected(|asked| {
        let refusal = "HTTP/1.1 422 Unprocessable Content\r\n\r\nno card".to_owned();
        asked.is("tools/call").then(|| vec![Step::Write(refusal), Step::Hold])
    })
    .await;
    let error = error(&small).await;
    assert!(error.contains("status 422") && error.contains("no card"), "{error}");
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_coding_nobody_asked_for_is_named() {
    for coding in ["gzip", "br", "x-own"] {
        for media in ["application/json", "text/event-stream"] {
            let (server, small) = connected(move |asked| {
                let headers = format!("Content-Type: {media}\r\nContent-Encoding: {coding}\r\n");
                asked.is("tools/call").then(|| says("200 OK", &headers, "\u{1f}\u{8b}"))
            })
            .await;
            let error = error(&small).await;
            assert!(error.contains("coding, although it was asked for identity; "), "{error}");
            assert!(error.contains(&format!("; Content-Encoding: {coding} (reference ")), "{error}");
            assert!(server.seen().iter().all(|asked| asked.head.contains("accept-encoding: identity\r\n")));
            small.endpoint.shut_down().await;
        }
    }
    let (_server, small) = connected(|asked| {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, asked.message["id"]);
        let headers = "Content-Type: application/json\r\nContent-Encoding: identity\r\n";
        asked.is("tools/call").then(|| says("200 OK", headers, &answer))
    })
    .await;
    small.whole(&tool_call("1", "do")).await;
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_redirect_to_another_path_is_followed_once_and_kept() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (server, small) = connected(move |asked| {
            (asked.whole && asked.head.starts_with("POST /mcp ")).then(|| says(status, "Location: /mcp/\r\n", ""))
        })
        .await;
        small.whole(&tool_call("1", "do")).await;
        assert_eq!(server.count(|asked| asked.head.starts_with("POST /mcp ")), 1);
        small.endpoint.shut_down().await;
    }
    for (status, location) in [
        ("307 Temporary Redirect", "http://127.0.0.1:1/mcp"),
        ("307 Temporary Redirect", "https://127.0.0.1:1/mcp?key=hidden#there"),
        ("307 Temporary Redirect", "/mcp"),
        ("303 See Other", "/mcp/"),
        ("300 Multiple Choices", "/mcp/"),
    ] {
        let server = Raw::start(move |_| Some(says(status, &format!("Location: {location}\r\n"), ""))).await;
        let small = bench(http(&server.url()), Limits::default());
        let error = small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err().to_string();
        let (shown, _) = location.split_once('?').unwrap_or((location, ""));
        assert!(error.contains(&format!("it has moved to {shown}, which")), "{error}");
    }
}

/// The stream stays open, so the error cannot be that of its end.
#[tokio::test]
async fn what_cannot_be_an_answer_is_the_error_of_the_one_who_waits() {
    for (said, expected) in [
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"x":NaN}}"#, "not JSON: expected value at line 1 column"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"x":"a	b"}}"#, "not JSON: control character"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"#, "not JSON: EOF"),
        (r#"{"jsonrpc":"2.0","id":ID}"#, "exactly one of `method`, `result` and `error`; found none"),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, "a `result` without an `id`"),
        (r#"{"jsonrpc":"2.0","result":{}}"#, "a `result` without an `id`"),
        (r#"{"jsonrpc":"2.0","id":0,"result":{}}"#, "found the response to request 0"),
        (r#"{"jsonrpc":"2.0","id":"x","result":{}}"#, "it answers an id that no request had"),
        (r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#, "a number that is not written as an integer"),
        (r#"{"id":ID,"result":{}}"#, "`jsonrpc` must be"),
        (r#"[{"jsonrpc":"2.0","id":ID,"result":{}}]"#, "a batch"),
        ("done", "not JSON: expected value"),
    ] {
        for sse in [true, false] {
            let (_server, small) = connected(move |asked| {
                let said = said.replace("ID", &asked.message["id"].to_string());
                let answer = if sse {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                    vec![Step::Write(format!("{head}data: {said}\n\n")), Step::Hold]
                } else {
                    says("200 OK", "Content-Type: application/json\r\n", &said)
                };
                asked.is("tools/call").then_some(answer)
            })
            .await;
            let error = error(&small).await;
            let began = "server `small` answered with something that is no MCP: ";
            assert!(error.starts_with(began) && error.contains(expected), "{said}: {error}");
            let (plain, for_operators) = error.split_once("; it begins: ").unwrap();
            assert!(!plain.contains(['{', '}']), "no Debug text: {error}");
            assert!(for_operators.contains("result") || said.len() < 40, "{error}");
            small.endpoint.shut_down().await;
        }
    }
}

#[tokio::test]
async fn a_notification_that_cannot_be_read_is_no_answer() {
    let (_server, small) = connected(|asked| {
        let id = &asked.message["id"];
        let said = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"x\":NaN}}}}\n\n\
             data: \u{feff}{{\"jsonrpc\":\"2.0\",\"id\":{id}.0,\"result\":{{}}}}\n\n"
        );
        asked.is("tools/call").then(|| [streams("text/event-stream", &said), vec![Step::Close]].concat())
    })
    .await;
    assert_eq!(stream(&small, &tool_call("7", "do")).await, [r#"{"jsonrpc":"2.0","id":7,"result":{}}"#]);
    small.endpoint.shut_down().await;

    let (_server, small) = connected(|asked| {
        let said = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"x\":NaN}}\n\n";
        asked.is("tools/call").then(|| [streams("text/event-stream", said), vec![Step::Close]].concat())
    })
    .await;
    let error = error(&small).await;
    assert!(error.contains("ended before the answer; before that, something came that cannot be read: not JSON"));
    small.endpoint.shut_down().await;
}

/// SDKs read events of no type, and of the type `message`.
#[tokio::test]
async fn events_of_other_types_are_no_messages() {
    for said in [
        "event: ping\ndata: {}\n\n",
        "event: heartbeat\ndata: keepalive\n\n",
        "data: 2026-01-01 00:00:00\nid: 4\nevent: time\n\n",
        "event: endpoint\ndata: /messages?id=1\n\n",
        "event: done\ndata: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n",
    ] {
        let (_server, small) = connected(move |asked| {
            let answer = format!(
                "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{}}}}\n\n",
                asked.message["id"]
            );
            let said = [streams("text/event-stream", &(said.to_owned() + &answer)), vec![Step::Hold]].concat();
            asked.is("tools/call").then_some(said)
        })
        .await;
        assert_eq!(stream(&small, &tool_call("7", "do")).await, [r#"{"jsonrpc":"2.0","id":7,"result":{}}"#], "{said}");
        small.endpoint.shut_down().await;
    }
}

/// Neither has a bound of its own in HTTP, and each byte is a sign of life.
#[tokio::test]
async fn what_comes_before_and_after_an_answer_has_an_end() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (said, expected) in [
        (interim.repeat(10_000), "its interim responses are too long"),
        (format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(9_000)).repeat(9), "its interim responses"),
        (format!("{chunked}2\r\n{{}}\r\n0\r\n{}", "a: b\r\n".repeat(1_000)), "its trailers are too long"),
        (format!("{chunked}2\r\n{{}}\r\n0\r\n{}", "a: b".repeat(2_000)), "its trailers are too long"),
    ] {
        let (_server, small) =
            connected(move |asked| asked.is("tools/call").then(|| vec![Step::Write(said.clone()), Step::Hold])).await;
        let error = error(&small).await;
        assert!(error.contains(expected), "{error}");
        small.endpoint.shut_down().await;
    }
    let (_server, small) = connected(move |asked| {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, asked.message["id"]);
        let (length, trailers) = (answer.len(), "a: b\r\n".repeat(100));
        let said = format!("{}{chunked}{length:x}\r\n{answer}\r\n0\r\n{trailers}\r\n", interim.repeat(100));
        asked.is("tools/call").then(|| vec![Step::Write(said)])
    })
    .await;
    for _ in 0..30 {
        small.whole(&tool_call("1", "do")).await;
    }
    small.endpoint.shut_down().await;
}

/// How often the stream of announcements is asked for in the first minute. The clock is paused: it moves on when all
/// tasks wait.
async fn gets(script: impl Fn(&Asked) -> Option<Vec<Step>> + Send + Sync + 'static) -> (usize, usize) {
    let (server, small) = connected(script).await;
    let mut changes = 0;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        while let Some((_, event)) = small.events.try_next() {
            changes += usize::from(event == EndpointEvent::ListChanged);
        }
    }
    small.endpoint.shut_down().await;
    (server.count(Asked::is_get), changes)
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_at_once_are_asked_for_less_and_less() {
    let closes = |media: &'static str, body: &'static str| {
        move |asked: &Asked| asked.is_get().then(|| [streams(media, body), vec![Step::Close]].concat())
    };
    for body in ["", ":\n\n", "retry: 0\n\n", "id: 1\nretry: 0\n\n"] {
        let (gets, changes) = gets(closes("text/event-stream", body)).await;
        assert!((5..=9).contains(&gets) && changes <= gets, "{body:?}: {gets} GETs, {changes} changes");
    }
    // A response that is no event stream has announced nothing, and left no gap.
    for media in ["application/json", "text/html", "text/event-stream-not"] {
        let (gets, changes) = gets(closes(media, "retry: 0\n\ndata: {}\n\n")).await;
        assert!((2..=9).contains(&gets) && changes == 0, "{media}: {gets} GETs, {changes} changes");
    }
    // What the stream brought was worth another look, but not in a loop.
    let changed = "retry: 0\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
    let (gets, _) = gets(closes("text/event-stream", changed)).await;
    assert!((30..=70).contains(&gets), "{gets} GETs");
}

/// Its tools may have changed since they were listed.
#[tokio::test(start_paused = true)]
async fn each_stream_that_opens_is_worth_one_list_however_late() {
    for (refusals, status) in [(0, "200 OK"), (2, "503 Service Unavailable")] {
        let asked = AtomicUsize::new(0);
        let late = gets(move |request| {
            let open = [streams("text/event-stream", ":\n\n"), vec![Step::Hold]].concat();
            let refused = || request.is_get() && asked.fetch_add(1, Ordering::Relaxed) < refusals;
            request.is_get().then(|| if refused() { says(status, "", "") } else { open })
        })
        .await;
        assert_eq!(late, (refusals + 1, 1));
    }
    assert_eq!(gets(|_| None).await, (1, 0), "no stream, no other list");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_lived_is_asked_for_again_at_once() {
    let (gets, _) = gets(|asked| {
        let lives =
            [streams("text/event-stream", "retry: 0\n\n"), vec![Step::Pause(Duration::from_secs(10)), Step::Close]];
        asked.is_get().then(|| lives.concat())
    })
    .await;
    assert_eq!(gets, 6);
}

/// A server may end each stream of a long call to be asked again; it says when, and cannot say "always".
#[tokio::test(start_paused = true)]
async fn the_rest_of_an_answer_is_asked_for_less_and_less() {
    let (server, small) = connected(|asked| {
        let begun = asked.is_get() && asked.head.contains("last-event-id: ");
        let primed = [streams("text/event-stream", "id: 1\nretry: 0\n\n"), vec![Step::Close]].concat();
        (begun || asked.is("tools/call")).then_some(primed)
    })
    .await;
    let mut call = Box::pin(async {
        let Answer::Events(mut events) = small.call(&tool_call("1", "do")).await.unwrap() else { panic!("a stream") };
        events.next().await
    });
    assert!(timeout(Duration::from_secs(60), &mut call).await.is_err(), "it goes on");
    let gets = server.count(|asked| asked.is_get() && asked.head.contains("last-event-id: "));
    assert!((10..=20).contains(&gets), "{gets}");
    drop(call);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn requests_of_a_server_are_answered_as_fast_as_it_reads_the_answers() {
    let (server, small) = connected(|asked| {
        if asked.whole && asked.message.get("method").is_none() && asked.head.starts_with("POST") {
            return Some(vec![Step::Hold]);
        }
        let id = &asked.message["id"];
        let ask = |number| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":\"p{number}\",\"method\":\"ping\"}}\n\n");
        let all: String = (0..5000).map(ask).collect();
        let answer = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n");
        asked.is("tools/call").then(|| [streams("text/event-stream", &(all + &answer)), vec![Step::Close]].concat())
    })
    .await;
    assert_eq!(stream(&small, &tool_call("1", "do")).await.len(), 1);
    // Replies that began before the answer came are there by now, or did not wait.
    small.endpoint.ping(PATIENCE).await.unwrap();
    let replies = server.count(|asked| asked.message["id"].as_str().is_some_and(|id| id.starts_with('p')));
    assert!(replies <= 16, "{replies}");
    small.endpoint.shut_down().await;
}

/// The fleet lists the tools of each new session, and each list finds that session lost.
#[tokio::test(start_paused = true)]
async fn sessions_that_are_lost_as_soon_as_they_are_made_are_replaced_less_and_less() {
    let forgets = Arc::new(AtomicBool::new(false));
    let forgetting = Arc::clone(&forgets);
    let (server, small) = connected(move |asked| {
        let refused = forgetting.load(Ordering::Relaxed) && asked.whole && !asked.is("initialize");
        (refused && !asked.is("notifications/initialized")).then(|| says("404 Not Found", "", "no such session"))
    })
    .await;
    forgets.store(true, Ordering::Relaxed);
    let minute = async {
        loop {
            drop(small.endpoint.list().await);
            assert_eq!(small.event().await, EndpointEvent::Renewed);
        }
    };
    assert!(timeout(Duration::from_secs(60), minute).await.is_err(), "it goes on");
    let made = server.count(|asked| asked.is("initialize"));
    assert!((10..=20).contains(&made), "{made} sessions in a minute");
    small.endpoint.shut_down().await;
}
