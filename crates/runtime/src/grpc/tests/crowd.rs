//! Connections that only occupy places.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{listen::CONNECTIONS_MAX, socket::HEALTH_CALLS, *};

/// The preface of HTTP/2 and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PATIENCE: Duration = Duration::from_secs(10);

async fn crowd(address: SocketAddr, says: &[u8], count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut one = TcpStream::connect(address).await.unwrap();
        one.write_all(says).await.unwrap();
        crowd.push(one);
    }
    crowd
}

#[tokio::test]
async fn a_crowd_locks_nobody_out_and_who_was_let_in_stays() {
    crate::descriptors::raise();
    let base = tempfile::tempdir().unwrap();
    let auth = Auth::new(Some(token(base.path())));
    let tcp = Listener::tcp(LOOPBACK, &auth).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let target = || Target::Url(format!("http://{address}"), presented(token(base.path())));
    let tasks = start(&auth, vec![tcp]);
    let early = connect_lazy(&target()).unwrap();
    assert_eq!(who(&early, CALL).await.unwrap(), "token");
    // Some send nothing; some speak HTTP/2 and present no credential.
    for says in [&b""[..], &HELLO[..7], HELLO] {
        let standing = crowd(address, says, CONNECTIONS_MAX + 8).await;
        let late = connect_lazy(&target()).unwrap();
        let asked = tokio::time::timeout(PATIENCE, who(&late, CALL));
        assert_eq!(asked.await.expect("a caller with the token is heard").unwrap(), "token", "{} bytes", says.len());
        assert_eq!(who(&early, CALL).await.unwrap(), "token");
        drop(standing);
    }
    assert!(tasks.join(GRACE).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_begin_in_time_is_let_go() {
    let base = tempfile::tempdir().unwrap();
    let auth = Auth::new(Some(token(base.path())));
    let (tcp, path) = (Listener::tcp(LOOPBACK, &auth).await.unwrap(), base.path().join("admin.sock"));
    let address = tcp.local_addr().unwrap();
    let tasks = start(&auth, vec![tcp, Listener::unix(&path).await.unwrap()]);
    for says in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"GET / HTTP/1.1\r\n"] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let mut unix = UnixStream::connect(&path).await.unwrap();
        tcp.write_all(says).await.unwrap();
        unix.write_all(says).await.unwrap();
        let (mut from_tcp, mut from_unix) = (Vec::new(), Vec::new());
        // A reset counts as an end, too.
        let (_, _) = tokio::join!(tcp.read_to_end(&mut from_tcp), unix.read_to_end(&mut from_unix));
    }
    assert!(tasks.join(GRACE).await.is_clean());
}

/// Watching health costs no credential, and could go on for ever.
#[tokio::test]
async fn who_has_proven_nothing_watches_only_so_much() {
    let base = tempfile::tempdir().unwrap();
    let token = token(base.path());
    let auth = Auth::new(Some(token.clone()));
    let tcp = Listener::tcp(LOOPBACK, &auth).await.unwrap();
    let target = |presented| Target::Url(format!("http://{}", tcp.local_addr().unwrap()), presented);
    let (stranger, other) = (connect_lazy(&target(None)).unwrap(), connect_lazy(&target(None)).unwrap());
    let known = connect_lazy(&target(presented(token))).unwrap();
    let tasks = start(&auth, vec![tcp]);
    let watch = async |client: &Client| HealthClient::new(client.clone()).watch(HealthCheckRequest::default()).await;
    let mut watching = Vec::new();
    for _ in 0..HEALTH_CALLS {
        watching.push(watch(&stranger).await.unwrap());
    }
    let refused = watch(&stranger).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    watch(&other).await.unwrap();
    drop(watching.pop());
    // The server notices the end of one a moment later.
    let again = async {
        while watch(&stranger).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(who(&known, CALL).await.unwrap(), "token");
    for _ in 0..2 * HEALTH_CALLS {
        watching.push(watch(&known).await.unwrap());
    }
    assert!(tasks.join(GRACE).await.is_clean());
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection() {
    let base = tempfile::tempdir().unwrap();
    let auth = Auth::new(Some(token(base.path())));
    let tcp = Listener::tcp(LOOPBACK, &auth).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let tasks = start(&auth, vec![tcp]);
    let mut flood = HELLO.to_vec();
    for stream in (1..20_001_u32).step_by(2) {
        // POST http / by index, and its reset before the server processes it.
        flood.extend_from_slice(b"\0\0\x03\x01\x04");
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&[0x83, 0x86, 0x84]);
        flood.extend_from_slice(b"\0\0\x04\x03\0");
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&8_u32.to_be_bytes());
    }
    let mut peer = TcpStream::connect(address).await.unwrap();
    let (mut reads, mut writes) = peer.split();
    let mut heard = Vec::new();
    let flooding = async { drop(writes.write_all(&flood).await) };
    let ended = tokio::time::timeout(PATIENCE, async { tokio::join!(flooding, reads.read_to_end(&mut heard)) });
    assert!(ended.await.is_ok(), "it was served on");
    assert!(tasks.join(GRACE).await.is_clean());
}
