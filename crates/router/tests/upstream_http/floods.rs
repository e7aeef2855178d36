//! Servers that send more than was requested: they are read at a limited rate, and other tasks run first.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use router::call::Answer;
use router::endpoint::EndpointEvent;
use tokio::time::{Instant, sleep};

use super::bench::tool_call;
use super::manners::connected;
use super::raw::{Asked, Step, streams};

/// What 20,000 messages cost, less what may be owed and a little for the clock.
const LEAST: Duration = Duration::from_millis(1_700);

fn flood(event: &str, last: &str) -> Vec<Step> {
    [streams("text/event-stream", &(event.repeat(20_000) + last)), vec![Step::Hold]].concat()
}

fn answer(asked: &Asked) -> String {
    format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{}}}}\n\n", asked.message["id"])
}

#[tokio::test]
async fn a_flood_before_an_answer_is_read_at_its_rate_and_in_turns() {
    for event in [
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n",
        "id: 7\n\n",
    ] {
        let (_server, small) =
            connected(move |asked| asked.is("tools/call").then(|| flood(event, &answer(asked)))).await;
        let begun = Instant::now();
        let Answer::Events(mut events) = small.call(&tool_call("1", "do")).await.unwrap() else { panic!("a stream") };
        let (mut in_a_row, mut longest) = (0, 0);
        loop {
            match poll!(pin!(events.next())) {
                Poll::Ready(Some(message)) => {
                    message.unwrap();
                    in_a_row += 1;
                    longest = longest.max(in_a_row);
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    in_a_row = 0;
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        assert!(begun.elapsed() >= LEAST, "{event}: {:?}", begun.elapsed());
        assert!(longest <= 40, "{event}: {longest} without a turn for others");
        small.endpoint.shut_down().await;
    }
}

#[tokio::test]
async fn comments_cost_something_too() {
    let (_server, small) = connected(|asked| {
        let comments = ":\n".repeat(4 << 20);
        asked
            .is("tools/call")
            .then(|| [streams("text/event-stream", &(comments + &answer(asked))), vec![Step::Hold]].concat())
    })
    .await;
    let begun = Instant::now();
    let Answer::Events(mut events) = small.call(&tool_call("1", "do")).await.unwrap() else { panic!("a stream") };
    assert!(events.next().await.unwrap().is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "{:?}", begun.elapsed());
    small.endpoint.shut_down().await;
}

#[tokio::test]
async fn a_flood_of_announcements_is_read_at_its_rate() {
    let (server, small) = connected(|asked| {
        let changed = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
        let last = "data: {\"jsonrpc\":\"2.0\",\"id\":\"last\",\"method\":\"ping\"}\n\n";
        asked.is_get().then(|| flood(changed, last))
    })
    .await;
    let begun = Instant::now();
    assert_eq!(small.event().await, EndpointEvent::ListChanged);
    assert!(begun.elapsed() < LEAST, "the first is heard at once: {:?}", begun.elapsed());
    while server.count(|asked| asked.message["id"] == "last") == 0 {
        sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "the last is heard, too");
    }
    assert!(begun.elapsed() >= LEAST, "{:?}", begun.elapsed());
    small.endpoint.shut_down().await;
}

/// Some servers send the stream that all calls share to a client that requests the rest of one call's stream.
#[tokio::test]
async fn an_error_without_an_id_on_a_stream_that_was_resumed_is_for_nobody() {
    let (_server, small) = connected(|asked| {
        let boom = "data: {\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"boom\"}}\n\n";
        if asked.is_get() && asked.head.contains("last-event-id: ") {
            return Some([streams("text/event-stream", boom), vec![Step::Hold]].concat());
        }
        let begun = [streams("text/event-stream", "id: 1\nretry: 0\ndata:\n\n"), vec![Step::Close]].concat();
        asked.is("tools/call").then_some(begun)
    })
    .await;
    let Answer::Events(mut events) = small.call(&tool_call("1", "do")).await.unwrap() else { panic!("a stream") };
    let mut next = pin!(events.next());
    let told = loop {
        assert!(poll!(&mut next).is_pending(), "it may be about any call");
        if let Some(told) = small.endpoint.unmatched_since(model::Time::ZERO) {
            break told;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert!(told.starts_with("an error that names no request") && !told.contains("boom"), "{told}");
    small.endpoint.shut_down().await;
}
