//! A collector for OTLP over HTTP that takes everything and understands only one thing: whether a trace was in it.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use testkit::{
    Fault,
    stub::{self, Request},
    wait,
};

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
        let received = Received::default();
        let kept = Arc::clone(&received);
        Ok(Self { address: stub::listen(move |stream| serve(stream, &kept))?, received })
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

fn serve(mut stream: &TcpStream, received: &Received) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read_head(&mut reader)? {
        let mut body = vec![0; request.length()];
        reader.read_exact(&mut body)?;
        received.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        stream.write_all(&stub::response("200 OK", "Content-Type: application/x-protobuf\r\n", ""))?;
    }
    Ok(())
}
