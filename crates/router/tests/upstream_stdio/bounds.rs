//! The memory and work that a child can cause in the gateway are bounded.

use std::pin::Pin;
use std::time::Duration;

use futures_util::poll;
use model::Limits;
use router::call::{Answer, CallError, Cause};
use router::endpoint::EndpointEvent;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::bench::{Bench, bench, bench_of, tool_call, upstreams};
use crate::calls::server;

/// By how much this process has grown at most since this was made, in bytes, whatever it has given back.
struct Growth {
    before: u64,
}

impl Growth {
    fn begin() -> Self {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Self { before: memory("VmRSS:") }
    }

    fn most(&self) -> u64 {
        memory("VmHWM:").saturating_sub(self.before)
    }
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

pub async fn who_asks_without_reading_is_ended() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let growth = Growth::begin();
    let begun = Instant::now();
    let error = small.call(&tool_call("1", "ask_on")).await.unwrap_err();
    let grown = growth.most();
    assert!(grown < 16 << 20, "{grown} bytes");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!((error.cause, error.sent), (Cause::Lost, true));
    assert!(error.message.contains("its process asks without reading its stdin ("), "{}", error.message);
    assert!(matches!(small.event().await, EndpointEvent::Lost { .. }));
    // A new process works as before.
    small.up().await;
    small.whole(&tool_call("2", "echo")).await;
    small.endpoint.shut_down().await;
}

pub async fn who_asks_faster_than_it_reads_is_heard_as_fast_as_it_reads() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let growth = Growth::begin();
    let answer = small.whole(&tool_call("1", "ask_and_read_slowly")).await;
    let grown = growth.most();
    assert!(answer.contains("heard enough"), "{answer}");
    assert!(grown < 10 << 20, "{grown} bytes");
    small.endpoint.shut_down().await;
}

pub async fn a_flood_of_one_server_is_no_matter_of_another() {
    for flood in ["change_on", "blank", "pad", "mutter"] {
        a_flood_is_no_matter_of_another(flood).await;
    }
}

async fn a_flood_is_no_matter_of_another(how: &str) {
    let (flood, calm) = (bench(server(0), Limits::default()), bench(server(0), Limits::default()));
    flood.up().await;
    calm.up().await;
    let growth = Growth::begin();
    // In the flood of list changes, the server's answer comes in the middle; the other floods begin right after the
    // answer.
    flood.whole(&tool_call("1", how)).await;
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        calm.whole(&tool_call("1", "echo")).await;
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[190] < Duration::from_millis(50), "{how}: {:?}", &took[190..]);
    if how == "change_on" {
        assert_eq!(flood.event().await, EndpointEvent::ListChanged);
    }
    let grown = growth.most();
    assert!(grown < 16 << 20, "{how}: {grown} bytes");
    flood.endpoint.shut_down().await;
    calm.endpoint.shut_down().await;
}

/// A call of `tool` with `argument`, on its way as far as it comes.
async fn begun<'a>(
    small: &'a Bench,
    message: &'a str,
) -> Pin<Box<dyn Future<Output = Result<Answer, CallError>> + 'a>> {
    let mut call: Pin<Box<dyn Future<Output = _>>> = Box::pin(small.call(message));
    assert!(poll!(&mut call).is_pending());
    pumped().await;
    call
}

/// The pump runs on this thread: after this many turns it has done what it can.
async fn pumped() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

pub async fn what_was_given_up_before_it_was_written_is_never_written() {
    let (small, home) = (bench(server(0), Limits::default()), tempfile::tempdir().unwrap());
    let path = home.path().join("go on");
    small.up().await;
    let call = |id: u32, tool: &str, arguments: serde_json::Value| {
        let params = serde_json::json!({"name": tool, "arguments": arguments});
        serde_json::json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let padded = |id, bytes| call(id, "echo", serde_json::json!({"pad": "x".repeat(bytes)}));
    let (until, held) = (call(1, "until", serde_json::json!({"path": path})), tool_call("2", "hold"));
    let (fills_the_pipe, fills_the_pump) = (padded(3, 300 << 10), padded(4, 2 << 20));
    let until = begun(&small, &until).await;
    let first = begun(&small, &fills_the_pipe).await;
    // Behind what the pipe did not take, with a call after it; then behind what the pump does not take.
    let given_up = begun(&small, &held).await;
    let second = begun(&small, &fills_the_pump).await;
    drop(given_up);
    pumped().await;
    drop(begun(&small, &held).await);
    std::fs::write(path, "").unwrap();
    for whole in [until, first, second] {
        whole.await.unwrap();
    }
    for tool in ["held", "cancelled"] {
        let heard = small.whole(&tool_call("5", tool)).await;
        assert!(heard.contains(r#""content":[]"#), "{tool}: {heard}");
    }
    small.endpoint.shut_down().await;
}

/// A call of the tool that begins a long answer.
fn begin(bytes: usize, answers: bool, ends: bool) -> String {
    let arguments = serde_json::json!({"bytes": bytes, "answers": answers, "ends": ends});
    let params = serde_json::json!({"name": "begin", "arguments": arguments});
    serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
}

pub async fn of_a_line_that_no_call_waits_for_little_is_kept() {
    let small = bench(server(0), Limits::default());
    small.up().await;
    let growth = Growth::begin();
    // One call that was answered before, and one that was given up.
    small.whole(&begin(48 << 20, true, true)).await;
    assert_eq!(small.event().await, EndpointEvent::ListChanged);
    drop(begun(&small, &begin(48 << 20, false, true)).await);
    assert_eq!(small.event().await, EndpointEvent::ListChanged);
    let grown = growth.most();
    assert!(grown < 16 << 20, "{grown} bytes");
    small.whole(&tool_call("2", "echo")).await;
    small.endpoint.shut_down().await;
}

/// Two servers whose answers share a room of 1 MiB.
async fn two(write: Duration) -> [Bench; 2] {
    let limits = Limits { buffered_bytes: 8 << 20, write, ..Limits::default() };
    let (upstreams, events) = upstreams(Handle::current());
    let two = [(); 2].map(|()| bench_of(server(0), limits.clone(), &upstreams, &events));
    for bench in &two {
        bench.up().await;
    }
    two
}

pub async fn a_line_without_an_end_makes_way_for_the_answers_of_others() {
    let [slow, good] = two(Duration::from_secs(30)).await;
    let message = begin(3 << 20, false, false);
    let slow_call = begun(&slow, &message).await;
    let good_call = async {
        // It has begun by then, which cannot be seen from outside.
        tokio::time::sleep(Duration::from_secs(1)).await;
        good.whole(&tool_call("2", "long")).await
    };
    let ended = async {
        let begun = Instant::now();
        let answer = good_call.await;
        assert!(answer.len() > 3 << 20 && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        slow.whole(&tool_call("3", "end")).await
    };
    let (error, _ended) = tokio::join!(slow_call, ended);
    let error = error.expect_err("it is lost");
    assert!(error.message.contains("sent a large answer too slowly while other"), "{error}");
    for bench in [slow, good] {
        bench.whole(&tool_call("4", "long")).await;
        bench.endpoint.shut_down().await;
    }
}

pub async fn an_answer_that_finds_no_room_in_time_is_lost_alone() {
    let [slow, other] = two(Duration::from_millis(500)).await;
    let message = begin(3 << 20, false, false);
    let slow_call = begun(&slow, &message).await;
    let lost = async {
        // It has begun by then, which cannot be seen from outside.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let error = other.call(&tool_call("2", "long")).await.expect_err("it is lost");
        assert!(error.message.contains("there was no room for more for 500 ms (limits.write)"), "{error}");
        other.whole(&tool_call("3", "echo")).await;
        slow.whole(&tool_call("4", "end")).await
    };
    let (answer, _ended) = tokio::join!(slow_call, lost);
    assert!(answer.is_ok(), "who was first has all of its answer");
    // The answer may not take half of all that is held for clients, although no other answer wants it.
    let (much, end) = (begin(6 << 20, false, false), tool_call("5", "end"));
    let (error, _ended) = tokio::join!(slow.call(&much), slow.whole(&end));
    let error = error.expect_err("it is lost");
    assert!(error.message.contains("more than half of the 8388608 bytes"), "{error}");
    for bench in [slow, other] {
        bench.endpoint.shut_down().await;
    }
}
