//! Files as people write them: the good ones parse, and the bad ones are refused with exactly the words beside
//! them. `UPDATE_GOLDEN=1` writes those words anew; read the difference before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::named;
use crate::{Source, parse, read};
use model::{Owner, Snapshot, Violation};

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/config").join(kind)
}

/// The cases of a folder: `NAME.yaml` or `NAME.toml` is the file, and `NAME.OWNER.yaml` what OWNER applied beside it.
fn cases(kind: &str) -> BTreeMap<String, Vec<Source>> {
    let mut cases: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for entry in fs::read_dir(fixtures(kind)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".toml")) else { continue };
        let (case, owner) = match stem.split_once('.') {
            Some((case, owner)) => (case, Owner::api(owner)),
            None => (stem, Owner::file()),
        };
        let source = Source { owner, ..named(&name, read(&path).unwrap()) };
        cases.entry(case.into()).or_default().push(source);
    }
    cases
}

fn lines(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |mut lines, violation| {
        writeln!(lines, "{violation}").unwrap();
        lines
    })
}

/// What differs, or nothing.
fn compare(path: &Path, got: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, got).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != got).then(|| format!("{}\n--- expected\n{expected}--- got\n{got}", path.display()))
}

#[test]
fn bad_files_are_refused_with_all_reasons() {
    let cases = cases("invalid");
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for (case, sources) in cases {
        let Err(violations) = parse(&sources) else {
            failures.push(format!("{case}: accepted"));
            continue;
        };
        let placed = violations.iter().all(|violation| violation.at.is_some());
        assert!(placed && !violations.is_empty(), "{case}: {violations:?}");
        failures.extend(compare(&fixtures("invalid").join(format!("{case}.txt")), &lines(&violations)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn good_files_become_the_snapshots_beside_them() {
    let mut failures = Vec::new();
    for (case, sources) in cases("valid") {
        let snapshot = parse(&sources).unwrap_or_else(|violations| panic!("{case}:\n{}", lines(&violations)));
        let canonical = String::from_utf8(snapshot.canonical().0).unwrap() + "\n";
        let back: Snapshot = serde_json::from_str(&canonical).unwrap();
        assert_eq!(back, snapshot, "{case}");
        failures.extend(compare(&fixtures("valid").join(format!("{case}.json")), &canonical));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
