//! A collector for OTLP over HTTP that takes everything and understands only one thing: whether a trace was in it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use testkit::{Fault, wait};

/// A batch waits at most as long as the gateway is told, but under callgrind everything is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens until the test program ends.
pub(super) struct Collector {
    address: SocketAddr,
    received: Received,
}

/// Bodies that were not examined yet.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

impl Collector {
    pub(super) fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let collector = Self { address: listener.local_addr()?, received: Received::default() };
        let received = Arc::clone(&collector.received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                // A client that hangs up has sent everything.
                thread::spawn(move || drop(serve(stream, &received)));
            }
        });
        Ok(collector)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns when the trace of that id has come, and forgets everything before.
    pub(super) fn wait_for(&self, trace: &str) -> Result<(), Fault> {
        let id = u128::from_str_radix(trace, 16)?.to_be_bytes();
        wait::until_true("a trace at the collector", PATIENCE, || {
            let mut bodies = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            bodies.drain(..).any(|body| body.windows(id.len()).any(|window| window == id))
        })
    }
}

fn serve(stream: TcpStream, received: &Received) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        received.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")?;
    }
}
