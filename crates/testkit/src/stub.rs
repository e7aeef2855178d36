//! Servers that record their requests, and give answers that no decent server would.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::{config::Server, fault::Fault, raw::LIMIT, scratch::Scratch, wait};
use serde_json::{Value, json};

/// A request over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub verb: String,
    pub path: String,
    pub head: String,
    /// Null without a body.
    pub body: Value,
}

impl Request {
    /// The next one; none at the end of the connection.
    pub fn read(reader: &mut impl BufRead) -> Result<Option<Self>, Fault> {
        let Some(mut request) = Self::read_head(reader)? else { return Ok(None) };
        request.read_body(reader)?;
        Ok(Some(request))
    }

    /// The next one, whose body is still to be read.
    pub fn read_head(reader: &mut impl BufRead) -> Result<Option<Self>, Fault> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut words = head.split(' ').map(str::to_owned);
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(Some(Self { verb, path, head, body: Value::Null }))
    }

    pub fn read_body(&mut self, reader: &mut impl BufRead) -> Result<(), Fault> {
        let mut body = vec![0; self.length()];
        reader.read_exact(&mut body)?;
        self.body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(())
    }

    /// The length of the body, in bytes.
    pub fn length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The MCP method; empty without a body.
    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub fn is_notification(&self) -> bool {
        self.body.get("method").is_some() && self.body.get("id").is_none()
    }

    pub fn is_call(&self) -> bool {
        self.method() == "tools/call"
    }
}

/// An answer to a call: media type and body, or nothing for as long as the connection lives. With [`RAW`] it is all
/// that is written before the connection is closed.
pub type Reply = Option<(&'static str, String)>;
pub const RAW: &str = "raw";

/// An HTTP server with tools by these names, in pages of 100.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    pub fn start(
        tools: Vec<String>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        Self::start_with(tools, move |request, _| answer(request))
    }

    /// As [`Self::start`], with the connection, for what is written bit by bit; then the answer is [`RAW`] and empty.
    pub fn start_with(
        tools: Vec<String>,
        answer: impl Fn(&Request, &TcpStream) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let all = Arc::clone(&seen);
        let address = listen(move |stream| serve(stream, &all, &tools, &answer))?;
        Ok(Self { address, seen })
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first request with that method, now or to come.
    pub fn wait(&self, method: &str) -> Result<Request, Fault> {
        self.wait_for(method, |request| request.body["method"] == method)
    }

    /// The first request for which `is_it` holds, now or to come.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Request) -> bool) -> Result<Request, Fault> {
        wait::until(what, LIMIT, || self.seen().into_iter().find(|request| is_it(request)))
    }
}

/// Listens on a free port, and serves each connection on a thread of its own. The threads end with the process; they
/// are never joined.
pub fn listen(serve: impl Fn(&TcpStream) -> Result<(), Fault> + Send + Sync + 'static) -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::Builder::new().name("stub".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            drop(thread::Builder::new().name("stub".to_owned()).spawn(move || drop(serve(&stream))));
        }
    })?;
    Ok(address)
}

/// The bytes of a response with a length.
pub fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let (body, length) = (body.as_ref(), body.as_ref().len());
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn serve(
    stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    tools: &[String],
    answer: &impl Fn(&Request, &TcpStream) -> Reply,
) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let (status, (media, body)) = match request.body["method"].as_str() {
            None => ("405 Method Not Allowed", ("text/plain", String::new())),
            Some("initialize") => ("200 OK", ("application/json", greeting(&request.body["id"]))),
            Some("tools/list") => ("200 OK", ("application/json", page(&request.body, tools))),
            Some("tools/call") => match answer(&request, stream) {
                Some((RAW, all)) => return Ok((&*stream).write_all(all.as_bytes())?),
                Some(reply) => ("200 OK", reply),
                None => ("", ("", String::new())),
            },
            Some(_) => ("202 Accepted", ("text/plain", String::new())),
        };
        if !status.is_empty() {
            (&*stream).write_all(&response(status, &format!("Content-Type: {media}\r\n"), body))?;
        }
    }
    Ok(())
}

/// The result of `initialize`.
pub fn hello() -> Value {
    let server = json!({ "name": "stub", "version": "1" });
    json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} }, "serverInfo": server })
}

pub fn greeting(id: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": hello() }).to_string()
}

pub fn page(message: &Value, tools: &[String]) -> String {
    let first: usize = message["params"]["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let end = tools.len().min(first + 100);
    let shown = tools[first..end].iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }));
    let mut result = json!({ "tools": shown.collect::<Vec<_>>() });
    if end < tools.len() {
        result["nextCursor"] = end.to_string().into();
    }
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string()
}

/// The text of a good answer.
pub fn text(id: &Value, text: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [{ "type": "text", "text": text }] } }).to_string()
}

/// A shell script on stdio with one tool, `do`. Each line it gets is appended to the file `LINES` in the scratch
/// folder; `cases` are branches of a `case` over that line, with its id in `$id`.
pub fn script(id: &str, scratch: &Scratch, cases: &str) -> Result<Server, Fault> {
    let lines = scratch.file("LINES");
    let body = format!(
        r#"while IFS= read -r line; do
printf '%s\n' "$line" >> "$LINES"
id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
case $line in
*'"initialize"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"sh","version":"1"}}}}}}\n' "$id";;
*'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":[{{"name":"do","inputSchema":{{"type":"object"}}}}]}}}}\n' "$id";;
{cases}
*'"tools/call"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"content":[]}}}}\n' "$id";;
esac
done
"#
    );
    let path = scratch.file("server.sh");
    std::fs::write(&path, body)?;
    let path = path.to_str().expect("the folders of tests have plain names").to_owned();
    let lines = lines.to_str().expect("the folders of tests have plain names").to_owned();
    Ok(Server::stdio(id, "/bin/sh".as_ref(), &[&path]).env("LINES", &lines))
}

/// The first line that a [`script`] got for which `holds`, now or to come.
pub fn line(scratch: &Scratch, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
    wait::until(what, LIMIT, || {
        let text = std::fs::read_to_string(scratch.file("LINES")).ok()?;
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|message| holds(message))
    })
}
