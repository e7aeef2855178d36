//! What the file holds after something failed.

use super::*;

fn begun(lines: &str) -> (tempfile::TempDir, PathBuf, JournalFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    std::fs::write(&path, lines).unwrap();
    let (file, _) = open(path.clone()).unwrap();
    (dir, path, file)
}

#[test]
fn after_an_append_that_could_not_be_cut_off_the_next_one_is_a_line_of_the_file() {
    let (_dir, path, mut journal) = begun("one\n");
    // Neither a write nor a cut succeeds.
    journal.file.as_mut().unwrap().file = File::open(&path).unwrap();
    assert!(journal.append("two\n", true).is_err());
    // As if a part of it had been written.
    std::fs::write(&path, "one\nt").unwrap();
    journal.append("three\n", true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nt\nthree\n");
    assert_eq!(journal.file.unwrap().length, 12);
}

#[test]
fn another_file_has_its_own_length() {
    let (_dir, path, mut journal) = begun(&"a long line\n".repeat(100));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(journal.replace("short\n").is_err());
    assert!(journal.append("lost\n", true).is_err());
    std::fs::remove_dir(&path).unwrap();
    // As if the file had got its name before something failed.
    std::fs::write(&path, "short\n").unwrap();
    journal.append("next\n", true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim_start_matches("short\n").trim_start(), "next\n");
    assert_eq!(journal.file.unwrap().length, std::fs::metadata(&path).unwrap().len());
}
