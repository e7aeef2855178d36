//! A copy comes back as it was written, or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use drain::DrainId;
use model::{BackendId, ReplaceMode, WallTime, Weight};
use tokio::sync::mpsc;

use super::*;
use crate::control::tests::backend;

fn content(backend: &Arc<model::FixedBackend>) -> Content {
    Content::new(Arc::new(Snapshot { backends: vec![Arc::clone(backend)], ..Snapshot::default() }))
}

fn save(directory: &Path, copy: &DiskCopy) -> io::Result<()> {
    Writer::new(directory.to_owned()).save(&Arc::new(copy.clone())).map(|written| assert!(written))
}

fn copy() -> DiskCopy {
    let backend = backend("files", &["http://localhost:1/mcp"], ReplaceMode::Beside);
    let key = backend.endpoints().next().unwrap().0;
    // Spacing, line breaks, order and unknown keys are the server's, and stay.
    let tool = Item::parse(Kind::Tool, "{ \"x-vendor\":1e2,\n \"name\":\"read\",\n\"inputSchema\":{} }").unwrap();
    let offered = Offered { instructions: Some("read first".into()), ..Offered::of(Kind::Tool, [tool]) };
    let entry = OverlayEntry {
        drain: DrainId::Admin { number: 3, started: WallTime(5) },
        backend: BackendId::new("files").unwrap(),
        endpoint: None,
        weight: Weight::of(250).unwrap(),
        remaining: Duration::from_millis(1500),
        disabled: false,
        rate: 50,
    };
    DiskCopy {
        saved: Saved {
            sender: Sender { log: LogId("l".into()), epoch: 4 },
            revision: Revision(7),
            content: content(&backend),
        },
        known: BTreeMap::from([(key, offered)]),
        overlay: vec![entry],
    }
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    assert!(load(directory.path()).unwrap().is_none());
    let written = copy();
    save(directory.path(), &written).unwrap();
    let read = load(directory.path()).unwrap().unwrap();
    assert_eq!((read.saved, read.known, read.overlay), (written.saved, written.known, written.overlay));
}

/// Copies of servers of which some change, come and leave.
fn copies() -> Vec<Arc<DiskCopy>> {
    let later = |revision: u64, servers: &[(&str, &str)]| {
        let backends: Vec<_> = servers
            .iter()
            .map(|(id, version)| backend(id, &[&format!("http://{id}/{version}")], ReplaceMode::Beside))
            .collect();
        let mut copy = copy();
        copy.saved.revision = Revision(revision);
        let offered = copy.known.into_values().next().unwrap();
        let keys = backends.iter().flat_map(|backend| backend.endpoints().map(|(key, ..)| key).collect::<Vec<_>>());
        copy.known = keys.map(|key| (key, offered.clone())).collect();
        copy.overlay.truncate(usize::from(revision.is_multiple_of(2)));
        copy.saved.content = Content::new(Arc::new(Snapshot { backends, ..Snapshot::default() }));
        Arc::new(copy)
    };
    let all = [("a", "1"), ("b", "1"), ("c", "1")];
    vec![
        later(1, &all),
        later(2, &[("a", "1"), ("b", "2"), ("c", "1")]),
        later(3, &[("c", "1"), ("a", "1")]),
        later(4, &[("c", "1"), ("d", "1"), ("a", "1")]),
        later(5, &all),
    ]
}

fn assert_same(read: &DiskCopy, written: &DiskCopy) {
    assert_eq!(read.saved, written.saved);
    assert_eq!((&read.known, &read.overlay), (&written.known, &written.overlay));
}

#[test]
fn what_is_appended_is_read_back_wherever_it_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let mut writer = Writer::new(directory.path().to_owned());
    let mut ends = Vec::new();
    for copy in &copies() {
        writer.save(copy).unwrap();
        // So that no change is written as a whole copy.
        writer.last.as_mut().unwrap().whole = usize::MAX;
        assert_same(&load(directory.path()).unwrap().unwrap(), copy);
        ends.push(std::fs::read(&path).unwrap().len());
    }
    let bytes = std::fs::read(&path).unwrap();
    for end in ends[0]..bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        // The line break alone may be missing.
        let whole = ends.partition_point(|one| *one <= end + 1);
        assert_same(&load(directory.path()).unwrap().unwrap(), &copies()[whole - 1]);
        std::fs::write(&path, [&bytes[..end], &[0; 100]].concat()).unwrap();
        assert_same(&load(directory.path()).unwrap().unwrap(), &copies()[whole - 1]);
    }
    let text = String::from_utf8(bytes).unwrap();
    std::fs::write(&path, text.replace("http://b/2", "http://b/3")).unwrap();
    assert!(matches!(load(directory.path()), Err(LoadError::Change { .. })), "it is not the last one");
}

#[test]
fn changes_do_not_grow_beyond_the_copy_they_change_and_failures_are_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let mut writer = Writer::new(directory.path().to_owned());
    for copy in copies().iter().cycle().take(40) {
        writer.save(copy).unwrap();
        let last = writer.last.as_ref().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), last.whole + last.changes);
        assert!(last.changes < 2 * last.whole, "{} {}", last.changes, last.whole);
    }
    writer.last.as_mut().unwrap().whole = usize::MAX;
    std::fs::remove_file(&path).unwrap();
    assert!(writer.save(&copies()[1]).is_err());
    writer.save(&copies()[2]).unwrap();
    assert_same(&load(directory.path()).unwrap().unwrap(), &copies()[2]);
}

#[test]
fn a_copy_of_the_release_before_serves_too() {
    let directory = tempfile::tempdir().unwrap();
    let written = copy();
    save(directory.path(), &written).unwrap();
    let path = directory.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let (was, items) = (r#""items":{"tools":["#, r#"]},"instructions""#);
    assert!(text.contains(was) && text.contains(items), "{text}");
    let older = text.replace(was, r#""tools":["#).replace(items, r#"],"instructions""#);
    std::fs::write(&path, older.replace(r#""format":3"#, r#""format":1"#)).unwrap();
    assert_eq!(load(directory.path()).unwrap().unwrap().known, written.known);
}

#[test]
fn a_damaged_copy_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    save(directory.path(), &copy()).unwrap();
    let path = directory.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let check = |text: String, expected: fn(&LoadError) -> bool| {
        std::fs::write(&path, text).unwrap();
        let error = load(directory.path()).unwrap_err();
        assert!(expected(&error), "{error}");
    };
    check(text.replace("localhost:1", "localhost:2"), |error| matches!(error, LoadError::Damaged { .. }));
    check(text.replace("\"format\":3", "\"format\":4"), |error| matches!(error, LoadError::Format { found: 4, .. }));
    check(text[..text.len() / 2].into(), |error| matches!(error, LoadError::Malformed { .. }));

    // The next copy does not overwrite the file that was set aside.
    assert!(load_or_set_aside(directory.path()).is_none());
    save(directory.path(), &copy()).unwrap();
    let kept = std::fs::read_to_string(directory.path().join("live.json.unreadable")).unwrap();
    assert_eq!(kept, text[..text.len() / 2]);
}

/// A disk that fails when told to, and reports what it was asked to write.
fn disk() -> (Arc<AtomicBool>, mpsc::Receiver<u64>, impl Fn(&Arc<DiskCopy>) -> io::Result<()> + Send + Sync) {
    let full = Arc::new(AtomicBool::new(true));
    let (tell, tried) = mpsc::channel(64);
    let refuses = Arc::clone(&full);
    let save = move |copy: &Arc<DiskCopy>| {
        let full = refuses.load(Ordering::SeqCst);
        tell.try_send(copy.saved.revision.0).map_err(io::Error::other)?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    };
    (full, tried, save)
}

#[tokio::test]
async fn what_a_disk_refused_is_written_once_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("state");
    let (copies, seen) = watch::channel(None);
    let (full, mut tried, told) = disk();
    let to = place.clone();
    // The directory is away for as long as the disk is full.
    let writer = runtime::Tasks::new(runtime::Shutdown::new());
    writer.spawn("disk copy", keep_written(seen, move |copy| told(copy).and_then(|()| save(&to, copy))));
    copies.send_replace(Some(Arc::new(copy())));
    assert_eq!(tried.recv().await, Some(7));
    let again = tokio::time::timeout(Duration::from_secs(20), tried.recv()).await;
    assert_eq!(again, Ok(Some(7)), "nobody has to ask again");
    std::fs::create_dir(&place).unwrap();
    full.store(false, Ordering::SeqCst);
    drop(copies);
    assert!(writer.join(Duration::from_secs(10)).await.is_clean());
    assert!(load(&place).unwrap().is_some());
}

#[tokio::test]
async fn what_a_disk_refused_is_tried_a_last_time_at_the_end() {
    let (copies, seen) = watch::channel(None);
    let (full, mut tried, save) = disk();
    let writer = runtime::Tasks::new(runtime::Shutdown::new());
    writer.spawn("disk copy", keep_written(seen, save));
    copies.send_replace(Some(Arc::new(copy())));
    assert_eq!(tried.recv().await, Some(7));
    full.store(false, Ordering::SeqCst);
    drop(copies);
    assert_eq!(tried.recv().await, Some(7));
    assert!(writer.join(Duration::from_secs(10)).await.is_clean());
    assert_eq!(tried.recv().await, None, "nothing is left to be written");
}

#[tokio::test]
async fn a_disk_that_stays_full_holds_up_no_end() {
    let (copies, seen) = watch::channel(None);
    let (_full, mut tried, save) = disk();
    let writer = runtime::Tasks::new(runtime::Shutdown::new());
    writer.spawn("disk copy", keep_written(seen, save));
    copies.send_replace(Some(Arc::new(copy())));
    assert_eq!(tried.recv().await, Some(7));
    drop(copies);
    assert!(writer.join(Duration::from_secs(10)).await.is_clean());
    assert_eq!(tried.recv().await, Some(7));
}
