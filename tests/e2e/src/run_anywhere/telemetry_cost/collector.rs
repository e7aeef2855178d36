//! A collector for OTLP over HTTP that takes everything and understands only whether a trace was in it, and how often
//! the tool is named.

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

/// The tool that is called.
const TOOL: &[u8] = b"cost__echo";

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

    /// Returns when the trace of that id has come, and forgets everything before. Says how often the tool was named,
    /// which is the same number of times for each call.
    pub(super) fn wait_for(&self, trace: &str) -> Result<usize, Fault> {
        let mut named = 0;
        let id = u128::from_str_radix(trace, 16)?.to_be_bytes();
        wait::until_true("a trace at the collector", PATIENCE, || {
            let mut bodies = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            let mut came = false;
            for body in bodies.drain(..) {
                came |= body.windows(id.len()).any(|window| window == id);
                named += body.windows(TOOL.len()).filter(|window| *window == TOOL).count();
            }
            came
        })?;
        Ok(named)
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
