//! An HTTP server that fails in the way it is told to, at its whole address: pings as well as calls.

use std::{
    collections::BTreeSet,
    io::{BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use testkit::{
    Fault, fault,
    stub::{self, Request},
};
use tokio::time::Instant;

/// Of an answer that comes too late for a ping, and for a call.
const SLOW: Duration = Duration::from_secs(4);
/// Of each half of a flap.
const FLAP: Duration = Duration::from_millis(150);
/// Longer than a connection on one machine takes.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ill {
    /// Nothing listens, and all connections are closed.
    Killed,
    /// It takes connections and requests, and answers none.
    Hangs,
    Slow,
    /// Its answers are no JSON.
    Garbage,
    /// It is well and closes every connection, by turns.
    Flaps,
    /// It answers calls, and says that it is ill when it is pinged.
    PingsFail,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) path: String,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Ping,
    Call,
    /// The call of a session that is new: which server such a call goes to is decided by shares alone.
    Visit,
}

/// Begins the text of a visit.
pub(super) const VISIT: &str = "visit";

/// Has the tool `echo` at every path.
pub(super) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    listens: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Default)]
struct State {
    ill: Option<(Ill, Option<Instant>)>,
    /// Those that are open.
    streams: Vec<Weak<TcpStream>>,
}

impl Backend {
    pub(super) fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, shared) = (listener.local_addr()?, Arc::<Shared>::default());
        let listens = Some(listen(listener, Arc::clone(&shared))?);
        Ok(Self { address, shared, listens })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// From now on it is ill. Returns when it began.
    pub(super) fn fail(&mut self, ill: Ill) -> Result<Instant, Fault> {
        let began = Instant::now();
        self.shared.lock().ill = Some((ill, Some(began)));
        self.shared.changed.notify_all();
        if ill == Ill::Killed {
            // Wakes what accepts, so that it stops listening.
            drop(TcpStream::connect_timeout(&self.address, CONNECT));
            let listens = self.listens.take().ok_or_else(|| fault("it is killed already"))?;
            listens.join().map_err(|_| fault("the listening thread panicked"))?;
            let streams = std::mem::take(&mut self.shared.lock().streams);
            for stream in streams.iter().filter_map(Weak::upgrade) {
                // Most of them are closed already.
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        Ok(began)
    }

    /// It is well again. Returns since when.
    pub(super) fn mend(&mut self) -> Result<Instant, Fault> {
        self.shared.lock().ill = None;
        self.shared.changed.notify_all();
        if self.listens.is_none() {
            self.listens = Some(listen(TcpListener::bind(self.address)?, Arc::clone(&self.shared))?);
        }
        Ok(Instant::now())
    }

    /// How many visits came in that time.
    pub(super) fn visits(&self, from: Instant, to: Instant) -> usize {
        let is_one = |seen: &&Seen| seen.what == What::Visit && seen.at >= from && seen.at < to;
        self.seen().iter().filter(is_one).count()
    }

    /// When the first visit came since then.
    pub(super) fn first_visit(&self, from: Instant) -> Option<Instant> {
        let since = self.seen();
        let since = since.iter().rev().take_while(|seen| seen.at >= from);
        since.filter(|seen| seen.what == What::Visit).last().map(|seen| seen.at)
    }

    pub(super) fn pings(&self) -> Vec<Seen> {
        self.seen().iter().filter(|seen| seen.what == What::Ping).cloned().collect()
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paths that were pinged since then.
    pub(super) fn pinged(&self, from: Instant) -> BTreeSet<String> {
        let since = self.seen();
        let since = since.iter().rev().take_while(|seen| seen.at >= from);
        since.filter(|seen| seen.what == What::Ping).map(|seen| seen.path.clone()).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ill(&self) -> Option<Ill> {
        self.lock().ill.map(|(ill, _)| ill)
    }

    fn serve(&self, stream: &TcpStream) -> Result<(), Fault> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let is_ping = request.method() == "ping";
            self.note(&request);
            if !self.may_answer() {
                return Ok(());
            }
            let answer = match self.ill() {
                Some(Ill::Garbage) => stub::response("200 OK", "Content-Type: application/json\r\n", "not JSON!"),
                Some(Ill::PingsFail) if is_ping => stub::response("503 Service Unavailable", "", "ill"),
                Some(Ill::Killed | Ill::Hangs | Ill::Slow | Ill::Flaps | Ill::PingsFail) | None => good(&request),
            };
            let mut stream = stream;
            stream.write_all(&answer)?;
        }
        Ok(())
    }

    fn note(&self, request: &Request) {
        let text = request.body["params"]["arguments"]["text"].as_str().unwrap_or_default();
        let what = match request.method() {
            "ping" => What::Ping,
            "tools/call" if text.starts_with(VISIT) => What::Visit,
            "tools/call" => What::Call,
            _ => return,
        };
        let path = request.path.trim_start_matches('/').to_owned();
        let seen = Seen { at: Instant::now(), path, what };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// Returns when the answer is due; false when the connection is to be closed without one.
    fn may_answer(&self) -> bool {
        let mut state = self.lock();
        let asked = Instant::now();
        loop {
            let left = match state.ill {
                None | Some((Ill::Garbage | Ill::PingsFail, _)) => return true,
                Some((Ill::Killed, _)) => return false,
                Some((Ill::Flaps, since)) => {
                    let lasts = since.map_or(0, |since| since.elapsed().as_millis());
                    return lasts / FLAP.as_millis() % 2 == 1;
                }
                Some((Ill::Hangs, _)) => SLOW * 100,
                Some((Ill::Slow, _)) => SLOW.saturating_sub(asked.elapsed()),
            };
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Until it is killed. Connections have threads of their own, which end with them.
fn listen(listener: TcpListener, shared: Arc<Shared>) -> Result<JoinHandle<()>, Fault> {
    Ok(thread::Builder::new().name("backend".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut state = shared.lock();
            if matches!(state.ill, Some((Ill::Killed, _))) {
                return;
            }
            let stream = Arc::new(stream);
            state.streams.retain(|known| known.strong_count() > 0);
            state.streams.push(Arc::downgrade(&stream));
            drop(state);
            let shared = Arc::clone(&shared);
            let serve = move || drop(shared.serve(&stream));
            // Without a thread the connection is closed, which is one more way to be ill.
            drop(thread::Builder::new().name("backend".to_owned()).spawn(serve));
        }
    })?)
}

fn good(request: &Request) -> Vec<u8> {
    let id = &request.body["id"];
    match request.method() {
        "" => stub::response("405 Method Not Allowed", "", ""),
        "initialize" => json_response(&stub::greeting(id)),
        "tools/list" => json_response(&stub::page(&request.body, &["echo".to_owned()])),
        "tools/call" => {
            let text = request.body["params"]["arguments"]["text"].as_str().unwrap_or_default();
            json_response(&stub::text(id, text))
        }
        "ping" => json_response(&json!({ "jsonrpc": "2.0", "id": id, "result": {} }).to_string()),
        _ => stub::response("202 Accepted", "", ""),
    }
}

fn json_response(body: &str) -> Vec<u8> {
    stub::response("200 OK", "Content-Type: application/json\r\n", body)
}
