//! What a server says of itself and of its failures: kept and shown short, however long it is, and never to clients.

use model::Limits;
use router::endpoint::BringUpError;
use tokio::time::Instant;

use super::bench::{PATIENCE, bench};
use super::http;
use super::manners::connected;
use super::raw::{Asked, Raw, Step, says, streams};

/// Characters of a reason at most, whatever the server says.
const SHORT: usize = 1000;
const LONG: usize = 1 << 20;

fn outcome(asked: &Asked, outcome: &str) -> Vec<Step> {
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},{outcome}}}"#, asked.message["id"]);
    says("200 OK", "Content-Type: application/json\r\n", &answer)
}

async fn refused(script: impl Fn(&Asked) -> Option<Vec<Step>> + Send + Sync + 'static) -> BringUpError {
    let server = Raw::start(script).await;
    let small = bench(http(&server.url()), Limits::default());
    let error = small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err();
    let kept = small.endpoint.state().last_error.expect("it is kept");
    assert_eq!(*kept.full, error.to_string());
    assert!(!kept.plain.contains("WORDS"), "{kept:?}");
    small.endpoint.shut_down().await;
    error
}

#[tokio::test]
async fn a_reason_is_short_however_much_the_server_says() {
    let words = "WORDS".repeat(LONG / 5);
    for (method, said, expected) in [
        ("initialize", format!(r#""error":{{"code":-32000,"message":"{words}"}}"#), "refused with error -32000: WORDS"),
        ("initialize", format!(r#""error":"{words}""#), "the answer cannot be read"),
        (
            "initialize",
            format!(r#""result":{{"protocolVersion":"{words}","capabilities":{{}}}}"#),
            "a protocol version that the gateway cannot speak: \"WORDS",
        ),
        ("initialize", format!(r#""result":"{words}""#), "initialize: "),
        ("tools/list", format!(r#""result":"{words}""#), "not a tools/list result"),
        ("tools/list", format!(r#""error":{{"code":7,"message":"{words}"}}"#), "refused with error 7: WORDS"),
    ] {
        let error = refused(move |asked| asked.is(method).then(|| outcome(asked, &said))).await.to_string();
        assert!(error.len() < SHORT && error.contains(expected), "{error}");
        assert!(error.contains("… (the beginning of 10"), "{error}");
    }
}

/// Most servers say so of a session they do not know; a list has no client that may read it.
#[tokio::test]
async fn an_error_under_a_status_is_for_operators_where_no_client_has_called() {
    let error = refused(|asked| {
        let said = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"WORDS of the server"}}"#;
        asked.is("tools/list").then(|| says("404 Not Found", "Content-Type: application/json\r\n", said))
    })
    .await;
    assert!(error.to_string().contains("refused with error -32001; WORDS of the server"), "{error}");
}

#[tokio::test]
async fn names_of_tools_that_are_left_out_are_short_and_few() {
    let server = Raw::start(|asked| {
        let page: usize = asked.message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
        let many = (0..200).map(|n| format!(r#"{{"name":"x{page}-{n}"}},"#)).collect::<String>();
        let long = "A".repeat(LONG);
        let next = if page < 2 { format!(r#","nextCursor":"{}""#, page + 1) } else { String::new() };
        let tools = format!(
            r#"{{"name":"{page}-{long}"}},{many}"{long}",{{"name":"{page}{long}","inputSchema":{{}}}},{{"name":"{page}","inputSchema":{{}}}}"#
        );
        asked.is("tools/list").then(|| outcome(asked, &format!(r#""result":{{"tools":[{tools}]{next}}}"#)))
    })
    .await;
    let small = bench(http(&server.url()), Limits::default());
    let offered = small.up().await;
    assert_eq!(offered.items[mcp::Kind::Tool].iter().map(|tool| tool.name()).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert!(offered.left_out.len() <= 100 && offered.warnings.len() <= 20, "{:?}", offered.warnings);
    assert!(offered.warnings.iter().any(|warning| warning == "599 more tools are left out"), "{:?}", offered.warnings);
    let longest = offered.left_out.iter().map(|one| one.name.len() + one.reason.len()).max();
    assert!(longest.max(offered.warnings.iter().map(String::len).max()) < Some(SHORT));
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_tool_that_is_too_long_is_left_out_and_named_and_its_neighbours_are_offered() {
    let server = Raw::start(|asked| {
        let tool = |name, bytes| {
            let long = "d".repeat(bytes);
            format!(r#"{{"name":"{name}","description":"{long}","inputSchema":{{}}}}"#)
        };
        let tools = [tool("a", 10), tool("long", 8 << 20), tool("b", 200 << 10)].join(",");
        asked.is("tools/list").then(|| outcome(asked, &format!(r#""result":{{"tools":[{tools}]}}"#)))
    })
    .await;
    let small = bench(http(&server.url()), Limits::default());
    let offered = small.up().await;
    assert_eq!(offered.items[mcp::Kind::Tool].iter().map(|tool| tool.name()).collect::<Vec<_>>(), ["a", "b"]);
    let [left_out] = &*offered.left_out else { panic!("{:?}", offered.left_out) };
    assert_eq!(&*left_out.name, "long");
    assert!(left_out.reason.contains("more than the 262144 that one may have"), "{:?}", left_out.reason);
    assert_eq!(offered.warnings.len(), 1, "{:?}", offered.warnings);
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn of_what_a_server_is_and_wants_as_much_is_kept_as_clients_hear() {
    let server = Raw::start(|asked| {
        let long = "é".repeat(LONG);
        let result = format!(
            r#""result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"instructions":"{long}"}}"#
        );
        asked.is("initialize").then(|| outcome(asked, &result))
    })
    .await;
    let small = bench(http(&server.url()), Limits::default());
    assert_eq!(small.up().await.instructions.unwrap().len(), 16 << 10);
    small.endpoint.shut_down().await;
}

/// The names of media and codings are the server's, as are ids and methods.
#[tokio::test]
async fn no_word_of_a_server_is_in_the_error_that_its_client_gets() {
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for said in [
        says("200 OK", "Content-Type: text/WORDS\r\n", answer),
        says("200 OK", "Content-Type: application/json\r\nContent-Encoding: WORDS\r\n", answer),
        says("200 OK", "Content-Type: application/json\r\n", r#"{"jsonrpc":"2.0","id":"WORDS","result":{}}"#),
        says("200 OK", "Content-Type: application/json\r\n", r#"{"jsonrpc":"2.0","id":1,"method":"WORDS"}"#),
        says("500 Internal Server Error", "Content-Type: text/plain\r\n", "WORDS"),
        streams("text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"WORDS\",\"result\":{}}\n\n"),
    ] {
        let (_server, small) = connected(move |asked| asked.is("tools/call").then(|| said.clone())).await;
        let error = super::manners::failed(&small).await;
        assert!(!error.message.contains("WORDS") && !error.data.as_ref().unwrap().contains("WORDS"), "{error:?}");
        assert!(error.detail.as_ref().unwrap().text.contains("WORDS"), "{error:?}");
        small.endpoint.shut_down().await;
    }
}
