//! What a child makes the gateway keep and do has a bound.

use std::time::Duration;

use model::Limits;
use router::call::Cause;
use router::endpoint::EndpointEvent;
use tokio::time::Instant;

use crate::bench::{bench, tool_call};
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
