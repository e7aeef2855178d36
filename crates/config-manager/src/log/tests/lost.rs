//! What was written when a sync failed may be lost although it can be read.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::atomic::AtomicBool;

use super::*;
use crate::log::file::probe::{self, Plan};

impl Place {
    fn inode(&self) -> u64 {
        std::fs::metadata(self.path()).unwrap().ino()
    }

    fn plan(&self, plan: Plan) {
        probe::plan(self.dir.path(), plan);
    }

    fn planned(&self) -> Plan {
        probe::planned(self.dir.path())
    }
}

/// Whether the write said that it is on the disk.
type Write = fn(&Log) -> bool;

const WRITES: [Write; 3] = [
    |log| matches!(log.append(&entry(2, 2)), Written::Durable),
    |log| log.audit(Some(refused()), None).is_ok(),
    |log| log.raise_epoch(6).is_ok(),
];

#[test]
fn after_a_sync_that_failed_the_log_is_a_new_file_all_of_which_is_on_the_disk() {
    for write in WRITES {
        for pass in 0.. {
            let place = Place::new();
            let log = place.open().log;
            append(&log, 1, 1);
            let before = place.inode();
            place.plan(Plan::new(pass, 1));
            let done = write(&log);
            let planned = place.planned();
            if planned.fail > 0 {
                assert!(pass > 0 && done, "it has no sync");
                break;
            }
            assert_ne!(place.inode(), before, "sync {pass}");
            assert!(planned.synced.contains(&place.inode()), "{planned:?}");
            assert!(!planned.synced.contains(&before), "what a sync says of that file means nothing: {planned:?}");
            assert_eq!(std::fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(log.fault(), None);
            assert!(!place.path().with_extension("begun").exists());
            // It goes on, in that file.
            let next = log.revisions(1).unwrap()[0].0.revision.next();
            append(&log, next.0, 3);
            let (inode, epoch) = (place.inode(), log.epoch());
            drop(log);
            let again = place.open();
            assert_eq!((again.head.unwrap().kept.record.revision, again.fault), (next, None));
            assert_eq!((place.inode(), again.log.epoch()), (inode, epoch + 1), "it was closed");
        }
    }
}

#[test]
fn nothing_is_said_until_the_new_file_is_there_and_meanwhile_the_log_says_why() {
    for write in WRITES {
        let place = Place::new();
        let log = place.open().log;
        append(&log, 1, 1);
        place.plan(Plan::new(0, 1000));
        let (ended, faults) = (AtomicBool::new(false), log.faults());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write(&log);
                ended.store(true, Ordering::Release);
            });
            let away =
                || matches!(&*faults.borrow(), Some(Fault::Away(why)) if why.contains("no new copy can be made"));
            while !away() {
                std::thread::yield_now();
            }
            // Readers look for it as well.
            let unread = log.revisions(0);
            assert!(matches!(unread, Err(LogError::Renew { .. })), "{unread:?}");
            assert!(!ended.load(Ordering::Acquire));
            place.plan(Plan::new(0, 0));
        });
        assert_eq!(*faults.borrow(), None);
        assert!(log.epoch() == 1 || log.epoch() == 7);
        append(&log, log.revisions(1).unwrap()[0].0.revision.0 + 1, 3);
        let epoch = log.epoch();
        drop(log);
        assert_eq!(place.open().log.epoch(), epoch + 1);
    }
}

/// What a process leaves that is killed.
fn killed(place: &Place) {
    let lives = tempfile::tempdir().unwrap();
    let path = lives.path().join("log");
    let log = Log::open(&path, WallTime(0)).unwrap().log;
    append(&log, 1, 1);
    std::fs::copy(path, place.path()).unwrap();
}

#[test]
fn what_was_not_closed_is_copied_at_the_start_and_what_was_is_not() {
    let place = Place::new();
    killed(&place);
    let before = place.inode();
    place.plan(Plan::new(0, 0));
    assert_eq!(place.open().head.unwrap().kept.record.revision, Revision(1));
    let renewed = place.inode();
    assert!(renewed != before && !place.planned().synced.contains(&before));
    drop(place.open());
    assert_eq!(place.inode(), renewed);
}

#[test]
fn without_room_for_a_copy_it_serves_from_what_there_is() {
    let place = Place::new();
    killed(&place);
    let before = place.inode();
    place.plan(Plan { error: io::ErrorKind::StorageFull, ..Plan::new(0, 1) });
    let opened = place.open();
    assert_eq!(opened.head.unwrap().kept.record.revision, Revision(1));
    assert!(opened.fault.is_some_and(|fault| fault.contains("may not be on the disk")));
    assert_eq!(place.inode(), before);
    assert!(!place.path().with_extension("begun").exists(), "it would take the room that there is");
    drop(opened.log);
    std::fs::write(place.path().with_extension("begun"), "of a process that was killed").unwrap();
    assert_eq!((place.open().fault, place.path().with_extension("begun").exists()), (None, false));
}

#[test]
fn a_link_to_the_log_stays_one() {
    let place = Place::new();
    killed(&place);
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("log");
    std::fs::rename(place.path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, place.path()).unwrap();
    assert_eq!(place.open().head.unwrap().kept.record.revision, Revision(1));
    assert!(place.path().is_symlink() && real.is_file());
}

#[test]
fn the_history_is_of_one_moment() {
    let place = Place::new();
    let log = place.open().log;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..=60).for_each(|number| append(&log, number, number));
            ended.store(true, Ordering::Release);
        });
        while !ended.load(Ordering::Acquire) {
            let torn: Vec<_> = log.ended(0).unwrap().into_iter().filter(|(_, made)| made.is_none()).collect();
            assert!(torn.is_empty(), "applied without its revision: {torn:?}");
        }
    });
    assert_eq!(log.ended(0).unwrap().len(), 60);
}
