//! The demo server on stdin and stdout: one message a line, calls run side by side and are answered as they end.

use std::{
    cell::RefCell,
    io::{self, BufRead, Write},
    rc::Rc,
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    message::{self, Incoming, Notification, Request},
    process::{self, Process},
    script::Script,
    server::{Era, Origin, Outcome},
};

/// Lines read ahead, and lines that the reader of our stdout has not taken yet.
const QUEUE: usize = 256;
/// How long to wait at the end for the client to read the last answers.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until stdin ends, or for ever with `ignore_eof`.
pub(crate) async fn serve(process: Rc<Process>, ignore_eof: bool) -> io::Result<()> {
    let mut lines = read_stdin()?;
    let (output, written) = write_stdout()?;
    let client = Rc::new(Client { process, output, told: RefCell::default() });
    while let Some(line) = lines.recv().await {
        client.take(&line).await;
    }
    if ignore_eof {
        std::future::pending::<()>().await;
    }
    // Running calls are not awaited; finished answers are written.
    client.process.cancel_all("");
    client.told.take().cancel();
    drop(client);
    // A client that does not read the answers gets them cut off.
    drop(tokio::time::timeout(LAST_WORDS, written).await);
    Ok(())
}

/// Stdin is read on a thread of its own, because a blocking read cannot be cancelled.
pub(crate) fn read_stdin() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) if sender.blocking_send(line).is_err() => break,
                Ok(_) => {}
            }
        }
    })?;
    Ok(receiver)
}

/// Stdout is written on a thread of its own, so that a slow reader delays the answers and nothing else. The second
/// value resolves when all lines are written and every sender is gone.
fn write_stdout() -> io::Result<(mpsc::Sender<String>, oneshot::Receiver<()>)> {
    let (sender, mut receiver) = mpsc::channel::<String>(QUEUE);
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        while let Some(mut message) = receiver.blocking_recv() {
            message.push('\n');
            let more = !receiver.is_empty();
            let written = stdout.write_all(message.as_bytes());
            // A reader that went away does not end the process; the end of stdin does.
            if written.and_then(|()| if more { Ok(()) } else { stdout.flush() }).is_err() {
                break;
            }
        }
        drop::<oneshot::Sender<()>>(end);
    })?;
    Ok((sender, ended))
}

/// The one client of this process.
struct Client {
    process: Rc<Process>,
    output: mpsc::Sender<String>,
    /// Ends the task that tells the client of changes since its latest `initialize`.
    told: RefCell<CancellationToken>,
}

impl Client {
    async fn take(self: &Rc<Self>, line: &[u8]) {
        match message::parse(line) {
            Ok(Incoming::Request(request)) => self.request(request).await,
            Ok(Incoming::Notification(notification)) => self.notification(&notification),
            Ok(Incoming::Response) => {}
            Err(malformed) => self.send(malformed.answer()).await,
        }
    }

    fn notification(&self, notification: &Notification<'_>) {
        if notification.method == "notifications/cancelled"
            && let Some(id) = notification.params.request_id
        {
            self.process.cancel("", id.get());
        }
    }

    async fn request(self: &Rc<Self>, request: Request<'_>) {
        let era = if request.params.meta_version().is_some() { Era::Stateless } else { Era::Sessions };
        let origin = Origin { era, session: None, connection: 0 };
        match self.process.request(origin, &request) {
            Outcome::Answer(answer) | Outcome::NoSuchMethod(answer) => self.send(answer).await,
            Outcome::Initialized(answer) => {
                self.send(answer).await;
                let stop = CancellationToken::new();
                self.told.replace(stop.clone()).cancel();
                self.tell_changes(stop, None);
            }
            Outcome::Run { mut script, .. } if script.is_immediate() => {
                if let Some(step) = script.next() {
                    self.send(step.message).await;
                }
            }
            Outcome::Run { script, .. } => self.run(script, request.id),
            Outcome::Listen { acknowledgement, changes } => {
                self.send(acknowledgement).await;
                let call = self.process.in_flight("", request.id);
                if changes {
                    self.tell_changes(call.token.clone(), Some(request.id.to_owned()));
                }
                self.process.tasks.spawn_local("listen", async move { call.token.cancelled().await });
            }
            // The process is about to end; there is no answer.
            Outcome::Exit { .. } => std::future::pending().await,
        }
    }

    fn run(self: &Rc<Self>, mut script: Script, id: &str) {
        let (client, call) = (Rc::clone(self), self.process.in_flight("", id));
        self.process.tasks.spawn_local("call", async move {
            while let Some(message) = process::next(&mut script, &call).await {
                client.send(message).await;
            }
        });
    }

    /// Notifies the client whenever the list of tools has changed, until `stop`.
    fn tell_changes(self: &Rc<Self>, stop: CancellationToken, subscription: Option<String>) {
        let (output, mut changes) = (self.output.clone(), self.process.changes());
        self.process.tasks.spawn_local("changes", async move {
            while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
                if output.send(message::list_changed(subscription.as_deref())).await.is_err() {
                    break;
                }
            }
        });
    }

    async fn send(&self, message: String) {
        // Fails when stdout is closed; then no client waits for the message.
        drop(self.output.send(message).await);
    }
}
