//! Every kind of discrepancy is seen, over several files.

use super::{Discrepancies, Tally};

#[test]
fn lost_duplicated_and_extra_calls_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "t-1\nt-2\nother\n").unwrap();
    std::fs::write(folder.path().join("b"), "t-2\nt-4\nt-5\n").unwrap();
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let found = Tally::read(folder.path()).unwrap().compare("t-", &set(&["t-1", "t-2", "t-3"]), &set(&["t-5"]));
    let list = |text: &str| vec![text.to_owned()];
    assert_eq!(found, Discrepancies { lost: list("t-3"), duplicated: list("t-2"), extra: list("t-4") });
}
