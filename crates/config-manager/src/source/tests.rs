//! How files are written, and what the source sees of it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use model::Digest;
use rollout::cursor::{Event, Found, Write};
use runtime::{Shutdown, Tasks};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

struct Followed {
    dir: tempfile::TempDir,
    file: PathBuf,
    signals: Arc<Signals>,
    said: mpsc::Receiver<FromSource>,
    tasks: Tasks,
}

impl Followed {
    /// Armed and looked at once.
    async fn new(prepare: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = prepare(dir.path());
        let signals = Arc::new(Signals::default());
        let (engine, said) = mpsc::channel(64);
        let tasks = Tasks::new(Shutdown::new());
        let origin = Origin::File(file.clone());
        tasks.spawn("file", follow(origin, Arc::clone(&signals), engine, tasks.shutdown().token()));
        let mut followed = Self { dir, file, signals, said, tasks };
        followed.signals.read();
        followed.read().await;
        followed
    }

    async fn next(&mut self) -> FromSource {
        timeout(Duration::from_secs(10), self.said.recv()).await.expect("something is seen").unwrap()
    }

    async fn noticed(&mut self) -> Write {
        loop {
            if let FromSource::Event(Event::Noticed { write, .. }) = self.next().await {
                return write;
            }
        }
    }

    async fn read(&mut self) -> Found {
        loop {
            if let FromSource::Read { event: Event::Read { found, .. }, .. } = self.next().await {
                return found;
            }
        }
    }

    /// Waits until such a write is seen and the file has this text. Events of earlier writes may still come.
    async fn saw(&mut self, expected: Write, text: &str) {
        let digest = Digest::of_bytes(text.as_bytes());
        loop {
            while self.noticed().await != expected {}
            self.signals.read();
            if self.read().await == Found::Digest(digest) {
                return;
            }
        }
    }

    async fn end(self) {
        assert!(self.tasks.join(Duration::from_secs(5)).await.is_clean());
    }
}

fn plain(dir: &Path) -> PathBuf {
    fs::write(dir.join("a.yaml"), "0").unwrap();
    dir.join("a.yaml")
}

/// As Kubernetes mounts a ConfigMap.
fn mounted(dir: &Path) -> PathBuf {
    fs::create_dir(dir.join("..1")).unwrap();
    fs::write(dir.join("..1/a.yaml"), "0").unwrap();
    symlink("..1", dir.join("..data")).unwrap();
    symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    dir.join("a.yaml")
}

fn shell(dir: &Path, script: &str) {
    assert!(Command::new("sh").arg("-ec").arg(script).current_dir(dir).status().unwrap().success());
}

#[tokio::test]
async fn every_way_to_replace_a_file_is_seen_again_and_again() {
    let cases: [(&str, Write); 4] = [
        ("echo -n $N > new && mv new a.yaml", Write::Complete),
        ("sed -i s/.*/$N/ a.yaml", Write::Complete),
        ("echo -n $N > a.yaml", Write::Closed),
        // An editor with a backup: the name is gone for a moment.
        ("mv a.yaml a.yaml~ && echo -n $N > .a.swp && mv .a.swp a.yaml && rm a.yaml~", Write::Complete),
    ];
    let mut followed = Followed::new(plain).await;
    for (script, write) in cases {
        for n in 1..=5 {
            shell(followed.dir.path(), &format!("N={n}; {script}"));
            followed.saw(write, &n.to_string()).await;
        }
    }
    followed.end().await;
}

#[tokio::test]
async fn a_writer_that_has_the_file_open_is_seen_until_it_closes_it() {
    let mut followed = Followed::new(plain).await;
    for n in 1..=3 {
        let mut writer = fs::File::create(&followed.file).unwrap();
        writer.write_all(format!("half of {n}").as_bytes()).unwrap();
        followed.saw(Write::Open, &format!("half of {n}")).await;
        writer.write_all(b" and the rest").unwrap();
        drop(writer);
        followed.saw(Write::Closed, &format!("half of {n} and the rest")).await;
        // A file that is created under the name has a writer, too, before there is a byte in it.
        fs::remove_file(&followed.file).unwrap();
        let writer = fs::File::create(&followed.file).unwrap();
        followed.saw(Write::Open, "").await;
        drop(writer);
        followed.saw(Write::Closed, "").await;
    }
    // No program has a hard link open, nor a file whose mode changes.
    shell(followed.dir.path(), "echo -n z > other && rm a.yaml");
    while followed.noticed().await != Write::Closed {}
    shell(followed.dir.path(), "ln other a.yaml && chmod 600 a.yaml");
    followed.saw(Write::InPlace, "z").await;
    followed.end().await;
}

#[tokio::test]
async fn a_swapped_link_anywhere_in_the_chain_is_seen_again_and_again() {
    let mut followed = Followed::new(mounted).await;
    for n in 2..=6 {
        let swap = format!(
            "mkdir ..{n} && echo -n {n} > ..{n}/a.yaml && ln -s ..{n} ..tmp && mv -T ..tmp ..data && rm -r ..{}",
            n - 1
        );
        shell(followed.dir.path(), &swap);
        followed.saw(Write::Complete, &n.to_string()).await;
    }
    // In place, behind two links.
    shell(followed.dir.path(), "echo -n x > ..6/a.yaml");
    followed.saw(Write::Closed, "x").await;
    // The outer link leads out of the directory altogether.
    shell(followed.dir.path(), "mkdir out && echo -n y > out/b && ln -s out/b l && mv -T l a.yaml");
    followed.saw(Write::Complete, "y").await;
    shell(followed.dir.path(), "echo -n z > n && mv n out/b");
    followed.saw(Write::Complete, "z").await;
    followed.end().await;
}

#[tokio::test]
async fn other_files_and_readers_are_nothing() {
    let mut followed = Followed::new(plain).await;
    shell(followed.dir.path(), "echo x > b.yaml; mv b.yaml c.yaml; rm c.yaml; cat a.yaml > /dev/null");
    // A write to the file itself comes after all of these, and is the first to be told.
    fs::rename(followed.dir.path().join("a.yaml"), followed.dir.path().join("d.yaml")).unwrap();
    let next = followed.next().await;
    assert!(matches!(next, FromSource::Event(Event::Noticed { write: Write::Closed, stamp: None })), "{next:?}");
    followed.signals.read();
    assert_eq!(followed.read().await, Found::Missing);
    followed.end().await;
}

#[tokio::test]
async fn a_directory_that_went_and_came_back_is_watched_anew() {
    let mut followed = Followed::new(|dir| {
        fs::create_dir(dir.join("etc")).unwrap();
        plain(&dir.join("etc"))
    })
    .await;
    shell(followed.dir.path(), "mv etc gone && mkdir etc && echo -n 1 > etc/a.yaml");
    // No event can tell; a look from time to time does.
    followed.signals.look();
    assert_eq!(followed.noticed().await, Write::Polled);
    shell(followed.dir.path(), "echo -n 2 > n && mv n etc/a.yaml");
    followed.saw(Write::Complete, "2").await;
    assert_eq!(followed.file, followed.dir.path().join("etc/a.yaml"));
    followed.end().await;
}

#[test]
fn a_loop_of_links_ends() {
    let dir = tempfile::tempdir().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    let chain = Chain::of(&dir.path().join("a"));
    assert_eq!((chain.target, chain.names.len()), (None, 2));
}
