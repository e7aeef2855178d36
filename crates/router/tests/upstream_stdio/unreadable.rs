//! What servers write that is no MCP, or that answers nothing: a waiting call is told of it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Limits, Transport};
use router::call::{CallError, Cause};
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, PATIENCE, bench, tool_call};
use crate::calls::server;

/// A call whose server writes `text` and no more.
fn write(id: &str, text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"write","arguments":{{"text":{text}}}}}}}"#
    )
}

async fn fails(small: &Bench, text: &str) -> CallError {
    let error = small.call(&write("1", text)).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Protocol, true), "{text}");
    assert!(!error.message.contains("Span"), "{}", error.message);
    error
}

pub async fn what_nobody_can_read_is_the_error_of_its_call() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let cases = [
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"x":NaN}}"#, "not JSON"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"x":-Infinity}}"#, "not JSON"),
        ("{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"text\":\"caf\u{e9}\"}}", "not UTF-8"),
        ("{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"\u{93}quoted\u{94}\"},\"id\":ID}", "not UTF-8"),
        ("{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"text\":\"a\tb\"}}", "not JSON"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"te"#, "not JSON"),
        (r#"{"jsonrpc":"2.0","#, "not JSON"),
        (r#"loading... {"jsonrpc":"2.0","id":ID,"result":{}}"#, "other text stands before the message on its line"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{}}{"jsonrpc":"2.0"}"#, "not JSON"),
        ("{'jsonrpc': '2.0', 'id': ID, 'result': {}}", "not JSON"),
        (r#"{"jsonrpc":"2.0","id":ID}"#, "needs exactly one of"),
        (r#"{"jsonrpc":"2.0","result":{}}"#, "without an `id`"),
        (r#"{"jsonrpc":"2.0","id":"other","result":{}}"#, "an id that no request had"),
        (r#"{"jsonrpc":"2.0","id":99999999,"result":{}}"#, "which the gateway has not sent"),
    ];
    for (text, reason) in cases {
        let error = fails(&small, &format!("{text}\n")).await;
        assert!(error.message.contains(reason), "{text}: {}", error.message);
    }
    let error =
        fails(&small, "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"password\":\"hunter2\",\"x\":NaN}}\n").await;
    let detail = error.detail.as_ref().expect("operators can read the line");
    assert!(detail.text.contains("hunter2") && !error.message.contains("hunter2"), "{detail:?}");
    assert!(error.data.unwrap().contains(&detail.reference.to_string()));
    small.endpoint.shut_down().await;
}

pub async fn what_is_read_all_the_same() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let answered = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for (text, expected) in [
        ("\u{ef}\u{bb}\u{bf}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n", answered),
        ("{\"jsonrpc\":\"2.0\",\"id\":ID.0,\"result\":{}}\r\n", answered),
        ("{\"jsonrpc\":\"2.0\",\"id\":\"ID\",\"result\":{}}\n", answered),
        // Text that is printed beside answers fails no call.
        (
            "listening {\n{\"level\":\"warn\",\"error\":\"ENOENT\"}\n\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n",
            answered,
        ),
        (
            "got {\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"x\"}\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n",
            answered,
        ),
        // An error without an id belongs to the only call.
        (
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":\"boom\"}}\n",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"boom"}}"#,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,\"message\":\"boom\"}}\n",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"boom"}}"#,
        ),
    ] {
        let answer = small.whole(&write("1", text)).await;
        assert_eq!(answer.trim_start_matches('\u{feff}'), expected, "{text}");
    }
    small.endpoint.shut_down().await;
}

pub async fn of_several_calls_the_one_that_waits_in_vain_is_told() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let begun = model::Time::ZERO;
    let (held, void) =
        (write("1", ""), write("2", "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-1,\"message\":\"boom\"}}\n"));
    let (mut held, mut void) = (Box::pin(small.call(&held)), Box::pin(small.call(&void)));
    let noted = async {
        while small.endpoint.unmatched_since(begun).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut held => panic!("which of the two is meant cannot be known"),
        _ = &mut void => panic!("which of the two is meant cannot be known"),
        noted = timeout(PATIENCE, noted) => noted.unwrap(),
    }
    let told = small.endpoint.unmatched_since(begun).unwrap();
    assert!(told.starts_with("an error that names no request (reference "), "{told}");
    assert!(!told.contains("boom"), "whose words these are is not known: {told}");
    drop((held, void));
    small.endpoint.shut_down().await;
}

/// Gives up a call that the server has read.
async fn give_up(small: &Bench) {
    let (held, echo) = (tool_call("1", "hold"), tool_call("2", "echo"));
    let mut held = Box::pin(small.call(&held));
    tokio::select! {
        _ = &mut held => panic!("it is held"),
        _ = small.whole(&echo) => {}
    }
}

pub async fn what_a_call_that_was_given_up_may_mean_reaches_no_other() {
    let boom = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"boom\"}}\n";
    for text in
        [boom, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-1,\"message\":\"boom\"}}\n", "{\"jsonrpc\":\"2.0\",\"boom\n"]
    {
        let small = bench(server(0), Limits::default());
        small.up().await;
        give_up(&small).await;
        // The call is answered all the same: no later message can be meant for it.
        small.whole(&tool_call("3", "release")).await;
        let answer = small.whole(&write("4", boom)).await;
        assert_eq!(answer, r#"{"jsonrpc":"2.0","id":4,"error":{"code":-1,"message":"boom"}}"#);
        let begun = model::Time::ZERO;
        assert_eq!(small.endpoint.unmatched_since(begun), None);
        give_up(&small).await;
        let other = write("5", text);
        let mut other = Box::pin(small.call(&other));
        let noted = async {
            while small.endpoint.unmatched_since(begun).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = &mut other => panic!("it may be about the call before: {answer:?}"),
            noted = timeout(PATIENCE, noted) => noted.unwrap(),
        }
        let told = small.endpoint.unmatched_since(begun).unwrap();
        assert!(told.contains("(reference ") && !told.contains("boom"), "{told}");
        drop(other);
        small.endpoint.shut_down().await;
    }
}

pub async fn a_line_is_waited_for_and_named_until_it_ends() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let begun = model::Time::ZERO;
    let unended = write("1", r#"{"jsonrpc":"2.0","id":ID,"result":{}}"#);
    let mut unended = Box::pin(small.whole(&unended));
    let named = async {
        while small.endpoint.unmatched_since(begun).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut unended => panic!("more of that line may come: {answer}"),
        named = timeout(PATIENCE, named) => named.unwrap(),
    }
    let what = "the beginning of a line, without a line break at its end";
    assert_eq!(&*small.endpoint.unmatched_since(begun).unwrap(), what);
    let end = write("2", "\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n");
    let (answer, _) = tokio::join!(unended, small.whole(&end));
    assert_eq!(answer, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(small.endpoint.unmatched_since(begun), None);
    small.endpoint.shut_down().await;
}

/// For example, a prompt that was printed before any request, or half of a long answer.
pub async fn a_line_that_began_before_the_call_or_is_long_is_named_too() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    for text in ["> ".to_owned(), "x".repeat(6 << 10)] {
        // The answer comes first, and then the text that nothing follows.
        let ended = format!("{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{}}}}\n{text}");
        small.whole(&write("1", &ended)).await;
        let (held, begun) = (write("2", ""), model::Time::ZERO);
        let mut held = Box::pin(small.call(&held));
        let named = async {
            while small.endpoint.unmatched_since(begun).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut held => panic!("nothing answers it"),
            named = timeout(PATIENCE, named) => named.expect("the line stands there"),
        }
        drop(held);
        small.whole(&write("3", "\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n")).await;
    }
    small.endpoint.shut_down().await;
}

fn shell(script: &str) -> Transport {
    let args = vec!["-c".to_owned(), script.to_owned()];
    Transport::Stdio { command: "sh".into(), args, env: BTreeMap::new(), cwd: None }
}

pub async fn initialize_fails_at_once() {
    let fails = async |line: &str, expected: &str| {
        let small = bench(shell(&format!("read line; printf '%s\\n' '{line}'; cat >&2")), Limits::default());
        let begun = Instant::now();
        let error = small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{line}: {:?}", begun.elapsed());
        small.endpoint.shut_down().await;
    };
    fails(
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no handshake"}}"#,
        "initialize: the server refused with error -32600: no handshake",
    )
    .await;
    fails(r#"> {"jsonrpc":"2.0","id":1,"result":{}}"#, "other text stands before the message on its line").await;
    fails("{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1", "not JSON").await;
}

pub async fn stdout_is_not_called_stderr() {
    let small = bench(shell("echo usage: small FILE; echo no file >&2; exit 2"), Limits::default());
    for _ in 0..3 {
        let error = small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err().to_string();
        let said =
            "; its stderr ends with: no file; its stdout has lines that are no MCP: usage: small FILE (reference ";
        assert!(error.contains(said), "{error}");
    }
    let state = small.endpoint.state();
    assert_eq!((state.stderr, state.stray), (vec!["no file".to_owned()], vec!["usage: small FILE".to_owned()]));
    small.endpoint.shut_down().await;
}
