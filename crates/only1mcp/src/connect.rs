//! `connect`: MCP over stdio, for clients that start their servers, in front of a gateway that runs or is started.
//!
//! Each message is passed on as it is. What HTTP adds is kept from the client: a session that the gateway has lost is
//! begun anew, and a message of which nothing was sent, because the gateway is being restarted, is sent again.

mod start;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use backoff::Backoff;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcp::{ErrorCode, Kind, message, sse};
use runtime::escape::say;
use runtime::{Shutdown, Tasks};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout},
    sync::{Semaphore, mpsc},
    task::{LocalSet, spawn_local},
};

use crate::{
    args::ConnectArgs,
    cli::{self, Output},
    failure::Failure,
    mcp_client::{EVENT_MAX, McpEndpoint, Unanswered},
    place::Place,
};

/// How long a message waits for a gateway that is being restarted.
const AWAY: Duration = Duration::from_secs(30);
/// How long calls may take that still run when the client has closed its side.
const LAST: Duration = Duration::from_secs(5);
/// How often a cancellation is sent at most.
const CANCELLATIONS: u32 = 4;
/// Messages that the client has not read yet.
const UNREAD: usize = 64;

pub(crate) async fn run(args: &ConnectArgs) -> Result<Output, Failure> {
    let (url, place) = match &args.url {
        Some(url) => (url.clone(), None),
        None => {
            let place = args.place.find_to_start()?;
            (start::running(&args.place, &place, args.no_start).await?, Some(place))
        }
    };
    let (out, messages) = mpsc::channel(UNREAD);
    let bridge = Rc::new(Bridge {
        endpoint: RefCell::new(McpEndpoint::of(&url)?),
        place,
        was_there: Cell::new(false),
        greeting: RefCell::default(),
        renewal: Semaphore::new(1),
        open: RefCell::default(),
        out: RefCell::new(Some(out)),
        calls: Tasks::new(Shutdown::new()),
    });
    let mut signals = cli::signals()?;
    LocalSet::new()
        .run_until(async {
            let writing = spawn_local(write(messages));
            let (lines, said) = mpsc::channel(UNREAD);
            let reading = spawn_local(read(lines));
            tokio::select! {
                () = Rc::clone(&bridge).take(said) => drop(bridge.calls.join(LAST).await),
                // The client has left, and the gateway may be away.
                () = async { drop(reading.await); tokio::time::sleep(LAST).await } => {}
                _ = signals.recv() => {}
            }
            bridge.end().await;
            bridge.out.take();
            drop(tokio::time::timeout(LAST, writing).await);
        })
        .await;
    Ok(Output::nothing_more())
}

/// One message a line, until the client has closed its side.
async fn read(messages: mpsc::Sender<Bytes>) {
    let mut lines = BufReader::new(stdin()).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let message = Bytes::from(line);
        let message = message.slice(message.len() - mcp::without_bom(&message).len()..);
        if !message.trim_ascii().is_empty() && messages.send(message).await.is_err() {
            return;
        }
    }
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
    /// Where the gateway says its address, which is another one after some restarts.
    place: Option<Place>,
    /// The gateway has answered: if it is away, it will most likely be back.
    was_there: Cell<bool>,
    /// The client's `initialize`, with which a session is begun anew.
    greeting: RefCell<Option<Bytes>>,
    /// A lost session is begun anew once, for all that find it lost.
    renewal: Semaphore,
    /// Requests without an answer, by their ids; whether the client has cancelled them.
    open: RefCell<BTreeMap<String, bool>>,
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
    /// Passes on what the client says.
    async fn take(self: Rc<Self>, mut said: mpsc::Receiver<Bytes>) {
        while let Some(message) = said.recv().await {
            let method = Head::of(&message).method;
            match method.as_deref() {
                // What comes after belongs to the session that this begins.
                Some(message::method::INITIALIZE) => self.pass_on(&message).await,
                Some(message::method::INITIALIZED) => {
                    self.pass_on(&message).await;
                    spawn_local(Rc::clone(&self).listen());
                }
                Some(message::method::CANCELLED) => {
                    let bridge = Rc::clone(&self);
                    self.calls.spawn_local("cancellation", async move { bridge.cancel(&message).await });
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
        if let Some(id) = head.request() {
            self.open.borrow_mut().insert(id.to_owned(), false);
        }
        let outcome = self.post(message, &head).await;
        let cancelled = head.request().and_then(|id| self.open.borrow_mut().remove(id)).unwrap_or_default();
        let Err(reason) = outcome else { return };
        match head.request() {
            // Its client expects no answer.
            Some(_) if cancelled => {}
            Some(id) => {
                let text = format!("the gateway at {}: {reason}", self.endpoint.borrow().url);
                self.tell(message::error(Some(id), ErrorCode::INTERNAL_ERROR, &text, None)).await;
            }
            None => say(&format!("only1mcp: a message was not delivered: {reason}\n")),
        }
    }

    /// A cancellation may come before its call, which has a connection of its own: it is sent again while the call
    /// runs.
    async fn cancel(&self, message: &Bytes) {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow)]
            params: Params<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        let cancelled = serde_json::from_slice::<Cancelled<'_>>(message);
        let id = cancelled.map(|cancelled| cancelled.params.request_id.get().to_owned()).unwrap_or_default();
        if let Some(cancelled) = self.open.borrow_mut().get_mut(&id) {
            *cancelled = true;
        }
        let backoff = Backoff::default();
        for sent in 0..CANCELLATIONS {
            self.pass_on(message).await;
            tokio::time::sleep(backoff.ceiling(sent)).await;
            if !self.open.borrow().contains_key(&id) {
                return;
            }
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
        let session = self.endpoint.borrow().session.clone();
        let mut response = self.send(Method::POST, message.clone()).await?;
        if response.status() == StatusCode::NOT_FOUND && session.is_some() {
            self.begin_anew(session.as_ref()).await?;
            response = self.send(Method::POST, message.clone()).await?;
        }
        let greets = head.method.as_deref() == Some(message::method::INITIALIZE);
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut answered, mut reason) = (false, None);
        self.messages(response, async |answer: Vec<u8>| {
            let of = Head::of(&answer);
            if greets && of.method.is_none() {
                let result = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
                self.endpoint.borrow_mut().initialized(&headers, &result["result"]);
            }
            let is_answer = of.method.is_none() && of.id.map(RawValue::get) == head.request();
            answered |= is_answer;
            if is_answer && head.request().is_some() || of.method.is_some() {
                self.tell(answer).await;
            } else {
                // An error that names no message is about this one.
                let error = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
                reason = error["error"]["message"].as_str().map(str::to_owned);
            }
        })
        .await?;
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        match head.request() {
            Some(_) if !answered => Err(format!("HTTP {status} without an answer{reason}")),
            None if !status.is_success() => Err(format!("HTTP {status}{reason}")),
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
                Ok(response) => {
                    self.was_there.set(true);
                    return Ok(response);
                }
                Err(Unanswered::NotSent(_)) if self.was_there.get() && start.elapsed() < AWAY => {}
                Err(error) => return Err(error.to_string()),
            }
            self.look_again();
            tokio::time::sleep(backoff.ceiling(failures)).await;
            failures += 1;
        }
    }

    /// A gateway that was restarted may have another address.
    fn look_again(&self) {
        let Some(addresses) = self.place.as_ref().and_then(Place::addresses) else { return };
        let mut endpoint = self.endpoint.borrow_mut();
        if let Ok(moved) = endpoint.moved_to(&addresses.mcp)
            && addresses.mcp != endpoint.url
        {
            *endpoint = moved;
        }
    }

    /// Begins another session in place of `lost`, which the gateway does not know any more.
    async fn begin_anew(&self, lost: Option<&HeaderValue>) -> Result<(), String> {
        let _turn = self.renewal.acquire().await;
        let Some(greeting) = self.greeting.borrow().clone() else { return Ok(()) };
        if self.endpoint.borrow().session.as_ref() != lost {
            // Another message has found it lost as well.
            return Ok(());
        }
        let mut fresh = self.endpoint.borrow().anew();
        let response = fresh.send(Method::POST, greeting).await.map_err(|error| error.to_string())?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut begun = false;
        self.messages(response, async |answer: Vec<u8>| {
            let result = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
            begun |= fresh.initialized(&headers, &result["result"]);
        })
        .await?;
        if !begun {
            return Err(format!("the session is lost, and no other one begins: HTTP {status}"));
        }
        *self.endpoint.borrow_mut() = fresh;
        self.send(Method::POST, Bytes::from_static(message::INITIALIZED)).await?;
        // The gateway does not know that this session takes the place of another one.
        for kind in Kind::SERVED {
            self.tell(message::notification(kind.list_changed(), None)).await;
        }
        Ok(())
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
            let session = self.endpoint.borrow().session.clone();
            let opened = self.send(Method::GET, Bytes::new()).await;
            failures = match opened {
                Ok(response) if response.status().is_success() => {
                    // However it ended, another one is opened.
                    drop(self.messages(response, async |message| self.tell(message).await).await);
                    0
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                    drop(self.begin_anew(session.as_ref()).await);
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
