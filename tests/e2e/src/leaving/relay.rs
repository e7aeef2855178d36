//! A plain TCP relay, which knows nothing of what it carries: a balancer before routers, and a wire that can be cut. It
//! notes how the far side ended each connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use testkit::{Fault, stub};

/// Longer than a connection on one machine takes.
const CONNECT: Duration = Duration::from_secs(5);

/// Listens until the process ends.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where the next connection goes; none if there is no place.
    choose: Box<dyn Fn() -> Option<SocketAddr> + Send + Sync>,
    cut: Mutex<bool>,
    mended: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    carried: AtomicUsize,
    /// Connections for which there was no place, or whose place refused them.
    refused: AtomicUsize,
    fin_idle: AtomicUsize,
    fin_unanswered: AtomicUsize,
    reset_idle: AtomicUsize,
    reset_unanswered: AtomicUsize,
    held: AtomicUsize,
}

/// How connections ended that the far side ended. Unanswered: the client had sent bytes since the last answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) carried: usize,
    pub(super) refused: usize,
    pub(super) fin_idle: usize,
    pub(super) fin_unanswered: usize,
    pub(super) reset_idle: usize,
    pub(super) reset_unanswered: usize,
    /// Reads that were held back, since the wire was cut.
    pub(super) held: usize,
}

impl Relay {
    pub(super) fn start(choose: impl Fn() -> Option<SocketAddr> + Send + Sync + 'static) -> Result<Self, Fault> {
        let (cut, mended, counts) = (Mutex::new(false), Condvar::new(), Counts::default());
        let shared = Arc::new(Shared { choose: Box::new(choose), cut, mended, counts });
        let own = Arc::clone(&shared);
        let address = stub::listen(move |client| {
            own.carry(client);
            Ok(())
        })?;
        Ok(Self { address, shared })
    }

    /// From now on nothing passes, and nothing is closed: as when a cable is pulled.
    pub(super) fn cut(&self) {
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// What waited goes on its way.
    pub(super) fn mend(&self) {
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.shared.mended.notify_all();
    }

    pub(super) fn ends(&self) -> Ends {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let Counts { carried, refused, fin_idle, fin_unanswered, reset_idle, reset_unanswered, held } =
            &self.shared.counts;
        Ends {
            carried: count(carried),
            refused: count(refused),
            fin_idle: count(fin_idle),
            fin_unanswered: count(fin_unanswered),
            reset_idle: count(reset_idle),
            reset_unanswered: count(reset_unanswered),
            held: count(held),
        }
    }
}

impl Shared {
    fn carry(&self, client: &TcpStream) {
        self.pass();
        let connect = |place| TcpStream::connect_timeout(&place, CONNECT).ok();
        let Some(server) = (self.choose)().and_then(connect) else {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.counts.carried.fetch_add(1, Ordering::Relaxed);
        // A connection whose options cannot be set is about to end.
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let (unanswered, client_left) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let _end = self.pump(client, &server, || unanswered.store(true, Ordering::SeqCst));
                client_left.store(true, Ordering::SeqCst);
                // It may be closed already.
                drop(server.shutdown(Shutdown::Write));
            });
            let end = self.pump(&server, client, || unanswered.store(false, Ordering::SeqCst));
            if !client_left.load(Ordering::SeqCst) {
                self.note(end, unanswered.load(Ordering::SeqCst));
            }
            drop(client.shutdown(Shutdown::Both));
        });
    }

    fn note(&self, end: End, unanswered: bool) {
        let counter = match (end, unanswered) {
            (End::Fin, false) => &self.counts.fin_idle,
            (End::Fin, true) => &self.counts.fin_unanswered,
            (End::Reset, false) => &self.counts.reset_idle,
            (End::Reset, true) => &self.counts.reset_unanswered,
            // The client is gone.
            (End::Unwritable, _) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// `about_to` is called before bytes are passed on.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, about_to: impl Fn()) -> End {
        let mut chunk = [0; 16 << 10];
        loop {
            let count = match from.read(&mut chunk) {
                Ok(0) => break End::Fin,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break End::Reset,
            };
            self.pass();
            about_to();
            if to.write_all(&chunk[..count]).is_err() {
                break End::Unwritable;
            }
        }
    }

    /// Returns when the wire is whole.
    fn pass(&self) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if *cut {
            self.counts.held.fetch_add(1, Ordering::Relaxed);
        }
        while *cut {
            cut = self.mended.wait(cut).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// How reading from one side ended.
#[derive(Clone, Copy)]
enum End {
    Fin,
    Reset,
    Unwritable,
}
