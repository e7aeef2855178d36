//! `connect`: a client that starts its servers, as desktop clients do, and the gateway that is started for it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::wait;

use super::{Home, Stops};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A client with `only1mcp connect` as its server.
struct Client {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// The methods of the notifications that came.
    told: Vec<String>,
}

impl Client {
    fn of(home: &Home) -> Self {
        let mut command = home.command(&["connect"]);
        // A gateway that is started for a client has no flags.
        for name in ["LISTEN", "ADMIN", "OPS"] {
            command.env(format!("ONLY1MCP_{name}"), "127.0.0.1:0");
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut client = Self { process, to, from, told: Vec::new() };
        let info = json!({ "name": "t", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
        client.ask(1, "initialize", &hello);
        let (id, answer) = client.next();
        assert_eq!((id, &answer["result"]["protocolVersion"]), (1, &json!("2025-06-18")), "{answer}");
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.to, "{message}").unwrap();
    }

    fn ask(&mut self, id: u64, method: &str, params: &Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
    }

    fn call(&mut self, id: u64, tool: &str, arguments: &Value) {
        self.ask(id, "tools/call", &json!({ "name": tool, "arguments": arguments }));
    }

    /// The next answer, with its id.
    fn next(&mut self) -> (u64, Value) {
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            match message["id"].as_u64() {
                Some(id) => return (id, message),
                None => self.told.push(message["method"].as_str().unwrap().to_owned()),
            }
        }
    }

    /// The text of the next answer, with its id.
    fn text(&mut self) -> (u64, String) {
        let (id, answer) = self.next();
        let text = answer["result"]["content"][0]["text"].as_str();
        (id, text.unwrap_or_else(|| panic!("{answer}")).to_owned())
    }

    /// Closes its side, and returns the exit code.
    fn leave(self) -> Option<i32> {
        let Self { mut process, to, .. } = self;
        drop(to);
        process.wait().unwrap().code()
    }
}

/// A configuration with one demo server, which is started with `arguments`.
fn configure(home: &Home, id: &str, arguments: &str) {
    let program = env!("CARGO_BIN_EXE_only1mcp");
    let server = format!("{{ type: stdio, command: {program}, args: [demo-server, {arguments}] }}");
    let text = format!("version: \"1.0\"\nservers:\n  - id: {id}\n    transport: {server}\n");
    fs::write(home.path().join("only1mcp.yaml"), text).unwrap();
}

/// Ends the gateway, and waits until nothing of it is left.
fn stop(home: &Home) {
    home.stop();
    wait::until_true("the gateway to be gone", LIMIT, || home.run(&["status"]).0 == 69).unwrap();
}

#[test]
fn a_client_on_stdio_has_the_gateway_which_is_started_for_it() {
    let home = Home::new();
    configure(&home, "notes", "--kind, notes");
    assert_eq!(home.run(&["connect", "--no-start"]).0, 69);
    let _stops = Stops(&home);
    let mut client = Client::of(&home);
    client.call(2, "notes__add", &json!({ "text": "milk" }));
    assert_eq!(client.text(), (2, "note 1 is written down".to_owned()));
    client.ask(3, "no/such", &json!({}));
    assert_eq!(client.next().1["error"]["code"], -32601);

    // Another gateway in its place, at another address, which knows nothing of the session.
    stop(&home);
    fs::remove_dir_all(home.path().join(".local")).unwrap();
    client.told.clear();
    let up = home.up(&[]);
    for id in 4..10 {
        client.call(id, "notes__list", &json!({}));
    }
    let mut answers: Vec<_> = (0..6).map(|_| client.text()).collect();
    answers.sort_unstable();
    let expected: Vec<_> = (4..10).map(|id| (id, "no notes".to_owned())).collect();
    assert_eq!(answers, expected);
    let changed = client.told.iter().filter(|method| *method == "notifications/tools/list_changed").count();
    assert!(changed > 0, "tools may be others now: {:?}", client.told);
    assert_eq!(up.stop(), 0);

    // The gateway that is started for a client outlives the client, for others.
    assert_eq!(client.leave(), Some(0));
    assert_eq!(Client::of(&home).leave(), Some(0));
    assert_eq!(home.json(&["status", "--output", "json"])["servers"][0]["id"], "notes");
    stop(&home);
}

#[test]
fn a_call_that_a_client_on_stdio_cancels_ends_at_its_server_and_has_no_answer() {
    let home = Home::new();
    configure(&home, "test", "--stdio");
    let _stops = Stops(&home);
    let mut client = Client::of(&home);
    let in_flight = || home.json(&["status", "--output", "json"])["servers"][0]["in_flight"].clone();
    client.call(2, "test__sleep", &json!({ "ms": 600_000 }));
    wait::until_true("the call to be in flight", LIMIT, || in_flight() == 1).unwrap();
    client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } }));
    wait::until_true("the call to end", LIMIT, || in_flight() == 0).unwrap();
    client.call(3, "test__echo", &json!({ "text": "still there" }));
    assert_eq!(client.text(), (3, "still there".to_owned()));
    assert_eq!(client.leave(), Some(0));
    stop(&home);
}
