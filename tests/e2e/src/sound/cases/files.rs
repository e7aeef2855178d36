//! A configuration file is judged when its writer has closed it, and control bytes in it are refused.

use std::{fs::File, io::Write, time::Duration};

use serde_json::json;
use testkit::{Document, Fault, Scratch, System, wait};

use super::{
    Cases, expect,
    hall::{Hall, SOON},
    misspelt::validated,
    says,
    stdio_server::StdioServer,
};

/// How long a writer stands still with the file open: three times what a file must hold still.
const STALL: Duration = Duration::from_millis(1600);

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    for (name, cuts) in [
        ("between two servers", ["  - {\"id\":\"b\"", ""]),
        ("before the first server", ["servers:", ""]),
        ("within a server", ["\"transport\"", ""]),
        ("twice", ["  - {\"id\":\"b\"", "  - {\"id\":\"c\""]),
    ] {
        cases.alone("partial-write-stall", format!("a writer that stalls {name}"), move |_| stalls(cuts));
    }
    controls(cases);
    Ok(())
}

/// While the writer has the file open all goes on as before; once it closes it, all of it is live.
fn stalls(cuts: [&str; 2]) -> Result<(), Fault> {
    let scratch = Scratch::new("stall")?;
    let server = |id: &str| StdioServer::default().entry(id, scratch.path());
    let before = Document::default().with(server("a")?).with(server("b")?);
    let after = before.clone().with(server("c")?);
    let hall = Hall::start(scratch, &before)?;
    let mut client = hall.wait_listed("b__t")?;
    let text = after.yaml();
    let mut file = File::create(hall.scratch.file("only1mcp.yaml"))?;
    let mut written = 0;
    for cut in cuts.iter().filter_map(|cut| (!cut.is_empty()).then(|| text.find(cut)).flatten()) {
        file.write_all(&text.as_bytes()[written..cut])?;
        file.flush()?;
        written = cut;
        wait::holds_for("the revision before", STALL, || {
            let list = client.request("tools/list", &json!({}))?;
            let tools = list.content?["tools"].to_string();
            Ok(tools.contains("\"b__t\"") && list.revision == hall.gateway.revision)
        })?;
    }
    file.write_all(&text.as_bytes()[written..])?;
    drop(file);
    wait::until_true("the new server", SOON, || {
        client.tools().is_ok_and(|tools| tools.iter().any(|tool| tool == "c__t"))
    })?;
    let revision = hall.gateway.revision()?;
    expect(revision == hall.gateway.revision + 1, "one new revision", revision)
}

/// The text after a control byte is not ignored.
fn controls(cases: &mut Cases) {
    let start = "servers:\n  - id: q\n    transport: {type: stdio, command: cat}\n";
    let rest = "  - id: z\n    transport: {type: stdio, command: cat}\nlimits: {bogus: 1}\n";
    let ways = [
        ("a NUL in the middle", "yaml", [start, "\0", rest].concat()),
        ("NULs at the end", "yaml", [start, &"\0".repeat(64)].concat()),
        ("an escape in a comment", "yaml", ["# \x1b[2K\n", start].concat()),
        ("a backspace in a key", "yaml", [start, "limits\x08: {}\n"].concat()),
        ("a NUL at the beginning", "yaml", ["\0", start].concat()),
        (
            "a NUL in TOML",
            "toml",
            "[[servers]]\nid = \"q\"\n\0transport = {type = \"stdio\", command = \"cat\"}\n".to_owned(),
        ),
    ];
    for (name, kind, text) in ways {
        cases.alone("nul-cuts-file", name, move |hall| {
            let file = format!("{}.{kind}", name.replace(' ', "-"));
            let said = validated(hall, &file, text.as_bytes())?;
            expect(said.code == 1, "a refusal", format!("{} {}{}", said.code, said.stdout, said.stderr))?;
            says(&[&said.stdout[..], &said.stderr].concat(), &["control character"], &[])?;
            expect(!said.stdout.contains(['\0', '\x1b', '\x08']), "an escaped text", format!("{:?}", said.stdout))
        });
    }
}
