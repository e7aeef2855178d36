//! Many clients that call at the same moment, each over a connection and with a session of its own.

use std::{net::SocketAddr, thread};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{
    Fault, Reply,
    client::{CallError, Connection},
    fault,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
    time::Instant,
};

/// Clients that wait for what they are to call.
pub(super) struct Crowd {
    orders: mpsc::Sender<(Order, oneshot::Sender<Vec<Call>>)>,
}

/// What each of them calls.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) tool: String,
    pub(super) arguments: Value,
    /// Begins the `id` of every call, by which backends count it.
    pub(super) tag: String,
}

impl Order {
    /// By which the backends count the call of client `number`.
    pub(super) fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.tag)
    }
}

/// How the call of one client ended.
pub(super) struct Call {
    pub(super) ended: Instant,
    pub(super) answer: Result<Reply, CallError>,
}

impl Call {
    /// What it answered, or what came instead of an answer.
    pub(super) fn text(&self) -> Result<&str, String> {
        let reply = self.answer.as_ref().map_err(ToString::to_string)?;
        reply.text().map_err(|error| error.to_string())
    }

    /// Nothing, if it ended with this error; otherwise how.
    pub(super) fn other_than(&self, code: i64) -> Option<String> {
        match self.answer.as_ref().map(|reply| &reply.content) {
            Ok(Err(error)) if error.code == code => None,
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(result)) => Some(format!("a result: {result}")),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Calls that run.
pub(super) struct Calls(oneshot::Receiver<Vec<Call>>);

impl Calls {
    /// All of them, by the numbers of their clients.
    pub(super) fn wait(self) -> Result<Vec<Call>, Fault> {
        self.0.blocking_recv().map_err(|_| fault("the crowd is gone"))
    }
}

impl Crowd {
    /// Opens so many sessions. The clients live on a thread of their own, which ends with this.
    pub(super) fn open(address: SocketAddr, clients: usize) -> Result<Self, Fault> {
        let (orders, incoming) = mpsc::channel(1);
        let (ready, opened) = oneshot::channel();
        thread::Builder::new().name("crowd".to_owned()).spawn(move || {
            // A failure later on is one of a call.
            drop(run(address, clients, ready, incoming));
        })?;
        opened.blocking_recv().map_err(|_| fault("the crowd could not begin"))??;
        Ok(Self { orders })
    }

    /// Each client begins a call; those of the order before have ended, or these wait for them. Answers come as event
    /// streams where the server tells of progress.
    pub(super) fn call(&self, order: &Order) -> Result<Calls, Fault> {
        let (done, calls) = oneshot::channel();
        self.orders.blocking_send((order.clone(), done)).map_err(|_| fault("the crowd is gone"))?;
        Ok(Calls(calls))
    }
}

fn run(
    address: SocketAddr,
    clients: usize,
    ready: oneshot::Sender<Result<(), Fault>>,
    mut orders: mpsc::Receiver<(Order, oneshot::Sender<Vec<Call>>)>,
) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut connections = match open_all(address, clients).await {
            Ok(connections) => connections,
            Err(error) => {
                drop(ready.send(Err(error.into())));
                return Ok(());
            }
        };
        drop(ready.send(Ok(())));
        while let Some((order, done)) = orders.recv().await {
            let calls = connections.iter_mut().enumerate().map(|(number, client)| call(client, &order, number));
            // Where the scenario has failed meanwhile, the calls are of no interest.
            drop(done.send(join_all(calls).await));
        }
        Ok(())
    })
}

async fn open_all(address: SocketAddr, clients: usize) -> Result<Vec<Connection>, CallError> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut connection = Connection::open(address).await?;
        connection.initialize().await?;
        connections.push(connection);
    }
    Ok(connections)
}

async fn call(client: &mut Connection, order: &Order, number: usize) -> Call {
    let mut arguments = order.arguments.clone();
    arguments["id"] = order.id(number).into();
    let params = json!({ "name": order.tool, "arguments": arguments, "_meta": { "progressToken": number } });
    let answer = client.request("tools/call", &params).await;
    Call { ended: Instant::now(), answer }
}
