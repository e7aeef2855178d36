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

fn copy() -> DiskCopy {
    let backend = backend("files", &["http://localhost:1/mcp"], ReplaceMode::Beside);
    let key = backend.endpoints().next().unwrap().0;
    // Spacing, order and unknown keys are the server's, and stay.
    let tool = Item::parse(Kind::Tool, r#"{ "x-vendor":1e2, "name":"read","inputSchema":{} }"#).unwrap();
    let offered = Offered { instructions: Some("read first".into()), ..Offered::of(Kind::Tool, [tool]) };
    let entry = OverlayEntry {
        drain: DrainId::Admin { number: 3, started: WallTime(5) },
        backend: BackendId::new("files").unwrap(),
        endpoint: None,
        weight: Weight::of(250).unwrap(),
        remaining: Duration::from_millis(1500),
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
    std::fs::write(&path, older.replace(r#""format":2"#, r#""format":1"#)).unwrap();
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
    check(text.replace("\"format\":2", "\"format\":3"), |error| matches!(error, LoadError::Format { found: 3, .. }));
    check(text[..text.len() / 2].into(), |error| matches!(error, LoadError::Malformed { .. }));

    // The next copy does not overwrite the file that was set aside.
    assert!(load_or_set_aside(directory.path()).is_none());
    save(directory.path(), &copy()).unwrap();
    let kept = std::fs::read_to_string(directory.path().join("live.json.unreadable")).unwrap();
    assert_eq!(kept, text[..text.len() / 2]);
}

/// A disk that fails when told to, and reports what it was asked to write.
fn disk() -> (Arc<AtomicBool>, mpsc::Receiver<u64>, impl Fn(&DiskCopy) -> io::Result<()> + Send + Sync) {
    let full = Arc::new(AtomicBool::new(true));
    let (tell, tried) = mpsc::channel(64);
    let refuses = Arc::clone(&full);
    let save = move |copy: &DiskCopy| {
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
