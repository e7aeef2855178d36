//! Foreign texts are escaped wherever they are printed: in the status, in the log, in the answers to tools of ours.

use serde_json::json;
use testkit::{Fault, Server};

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{HttpServer, response},
    stdio_server::{ID, StdioServer, line},
};

/// Sets the title of a terminal, colours, and goes back over the line.
const ESCAPES: &str = r"\033]0;pwned\007\033[31mred\r\n";

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    let case = "terminal-escapes";
    let complains = format!("printf '{ESCAPES}' >&2; exit 3");
    let server = Server::stdio(&cases.next_id(case), "/bin/sh".as_ref(), &["-c", &complains]);
    cases.serve(case, "on stderr", server, clean);
    let refusal = json!({ "code": -32000, "message": "\x1b]0;pwned\x07\x1b[31mred\u{9b}31m\r\nadmin: all is well" });
    let refusal = json!({ "jsonrpc": "2.0", "id": "ID", "error": refusal }).to_string().replace("\"ID\"", ID);
    cases.stdio(case, "in an error of a program", &StdioServer::default().initialize(line(&refusal)), clean)?;
    let page = "\x1b]0;pwned\x07<h1>\x1b[31mred</h1>\r\nWARN all is well";
    let server = HttpServer::start(move |_, _| response("500 Oh No", "Content-Type: text/html\r\n", page))?;
    cases.http(case, "in the body of a refusal", &server, clean);
    let head = |_: &_, _| response("500 \x1b[31mred", "X-Odd: \x1b]0;pwned\x07\r\n", "");
    let server = HttpServer::start(head)?;
    cases.http(case, "in the head of a refusal", &server, clean);
    let noisy = StdioServer::default().start(&format!("printf '{ESCAPES}'")).initialize(Vec::new());
    cases.stdio(case, "on stdout", &noisy.start(&format!("printf '{ESCAPES}'; exit 3")), clean)
}

/// Neither `status`, in both forms, nor the log holds a byte that a terminal would act on, or a line that is not ours.
fn clean(hall: &Hall, id: &str) -> Result<(), Fault> {
    // In JSON it is escaped on its way; what it says is as it was said.
    hall.trouble(id)?;
    let log = String::from_utf8_lossy(&hall.log()?).into_owned();
    let pages = [
        ("status", hall.status_text()?),
        ("status in JSON", hall.gateway.cli(&["status", "--output", "json"])?.stdout),
        ("log", log),
    ];
    for (page, text) in pages {
        let acts = |line: &str| line.contains(|letter: char| letter.is_control());
        let raw = text.lines().find(|line| acts(line) && (page != "log" || line.contains(id)));
        expect(raw.is_none(), format!("a {page} without control characters"), format!("{raw:?}"))?;
        let forged = text
            .lines()
            .map(str::trim_start)
            .find(|line| line.starts_with("admin: all is well") || line.starts_with("WARN all is well"));
        expect(
            forged.is_none(),
            format!("a {page} without a line that a server has made"),
            forged.unwrap_or_default(),
        )?;
    }
    Ok(())
}
