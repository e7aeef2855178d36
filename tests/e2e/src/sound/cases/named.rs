//! Names that model APIs take, whatever servers call their tools and people their servers.

use serde_json::json;
use testkit::{Fault, Server};

use super::{
    Cases, expect,
    hall::{Hall, SOON},
    http_server::tool,
    stdio_server::{StdioServer, answer},
};

const CASE: &str = "dots-in-names";

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    let ways = [
        ("a dot in a tool", "immich.ping"),
        ("a path as a tool", "repos/list branches"),
        ("letters of another alphabet", "wetter_für_münchen"),
        ("a colon and a very long name", "search:documents-of-the-whole-company-by-their-full-text-and-author"),
    ];
    for (name, odd) in ways {
        let server = StdioServer::default().list(answer(&json!({ "tools": [tool(odd)] })));
        let entry = server.entry(&cases.next_id(CASE), &cases.scripts)?;
        let readable: String = odd.chars().take_while(char::is_ascii_alphanumeric).take(6).collect();
        cases.serve(CASE, name, entry, move |hall, id| renamed(hall, id, &readable));
    }
    for (name, id) in [
        ("a dot in a server", "my.server"),
        ("a server of 64 letters", "the-server-of-the-department-that-does-all-of-the-documents-v1.2"),
    ] {
        let script = StdioServer::default().entry(&cases.next_id(CASE), &cases.scripts)?;
        let entry: Server = script.named(id);
        cases.serve(CASE, name, entry, move |hall, _| renamed(hall, id, "t"));
    }
    Ok(())
}

/// Its tool has a name of the right letters and length, in which its own is seen, and can be called by it; the status
/// says what it was.
fn renamed(hall: &Hall, id: &str, readable: &str) -> Result<(), Fault> {
    let start: String = id.chars().take(12).map(|letter| if letter == '.' { '-' } else { letter }).collect();
    let mut client = testkit::Client::open(hall.gateway.mcp)?;
    let found = |client: &mut testkit::Client| {
        let tools = client.tools().unwrap_or_default();
        tools.into_iter().find(|tool| tool.starts_with(&start) && tool.replacen(&start, "", 1).contains(readable))
    };
    let name = testkit::wait::until(&format!("a tool of {id} with {readable}"), SOON, || found(&mut client))?;
    let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    expect(name.len() <= 64 && name.chars().all(letter), "[A-Za-z0-9_-]{1,64}", &name)?;
    Hall::call_with(&mut client, &name)?.is_well()?;
    hall.warned(id, &[&name]).map(|_| ())
}
