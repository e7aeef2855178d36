//! Requests as no decent client writes them, as bytes on a connection of their own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Fault, Gateway, fault,
    raw::{self, Raw},
};
use tokio::time::Instant;

use super::{Answer, Shortfall};

const MIB: usize = 1 << 20;
/// An answer is cut there; none needs as much.
const ANSWER_MAX: u64 = 64 << 10;

pub(super) struct Bomb {
    pub(super) name: &'static str,
    bytes: Box<Bytes>,
    wanted: Wanted,
}

/// The bytes of a request, for an address and a session.
type Bytes = dyn Fn(SocketAddr, &str) -> Vec<u8>;

/// What the answer has to be.
enum Wanted {
    /// One of these, or the connection is closed: the head could not be read, and no reason fits in.
    Status(&'static [u16]),
    /// A refusal that has these words in it.
    Words(&'static str),
}

use Wanted::{Status, Words};

pub(super) fn all() -> Vec<Bomb> {
    let mut all = deep();
    all.extend(long());
    all.extend(no_messages());
    all.extend(framed());
    all.extend(heads());
    all
}

impl Bomb {
    /// The body of a POST.
    fn body(name: &'static str, wanted: Wanted, body: impl Fn() -> Vec<u8> + 'static) -> Self {
        Self::with(name, wanted, &[], body)
    }

    /// With more headers.
    fn with(
        name: &'static str,
        wanted: Wanted,
        headers: &[(&'static str, Vec<u8>)],
        body: impl Fn() -> Vec<u8> + 'static,
    ) -> Self {
        let headers = headers.to_vec();
        let bytes = move |address: SocketAddr, session: &str| {
            let body = body();
            let mut all: Vec<(&str, &[u8])> = vec![("Mcp-Session-Id", session.as_bytes())];
            for (name, value) in &headers {
                all.retain(|(other, _)| other != name);
                all.push((name, value));
            }
            [raw::head(address, body.len(), &all), body].concat()
        };
        Self { name, bytes: Box::new(bytes), wanted }
    }

    /// A message in JSON.
    fn message(name: &'static str, wanted: Wanted, message: impl Fn() -> Value + 'static) -> Self {
        Self::body(name, wanted, move || message().to_string().into_bytes())
    }

    /// The head as a whole, but for where it goes to.
    fn head(name: &'static str, wanted: Wanted, rest: impl Fn() -> Vec<u8> + 'static) -> Self {
        let bytes = move |address: SocketAddr, session: &str| {
            let rest = String::from_utf8_lossy(&rest()).replace("{host}", &address.to_string());
            rest.replace("{session}", session).into_bytes()
        };
        Self { name, bytes: Box::new(bytes), wanted }
    }

    pub(super) fn send(&self, gateway: &Gateway, limit: Duration) -> Result<Answer, Fault> {
        let session = Raw::open(gateway.mcp)?.session.ok_or_else(|| fault("no session"))?;
        let bytes = (self.bytes)(gateway.mcp, &session);
        let mut stream = TcpStream::connect(gateway.mcp)?;
        stream.set_read_timeout(Some(limit * 2))?;
        stream.set_write_timeout(Some(limit * 2))?;
        let mut reader = stream.try_clone()?;
        let start = Instant::now();
        // A refusal may come before all is read, and the connection be closed on the rest.
        let writing = std::thread::spawn(move || drop(stream.write_all(&bytes)));
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        while (said.len() as u64) < ANSWER_MAX && !is_whole(&said) {
            match reader.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => said.extend_from_slice(&chunk[..count]),
            }
        }
        let took = start.elapsed();
        drop(reader.shutdown(std::net::Shutdown::Both));
        writing.join().map_err(|_| fault("the writer panicked"))?;
        Ok(Answer { took, said: String::from_utf8_lossy(&said).into_owned() })
    }

    pub(super) fn wrong(&self, answer: &Answer) -> Shortfall {
        let status = answer.said.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let refuses = status.is_some_and(|status| status >= 400) || answer.said.contains("\"error\"");
        let right = match &self.wanted {
            Status(several) => status.is_none_or(|status| several.contains(&status)),
            Words(words) => refuses && answer.said.contains(words),
        };
        if !right {
            return Some(format!("was answered {:.300}", answer.said));
        }
        (answer.said.len() > 4096).then(|| format!("was answered with {} bytes", answer.said.len()))
    }
}

/// A head, and as many bytes of a body as it says.
fn is_whole(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length) || body.ends_with("0\r\n\r\n")
}

fn call(arguments: &str) -> Vec<u8> {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","arguments":"#;
    format!("{call}{arguments}}}}}").into_bytes()
}

fn request(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn deep() -> Vec<Bomb> {
    const DEEP: Wanted = Words("nested more than 512 levels deep at offset");
    let nested = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    vec![
        Bomb::body("arrays in arrays", DEEP, move || call(&nested("[", "]", 1_000_000))),
        Bomb::body("objects in objects", DEEP, move || call(&nested("{\"a\":", "}", 500_000))),
        Bomb::body("arrays in the metadata", DEEP, move || {
            let meta = nested("[", "]", 1_000_000);
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"x":{meta}}}}}}}"#).into_bytes()
        }),
        Bomb::body("an id of arrays", DEEP, move || {
            format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, nested("[", "]", 1_000_000)).into_bytes()
        }),
        Bomb::body("arrays without an end", Words("not JSON"), || call(&"[".repeat(2 * MIB))),
        Bomb::body("objects without an end", Words("not JSON"), || call(&"{\"a\":".repeat(500_000))),
    ]
}

fn long() -> Vec<Bomb> {
    let long = || "x".repeat(3 * MIB);
    vec![
        Bomb::message(
            "a long id",
            Words("`id` is longer than 1024 bytes"),
            move || json!({ "jsonrpc": "2.0", "id": long(), "method": "ping" }),
        ),
        Bomb::body("an id of many digits", Words("`id` is longer than 1024 bytes"), || {
            format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, "9".repeat(MIB)).into_bytes()
        }),
        Bomb::body("an id beyond all numbers", Words("id"), || {
            br#"{"jsonrpc":"2.0","id":1e999999999,"method":"ping"}"#.to_vec()
        }),
        Bomb::message("a long method", Words("`method` is longer than 1024 bytes"), move || {
            request(&long(), json!({}))
        }),
        Bomb::message("a long name", Words("`params.name` is longer than 1024 bytes"), move || {
            request("tools/call", json!({ "name": long() }))
        }),
        Bomb::message(
            "a long progress token",
            Words("`params._meta.progressToken` is longer than 1024 bytes"),
            move || request("tools/call", json!({ "name": "one__echo", "_meta": { "progressToken": long() } })),
        ),
        Bomb::message("a long cursor", Words("`params.cursor` is longer than 1024 bytes"), move || {
            request("tools/list", json!({ "cursor": long() }))
        }),
        Bomb::message(
            "a long id of a request to cancel",
            Words("`params.requestId` is longer than 1024 bytes"),
            move || raw::cancel(long()),
        ),
        Bomb::message("a long client", Words("error"), move || {
            let client = json!({ "name": long(), "version": "1" });
            let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
            json!({ "jsonrpc": "2.0", "id": "\u{0}".repeat(300_000), "method": "initialize", "params": params })
        }),
    ]
}

fn no_messages() -> Vec<Bomb> {
    vec![
        Bomb::body("a batch of many", Words("batch"), || {
            format!("[{}1]", r#"{"jsonrpc":"2.0","id":1,"method":"ping"},"#.repeat(90_000)).into_bytes()
        }),
        Bomb::body("many ids", Words("twice"), || {
            format!(r#"{{{}"jsonrpc":"2.0","method":"ping"}}"#, r#""id":1,"#.repeat(500_000)).into_bytes()
        }),
        Bomb::body("keys in every case", Words("only in case"), || {
            format!(r#"{{{}"jsonrpc":"2.0","id":1,"method":"ping"}}"#, r#""ID":1,"Id":2,"#.repeat(200_000)).into_bytes()
        }),
        Bomb::body("keys in escapes", Words("twice"), || {
            let key = r#""\u0069\u0064":1,"#;
            format!(r#"{{{}"jsonrpc":"2.0","method":"ping"}}"#, key.repeat(200_000)).into_bytes()
        }),
        Bomb::body("parameters again and again", Words("twice"), || {
            let params = r#""p\u0061rams":{"_met\u0061":{"x":{}}},"#;
            format!(r#"{{{}"jsonrpc":"2.0","id":1,"method":"ping"}}"#, params.repeat(80_000)).into_bytes()
        }),
        Bomb::body("half a surrogate", Words("error"), || {
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800"}}"#.to_vec()
        }),
        Bomb::body("a slash in two bytes", Words("not UTF-8"), || {
            call("\"..").into_iter().chain(*b"\xc0\xaf\"").collect()
        }),
        Bomb::body("UTF-16", Words("not "), || {
            String::from_utf8_lossy(&call("{}")).encode_utf16().flat_map(u16::to_le_bytes).collect()
        }),
        Bomb::body("a NUL within a text", Words("not JSON"), || call("{\"text\":\"a\0b\"}")),
        Bomb::body("nothing but spaces", Words("not JSON"), || vec![b' '; 3 * MIB]),
        Bomb::with("what claims to be packed", Status(&[400, 415]), &[("Content-Encoding", b"gzip".to_vec())], || {
            [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0][..], &vec![0; MIB]].concat()
        }),
    ]
}

fn framed() -> Vec<Bomb> {
    const TOO_LARGE: Wanted = Words("request_bytes");
    let chunked = b"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
        Accept: application/json, text/event-stream\r\nMcp-Session-Id: {session}\r\nTransfer-Encoding: chunked\r\n";
    let with_length = |length: &str| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMcp-Session-Id: {{session}}\r\nContent-Length: {length}\r\n\r\n{{}}"
        )
    };
    vec![
        Bomb::body("more bytes than allowed", TOO_LARGE, || vec![b'x'; 5 * MIB]),
        Bomb::head("a length of an exabyte", TOO_LARGE, move || with_length("1000000000000000000").into_bytes()),
        Bomb::head("a length beyond all", Status(&[400]), move || with_length(&"9".repeat(40)).into_bytes()),
        Bomb::head("a length below zero", Status(&[400]), move || with_length("-1").into_bytes()),
        Bomb::head("two lengths", Status(&[400]), move || with_length("2\r\nContent-Length: 3").into_bytes()),
        Bomb::head("chunks without an end", TOO_LARGE, || {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            [&chunked[..], b"\r\n", chunk.repeat(80).as_bytes()].concat()
        }),
        Bomb::head("a chunk larger than all", Status(&[400, 413]), || {
            [&chunked[..], b"\r\nffffffffffffffffff\r\nx"].concat()
        }),
        Bomb::head("a chunk with a long remark", Status(&[400, 413]), || {
            [&chunked[..], b"\r\n1;", "a".repeat(MIB).as_bytes(), b"\r\nx\r\n0\r\n\r\n"].concat()
        }),
        Bomb::head("endless trailers", Status(&[400, 413, 431]), || {
            [&chunked[..], b"\r\n1\r\nx\r\n0\r\n", "A: b\r\n".repeat(200_000).as_bytes()].concat()
        }),
        Bomb::head("a length beside chunks", Status(&[400, 413]), || {
            [&chunked[..], b"Content-Length: 5000000\r\n\r\nzz\r\n"].concat()
        }),
    ]
}

fn heads() -> Vec<Bomb> {
    let get = |more: &str| format!("GET /mcp HTTP/1.1\r\nHost: {{host}}\r\n{more}\r\n").into_bytes();
    let long = || b"x".repeat(30_000);
    let ping = || request("ping", json!({})).to_string().into_bytes();
    vec![
        Bomb::head("a long header", Status(&[431]), move || get(&format!("A: {}\r\n", "x".repeat(MIB)))),
        Bomb::head("many headers", Status(&[400, 431]), move || get(&"A: b\r\n".repeat(100_000))),
        Bomb::head("a header without a name", Status(&[400]), move || get(": x\r\n")),
        Bomb::head("a NUL in a header", Status(&[400]), move || get("A: a\0b\r\n")),
        Bomb::head("a long line", Status(&[400, 414, 431]), || {
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MIB)).into()
        }),
        Bomb::head("no HTTP at all", Status(&[400]), || vec![b'\x16'; MIB]),
        Bomb::head("another version", Status(&[400, 505]), || b"GET /mcp HTTP/9.9\r\n\r\n".to_vec()),
        Bomb::head("half an HTTP/2", Status(&[400]), || {
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 4096]].concat()
        }),
        Bomb::with("a longer session", Status(&[431]), &[("Mcp-Session-Id", b"x".repeat(60_000))], ping),
        Bomb::with("a long session", Words("error"), &[("Mcp-Session-Id", long())], ping),
        Bomb::with("a long origin", Status(&[403]), &[("Origin", long())], ping),
        Bomb::with("a long host", Status(&[400, 403, 421]), &[("Host", long())], ping),
        Bomb::with("a long version", Status(&[400]), &[("MCP-Protocol-Version", long())], ping),
        Bomb::with("what nobody accepts", Status(&[406]), &[("Accept", long())], ping),
    ]
}
