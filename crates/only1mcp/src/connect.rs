//! `connect`: MCP over stdio, for clients that start their servers, in front of a gateway that runs or is started.
//!
//! Each message is passed on as it is. What HTTP adds is kept from the client: a session that the gateway has lost is
//! begun anew, and a message of which nothing was sent, because the gateway is being restarted, is sent again.

mod start;

use std::{cell::RefCell, rc::Rc, time::Duration};

use backoff::Backoff;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcp::{ErrorCode, message, sse};
use runtime::escape::say;
use runtime::{Shutdown, Tasks, shutdown};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout},
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

use crate::{
    args::ConnectArgs,
    cli::{Lines, Output},
    failure::Failure,
    mcp_client::{EVENT_MAX, McpEndpoint, Unanswered},
};

/// How long a message waits for a gateway that is being restarted.
const AWAY: Duration = Duration::from_secs(30);
/// How long calls may take that still run when the client has closed its side.
const LAST: Duration = Duration::from_secs(5);
/// Messages that the client has not read yet.
const UNREAD: usize = 64;

pub(crate) async fn run(args: &ConnectArgs) -> Result<Output, Failure> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => start::running(&args.place, args.no_start).await?,
    };
    let (out, messages) = mpsc::channel(UNREAD);
    let endpoint = RefCell::new(McpEndpoint::of(&url)?);
    let calls = Tasks::new(Shutdown::new());
    let bridge = Rc::new(Bridge { endpoint, greeting: RefCell::default(), out: RefCell::new(Some(out)), calls });
    let failed = |source| Failure::System { what: "cannot catch signals", source };
    let mut signals = shutdown::signals().map_err(failed)?;
    LocalSet::new()
        .run_until(async {
            let writing = spawn_local(write(messages));
            tokio::select! {
                () = Rc::clone(&bridge).read() => drop(bridge.calls.join(LAST).await),
                _ = signals.recv() => {}
            }
            bridge.end().await;
            bridge.out.take();
            drop(tokio::time::timeout(LAST, writing).await);
        })
        .await;
    Ok(Output::done(Lines::default(), Value::Null))
}

/// One message a line, until the client does not read any more.
async fn write(mut messages: mpsc::Receiver<Vec<u8>>) {
    let mut out = stdout();
    while let Some(mut message) = messages.recv().await {
        // In JSON a line break can only be white space.
        message.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        message.push(b'\n');
        if out.write_all(&message).await.is_err() || out.flush().await.is_err() {
            return;
        }
    }
}

struct Bridge {
    endpoint: RefCell<McpEndpoint>,
    /// The client's `initialize`, with which a session is begun anew.
    greeting: RefCell<Option<Bytes>>,
    /// Until the end.
    out: RefCell<Option<mpsc::Sender<Vec<u8>>>>,
    /// Those that the client waits for.
    calls: Tasks,
}

/// What a message is about.
#[derive(Deserialize, Default)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
}

impl<'a> Head<'a> {
    fn of(message: &'a [u8]) -> Self {
        serde_json::from_slice(message).unwrap_or_default()
    }

    /// The id, if the message wants an answer.
    fn request(&self) -> Option<&'a str> {
        self.id.filter(|_| self.method.is_some()).map(RawValue::get)
    }
}

impl Bridge {
    /// Passes on what the client says, until it has closed its side.
    async fn read(self: Rc<Self>) {
        let mut lines = BufReader::new(stdin()).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = Bytes::from(line);
            let method = Head::of(&message).method;
            match method.as_deref() {
                // What comes after belongs to the session that this begins.
                Some(message::method::INITIALIZE) => self.pass_on(&message).await,
                Some(message::method::INITIALIZED) => {
                    self.pass_on(&message).await;
                    spawn_local(Rc::clone(&self).listen());
                }
                _ => {
                    let bridge = Rc::clone(&self);
                    self.calls.spawn_local("message", async move { bridge.pass_on(&message).await });
                }
            }
        }
    }

    async fn pass_on(&self, message: &Bytes) {
        let head = Head::of(message);
        if head.method.as_deref() == Some(message::method::INITIALIZE) {
            *self.greeting.borrow_mut() = Some(message.clone());
        }
        let Err(reason) = self.post(message, &head).await else { return };
        match head.request() {
            Some(id) => {
                let text = format!("the gateway at {}: {reason}", self.endpoint.borrow().url);
                self.tell(message::error(Some(id), ErrorCode::INTERNAL_ERROR, &text, None)).await;
            }
            None => say(&format!("only1mcp: a message was not delivered: {reason}\n")),
        }
    }

    async fn tell(&self, message: Vec<u8>) {
        let out = self.out.borrow().clone();
        if let Some(out) = out {
            // A client that is gone reads nothing any more.
            drop(out.send(message).await);
        }
    }

    /// Sends a message, and the answers to it to the client. An error is a text for the client.
    async fn post(&self, message: &Bytes, head: &Head<'_>) -> Result<(), String> {
        let mut response = self.send(Method::POST, message.clone()).await?;
        let has_session = self.endpoint.borrow().session.is_some();
        if response.status() == StatusCode::NOT_FOUND && has_session {
            self.begin_anew().await?;
            response = self.send(Method::POST, message.clone()).await?;
        }
        let greets = head.method.as_deref() == Some(message::method::INITIALIZE);
        let (status, headers) = (response.status(), response.headers().clone());
        let mut answered = false;
        self.messages(response, async |answer: Vec<u8>| {
            let of = Head::of(&answer);
            if greets && of.method.is_none() {
                let result = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
                self.endpoint.borrow_mut().initialized(&headers, &result["result"]);
            }
            // An error that names no message is about this one.
            let is_answer = of.method.is_none() && of.id.map(RawValue::get) == head.request();
            answered |= is_answer;
            if is_answer || of.method.is_some() {
                self.tell(answer).await;
            }
        })
        .await?;
        match head.request() {
            Some(_) if !answered => Err(format!("HTTP {status} without an answer")),
            None if !status.is_success() => Err(format!("HTTP {status}")),
            _ => Ok(()),
        }
    }

    /// Tries again for a while if nothing was sent.
    async fn send(&self, method: Method, body: Bytes) -> Result<Response<Incoming>, String> {
        let (start, backoff) = (tokio::time::Instant::now(), Backoff::default());
        let mut failures = 0;
        loop {
            let sending = self.endpoint.borrow().send(method.clone(), body.clone());
            match sending.await {
                Ok(response) => return Ok(response),
                Err(Unanswered::NotSent(_)) if start.elapsed() < AWAY => {}
                Err(error) => return Err(error.to_string()),
            }
            tokio::time::sleep(backoff.ceiling(failures)).await;
            failures += 1;
        }
    }

    /// Begins another session in place of one that the gateway does not know any more.
    async fn begin_anew(&self) -> Result<(), String> {
        let Some(greeting) = self.greeting.borrow().clone() else { return Ok(()) };
        self.endpoint.borrow_mut().session = None;
        let response = self.send(Method::POST, greeting).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut begun = false;
        self.messages(response, async |answer: Vec<u8>| {
            let result = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
            begun |= self.endpoint.borrow_mut().initialized(&headers, &result["result"]);
        })
        .await?;
        if !begun {
            return Err(format!("the session is lost, and no other one begins: HTTP {status}"));
        }
        self.send(Method::POST, Bytes::from_static(message::INITIALIZED)).await.map(drop)
    }

    /// The messages of a response, one after the other.
    async fn messages(&self, response: Response<Incoming>, mut each: impl AsyncFnMut(Vec<u8>)) -> Result<(), String> {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut body = response.into_body();
        if !is_stream {
            let whole = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            if !whole.is_empty() {
                each(whole.into()).await;
            }
            return Ok(());
        }
        let mut decoder = sse::Decoder::new(EVENT_MAX);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            let mut data = &*data;
            while let Some(event) = decoder.next(&mut data).map_err(|error| error.to_string())? {
                if !event.data.is_empty() {
                    each(event.data.to_vec()).await;
                }
            }
        }
        Ok(())
    }

    /// Passes on what the gateway says unasked, for as long as it offers that.
    async fn listen(self: Rc<Self>) {
        let (backoff, mut failures) = (Backoff::default(), 0);
        loop {
            let opened = self.send(Method::GET, Bytes::new()).await;
            failures = match opened {
                Ok(response) if response.status().is_success() => {
                    // However it ended, another one is opened.
                    drop(self.messages(response, async |message| self.tell(message).await).await);
                    0
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                    drop(self.begin_anew().await);
                    failures + 1
                }
                Ok(_) | Err(_) => failures + 1,
            };
            tokio::time::sleep(backoff.ceiling(failures)).await;
        }
    }

    /// The session is over. The gateway would find out by itself, so failing is no failure.
    async fn end(&self) {
        let is_open = self.endpoint.borrow().session.is_some();
        if is_open {
            let ending = self.endpoint.borrow().send(Method::DELETE, Bytes::new());
            drop(tokio::time::timeout(LAST, ending).await);
        }
    }
}
