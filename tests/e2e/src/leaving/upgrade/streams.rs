//! Streams that are open while processes change: answers that come bit by bit, and clients that listen.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use testkit::{
    Fault, fault,
    raw::{Raw, call},
};

use crate::Figures;

/// Of an answer that comes bit by bit: about two seconds.
const STEPS: usize = 40;
const STEP_MS: u64 = 50;

/// One thread a stream. Each opens another one when one is over, until [`Streams::close`].
pub(super) struct Streams {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// What listens now.
    listening: Mutex<Vec<TcpStream>>,
    answers: AtomicU64,
    listened: AtomicU64,
    /// In words: what was cut or refused.
    cut: Mutex<Vec<String>>,
}

impl Streams {
    /// Half of them are answers.
    pub(super) fn open(endpoint: SocketAddr, count: usize) -> Result<Self, Fault> {
        let shared: Arc<Shared> = Arc::default();
        let mut threads = Vec::new();
        for number in 0..count {
            let session = Raw::open(endpoint)?;
            let shared = Arc::clone(&shared);
            threads.push(thread::Builder::new().name("stream".to_owned()).spawn(move || {
                while !shared.stop.load(Ordering::SeqCst) {
                    let one = if number % 2 == 0 { answer(&session, number) } else { shared.listen(&session) };
                    let counter = if number % 2 == 0 { &shared.answers } else { &shared.listened };
                    match one {
                        Ok(()) => {
                            counter.fetch_add(1, Ordering::Relaxed);
                        }
                        // The scenario has closed it itself.
                        Err(_) if number % 2 == 1 && shared.stop.load(Ordering::SeqCst) => {}
                        Err(error) => {
                            shared.cut.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                            return;
                        }
                    }
                }
            })?);
        }
        Ok(Self { shared, threads })
    }

    /// Lets answers end, and judges all.
    pub(super) fn close(self, figures: &mut Figures) -> Result<(), Fault> {
        let Self { shared, threads } = self;
        shared.stop.store(true, Ordering::SeqCst);
        for stream in &*shared.listening.lock().unwrap_or_else(PoisonError::into_inner) {
            // Most of them are closed.
            drop(stream.shutdown(Shutdown::Both));
        }
        for thread in threads {
            thread.join().map_err(|_| fault("a stream panicked"))?;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (answers, listened) = (count(&shared.answers), count(&shared.listened));
        figures.demand("streamed_answers", answers, "some", answers > 0);
        figures.demand("listens_ended_politely", listened, "some", listened > 0);
        figures.none("streams_cut", shared.cut.lock().unwrap_or_else(PoisonError::into_inner).iter());
        Ok(())
    }
}

impl Shared {
    /// Listens until the gateway ends the stream in the way that the protocol has for it.
    fn listen(&self, session: &Raw) -> Result<(), Fault> {
        let mut client = session.again()?;
        // Notifications are rare.
        client.stream.set_read_timeout(None)?;
        {
            let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
            if self.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            listening.push(client.stream.try_clone()?);
        }
        let head = client.listen()?;
        if head.status != 200 {
            return Err(fault(format!("listening was answered with {head:?}")));
        }
        while client.event()?.is_some() {}
        Ok(())
    }
}

/// A call whose answer has a notification for each step, all of which must come.
fn answer(session: &Raw, number: usize) -> Result<(), Fault> {
    let mut client = session.again()?;
    let mut message = call(number, "stdio__progress", json!({ "steps": STEPS, "interval_ms": STEP_MS }));
    message["params"]["_meta"] = json!({ "progressToken": number });
    client.say(&message)?;
    let head = client.head_of_response()?;
    if head.status != 200 {
        return Err(fault(format!("a call was answered with {head:?}")));
    }
    let mut steps = 0;
    while let Some(event) = client.event()? {
        if event["id"] == json!(number) {
            let good = event["result"]["isError"] != Value::Bool(true) && event.get("error").is_none();
            let whole = good && steps == STEPS;
            return if whole { Ok(()) } else { Err(fault(format!("after {steps} steps: {event}"))) };
        }
        steps += usize::from(event["method"] == "notifications/progress");
    }
    Err(fault(format!("the stream ended after {steps} steps")))
}
