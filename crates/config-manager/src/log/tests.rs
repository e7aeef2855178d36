//! What is in the file after which step.

mod lost;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{AttemptId, Diff, Digest, HistoryPolicy, Owner, Policy, Revision, Snapshot, WallTime};

use super::table::{AUDIT, CONTENTS};
use super::*;

const DAY: u64 = 86_400_000;

struct Place {
    dir: tempfile::TempDir,
    /// Fail points are the process's: one test at a time.
    #[cfg(feature = "failpoints")]
    _alone: fail::FailScenario<'static>,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            #[cfg(feature = "failpoints")]
            _alone: fail::FailScenario::setup(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn open(&self) -> Opened {
        Log::open(&self.path(), WallTime(0)).unwrap()
    }
}

/// A content for each number.
fn bytes(number: u64) -> (Arc<[u8]>, Digest) {
    let mut policy = Policy::default();
    policy.limits.request_bytes = 1000 + number;
    let (bytes, digest) = Snapshot { policy, backends: Vec::new() }.canonical();
    (bytes.into(), digest)
}

pub(crate) fn entry(number: u64, time: u64) -> Entry {
    let (content, digest) = bytes(number);
    let layer = Layer { name: "gateway.yaml".into(), text: format!("text {number}"), ..Layer::default() };
    Entry {
        record: RevisionRecord {
            revision: Revision(number),
            parent: Revision(number - 1),
            digest,
            actor: "uid:0".into(),
            source: "file".into(),
            time: WallTime(time),
            attempt: AttemptId { epoch: 1, sequence: number },
            diff: Diff::default(),
            reason: String::new(),
            without: Vec::new(),
        },
        content: Some((content, Arc::new(BTreeMap::from([(Owner::file(), layer)])))),
        cursors: BTreeMap::from([(Owner::file(), digest)]),
        history: HistoryPolicy { max_snapshots: Some(3), retention: Duration::from_secs(7 * 86_400) },
    }
}

fn refused() -> Ended {
    Ended {
        time: WallTime(5),
        result: "refused",
        revision: Revision(1),
        actor: "token".into(),
        source: "api:x".into(),
        attempt: None,
        digest: None,
        diff: Diff::default(),
        reason: "no".into(),
        violations: Vec::new(),
        without: Vec::new(),
    }
}

fn append(log: &Log, number: u64, time: u64) {
    assert!(matches!(log.append(&entry(number, time)), Written::Durable));
}

#[test]
fn what_was_appended_is_there_after_a_restart_byte_for_byte() {
    let place = Place::new();
    let first = place.open();
    assert!(first.head.is_none() && first.cursors.is_empty());
    append(&first.log, 1, 1);
    append(&first.log, 2, 2);
    let (id, epoch) = (first.log.id().clone(), first.log.epoch());
    drop(first);
    let again = place.open();
    assert_eq!((again.log.id(), again.log.epoch(), &again.fault), (&id, epoch + 1, &None));
    let head = again.head.unwrap();
    assert!(head.instead_of.is_none());
    assert_eq!((head.kept.record.revision, &head.kept.bytes), (Revision(2), &bytes(2).0));
    assert_eq!(head.kept.layers[&Owner::file()].text, "text 2");
    assert_eq!(again.cursors[&Owner::file()], Cursor { digest: bytes(2).1, judged: Judged::Live });
}

#[test]
fn a_log_has_its_name_only_when_it_can_be_opened() {
    for _ in 0..10 {
        let place = Place::new();
        // What a start leaves that was killed before.
        std::fs::write(place.dir.path().join("log.begun"), [0; 4096]).unwrap();
        let path = place.path();
        let opening = std::thread::spawn(move || Log::open(&path, WallTime(0)).unwrap());
        let is_there = || std::fs::metadata(place.path()).is_ok_and(|file| file.len() > 0);
        while !is_there() && !opening.is_finished() {
            std::thread::yield_now();
        }
        let killed = place.dir.path().join("killed");
        std::fs::copy(place.path(), &killed).unwrap();
        let opened = opening.join().unwrap();
        append(&opened.log, 1, 1);
        assert_eq!(Log::open(&killed, WallTime(0)).unwrap().log.id(), opened.log.id());
    }
}

#[test]
fn the_log_is_for_its_owner_alone_whatever_its_directory_and_an_older_release_left() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    std::fs::set_permissions(place.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mode = || std::fs::metadata(place.path()).unwrap().permissions().mode() & 0o777;
    append(&place.open().log, 1, 1);
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(place.open().head.unwrap().kept.record.revision, Revision(1));
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_refusal_is_recorded_with_its_cursor_and_leaves_the_head() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    let cursor = Cursor { digest: Digest::of_bytes(b"bad"), judged: Judged::Refused };
    log.audit(Some(refused()), Some((Owner::file(), cursor))).unwrap();
    drop(log);
    let again = place.open();
    assert_eq!(again.cursors[&Owner::file()], cursor);
    assert_eq!(again.head.unwrap().kept.record.revision, Revision(1));
    let audited = again.log.ended(0).unwrap();
    let brief: Vec<_> = audited.iter().map(|(record, _)| (record.sequence, record.result.as_str())).collect();
    assert_eq!(brief, [(2, "refused"), (1, "applied")]);
    assert_eq!(again.fault, None);
}

#[test]
fn history_is_bounded_and_always_has_a_way_back() {
    let place = Place::new();
    let log = place.open().log;
    for number in 1..=5 {
        append(&log, number, number);
    }
    let kept = |log: &Log| -> Vec<(u64, bool)> {
        log.revisions(0).unwrap().into_iter().map(|(record, kept)| (record.revision.0, kept)).collect()
    };
    assert_eq!(kept(&log), [(5, true), (4, true), (3, true), (2, false), (1, false)]);
    let gone = log.kept(Revision(2)).unwrap_err();
    assert!(
        matches!(&gone, Unavailable::Pruned { kept, .. } if *kept == [Revision(3), Revision(4), Revision(5)]),
        "{gone}"
    );
    assert!(gone.to_string().ends_with("what can be brought back: 3 to 5"), "{gone}");
    assert!(matches!(log.kept(Revision(9)), Err(Unavailable::Unknown { newest: Revision(5), .. })));
    // A month later only what is needed is left, and every record.
    append(&log, 6, 30 * DAY);
    assert_eq!(kept(&log)[..3], [(6, true), (5, true), (4, false)]);
    assert_eq!(log.ended(0).unwrap().len(), 6);
    assert_eq!(log.revisions(2).unwrap().len(), 2);
    // Another number for what is live does not take the way back.
    let mut renumbered = Entry { content: None, ..entry(20, 60 * DAY) };
    renumbered.record = RevisionRecord {
        parent: Revision(6),
        digest: bytes(6).1,
        source: RevisionRecord::RENUMBERING.into(),
        ..renumbered.record
    };
    assert!(matches!(log.append(&renumbered), Written::Durable));
    assert_eq!(kept(&log)[..3], [(20, true), (6, false), (5, true)]);
}

/// Of the content that is brought back the digest is made anew, by routers too.
#[test]
fn what_an_earlier_release_stored_has_the_digest_that_it_was_stored_with() {
    let place = Place::new();
    let log = place.open().log;
    let stored = [r#"{"policy":{"limits":{"request_bytes":7}}}"#, r#"{"policy":{"history":{"max_snapshots":100}}}"#];
    for (content, number) in stored.iter().zip(1..) {
        let mut entry = entry(number, number);
        entry.record.digest = Digest::of_bytes(content.as_bytes());
        entry.content = entry.content.map(|(_, layers)| (content.as_bytes().into(), layers));
        assert!(matches!(log.append(&entry), Written::Durable));
        let kept = log.kept(Revision(number)).unwrap();
        assert_eq!(kept.content.snapshot.digest(), entry.record.digest, "{content}");
    }
}

#[test]
fn a_damaged_head_is_replaced_by_the_newest_content_that_can_be_read() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    append(&log, 2, 2);
    drop(log);
    overwrite(&place.path(), |writing| writing.put(CONTENTS, 2, b"{}").unwrap());
    let opened = place.open();
    let head = opened.head.unwrap();
    assert_eq!((head.kept.record.revision, &head.kept.bytes), (Revision(3), &bytes(1).0));
    assert_eq!(head.instead_of.unwrap().0, Revision(2));
    // A file that says still what was in it is judged again.
    let restored = Cursor { digest: Digest::of_bytes(b"text 1"), judged: Judged::Live };
    assert_eq!(opened.cursors[&Owner::file()], restored);
    append(&opened.log, 4, 4);
    drop(opened.log);
    assert_eq!(place.open().fault, None);
}

#[test]
fn a_record_that_was_changed_breaks_the_chain() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    log.audit(Some(refused()), None).unwrap();
    append(&log, 2, 2);
    drop(log);
    overwrite(&place.path(), |writing| {
        let row = writing.row(AUDIT, 2).unwrap().unwrap();
        let changed = String::from_utf8_lossy(&row[32..]).replace("token", "other");
        writing.put(AUDIT, 2, &[&row[..32], changed.as_bytes()].concat()).unwrap();
    });
    let opened = place.open();
    assert!(opened.fault.unwrap().contains("record 2"));
    // It serves all the same: what is live is not in doubt.
    assert_eq!(opened.head.unwrap().kept.record.revision, Revision(2));
}

fn overwrite(path: &Path, change: impl FnOnce(&Writing)) {
    let store = Store(redb::Database::open(path).unwrap());
    assert!(store.read().is_ok());
    let writing = store.write().unwrap();
    change(&writing);
    writing.commit().unwrap();
}

#[test]
fn the_log_goes_on_after_it_was_opened_anew() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    log.reopen().unwrap();
    append(&log, 2, 2);
    assert_eq!(log.revisions(0).unwrap().len(), 2);
}

#[test]
fn an_epoch_that_was_raised_is_kept() {
    let place = Place::new();
    let log = place.open().log;
    assert_eq!(log.raise_epoch(6).unwrap(), 7);
    assert!(log.raise_epoch(u64::MAX).is_err());
    append(&log, 1, 1);
    log.reopen().unwrap();
    append(&log, 2, 2);
    assert_eq!(log.epoch(), 7);
    drop(log);
    assert_eq!(place.open().log.epoch(), 8);
}

/// Where the file is while it is not in its place.
fn away(place: &Place) -> PathBuf {
    place.dir.path().join("away")
}

#[test]
fn nothing_is_written_anywhere_else_while_the_file_is_away() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    std::fs::rename(place.path(), away(&place)).unwrap();
    // As after a write that failed.
    assert!(log.reopen().is_err());
    let refused_append = log.append(&entry(2, 2));
    assert!(matches!(refused_append, Written::Not(LogError::Open { .. })), "{refused_append:?}");
    assert!(log.audit(Some(refused()), None).is_err());
    assert!(log.revisions(0).is_err(), "a history that is not the file's");
    assert!(!place.path().exists());

    std::fs::rename(away(&place), place.path()).unwrap();
    assert_eq!(log.revisions(0).unwrap().len(), 1, "reading opens it as well");
    append(&log, 2, 3);
    assert_eq!(log.revisions(0).unwrap().len(), 2);
    drop(log);
    let again = place.open();
    let numbers: Vec<_> = again.log.revisions(0).unwrap().iter().map(|(record, _)| record.revision.0).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(again.log.ended(0).unwrap().len(), 2);
    assert_eq!(again.fault, None);
}

#[test]
fn another_log_in_the_place_of_the_file_is_not_written() {
    let place = Place::new();
    let log = place.open().log;
    append(&log, 1, 1);
    std::fs::rename(place.path(), away(&place)).unwrap();
    drop(place.open());
    assert!(matches!(log.reopen(), Err(LogError::Another { .. })));
    let refused_append = log.append(&entry(2, 2));
    assert!(matches!(refused_append, Written::Not(LogError::Another { .. })), "{refused_append:?}");

    std::fs::rename(away(&place), place.path()).unwrap();
    append(&log, 2, 3);
    drop(log);
    assert_eq!(place.open().head.unwrap().kept.record.revision, Revision(2));
}
