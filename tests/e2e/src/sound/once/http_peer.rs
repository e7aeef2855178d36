//! The HTTP server that answers in every way, as JSON or as events, and counts what it executes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Fault, Server,
    stub::{self, Request},
};

use super::{
    Transport,
    ways::{Cut, GOOD, Said, Way},
};

pub(super) struct HttpPeer {
    address: SocketAddr,
    book: Arc<Book>,
}

struct Book {
    transport: Transport,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    executed: BTreeMap<String, usize>,
    sessions: BTreeSet<String>,
    /// Sessions that were ever made.
    made: usize,
    /// Calls for which their session was forgotten already.
    forgotten: BTreeSet<String>,
}

/// What becomes of a connection.
#[derive(PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

impl HttpPeer {
    pub(super) fn start(transport: Transport) -> Result<Self, Fault> {
        let book = Arc::new(Book { transport, known: Mutex::default() });
        let kept = Arc::clone(&book);
        Ok(Self { address: stub::listen(move |stream| kept.serve(stream))?, book })
    }

    pub(super) fn entry(&self, id: &str) -> Server {
        Server::http(id, &format!("http://{}/mcp", self.address))
    }

    pub(super) fn executed(&self, key: &str) -> usize {
        self.book.known().executed.get(key).copied().unwrap_or(0)
    }
}

impl Book {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> Result<(), Fault> {
        let mut reader = BufReader::new(stream);
        while let Some(mut request) = Request::read_head(&mut reader)? {
            // The call itself is looked at without being taken: it fits into the buffer.
            if request.length() > 0 && reader.buffer().is_empty() {
                reader.fill_buf()?;
            }
            let peeked = String::from_utf8_lossy(reader.buffer()).into_owned();
            if let Some(status) = self.early(&peeked) {
                return respond(stream, status, "", b"hunter2");
            }
            request.read_body(&mut reader)?;
            if self.answer(stream, &request)? == Then::Close {
                break;
            }
        }
        Ok(())
    }

    fn early(&self, peeked: &str) -> Option<&'static str> {
        let ways = self.transport.ways();
        let way = ways.iter().find(|way| peeked.contains(&format!(r#""way":"{}""#, way.name)))?;
        if let Said::Early(status) = way.said { Some(status) } else { None }
    }

    fn answer(&self, stream: &TcpStream, request: &Request) -> Result<Then, Fault> {
        let (method, message) = (request.method(), &request.body);
        if method == "initialize" {
            let session = {
                let mut known = self.known();
                known.made += 1;
                let session = format!("s{}", known.made);
                known.sessions.insert(session.clone());
                session
            };
            return json_result(stream, message, &format!("Mcp-Session-Id: {session}\r\n"), &stub::hello());
        }
        let session = request.header("mcp-session-id").unwrap_or_default().to_owned();
        if !self.known().sessions.contains(&session) {
            respond(stream, "404 Not Found", "", b"no such session")?;
            return Ok(Then::Keep);
        }
        match method {
            "tools/list" => json_result(stream, message, "", &json!({ "tools": super::stdio_peer::tools() })),
            "tools/call" => self.call(stream, &session, message),
            "ping" => json_result(stream, message, "", &json!({})),
            _ => {
                let status = if request.verb == "GET" { "405 Method Not Allowed" } else { "202 Accepted" };
                respond(stream, status, "", b"")?;
                Ok(Then::Keep)
            }
        }
    }

    fn call(&self, stream: &TcpStream, session: &str, message: &Value) -> Result<Then, Fault> {
        let arguments = &message["params"]["arguments"];
        let (name, key) =
            (arguments["way"].as_str().unwrap_or_default(), arguments["key"].as_str().unwrap_or_default());
        let Some(way) = self.transport.ways().into_iter().find(|way| way.name == name) else { return Ok(Then::Close) };
        let forgets = {
            let mut known = self.known();
            let forgotten = if let Said::Forgotten(status) = way.said { Some(status) } else { None };
            let forgets = forgotten.filter(|_| known.forgotten.insert(key.to_owned()));
            if forgets.is_some() {
                known.sessions.remove(session);
            } else {
                *known.executed.entry(key.to_owned()).or_default() += 1;
            }
            forgets
        };
        match forgets {
            Some(status) => {
                respond(stream, status, "", b"no such session")?;
                Ok(Then::Keep)
            }
            None => self.say(stream, way, &message["id"].to_string()),
        }
    }

    /// Where it sleeps, that is the way of answering which is tried.
    fn say(&self, mut stream: &TcpStream, way: Way, id: &str) -> Result<Then, Fault> {
        let good = GOOD.replace("$ID", id);
        match way.said {
            Said::Messages(messages) => {
                let messages: Vec<String> = messages.iter().map(|message| message.replace("$ID", id)).collect();
                let body = self.body(&messages);
                self.whole(stream, &body)
            }
            Said::Halves(pause) => {
                let whole = self.response(&self.body(&[good]));
                let (first, second) = whole.split_at(whole.len() - 20);
                stream.write_all(first)?;
                thread::sleep(Duration::from_millis(pause));
                stream.write_all(second)?;
                Ok(self.after())
            }
            Said::Alive(time) => {
                let sign: &[u8] = if self.transport == Transport::Events { b": still here\n\n" } else { b" " };
                let signs = time / 100;
                let padding = sign.len() * usize::try_from(signs).unwrap_or(0);
                let body = self.body(&[good]);
                stream.write_all(&self.head(body.len() + padding))?;
                for _ in 0..signs {
                    stream.write_all(sign)?;
                    thread::sleep(Duration::from_millis(100));
                }
                stream.write_all(&body)?;
                Ok(self.after())
            }
            Said::Late(pause) => {
                thread::sleep(Duration::from_millis(pause));
                self.whole(stream, &self.body(&[good]))
            }
            Said::Never => {
                // Until the other side is gone.
                drop(stream.read(&mut [0; 1]));
                Ok(Then::Close)
            }
            Said::Status(status, headers, body) => {
                respond(stream, status, headers, body.replace("$ID", id).as_bytes())?;
                Ok(Then::Keep)
            }
            Said::Cut(at) => self.cut(stream, at, &self.response(&self.body(&[good]))),
            // The session is another one by now.
            Said::Forgotten(_) => self.whole(stream, &self.body(&[good])),
            Said::Early(_) | Said::Shell(_) => Ok(Then::Close),
        }
    }

    fn body(&self, messages: &[String]) -> Vec<u8> {
        let all: String = match self.transport {
            Transport::Events => messages.iter().map(|message| format!("data: {message}\n\n")).collect(),
            Transport::Json | Transport::Stdio => messages.concat(),
        };
        all.into_bytes()
    }

    /// A body has a length, a stream ends with its connection.
    fn head(&self, length: usize) -> Vec<u8> {
        match self.transport {
            Transport::Events => b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec(),
            Transport::Json | Transport::Stdio => {
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
                    .into_bytes()
            }
        }
    }

    fn response(&self, body: &[u8]) -> Vec<u8> {
        [&self.head(body.len()), body].concat()
    }

    fn whole(&self, mut stream: &TcpStream, body: &[u8]) -> Result<Then, Fault> {
        stream.write_all(&self.response(body))?;
        Ok(self.after())
    }

    /// A stream ends with its connection. Where nothing says so, a connection that closes could lose the next call.
    fn after(&self) -> Then {
        if self.transport == Transport::Events { Then::Close } else { Then::Keep }
    }

    fn cut(&self, mut stream: &TcpStream, at: Cut, whole: &[u8]) -> Result<Then, Fault> {
        let head = whole.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0) + 4;
        // The blank line that ends an event is two bytes; without either of them it is none.
        let last = if self.transport == Transport::Events { 2 } else { 1 };
        let length = match at {
            Cut::Nothing | Cut::Reset => 0,
            Cut::StatusLine => 10,
            Cut::Header => 25,
            Cut::EndOfHead => head - 1,
            Cut::Head => head,
            Cut::Message => usize::midpoint(head, whole.len()),
            Cut::LastByte => whole.len() - last,
        };
        stream.write_all(&whole[..length])?;
        if at == Cut::Reset {
            // Without a farewell: what is still to be said is thrown away.
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(Then::Close)
    }
}

fn json_result(stream: &TcpStream, message: &Value, headers: &str, result: &Value) -> Result<Then, Fault> {
    let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
    respond(stream, "200 OK", &format!("Content-Type: application/json\r\n{headers}"), body.as_bytes())?;
    Ok(Then::Keep)
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> Result<(), Fault> {
    Ok(stream.write_all(&stub::response(status, headers, body))?)
}
