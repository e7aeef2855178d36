//! How long it takes from the text of a large file to its snapshot.

use std::fmt::Write as _;

use config_file::{Format, Source, merge, merge_again, parse};
use model::Owner;

fn main() {
    divan::main();
}

/// As people write them: half of the servers are programs, half are reached at a URL.
fn servers(count: usize) -> Source {
    let mut text = "version: \"1.0\"\nnaming: prefix\nservers:\n".to_owned();
    for i in 0..count {
        let server = if i % 2 == 0 {
            format!(
                "  - id: files-{i}\n    transport:\n      type: stdio\n      command: npx\n      args: [\"-y\", \"some-server\", \
                 \"/data/{i}\"]\n      env: {{ KEY: \"${{env:KEY_{i}}}\", PORT: {i} }}\n    tools: [read, write]\n"
            )
        } else {
            format!(
                "  - id: search-{i}\n    transport:\n      type: http\n      url: https://example.org/{i}/mcp\n      headers:\n        \
                 Authorization: \"Bearer ${{file:/run/secrets/{i}}}\"\n"
            )
        };
        write!(text, "{server}").expect("a String takes everything");
    }
    Source { owner: Owner::file(), name: "only1mcp.yaml".into(), format: Format::Yaml, text }
}

#[divan::bench(args = [1, 200, 2000])]
fn snapshot(bencher: divan::Bencher<'_, '_>, count: usize) {
    let sources = [servers(count)];
    parse(&sources).expect("the file is a good one");
    bencher.bench(|| parse(&sources));
}

/// After a change of one server.
#[divan::bench(args = [1, 200, 2000])]
fn again(bencher: divan::Bencher<'_, '_>, count: usize) {
    let before = servers(count);
    let known = merge(std::slice::from_ref(&before)).judge().expect("the file is a good one").known();
    let id = format!("id: files-{}\n", count / 4 * 2);
    let after = [Source { text: before.text.replace(&id, "id: other\n"), ..before }];
    bencher.bench(|| merge_again(&after, &[], &known).judge().map(|judged| judged.known()));
}
