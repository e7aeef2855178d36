//! Output of a program that no client can read is quoted in the error of the waiting call, at once.

use serde_json::json;
use testkit::Fault;

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{greeting, tool},
    says,
    stdio_server::{ID, StdioServer, answer, line},
};

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    numbers(cases)?;
    bytes(cases)?;
    before_the_answer(cases)?;
    nobodys(cases)?;
    noise(cases)
}

/// What cannot be read as an answer ends the one call that waits.
fn unreadable(hall: &Hall, id: &str) -> Result<(), Fault> {
    hall.call(id, "t")?.fails(&[], &["stderr", "nothing came", "limits.idle", "Span {"])?;
    // One bad line is no reason to give the program up.
    hall.call(id, "t")?.came_at_once()
}

fn result(inner: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{inner}}}"#)
}

fn numbers(cases: &mut Cases) -> Result<(), Fault> {
    let ways = [
        ("NaN", line(&result(r#"{"content":[],"structuredContent":{"mean":NaN}}"#))),
        ("-Infinity", line(&result(r#"{"content":[],"structuredContent":{"least":-Infinity}}"#))),
        ("a tab as it is, in a text", line(&result("{\"content\":[{\"type\":\"text\",\"text\":\"a\tb\"}]}"))),
        ("the quotes of another language", line(&result("{'content': [], 'isError': False}"))),
        ("a line that is cut", line(r#"{"jsonrpc":"2.0","id":"#)),
    ];
    ways.into_iter()
        .try_for_each(|(name, bytes)| cases.stdio("stdio-nan", name, &StdioServer::default().call(bytes), unreadable))
}

fn bytes(cases: &mut Cases) -> Result<(), Fault> {
    let text = |bytes: &[u8]| {
        let [before, after] = ["{\"content\":[{\"type\":\"text\",\"text\":\"caf", "\"}]}}\n"];
        let head = format!("{{\"jsonrpc\":\"2.0\",\"id\":{ID},\"result\":{before}");
        [head.as_bytes(), bytes, after.as_bytes()].concat()
    };
    let ways = [
        ("a letter in Latin-1", text(b"\xe9")),
        ("quotation marks of a code page", text(b"\x93au lait\x94")),
        ("a letter cut in its middle", text(b"\xe2\x82")),
        ("half of a surrogate pair", text(b"\xed\xa0\xbd")),
    ];
    ways.into_iter().try_for_each(|(name, bytes)| {
        cases.stdio("stdio-latin1", name, &StdioServer::default().call(bytes), unreadable)
    })
}

/// Other output is on the answer's line before it: the answer is taken, or the waiting call is told why not.
fn before_the_answer(cases: &mut Cases) -> Result<(), Fault> {
    let fine = answer(&json!({ "content": [{ "type": "text", "text": "fine" }] }));
    let ways: [(_, &[u8]); 4] = [
        ("a word without a line end", b"Working..."),
        ("progress that overwrites itself", b"\r 50%\r100%\r"),
        ("a colour", b"\x1b[32mok\x1b[0m "),
        ("a line of a log", b"{\"level\":\"info\",\"msg\":\"working\"} "),
    ];
    for (name, before) in ways {
        let server = StdioServer::default().call([before, &fine].concat());
        cases.stdio("stdio-print-without-newline", name, &server, |hall, id| {
            let told = hall.call(id, "t")?;
            told.came_at_once()?;
            match told.content {
                Ok(_) => Ok(()),
                Err(_) => told.fails(&[], &["stderr", "nothing came", "limits.idle"]),
            }
        })?;
    }
    Ok(())
}

/// An error that names no request goes to the one call that waits.
fn nobodys(cases: &mut Cases) -> Result<(), Fault> {
    let case = "stdio-error-id-null";
    let error = |head: &str| line(&format!(r#"{{"jsonrpc":"2.0",{head}"error":{{"code":-32603,"message":"boom"}}}}"#));
    let heard = |hall: &Hall, id: &str| hall.call(id, "t")?.fails(&["boom"], &[]);
    cases.stdio(case, "with the id null", &StdioServer::default().call(error("\"id\":null,")), heard)?;
    cases.stdio(case, "without an id", &StdioServer::default().call(error("")), heard)?;
    let trouble = |hall: &Hall, id: &str| says(&hall.trouble(id)?, &["boom"], &["limits.connect", "stderr"]);
    cases.stdio(case, "to initialize", &StdioServer::default().initialize(error("\"id\":null,")), trouble)?;
    cases.stdio(case, "to tools/list", &StdioServer::default().list(error("\"id\":null,")), trouble)
}

/// Output on stdout is not reported as stderr, and is reported once.
fn noise(cases: &mut Cases) -> Result<(), Fault> {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "result": greeting(&json!({ "tools": {} })) });
    let pretty = format!("{hello:#}\n").replace("\"id\": 1", &format!("\"id\": {ID}"));
    let short = answer(&greeting(&json!({ "tools": {} })));
    let framed = [b"Content-Length: 170\r\n\r\n".as_slice(), short.trim_ascii_end()].concat();
    let prompt = [b"> ".as_slice(), &short].concat();
    let ways = [
        ("a message over many lines", pretty.into_bytes()),
        ("a length before each message", framed),
        ("a prompt", prompt),
        ("usage instead of an answer", line("usage: serve [--stdio]\nerror: no such option")),
    ];
    for (name, bytes) in ways {
        let server = StdioServer::default().initialize(bytes);
        cases.stdio("stdout-noise-called-stderr", name, &server, |hall, id| {
            let trouble = hall.trouble(id)?.replace(id, "");
            says(&trouble, &[], &["stderr"])?;
            let first =
                ["usage:", "Content-Length"].into_iter().find(|first| trouble.contains(first)).unwrap_or("jsonrpc");
            let said = trouble.matches(first).count();
            expect(said == 1, "what it wrote, once", trouble)
        })?;
    }
    let unended = StdioServer::default().initialize(short.trim_ascii_end());
    cases.stdio("stdout-noise-called-stderr", "an answer without a line end", &unended, |hall, id| {
        says(&hall.trouble(id)?.replace(id, ""), &["jsonrpc", "line end"], &["stderr"])
    })?;
    let late = StdioServer::default().list(line(&json!({ "tools": [tool("t")] }).to_string()));
    cases.stdio("stdout-noise-called-stderr", "a result without its envelope", &late, |hall, id| {
        says(&hall.trouble(id)?.replace(id, ""), &[], &["stderr"])
    })
}
