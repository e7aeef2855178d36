//! Answers that are begun and never ended take nothing from the callers of other servers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::Limits;
use router::call::{Answer, CallError};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

use super::bench::{Bench, PATIENCE, bench_of, tool_call, upstreams};
use super::http;
use super::raw::{Asked, Raw, Step, says, streams};

/// A server that begins events of so many bytes and then adds a byte now and then, and one that answers with as many.
/// What a router's data cores do is done here, beside the control thread.
struct Two {
    control: Option<Runtime>,
    drips: Bench,
    answers: Bench,
    _servers: [Raw; 2],
}

async fn two(bytes: usize, buffered_bytes: u64) -> Two {
    let begun = format!("data: {}", "x".repeat(bytes));
    let drip = [streams("text/event-stream", &begun), vec![Step::Drip]].concat();
    let long = "x".repeat(bytes);
    let drips = Raw::start(move |asked: &Asked| asked.is("tools/call").then(|| drip.clone())).await;
    let answers = Raw::start(move |asked: &Asked| {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"long":"{long}"}}}}"#, asked.message["id"]);
        let note = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"long":"{long}"}}}}"#);
        match asked.message["params"]["name"].as_str()? {
            "notes" => Some([streams("text/event-stream", &format!("data: {note}\n\n")), vec![Step::Hold]].concat()),
            // Only the end of the body shows its length.
            "unannounced" => Some([streams("application/json", &answer), vec![Step::Close]].concat()),
            _ => Some(says("200 OK", "Content-Type: application/json\r\n", &answer)),
        }
    })
    .await;
    let control = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let limits = Limits { buffered_bytes, write: Duration::from_secs(1), ..Limits::default() };
    let (upstreams, events) = upstreams(control.handle().clone());
    let bench = |server: &Raw| bench_of(http(&server.url()), limits.clone(), &upstreams, &events);
    let (one, other) = (bench(&drips), bench(&answers));
    for endpoint in [&one, &other].map(|bench| Arc::clone(&bench.endpoint)) {
        control.spawn(async move { endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap() }).await.unwrap();
    }
    Two { control: Some(control), drips: one, answers: other, _servers: [drips, answers] }
}

impl Drop for Two {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.shutdown_background();
        }
    }
}

impl Two {
    /// How a call of the server that never ends its answer ends.
    async fn dripped(&self) -> CallError {
        let Answer::Events(mut events) = self.drips.call(&tool_call("1", "do")).await.unwrap() else {
            panic!("a stream")
        };
        timeout(PATIENCE, events.next()).await.expect("it is given up").expect("there is no answer").unwrap_err()
    }
}

/// Drives `calls` until `good` is done; the result of that, and which of the others have ended by then.
async fn beside<T>(
    mut calls: FuturesUnordered<impl Future<Output = CallError>>,
    good: impl Future<Output = T>,
) -> (T, Vec<CallError>) {
    let (mut good, mut ended) = (pin!(good), Vec::new());
    loop {
        tokio::select! {
            biased;
            done = &mut good => return (done, ended),
            Some(error) = calls.next() => ended.push(error),
        }
    }
}

#[tokio::test]
async fn what_a_server_begins_and_never_ends_takes_no_answer_from_another() {
    let two = two(200 << 10, 2 << 20).await;
    let mut calls: FuturesUnordered<_> = (0..20).map(|_| two.dripped()).collect();
    // An eighth of the whole budget has room for one; the others are given up.
    for _ in 0..19 {
        let error = calls.next().await.expect("it is given up");
        assert!(error.message.contains("one server has begun"), "{error}");
    }
    let good = async {
        for _ in 0..3 {
            two.answers.whole(&tool_call("2", "do")).await;
        }
    };
    beside(calls, good).await;
}

#[tokio::test]
async fn a_large_answer_that_only_drips_gives_way_and_servers_take_turns() {
    let two = two(3 << 19, 16 << 20).await;
    let begun = Instant::now();
    let calls = (0..2).map(|_| two.dripped()).collect();
    let good = async {
        // One answer has the room by then, and the other one waits for it. Neither can be seen from outside.
        tokio::time::sleep(Duration::from_millis(500)).await;
        two.answers.whole(&tool_call("2", "do")).await
    };
    let (_answer, ended) = beside(calls, good).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let [given_up] = &*ended else { panic!("the others wait for their turn: {ended:?}") };
    assert!(given_up.message.contains("too slowly"), "{given_up}");
}

#[tokio::test]
async fn what_a_server_has_said_and_a_client_does_not_take_is_not_half_read() {
    for (bytes, buffered_bytes) in [(200 << 10, 2 << 20), (3 << 19, 16 << 20)] {
        let two = two(bytes, buffered_bytes).await;
        let mut untaken = Vec::new();
        for _ in 0..4 {
            let call = two.answers.call(&tool_call("1", "notes")).await.unwrap();
            let Answer::Events(mut events) = call else { panic!("a stream") };
            timeout(PATIENCE, events.next()).await.expect("a note").expect("it goes on").unwrap();
            untaken.push(events);
        }
        timeout(PATIENCE / 4, two.answers.whole(&tool_call("2", "unannounced")))
            .await
            .expect("no other answer is in its way");
        drop(untaken);
    }
}

#[tokio::test]
async fn a_large_event_keeps_its_room_until_it_was_passed_on() {
    let two = two(3 << 19, 16 << 20).await;
    let call = two.answers.call(&tool_call("1", "notes")).await.unwrap();
    let Answer::Events(mut events) = call else { panic!("a stream") };
    let note = timeout(PATIENCE, events.next()).await.expect("a note").expect("it goes on").unwrap();
    let other = tool_call("2", "unannounced");
    let mut other = pin!(two.answers.whole(&other));
    assert!(timeout(Duration::from_millis(500), &mut other).await.is_err(), "it waits for room");
    drop(note);
    timeout(PATIENCE / 4, other).await.expect("there is room now");
}

#[tokio::test]
async fn an_answer_of_unknown_length_takes_no_room_that_it_does_not_need() {
    // The room is smaller than what a server may answer.
    let two = two(3 << 19, 256 << 20).await;
    let calls = (0..3).map(|_| two.dripped()).collect();
    let good = async {
        // The answers have begun by then, which cannot be seen from outside.
        tokio::time::sleep(Duration::from_millis(500)).await;
        timeout(Duration::from_secs(3), two.answers.whole(&tool_call("2", "do"))).await
    };
    let (answer, ended) = beside(calls, good).await;
    assert!(answer.is_ok() && ended.is_empty(), "it waits for none of them: {ended:?}");
}
