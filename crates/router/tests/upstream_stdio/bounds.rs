//! What a child makes the gateway keep and do has a bound.

use std::pin::Pin;
use std::time::Duration;

use futures_util::poll;
use model::Limits;
use router::call::{Answer, CallError, Cause};
use router::endpoint::EndpointEvent;
use tokio::time::Instant;

use crate::bench::{Bench, bench, tool_call};
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
    // A new process is as good as ever.
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
    let (flood, calm) = (bench(server(0), Limits::default()), bench(server(0), Limits::default()));
    flood.up().await;
    calm.up().await;
    let growth = Growth::begin();
    // The server's own answer comes through its own flood.
    flood.whole(&tool_call("1", "change_on")).await;
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        calm.whole(&tool_call("1", "echo")).await;
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[190] < Duration::from_millis(50), "{:?}", &took[190..]);
    assert_eq!(flood.event().await, EndpointEvent::ListChanged);
    let grown = growth.most();
    assert!(grown < 16 << 20, "{grown} bytes");
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

/// The pump runs on this thread: it has done what it can when it was its turn so often.
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
