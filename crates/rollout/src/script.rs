//! Golden scripts: what is put in, line by line, and under each line what came out.

use std::sync::Arc;
use std::time::Duration;

use model::{Backend, BackendId, BackendPolicy, EndpointSpec, Isolation, Snapshot, Transport, Variant, VariantId};

use crate::Content;

/// A snapshot by its name: each letter is a server, its capital the same server with another command; `!` before
/// a letter makes it critical; `-` is the empty snapshot, and a `1` at the end turns two phases off.
pub(crate) fn content(name: &str) -> Content {
    let mut snapshot = Snapshot::default();
    let mut critical = false;
    for letter in name.chars() {
        match letter {
            '-' => {}
            '!' => critical = true,
            '1' => snapshot.policy.validation.two_phase_commit = false,
            letter => {
                snapshot.backends.push(Arc::new(backend(letter, critical).into()));
                critical = false;
            }
        }
    }
    Content::new(Arc::new(snapshot))
}

fn backend(letter: char, critical: bool) -> Backend {
    let spec = EndpointSpec {
        transport: Transport::Stdio { command: letter.to_string(), args: vec![], env: Default::default(), cwd: None },
        isolation: Isolation::Shared,
    };
    Backend {
        id: BackendId::new(&letter.to_lowercase().to_string()).unwrap(),
        variants: vec![Variant { id: VariantId::only(), weight: 100, endpoints: vec![spec] }],
        tools: None,
        policy: BackendPolicy { critical, ..BackendPolicy::default() },
    }
}

/// Runs every line that is not an answer (`> …`) and compares what came out with the answers below it.
#[track_caller]
pub(crate) fn check(script: &str, mut step: impl FnMut(&str) -> Vec<String>) {
    let expected: Vec<String> =
        script.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let mut got = Vec::new();
    for line in expected.iter().filter(|line| !line.starts_with('>')) {
        got.push(line.clone());
        if !line.starts_with('#') {
            got.extend(step(line).into_iter().map(|answer| format!("> {answer}")));
        }
    }
    assert_eq!(got.join("\n"), expected.join("\n"), "\n--- got:\n{}\n---", got.join("\n"));
}

/// `500ms`, `30s`.
pub(crate) fn duration(text: &str) -> Duration {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => Duration::from_millis(ms.parse().unwrap()),
        (None, Some(s)) => Duration::from_secs(s.parse().unwrap()),
        (None, None) => panic!("{text} is no duration"),
    }
}
