//! Asks a process of ours for its health over its ops listener: for containers and scripts that have no other client.

use std::{
    error::Error,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::escape::{self, say};
use crate::{exit, fault, readiness::Report};

/// A process that does not answer within this time is unhealthy.
const LIMIT: Duration = Duration::from_secs(2);
/// A report of hundreds of gates is shorter.
const BODY_MAX: usize = 1 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the process should be given work: `/readyz`.
    Ready,
    /// Whether the process should be left running: `/livez`.
    Live,
}

/// A question to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The address of its ops listener; an unspecified address is asked over loopback.
    pub ops: SocketAddr,
    pub question: Question,
}

impl Healthcheck {
    /// Whether the answer is good. None in time is not.
    pub async fn is_well(self) -> bool {
        self.ask().await.is_ok_and(|answer| answer.well)
    }

    /// Prints the answer on stdout and returns 0, or prints the reason on stderr and returns 1.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let asked = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Box::from);
        match asked.and_then(|runtime| runtime.block_on(self.ask())) {
            Ok(answer) if answer.well => {
                // A closed stdout does not change the result.
                drop(writeln!(io::stdout(), "{}", escape::line(&answer.text)));
                exit::DONE.into()
            }
            Ok(answer) => {
                say(&format!("{}\n", escape::line(&answer.text)));
                exit::REFUSED.into()
            }
            Err(error) => {
                say(&format!("no answer from {}: {}\n", reachable(self.ops), fault::chain(error.as_ref())));
                exit::REFUSED.into()
            }
        }
    }

    async fn ask(self) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        timeout(LIMIT, self.exchange()).await.map_err(|_| format!("it took longer than {LIMIT:?}"))?
    }

    async fn exchange(self) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let address = reachable(self.ops);
        let socket = TcpStream::connect(address).await?;
        let (mut client, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let path = match self.question {
            Question::Ready => "/readyz",
            Question::Live => "/livez",
        };
        let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = client.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await?.to_bytes();
            Ok(Answer::new(status, &body))
        };
        tokio::select! {
            answer = exchange => answer,
            // When the connection ends after the answer, the answer is already here.
            Err(error) = connection => Err(error.into()),
        }
    }
}

/// What the process said.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    well: bool,
    text: String,
}

impl Answer {
    fn new(status: StatusCode, body: &[u8]) -> Self {
        let well = status == StatusCode::OK;
        let text = serde_json::from_slice(body)
            .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |report: Report| report.to_string());
        Self { well, text: if text.is_empty() { status.to_string() } else { text } }
    }
}

/// A process that listens on every address is asked on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests;
