//! Short texts that stand for much, and texts that parsers disagree about: refused with their place, before they cost.

use model::{Owner, Violation};

use super::named;
use crate::{Source, merge, parse, read_stream};

const SERVER: &str = "servers: [{ id: a, transport: { type: stdio, command: x } }]\n";

#[track_caller]
fn first(name: &str, text: String) -> String {
    parse(&[named(name, text)]).unwrap_err()[0].to_string()
}

#[test]
fn aliases_are_charged_for_the_bytes_they_stand_for() {
    let text = "a".repeat(100_000);
    let aliases = |alias: &str| format!("x: &a {text}\ny:\n{}{SERVER}", format!(" - {alias}\n").repeat(50));
    let refused = "anchors and aliases expand to more than 4194304 bytes";
    // The anchor counts as well.
    assert_eq!(first("f.yaml", aliases("*a")), format!("f.yaml:43:4: y[40]: {refused}"));
    assert_eq!(first("f.yaml", aliases("{ k: *a }")), format!("f.yaml:43:9: y[40].k: {refused}"));
    assert_eq!(first("f.yaml", aliases("{ *a : b }")), format!("f.yaml:43:6: y[40]: {refused}"));
    assert_eq!(first("f.yaml", aliases("{ <<: { *a : b } }")), format!("f.yaml:43:12: y[40].<<: {refused}"));
}

#[test]
fn lists_of_lists_of_aliases_are_charged_for_their_values() {
    let level = |i: usize, spell: fn(String) -> String| {
        let aliases = format!("*a{},", i.wrapping_sub(1)).repeat(9);
        format!("a{i}: &a{i} {}\n", spell(if i == 0 { "x,".repeat(9) } else { aliases }))
    };
    let laughs: String = (0..12).map(|i| level(i, |inner| format!("[{inner}]"))).collect();
    assert!(first("f.yaml", laughs + SERVER).ends_with("expand to more than 100000 values"));
    let merges: String = (1..30).map(|i| level(i, |inner| format!("{{ <<: [{inner}], k: v }}"))).collect();
    assert!(first("f.yaml", format!("a0: &a0 {{ b: c }}\n{merges}{SERVER}")).ends_with("more than 100000 values"));
}

#[test]
fn layers_are_charged_together() {
    let layers = |count: usize, text: &str| -> Vec<Source> {
        let layer = |i: usize| Source { owner: Owner::api(&format!("l{i}")), ..named(&format!("l{i}"), text.into()) };
        (0..count).map(layer).collect()
    };
    let first = |sources: &[Source]| parse(sources).unwrap_err().iter().map(ToString::to_string).next_back();
    let aliases = format!("x: &a {}\ny: [{}]\n", "a".repeat(100_000), "*a,".repeat(30));
    assert!(first(&layers(1, &aliases)).is_some_and(|said| !said.contains("expand")));
    assert_eq!(
        first(&layers(2, &aliases)).as_deref(),
        Some("l1:2:32: y[9]: anchors and aliases expand to more than 4194304 bytes")
    );
    let large = format!("# {}\n", "-".repeat(6 << 20));
    let said = first(&layers(3, &large));
    assert!(said.as_ref().is_some_and(|said| said.contains("all layers together have 18874377 bytes")), "{said:?}");
    let values = format!("x:\n{}", "- 1\n".repeat(100_000));
    assert_eq!(first(&layers(3, &values)).as_deref(), Some("l2:49993:3: x[49991]: more than 250000 values"));
    let toml = format!("x = [{}]\n", "1,".repeat(100_000));
    let mut toml = layers(3, &toml);
    toml.iter_mut().for_each(|layer| layer.format = crate::Format::Toml);
    assert!(first(&toml).is_some_and(|said| said.ends_with("more than 250000 values")));
}

#[test]
fn tables_of_tables_are_refused_before_they_are_made() {
    let dots = format!("k{{}}{} = 1\n", ".a".repeat(50));
    let text: String = (0..5000).map(|i| dots.replace("{}", &i.to_string())).collect();
    assert_eq!(first("f.toml", text), "f.toml:4001:6: more than 200000 dots and opening brackets");
}

#[test]
fn headers_times_urls_are_charged() {
    let urls: String = (0..256).map(|i| format!("http://h/{i}, ")).collect();
    let server = |id: usize, header: usize| {
        let header = "x".repeat(header);
        format!("- {{ id: s{id}, transport: {{ type: http, urls: [{urls}], headers: {{ A: {header} }} }} }}\n")
    };
    let refused = first("f.yaml", format!("servers:\n{}{}", server(1, 1), server(2, 200_000)));
    assert_eq!(
        refused,
        "f.yaml:3:24: servers[1].transport.headers: with these, once for each of 256 URLs, the headers of all endpoints \
         have more than 33554432 bytes"
    );
    let many: String = (0..80).map(|id| server(id, 1)).collect();
    let refused = first("f.yaml", format!("servers:\n{many}"));
    assert!(refused.ends_with("with these, all servers have more than 20000 endpoints"), "{refused}");
}

#[test]
fn control_bytes_are_refused_before_a_parser_sees_them() {
    let stands = "stands here; a configuration is a text, in which only tab and line breaks may";
    for name in ["f.yaml", "f.toml"] {
        let cut = first(name, format!("{SERVER}# \0  more\nlimits: {{ bogus: 1 }}\n"));
        assert_eq!(cut, format!("{name}:2:3: the control character U+0000 (NUL) {stands}"));
        let padded = first(name, format!("{SERVER}{}", "\0".repeat(4096)));
        assert!(
            padded.ends_with("; the file ends in 4096 of them, as after a loss of power: write it anew"),
            "{padded}"
        );
        let wide: String = SERVER.chars().flat_map(|c| [c, '\0']).collect();
        assert!(first(name, wide).ends_with("; this looks like UTF-16: save it as UTF-8"));
        for byte in (1..0x20).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte)) {
            let text = format!("# ä{}\n", char::from(byte));
            assert_eq!(first(name, text), format!("{name}:1:4: the control character U+{byte:04X} {stands}"));
        }
    }
    // In quotes as well; written with an escape it is a text like others.
    assert!(
        first("f.yaml", "servers: [{ id: \"\x1b[2J\" }]".into())
            .starts_with("f.yaml:1:18: the control character U+001B")
    );
    assert!(parse(&[named("f.yaml", SERVER.replace('\n', "\r\n# \ttab\r\n"))]).is_ok());
}

#[test]
fn other_encodings_are_named() {
    let read = |bytes: &[u8]| read_stream("f".as_ref(), bytes).map_err(|error| error.to_string());
    assert_eq!(read(b"\xff\xfes\0"), Err("f: is UTF-16; save it as UTF-8".into()));
    assert_eq!(read(b"\xfe\xff\0s"), Err("f: is UTF-16; save it as UTF-8".into()));
    // A slash in more bytes than it needs.
    assert_eq!(read(b"a: b\n# \xc0\xaf\n"), Err("f: not UTF-8 at byte 7 (line 2)".into()));
    assert!(read(b"\xef\xbb\xbfa: b\n").is_ok());
}

#[test]
fn long_values_have_short_answers() {
    let long = "9".repeat(1 << 20);
    for text in [
        format!("{SERVER}limits: {{ in_flight_per_endpoint: {long} }}\n"),
        format!("{SERVER}health: {{ minimum_health_ratio: 0.{long} }}\n"),
        format!("{SERVER}health: {{ interval: {long}s }}\n"),
        format!("{SERVER}? {long}\n: x\n"),
        format!("{SERVER}x: !<{long}> y\n"),
        format!("{SERVER}x: *{long}\n"),
        format!("servers: [{{ id: {long}a, transport: {{ type: {long} }} }}]\n"),
        format!(
            "servers: [{{ id: a, transport: {{ type: http, url: \"{long}\", headers: {{ {long}: \"${{{long}}}\" }} }} }}]\n"
        ),
    ] {
        for violation in parse(&[named("f.yaml", text)]).unwrap_err() {
            assert!(
                violation.at.is_some() && violation.to_string().len() < 1000,
                "{} bytes",
                violation.to_string().len()
            );
        }
    }
}

#[test]
fn what_votes_would_hold_is_refused_without_them() {
    let off = "hot_reload: { two_phase_commit: { enabled: false }, validation: { timeout_seconds: 9 } }\n\
        health: { minimum_health_ratio: 0.9 }\n";
    let critical = SERVER.replace("id: a", "id: a, critical: true");
    let why = "this has no effect where `hot_reload.two_phase_commit.enabled` is `false` (f.yaml:1:35), since routers are \
        not asked before a change; remove one of the two";
    let refused: Vec<_> =
        parse(&[named("f.yaml", format!("{off}{critical}"))]).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            format!("f.yaml:1:67: hot_reload.validation.timeout_seconds: {why}"),
            format!("f.yaml:2:11: health.minimum_health_ratio: {why}"),
            format!("f.yaml:3:30: servers[0].critical: {why}"),
        ]
    );
    // Over layers, too; and what asks for nothing may stand.
    let layer = Source { owner: Owner::api("ops"), ..named("api:ops", "health: { minimum_health_ratio: 1 }\n".into()) };
    let file = named("f.yaml", format!("hot_reload: {{ two_phase_commit: {{ enabled: false }} }}\n{SERVER}"));
    assert!(parse(&[file.clone(), layer]).unwrap_err()[0].to_string().starts_with("api:ops:1:11: health.minimum"));
    assert!(parse(&[named("f.yaml", file.text + "health: { minimum_health_ratio: 0 }\n")]).is_ok());
}

#[test]
fn advice_has_its_place() {
    let text = "servers:\n- { id: a, transport: { type: stdio, command: npx -y x } }\n\
        - { id: b, transport: { type: stdio, command: ~/bin/x, args: [\"~/data\", a~b] } }\n\
        - { id: c, transport: { type: stdio, command: \"${env:HOME}/bin/x\" } }\n";
    let advice = |text: &str| merge(&[named("f.yaml", text.into())]).judge().unwrap().advice;
    let places = |advice: &[Violation]| -> Vec<_> {
        advice.iter().map(|advice| format!("{} {}", advice.at.as_ref().unwrap(), advice.path)).collect()
    };
    assert_eq!(
        places(&advice(text)),
        [
            "f.yaml:2:47 servers[0].transport.command",
            "f.yaml:3:47 servers[1].transport.command",
            "f.yaml:3:63 servers[1].transport.args[0]",
        ]
    );
    let text = "servers:\n- { id: a, transport: { type: stdio, command: x, env: { TOKEN: hunter22, LEVEL: debug } } }\n\
        - { id: b, transport: { type: http, url: \"http://h/?key=hunter22\", headers: { Cookie: \"${env:C}\" } } }\n";
    let advice = advice(text);
    assert_eq!(places(&advice), ["f.yaml:2:64 servers[0].transport.env.TOKEN", "f.yaml:3:42 servers[1].transport.url"]);
    assert!(advice.iter().all(|advice| !advice.to_string().contains("hunter22")));
}

/// Slips by which YAML takes a secret for something else than a value.
#[test]
fn a_secret_that_is_taken_for_something_else_is_not_quoted() {
    let stdio =
        |env: &str| format!("servers: [{{ id: a, transport: {{ type: stdio, command: x, env: {{ {env} }} }} }}]\n");
    let http = |url: &str, headers: &str| {
        let transport = format!("type: http, url: \"{url}\", headers: {{ {headers} }}");
        format!("servers: [{{ id: a, transport: {{ {transport} }} }}]\n")
    };
    for (text, path) in [
        (stdio("A: b, API_KEY=s3cret: "), "servers[0].transport.env[1]"),
        (stdio("API_KEY=s3cret: x"), "servers[0].transport.env[0]"),
        (stdio("\"API_KEY s3cret\": [x]"), "servers[0].transport.env[0]"),
        (stdio("\"API_KEY s3cret\": a, \"API_KEY s3cret\": b"), "servers[0].transport.env[1]"),
        (stdio("\"API_KEY s3cret\": !other x"), "servers[0].transport.env[0]"),
        (stdio("A: !s3cret x"), "servers[0].transport.env.A"),
        (stdio("A: !!s3cret x"), "servers[0].transport.env.A"),
        (stdio("A: !<s3cret> x"), "servers[0].transport.env.A"),
        (stdio("A: \"${s3cret}\""), "servers[0].transport.env.A"),
        (stdio("A: \"${vault:s3cret}\""), "servers[0].transport.env.A"),
        (stdio("A: \"${s3cret:x}\""), "servers[0].transport.env.A"),
        (http("http://h/", "\"Authorization: Bearer s3cret\": "), "servers[0].transport.headers[0]"),
        (http("http://h/", "\"Bearer s3cret\": x"), "servers[0].transport.headers[0]"),
        (http("http://h/", "a.s3cret: "), "servers[0].transport.headers[0]"),
        (http("http://h/", "A: \"Bearer ${s3cret}\""), "servers[0].transport.headers.A"),
        (http("https://alice:s3cret/et@h", ""), "servers[0].transport.url"),
        (http("https://s3cret!/et@h", ""), "servers[0].transport.url"),
        (http("https://s3cret.1/et@h", ""), "servers[0].transport.url"),
        (http("https://[s3cret]/", ""), "servers[0].transport.url"),
        (http("https://alice:s3cret@h", ""), "servers[0].transport.url"),
        (http("s3cret://h", ""), "servers[0].transport.url"),
    ] {
        let violations = parse(&[named("f.yaml", text.clone())]).unwrap_err();
        assert_eq!(violations[0].path, path, "{text}{violations:#?}");
        for said in violations.iter().map(ToString::to_string) {
            assert!(!said.contains("s3cret"), "{text}{said}");
        }
    }
    let why = "the key is not shown, since it has not the form of a name; expected `NAME: value`";
    assert!(first("f.yaml", stdio("API_KEY=s3cret: ")).ends_with(why));
    assert!(first("f.yaml", stdio("\"my.key\": ")).contains("transport.env.my.key: expected a text"));
}
