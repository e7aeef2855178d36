//! An MCP server that writes bytes as a script says, whatever HTTP has to say about them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request, as far as it was read when the script was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: String,
    /// Null while the body has not been read, and of a request without one.
    pub message: Value,
    /// Whether the body has been read.
    pub whole: bool,
    /// The server's connection that the request came over.
    pub connection: usize,
}

impl Asked {
    pub fn is(&self, method: &str) -> bool {
        self.whole && self.message["method"] == method
    }

    pub fn is_get(&self) -> bool {
        self.head.starts_with("GET ")
    }

    /// What a well-behaved server answers.
    pub fn good(&self) -> Vec<Step> {
        let result = match self.message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "raw", "version": "1" },
            }),
            Some("tools/list") => json!({ "tools": [{ "name": "do", "inputSchema": { "type": "object" } }] }),
            Some("ping") => json!({}),
            Some("tools/call") => json!({ "content": [] }),
            _ if self.head.starts_with("GET ") => return says("405 Method Not Allowed", "", ""),
            _ => return says("202 Accepted", "", ""),
        };
        let body = json!({ "jsonrpc": "2.0", "id": self.message["id"], "result": result });
        says("200 OK", "Content-Type: application/json\r\nMcp-Session-Id: s1\r\n", &body.to_string())
    }
}

/// A response with a length.
pub fn says(status: &str, headers: &str, body: &str) -> Vec<Step> {
    vec![Step::Write(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))]
}

/// A response that ends with its connection.
pub fn streams(media: &str, body: &str) -> Vec<Step> {
    vec![Step::Write(format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n\r\n{body}"))]
}

#[derive(Clone, Debug)]
pub enum Step {
    Write(String),
    Pause(Duration),
    /// A byte now and then, for ever.
    Drip,
    /// Nothing more, and the connection stays.
    Hold,
    Close,
}

type Script = dyn Fn(&Asked) -> Option<Vec<Step>> + Send + Sync;

/// Its script is asked twice about a request with a body: before that is read, and after.
pub struct Raw {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Raw {
    pub async fn start(script: impl Fn(&Asked) -> Option<Vec<Step>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script) = (Arc::default(), Arc::new(script));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&seen), script));
        Self { address, seen, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Requests that were read whole.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, holds: impl Fn(&Asked) -> bool) -> usize {
        self.seen().iter().filter(|asked| holds(asked)).count()
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Asked>>>, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
        connections.spawn(async move {
            // Connections are broken on purpose here.
            let _broken = serve(stream, &seen, &*script, connection).await;
        });
    }
}

async fn serve(stream: TcpStream, seen: &Mutex<Vec<Asked>>, script: &Script, connection: usize) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if input.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut asked = Asked { head, message: Value::Null, whole: false, connection };
        let early = if length > 0 { script(&asked) } else { None };
        let answered = early.is_some();
        for step in early.unwrap_or_default() {
            take(step, &mut output).await?;
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).await?;
        asked.message = serde_json::from_slice(&body).unwrap_or_default();
        asked.whole = true;
        seen.lock().unwrap().push(asked.clone());
        let steps = script(&asked).unwrap_or_else(|| if answered { Vec::new() } else { asked.good() });
        for step in steps {
            take(step, &mut output).await?;
        }
    }
}

async fn take(step: Step, output: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    match step {
        Step::Write(text) => output.write_all(text.as_bytes()).await,
        Step::Pause(duration) => {
            tokio::time::sleep(duration).await;
            Ok(())
        }
        Step::Drip => loop {
            output.write_all(b"x").await?;
            // No other task waits for this: it is the pace of the server.
            tokio::time::sleep(Duration::from_millis(100)).await;
        },
        Step::Hold => std::future::pending().await,
        Step::Close => Err(std::io::ErrorKind::ConnectionReset.into()),
    }
}
