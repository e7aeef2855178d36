//! The two ends of a handover in one process.

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{
    talk::{FORMAT, Talk, Word},
    *,
};
use crate::{Shutdown, held::Held, inherited::Inherited};

struct Case {
    folder: tempfile::TempDir,
    shutdown: Shutdown,
    held: Held,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, shutdown: Shutdown::new(), held: Held::default(), steps: Arc::default() }
    }

    fn way(&self) -> PathBuf {
        way(self.folder.path()).unwrap()
    }

    /// The predecessor.
    async fn leave(&self) {
        let upgrade = signal(SignalKind::user_defined2()).unwrap();
        let (held, shutdown) = (self.held.clone(), self.shutdown.clone());
        let over = HandOver::open(&self.way(), &mut Inherited::default(), upgrade, held, shutdown, "1").await.unwrap();
        over.until_left(async |step| self.steps.lock().unwrap().push(step)).await;
    }

    async fn find(&self) -> (Predecessor, Inherited) {
        self.find_for(&Held::default()).await
    }

    async fn find_for(&self, held: &Held) -> (Predecessor, Inherited) {
        loop {
            match Predecessor::find(&self.way(), CancellationToken::new(), held.clone()).await {
                Ok(found) => return found,
                Err(SucceedError::Absent { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn sockets_pass_from_one_to_the_other_and_what_waits_in_them_is_not_lost() {
    let case = Case::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    case.held.add("mcp", &socket).unwrap();
    case.held.add("mcp", socket.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let successor = async {
        let (mut predecessor, mut inherited) = case.find().await;
        let mut sockets = inherited.all_tcp("mcp");
        assert_eq!(sockets.len(), 2);
        assert!(inherited.unix(WAY).is_some() && inherited.tcp("mcp").is_none());
        assert!(case.steps().is_empty());
        predecessor.lets_go(std::future::ready(())).await.unwrap();
        assert_eq!(case.steps(), [Step::LetGo]);
        assert!(!case.shutdown.is_triggered());
        predecessor.leaves().await.unwrap();
        case.shutdown.triggered().await;
        (predecessor, sockets.remove(0))
    };
    let mut early = TcpStream::connect(address).unwrap();
    drop(socket);
    let ((), (predecessor, socket)) = tokio::join!(case.leave(), successor);
    assert!(case.shutdown.is_succeeded());
    assert!(case.way().exists(), "the successor waits there");
    early.write_all(b"hello").unwrap();
    let mut said = [0; 5];
    socket.accept().unwrap().0.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
    // Only the end of the process closes the line.
    let mut gone = Box::pin(predecessor.gone());
    tokio::time::timeout(Duration::ZERO, &mut gone).await.unwrap_err();
    drop(case.shutdown);
    gone.await;
}

#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    let case = Case::new();
    let successors = async {
        // Before anything was let go.
        drop(case.find().await);
        let (mut predecessor, _) = case.find().await;
        assert!(case.steps().is_empty());
        predecessor.lets_go(std::future::ready(())).await.unwrap();
        // After that.
        drop(predecessor);
        let (predecessor, inherited) = case.find().await;
        assert_eq!(case.steps(), [Step::LetGo, Step::TakeBack]);
        assert!(!case.shutdown.is_triggered());
        case.shutdown.trigger();
        drop((predecessor, inherited));
    };
    tokio::join!(case.leave(), successors);
    assert!(!case.way().exists());
}

#[tokio::test]
async fn a_process_that_comes_third_waits_for_the_end_of_both_before_it() {
    let (first, second) = (Case::new(), Case::new());
    let take_over = async |case: &Case, held: &Held| {
        let (mut predecessor, _) = case.find_for(held).await;
        predecessor.lets_go(std::future::ready(())).await.unwrap();
        predecessor.leaves().await.unwrap();
        predecessor
    };
    let ((), before_second) = tokio::join!(first.leave(), take_over(&first, &second.held));
    let own = Held::default();
    let ((), before_third) = tokio::join!(second.leave(), take_over(&second, &own));
    assert_eq!(own.copies().unwrap().len(), 2);
    drop((second, before_second));
    let mut gone = Box::pin(before_third.gone());
    tokio::time::timeout(Duration::from_millis(50), &mut gone).await.unwrap_err();
    drop(first);
    gone.await;
    assert!(own.copies().unwrap().is_empty());
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_keeps_its_place() {
    let case = Case::new();
    let successor = async {
        let (mut predecessor, _) = case.find().await;
        predecessor.lets_go(std::future::ready(())).await.unwrap();
        case.shutdown.trigger();
        // It was asked to stop: this process is not to serve.
        let kept = predecessor.leaves().await.unwrap_err();
        assert!(kept.to_string().contains("keeps its place"), "{kept}");
    };
    tokio::join!(case.leave(), successor);
    assert!(!case.shutdown.is_succeeded());
    assert_eq!(case.steps(), [Step::LetGo]);
}

#[tokio::test]
async fn a_successor_goes_on_when_its_predecessor_is_killed_before_it_has_let_go() {
    let case = Case::new();
    let listener = UnixListener::bind(case.way()).unwrap();
    let killed = async {
        let talk = Talk::new(listener.accept().await.unwrap().0);
        talk.say(&Word::Hello { format: FORMAT, version: "1".into() }, None).await.unwrap();
        talk.say(&Word::All, None).await.unwrap();
    };
    let (mut predecessor, _) = tokio::join!(case.find(), killed).0;
    let warm = Cell::new(false);
    let warming = async {
        tokio::task::yield_now().await;
        warm.set(true);
    };
    predecessor.lets_go(warming).await.unwrap();
    assert!(warm.get());
    predecessor.leaves().await.unwrap();
    predecessor.gone().await;
}
