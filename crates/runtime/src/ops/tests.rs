//! The listener as a load balancer sees it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn ask(address: SocketAddr, request: &str) -> String {
    ask_as(address, request, "").await
}

async fn ask_as(address: SocketAddr, request: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn tells_readiness_until_the_process_closes() {
    let shutdown = Shutdown::new();
    let (tasks, readiness) = (Tasks::new(shutdown.clone()), Readiness::new(shutdown.clone()));
    let gate = readiness.gate("backends");
    let listener = OpsListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr();
    let metrics = crate::telemetry::init("ops-test", "0");
    listener.serve(readiness, metrics, &tasks);

    let closed = ask(address, "GET /readyz").await;
    assert!(closed.starts_with("HTTP/1.1 503") && closed.contains(r#""reason":"starting""#), "{closed}");
    gate.open();
    assert!(ask(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
    shutdown.trigger();
    let stopping = ask(address, "GET /readyz").await;
    assert!(stopping.starts_with("HTTP/1.1 503") && stopping.contains(r#""phase":"unready""#), "{stopping}");

    assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
    let metrics = ask(address, "GET /metrics").await;
    assert!(metrics.contains(r#"only1mcp_build_info{service="ops-test",version="0"} 1"#), "{metrics}");
    let open =
        ask_as(address, "GET /metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    let open = open.await;
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
    assert!(ask(address, "POST /readyz").await.starts_with("HTTP/1.1 405"));

    // A client that never sends a request must not hold the process.
    let idle = TcpStream::connect(address).await.unwrap();
    assert!(tasks.join(Duration::from_secs(5)).await.is_clean());
    TcpStream::connect(address).await.unwrap_err();
    drop(idle);
}
