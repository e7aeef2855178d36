//! When a program counts as built from this code.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use super::*;

#[test]
fn a_list_names_its_sources() {
    let list = "/t/release/x: /w/a.rs /w/with\\ space/b.rs\n\n/w/a.rs:\n";
    let named: Vec<_> = sources(list).collect();
    assert_eq!(named, [Path::new("/w/a.rs"), Path::new("/w/with space/b.rs")]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "for times of files")]
fn only_a_program_of_this_code_as_it_is_is_current() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let at = |path: &Path, age: u64| {
        let file = File::options().create(true).append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    let built_from = |source: &Path| {
        fs::write(program.with_extension("d"), format!("{}: {}\n", program.display(), source.display())).unwrap();
        built_from_this(&program).map_err(|error| error.to_string())
    };
    let own = checkout().join("crates/testkit/src/binaries.rs");
    at(&program, 0);
    built_from(&own).unwrap();
    assert!(built_from(&own.with_file_name("never.rs")).unwrap_err().contains("never.rs is gone"));
    let other = folder.path().join("other.rs");
    at(&other, 60);
    assert!(built_from(&other).unwrap_err().contains("is not of this checkout"));
    at(&program, 100 * 365 * 86_400 / 2);
    assert!(built_from(&own).unwrap_err().contains("is newer"));
}
