//! TOML is read into the same tree as YAML, with its own places.

use super::named;
use crate::parse;

fn refused(text: &str) -> Vec<String> {
    parse(&[named("f.toml", text.to_owned())]).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn violations_have_the_places_of_the_text() {
    let text = "naming = 'prefx'\n\
        [drain]\nstrategy = \"slowly\"\n\
        [hot_reload.watcher]\ndebounce_ms = '5s'\n\
        [[servers]]\nid = 'ä'; # not a name\n";
    assert_eq!(refused(text), ["f.toml:7:9: not valid TOML: unexpected key or value, expected newline, `#`"]);
    let text = text.replace(';', "") + "transport = { type = \"http\", comand = 1 }\n[[servers]]\n";
    assert_eq!(
        refused(&text),
        [
            "f.toml:1:10: naming: expected `prefix` or `none`, found `prefx` (did you mean `prefix`?)",
            "f.toml:3:12: drain.strategy: expected `immediate`, `graceful` or `progressive`, found `slowly`",
            "f.toml:5:15: hot_reload.watcher.debounce_ms: expected a whole number of milliseconds from 0 to 10000, \
             found a text (did you mean `5000`?)",
            "f.toml:7:6: servers[0].id: not a valid server id; expected 1 to 64 letters, digits, `_`, `-` or `.`, \
             beginning with a letter or digit",
            "f.toml:8:13: servers[0].transport.url: `url` is missing; an `http` server is reached at a URL",
            "f.toml:8:30: servers[0].transport.comand: unknown key",
            "f.toml:9:1: servers[1].id: `id` is missing",
            "f.toml:9:1: servers[1].transport: `transport` is missing",
        ]
    );
}

#[test]
fn syntax_is_refused_whole() {
    let text = "naming = \nnaming = 'none'\nallow_empty = true\nallow_empty = false\n[drain]\n[drain]\n";
    assert_eq!(
        refused(text),
        [
            "f.toml:1:10: not valid TOML: string values must be quoted, expected literal string",
            "f.toml:2:1: this key is already given",
            "f.toml:4:1: this key is already given",
            "f.toml:6:2: this key is already given",
        ]
    );
}

#[test]
fn deep_and_strange_texts_are_refused() {
    let deep = |text: &str| refused(text)[0].clone();
    assert!(deep(&format!("a = {}", "[".repeat(100_000))).contains("nested more than 64 levels deep"));
    assert!(deep(&format!("a = {}{}", "[".repeat(70), "]".repeat(70))).contains("nested more than 64 levels deep"));
    assert!(deep(&format!("{}a = 1", "a.".repeat(100_000))).contains("nested more than 64 levels deep"));
    assert_eq!(deep(""), "f.toml:1:1: servers: there are no servers; expected at least one, or `allow_empty: true`");
}

#[test]
fn numbers_are_what_they_mean_and_texts_what_they_say() {
    let toml = "[limits]\nrequest_bytes = 0x10_0000\nin_flight_per_endpoint = 1_000\n\
        [[servers]]\nid = 'a'\ntransport.type = 'stdio'\ntransport.command = 'x'\n\
        transport.args = [8_080, true, 1.50, 2026-01-02, -1]\n";
    let yaml = "limits: { request_bytes: 1048576, in_flight_per_endpoint: 1000 }\nservers:\n- id: a\n  \
        transport: { type: stdio, command: x, args: [8080, true, 1.50, 2026-01-02, -1] }\n";
    let digest = |name: &str, text: &str| parse(&[named(name, text.to_owned())]).unwrap().digest();
    assert_eq!(digest("f.toml", toml), digest("f.yaml", yaml));
}
