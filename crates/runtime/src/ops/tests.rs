//! The listener as a load balancer sees it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn ask(address: SocketAddr, request: &str) -> String {
    ask_as(address, request, "").await
}

async fn ask_as(address: SocketAddr, request: &str, headers: &str) -> String {
    let headers = format!("Host: 127.0.0.1:1\r\n{headers}");
    send(address, request, &headers).await
}

async fn ask_at(address: SocketAddr, host: &str, request: &str) -> String {
    send(address, request, &format!("Host: {host}\r\n")).await
}

async fn send(address: SocketAddr, request: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
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
    listener.serve(OpsNames::default(), readiness, metrics, &tasks);

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
    for (path, status) in [("/metrics", 403), ("/readyz", 403), ("/livez", 200)] {
        let by_name = ask_at(address, "evil.example", &format!("GET {path}")).await;
        assert!(by_name.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {by_name}");
    }
    assert!(ask(address, "POST /readyz").await.starts_with("HTTP/1.1 405"));

    // A client that never sends a request must not hold the process.
    let idle = TcpStream::connect(address).await.unwrap();
    assert!(tasks.join(Duration::from_secs(5)).await.is_clean());
    TcpStream::connect(address).await.unwrap_err();
    drop(idle);
}

/// Clients that hold connections: by silence, and by requests whose answers they do not read.
#[tokio::test]
async fn a_crowd_that_does_not_read_silences_no_probe() {
    for said in ["", "GET /livez HT", &"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000)] {
        let tasks = Tasks::new(Shutdown::new());
        let listener = OpsListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr();
        let metrics = crate::telemetry::init("ops-test", "0");
        listener.serve(OpsNames::default(), Readiness::new(tasks.shutdown().clone()), metrics, &tasks);
        let mut crowd = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            let mut one = TcpStream::connect(address).await.unwrap();
            // It may be gone already.
            let wrote = tokio::time::timeout(Duration::from_millis(20), one.write_all(said.as_bytes())).await;
            drop(wrote);
            crowd.push(one);
        }
        for _ in 0..3 {
            let asked = tokio::time::timeout(Duration::from_secs(5), ask(address, "GET /livez"));
            assert!(asked.await.expect("a probe is answered").starts_with("HTTP/1.1 200"));
        }
        assert!(tasks.join(Duration::from_secs(5)).await.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_for_one_request_and_has_an_end() {
    let tasks = Tasks::new(Shutdown::new());
    let listener = OpsListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr();
    let metrics = crate::telemetry::init("ops-test", "0");
    listener.serve(OpsNames::default(), Readiness::new(tasks.shutdown().clone()), metrics, &tasks);
    for said in ["", "GET /livez HTTP/1.1\r\nHost: ", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // A reset counts as an end, too.
        drop(socket.read_to_end(&mut heard).await);
        let answers = String::from_utf8_lossy(&heard).matches("HTTP/1.1 200").count();
        assert_eq!(answers, usize::from(said.ends_with("/livez")), "{said:?}");
    }
    assert!(tasks.join(Duration::from_secs(5)).await.is_clean());
}

#[test]
fn who_asks_by_a_name_asks_by_one_of_ours() {
    let names = OpsNames { names: vec!["metrics.example".into(), "one.example:99".into()] };
    let check = |hosts: &[&str], loopback| {
        let mut headers = http::HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        names.check(&headers, loopback)
    };
    for host in [
        "127.0.0.1:9451",
        "10.1.2.3",
        "[::1]:9451",
        "[fd00::7]",
        "LocalHost:1",
        "metrics.example",
        "Metrics.Example:9451",
        "one.example:99",
        "",
    ] {
        assert_eq!(check(&[host], true), Ok(()), "{host}");
        assert_eq!(check(&[host], false), Ok(()), "{host}");
    }
    for host in [
        "evil.example",
        "one.example:98",
        "localhost.evil.example:9451",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "evil.example.",
        "a b",
    ] {
        check(&[host], true).unwrap_err();
        check(&[host], false).unwrap_err();
    }
    assert_eq!(check(&[], true), Ok(()), "no browser");
    check(&["127.0.0.1", "evil.example"], true).unwrap_err();
    // The other services of a network know a service by such a name; no client outside does.
    assert_eq!(check(&["config-manager:9451"], false), Ok(()));
    check(&["config-manager:9451"], true).unwrap_err();
    let text = check(&["evil.example:9451"], true).unwrap_err().to_string();
    assert!(text.contains("--ops-allow-host evil.example"), "{text}");
}

/// Of the files for Prometheus that are shipped: those for containers, whose listeners are bound to every address, and
/// those for processes of one machine, which are asked at loopback.
#[test]
fn shipped_scrapes_are_let_in() {
    const SHIPPED: [(&str, bool); 3] = [
        (include_str!("../../../../deploy/compose/prometheus.yml"), false),
        (include_str!("../../../../deploy/observability/prometheus/prometheus.yml"), true),
        (include_str!("../../../../deploy/observability/prometheus/prometheus-up.yml"), true),
    ];
    for (text, loopback) in SHIPPED {
        let targets = text.lines().filter_map(|line| line.split_once("targets: [\"")?.1.split('"').next());
        let targets: Vec<&str> = targets.collect();
        assert!(!targets.is_empty());
        for target in targets {
            let headers = http::HeaderMap::from_iter([(header::HOST, target.parse().unwrap())]);
            assert_eq!(OpsNames::default().check(&headers, loopback), Ok(()), "{target}");
        }
    }
}
