//! Reading a text again by what was known of it gives what reading the whole text gives: the same snapshot and advice,
//! or the same violations at the same places.

use std::sync::Arc;

use model::{Snapshot, Violation};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::named;
use super::properties::{Edit, edit, edited};
use crate::{Judged, Known, Source, merge, merge_again};

type Read = Result<(Snapshot, Vec<Violation>), Vec<Violation>>;

fn said(judged: Result<Judged, Vec<Violation>>) -> Read {
    judged.map(|judged| (judged.snapshot, judged.advice))
}

/// Reads a text in both ways, and remembers it if it is good.
fn read(sources: &[Source], known: &mut Known) -> Read {
    let again = merge_again(sources, &[], known).judge();
    if let Ok(judged) = &again {
        *known = judged.known();
    }
    let again = said(again);
    assert_eq!(again, said(merge(sources).judge()), "{}", sources[0].text);
    again
}

fn file(text: &str) -> Vec<Source> {
    vec![named("f.yaml", text.to_owned())]
}

/// A server as people write it, in lines that stand below the first.
fn server(number: usize, style: usize) -> String {
    let id = format!("s{number}");
    match style % 9 {
        0 => format!("- {{ id: {id}, transport: {{ type: http, url: \"http://h/{number}\" }} }}\n"),
        1 => format!("- id: {id}\n  transport:\n    type: stdio\n    command: npx\n    args: [-y, 'a  b']\n"),
        2 => format!(
            "- id: {id}\n  # a comment: [\n\n  transport: {{ type: http, urls: [\n    http://h/{number},\n  ] }}\n"
        ),
        3 => format!(
            "- transport:\n    command: >-\n      a\n      - b\n    type: stdio\n  id: \"{id}\"\n# at the margin\n"
        ),
        4 => format!("- id: {id}\n  transport: {{ type: stdio, command: x, env: {{ K: \"a\n  - b\" }} }}\n"),
        // The server stands below its dash.
        6 => format!("-\n  id: {id}\n  transport: {{ type: stdio, command: x }}\n"),
        7 => format!("-\t\n\n  id: {id}\n  transport: {{ type: stdio, command: x }}\n"),
        // Advice on its id.
        5 => format!("- id: {id}.x\n  transport: {{ type: stdio, command: x }}\n  critical: true\n"),
        _ => format!("-   id: {id}\n    transport:\n     type: http\n     url: http://h\n     headers: {{ A: '1' }}\n"),
    }
}

fn text(head: usize, indent: usize, servers: &[usize], tail: usize) -> String {
    let head = [
        "servers:\n",
        "version: \"1.0\"\nservers: # these\n",
        "# -\nlimits:\n  total: 1h\n\nservers:\n# first\n",
        "$schema: &a x\nservers:\n",
        "$schema: !!str x\nservers:\n",
        "naming: none\nservers:\n",
        "hot_reload: { two_phase_commit: { enabled: false } }\nservers:\n",
    ][head % 7];
    let tail = [
        "",
        "naming: prefix\n",
        "\n# end\n",
        "drain:\n  graceful: { timeout_seconds: 3 }\n",
        "mcpServers:\n  theirs: { command: x, disabled: true }\n  other: { command: y }\n",
    ][tail % 5];
    let margin = " ".repeat(indent % 4);
    let servers: String = servers.iter().enumerate().map(|(number, style)| server(number, *style)).collect();
    let servers: String = servers.split_inclusive('\n').map(|line| format!("{margin}{line}")).collect();
    format!("{head}{servers}{tail}")
}

#[derive(Debug, Clone)]
enum Change {
    Text(Edit),
    /// So many lines from here, before the line there.
    Copy(Index, usize, Index),
    Drop(Index, usize),
    Indent(Index, usize),
    Number(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => edit().prop_map(Change::Text),
        3 => (any::<Index>(), 1..6_usize, any::<Index>()).prop_map(|(from, count, to)| Change::Copy(from, count, to)),
        2 => (any::<Index>(), 1..6_usize).prop_map(|(at, count)| Change::Drop(at, count)),
        1 => (any::<Index>(), 0..4_usize).prop_map(|(at, indent)| Change::Indent(at, indent)),
        3 => any::<Index>().prop_map(Change::Number),
    ]
}

fn changed(text: &str, change: Change) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let here = |index: Index| index.index(lines.len());
    match change {
        Change::Text(edit) => return edited(text, vec![edit]),
        Change::Copy(from, count, to) => {
            let (from, to) = (here(from), here(to));
            let copied: Vec<_> = lines.iter().skip(from).take(count).cloned().collect();
            lines.splice(to..to, copied);
        }
        Change::Drop(at, count) => {
            let at = here(at);
            lines.drain(at..lines.len().min(at + count));
        }
        Change::Indent(at, indent) => {
            let at = here(at);
            lines[at] = format!("{:indent$}{}", "", lines[at].trim_start());
        }
        // What people change most: a value here or there.
        Change::Number(at) => {
            let at = here(at);
            lines[at] = lines[at].replace(|c: char| c.is_ascii_digit(), "7");
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_text_means_the_same_whatever_was_read_before(
        head in 0..7_usize,
        indent in 0..4_usize,
        servers in vec(0..9_usize, 2..9),
        tail in 0..5_usize,
        changes in vec((vec(change(), 1..3), any::<bool>()), 1..6),
    ) {
        let mut known = Known::default();
        let mut text = text(head, indent, &servers, tail);
        drop(read(&file(&text), &mut known));
        for (changes, back) in changes {
            let next = changes.into_iter().fold(text.clone(), |text, change| changed(&text, change));
            if read(&file(&next), &mut known).is_ok() || !back {
                text = next;
            }
        }
    }

    #[test]
    fn texts_in_turn_mean_the_same(texts in vec((0..7_usize, 0..4_usize, vec(0..7_usize, 1..6)), 2..5)) {
        let mut known = Known::default();
        for (head, indent, servers) in texts {
            drop(read(&file(&text(head, indent, &servers, 0)), &mut known));
        }
    }
}

/// The ids of the servers that are the very ones of `before`.
fn kept(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let same = after.backends.iter().filter(|backend| before.backends.iter().any(|held| Arc::ptr_eq(held, backend)));
    same.map(|backend| backend.id.to_string()).collect()
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let many = [0, 1, 2, 3, 4, 5, 8].repeat(2);
    let before = text(1, 2, &many, 1);
    let mut known = Known::default();
    let (first, _) = read(&file(&before), &mut known).unwrap();
    let changed = before.replace("id: s8", "id: other").replace("version", "# more\n\nversion");
    let (second, advice) = read(&file(&changed), &mut known).unwrap();
    // Not the one that changed, those that give rise to advice, those that are not told by their lines, and the last
    // one.
    assert_eq!(kept(&first, &second), ["s0", "s1", "s2", "s4", "s7", "s9", "s11"]);
    assert_eq!(advice[0].path, "servers[5].id", "{advice:?}");
    let (third, _) = read(&file(&before), &mut known).unwrap();
    assert_eq!(kept(&second, &third), ["s0", "s1", "s2", "s4", "s7", "s9", "s11"]);
}

#[test]
fn what_is_judged_of_all_servers_is_judged_of_known_ones() {
    let mut known = Known::default();
    let before = text(0, 2, &[0, 0, 1, 1, 0], 0);
    read(&file(&before), &mut known).unwrap();
    let item = "  - { id: s0, transport: { type: http, url: \"http://h/0\" } }\n";
    for twice in [before.replace(item, &item.repeat(2)), format!("{before}{item}"), before.replace("id: s2", "id: s0")]
    {
        let violations = read(&file(&twice), &mut known).unwrap_err();
        assert!(violations[0].message.starts_with("server id `s0` is already used at f.yaml:2:"), "{violations:?}");
    }
    let critical = text(0, 2, &[5, 5, 0], 0);
    read(&file(&critical), &mut known).unwrap();
    let unheld = format!("hot_reload: {{ two_phase_commit: {{ enabled: false }} }}\n{critical}");
    assert_eq!(read(&file(&unheld), &mut known).unwrap_err().len(), 2);
}

#[test]
fn layers_are_known_each_for_itself() {
    let mut known = Known::default();
    let layer = |name: &str, text: String| Source { owner: model::Owner::api(name), ..named(name, text) };
    let of_api = text(0, 2, &[0, 1, 2], 0).replace("id: s", "id: api");
    let sources = [named("f.yaml", text(1, 0, &[1, 2, 0], 3)), layer("ops", of_api)];
    let (first, _) = read(&sources, &mut known).unwrap();
    let (second, _) = read(&sources, &mut known).unwrap();
    assert_eq!(kept(&first, &second), ["s0", "s1", "api0", "api1"]);
    // The same lines under another owner are the same servers.
    let moved = [layer("other", sources[1].text.clone())];
    let (third, _) = read(&moved, &mut known).unwrap_or_else(|violations| panic!("{violations:?}"));
    assert_eq!(kept(&second, &third), Vec::<String>::new(), "the policy is another one");
}

/// Texts in which lines look like items and are none, or are items of something else.
#[test]
fn lines_that_look_like_a_server_are_not_taken_for_one() {
    let item = |id: &str| format!("  - {{ id: {id}, transport: {{ type: stdio, command: x }} }}\n");
    let (a, b, c) = (item("a"), item("b"), item("c"));
    let before = format!("servers:\n{a}{b}{c}");
    for text in [
        format!("servers:\n{a}{c}\n$schema: \"\n{b}{c}\"\n"),
        format!("servers:\n{a}  - id: d\n    transport: {{ type: stdio, command: \"\n{b}{c}\" }}\n"),
        format!("servers:\n{a}  - id: d\n    transport:\n      type: stdio\n      command: |\n        x\n{b}{c}"),
        format!("servers:\n{a}  - id: d\n    tools:\n{b}{c}"),
        format!("servers: [\n{a}{b}{c}]\n"),
        format!("servers: >\n{a}{b}{c}"),
        format!("x: &a\n{a}{b}{c}servers: *a\n"),
        format!("servers: &a\n{a}{b}{c}"),
        format!("servers: !!seq\n{a}{b}{c}"),
        format!("servers: ~\nlimits:\n{a}{b}{c}"),
        format!("servers:\n{a}{b}{c}servers:\n{a}{b}{c}"),
        format!("servers:\n{a}{b}...\n{c}"),
        format!("servers:\n{a}---\n{b}{c}"),
        format!("servers:\n{a}{b}  - 0\n{c}"),
        format!("servers:\n{a}\r{b}{c}"),
        before.replace('\n', "\r\n"),
        format!("\u{feff}{before}"),
        format!("servers:\n    - id: d\n{a}{b}{c}"),
        format!("servers:\n{a}{b}\t\n{c}"),
        format!("  servers:\n{a}{b}{c}"),
        before.trim_end().to_owned(),
    ] {
        let mut known = Known::default();
        read(&file(&before), &mut known).unwrap();
        drop(read(&file(&text), &mut known));
        drop(read(&file(&before), &mut known));
    }
}

/// The meaning of such lines depends on what stands before them.
#[test]
fn lines_with_anchors_tags_and_open_brackets_are_read_each_time() {
    let stdio =
        |id: &str, command: &str| format!("  - id: {id}\n    transport: {{ type: stdio, command: {command} }}\n");
    let anchor = format!("servers:\n{}{}{}", stdio("&x a", "x"), stdio("b", "*x"), stdio("c", "x"));
    let tag = format!("servers:\n{}{}{}", stdio("a", "x"), stdio("!!str b", "x"), stdio("c", "x"));
    let (open, end) = ("{ type: stdio, command: x, env: { K: \"", "\" } } }");
    let middle = format!("  - {end}, {{ id: b, transport: {open}\n");
    let brackets =
        format!("servers: [ {{ id: a, transport: {open}\n{middle}  - {end}, {{ id: c, transport: {open}{end}\n]\n");
    for (before, after) in [
        (&anchor, anchor.replace("&x a", "&x other")),
        (&tag, format!("%TAG !! tag:example.org,2000:\n---\n{tag}")),
        (&brackets, format!("servers:\n{}{middle}{}", stdio("d", "x"), stdio("e", "x"))),
    ] {
        let mut known = Known::default();
        read(&file(before), &mut known).unwrap();
        drop(read(&file(&after), &mut known));
    }
}

/// The lines of one server never stand for those of another one beside it.
#[test]
fn a_server_below_its_dash_stays() {
    let item = |dash: &str, id: &str| format!("{dash}id: {id}\n    transport: {{ type: stdio, command: x }}\n");
    for dash in ["  -\n    ", "  -\t\n    ", "  -\n\n    ", "  - \n    ", "  - # c\n    "] {
        let servers = |c: &str| [item("  - ", "a"), item(dash, "b"), item("  - ", c), item("  - ", "d")].concat();
        let mut known = Known::default();
        for end in ["", "# end\n", "naming: none\n"] {
            let (snapshot, _) = read(&file(&format!("servers:\n{}{end}", servers("c"))), &mut known).unwrap();
            assert_eq!(snapshot.backends.len(), 4, "{dash:?}");
        }
        assert!(read(&file(&format!("servers:\n{}", servers("b"))), &mut known).is_err(), "two have one id");
    }
}
