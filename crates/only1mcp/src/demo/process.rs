//! What the two shells of the demo server share: its state, its count file, the calls that can be cancelled, its end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    rc::Rc,
};

use runtime::{Shutdown, Tasks};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    kinds::Special,
    message::Request,
    script::{Script, Step},
    server::{Demo, Identity, Origin, Outcome},
};

/// One demo server process. It lives on one thread; no borrow outlasts a call.
#[derive(Debug)]
pub(crate) struct Process {
    demo: RefCell<Demo>,
    count_file: Option<File>,
    /// How often the list of tools has changed.
    changes: watch::Sender<u64>,
    exit: watch::Sender<Option<u8>>,
    /// By the session and the id of the request.
    in_flight: RefCell<BTreeMap<(String, String), CancellationToken>>,
    next_connection: Cell<u64>,
    pub(crate) tasks: Tasks,
}

impl Process {
    pub(crate) fn new(identity: Identity, special: Option<Special>, count_file: Option<&Path>) -> io::Result<Rc<Self>> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Rc::new(Self {
            demo: RefCell::new(Demo::new(identity, special)),
            count_file: count_file.map(open).transpose()?,
            changes: watch::Sender::new(0),
            exit: watch::Sender::new(None),
            in_flight: RefCell::default(),
            next_connection: Cell::new(1),
            tasks: Tasks::new(Shutdown::new()),
        }))
    }

    /// The core's outcome, with what it does to this process done.
    pub(crate) fn request(&self, origin: Origin<'_>, request: &Request<'_>) -> Outcome {
        let outcome = self.demo.borrow_mut().request(origin, request);
        match &outcome {
            Outcome::Run { count, list_changed, .. } => {
                self.count(count);
                if *list_changed {
                    self.changes.send_modify(|turn| *turn += 1);
                }
            }
            Outcome::Exit { code, count } => {
                self.count(count);
                self.end(*code);
            }
            Outcome::Answer(_) | Outcome::Initialized(_) | Outcome::NoSuchMethod(_) | Outcome::Listen { .. } => {}
        }
        outcome
    }

    /// One write per line, so that several processes may share the file. A full disk must not fail a call.
    fn count(&self, line: &str) {
        if let Some(mut file) = self.count_file.as_ref()
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
        {
            super::complain(&format!("cannot count a call: {error}"));
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn end(&self, code: u8) {
        self.exit.send_replace(Some(code));
    }

    /// Returns once the process is to end, with its exit code.
    pub(crate) async fn ended(&self) -> u8 {
        let mut exit = self.exit.subscribe();
        let code = exit.wait_for(Option::is_some).await.map(|code| *code);
        code.ok().flatten().unwrap_or_default()
    }

    pub(crate) fn number_connection(&self) -> u64 {
        self.next_connection.replace(self.next_connection.get() + 1)
    }

    /// Lists a call as cancellable until the value is dropped.
    pub(crate) fn in_flight(self: &Rc<Self>, session: &str, id: &str) -> InFlight {
        let (key, token) = ((session.to_owned(), id.to_owned()), CancellationToken::new());
        self.in_flight.borrow_mut().insert(key.clone(), token.clone());
        InFlight { process: Rc::clone(self), key, token }
    }

    /// Ends the call, if it still runs.
    pub(crate) fn cancel(&self, session: &str, id: &str) {
        if let Some(token) = self.in_flight.borrow().get(&(session.to_owned(), id.to_owned())) {
            token.cancel();
        }
    }

    /// Ends all calls of a session.
    pub(crate) fn cancel_all(&self, session: &str) {
        for ((_, _), token) in self.in_flight.borrow().iter().filter(|((of, _), _)| of == session) {
            token.cancel();
        }
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct InFlight {
    process: Rc<Process>,
    key: (String, String),
    pub(crate) token: CancellationToken,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.process.in_flight.borrow_mut().remove(&self.key);
    }
}

/// The next message of `script`, when its time has come. `None` after the answer, and when the call was cancelled.
pub(crate) async fn next(script: &mut Script, call: &InFlight) -> Option<String> {
    let Step { after, message } = script.next()?;
    if after.is_zero() {
        return Some(message);
    }
    call.token.run_until_cancelled(tokio::time::sleep(after)).await.map(|()| message)
}
