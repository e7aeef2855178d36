//! Sockets that outlive the process: a restart refuses no client, and what does not fit is refused at the start.

use std::{
    ffi::OsString,
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use testkit::{Client, ConfigFile, Document, Fault, Scratch, Services, demo, fault, process_tree, services::Kind};

use super::manager::{LIMIT, StandIn, listening_socket, words};

/// Enough to detect a restart that refuses a client only now and then.
const RESTARTS: usize = 4;

/// A configuration with one stdio server.
pub(crate) fn configured(name: &str) -> Result<(Scratch, ConfigFile), Fault> {
    let scratch = Scratch::new(name)?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    Ok((scratch, file))
}

pub(crate) fn up(scratch: &Scratch, file: &ConfigFile) -> Vec<OsString> {
    let mut arguments = words([&"up", &"--config", &file.path(), &"--state-dir", &scratch.file("state")]);
    arguments.extend(words([&"--admin", &"127.0.0.1:0", &"--ops", &"127.0.0.1:0", &"--listen", &"127.0.0.1:0"]));
    arguments
}

/// Clients that come one after the other, each on a connection of its own and with one question: the answer may say
/// that there will be no other on this connection.
pub(crate) struct Visitors {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize, Fault>>,
}

fn hello() -> Value {
    json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "visitor", "version": "1" },
    })
}

impl Visitors {
    pub(crate) fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut served = 0;
            while !stopped.load(Ordering::Relaxed) {
                let visitor = |error: Fault| error.during(format!("visitor {served}"));
                let mut client = Client::connect(address).map_err(visitor)?;
                client.request("initialize", &hello()).map_err(|error| visitor(error.into()))?.content?;
                served += 1;
            }
            Ok(served)
        });
        Self { stop, thread }
    }

    /// How many were served, if all were.
    pub(crate) fn end(self) -> Result<usize, Fault> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| fault("the visitors panicked"))?
    }
}

/// Restarts the program over and over while clients come.
fn restarts(manager: &StandIn, program: &str, arguments: &[OsString]) -> Result<(), Fault> {
    let socket = listening_socket()?;
    let start = || -> Result<_, Fault> {
        let process = manager.hand_over("mcp", socket.try_clone()?, program, arguments)?;
        manager.hears("READY=1")?;
        Ok(process)
    };
    let mut process = start()?;
    let visitors = Visitors::begin(socket.local_addr()?);
    for _ in 0..RESTARTS {
        assert!(process.stop()?.success(), "{}", process.stderr_tail(5));
        // A client connects while no process runs.
        let early = TcpStream::connect(socket.local_addr()?)?;
        process = start()?;
        drop(early);
    }
    let served = visitors.end()?;
    assert!(served > RESTARTS, "only {served} clients came");
    process.stop()?;
    Ok(())
}

#[test]
fn a_restart_of_up_refuses_no_client() -> Result<(), Fault> {
    let (scratch, file) = configured("up-again")?;
    restarts(&StandIn::new(&scratch, "up")?, "only1mcp", &up(&scratch, &file))
}

#[test]
fn a_restart_of_a_router_refuses_no_client() -> Result<(), Fault> {
    let (scratch, file) = configured("router-again")?;
    let services = Services::up(&scratch, file.path(), 0)?;
    let followed = format!("http://{}", services.service(Kind::ConfigManager).grpc);
    let mut arguments = words([&"--config-manager", &followed, &"--grpc", &"127.0.0.1:0", &"--ops", &"127.0.0.1:0"]);
    arguments.extend(words([&"--state-dir", &scratch.file("state"), &"--token-file", &scratch.file("token")]));
    arguments.extend(words([&"--min-drain", &"0", &"--cores", &"3"]));
    restarts(&StandIn::new(&scratch, "router")?, "router", &arguments)
}

#[test]
fn servers_inherit_nothing_of_it() -> Result<(), Fault> {
    let (scratch, file) = configured("inherits")?;
    let (manager, socket) = (StandIn::new(&scratch, "up")?, listening_socket()?);
    let inode = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&socket)))?;
    let process = manager.hand_over("mcp", socket, "only1mcp", &up(&scratch, &file))?;
    manager.hears("READY=1")?;
    let children = process_tree::descendants(process.pid());
    assert!(children.len() >= 2, "a keeper and its server");
    for child in children {
        let environment = fs::read(format!("/proc/{}/environ", child.pid))?;
        let environment = String::from_utf8_lossy(&environment);
        for variable in ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"] {
            assert!(!environment.contains(variable), "{child:?}: {environment}");
        }
        let open = fs::read_dir(format!("/proc/{}/fd", child.pid))?;
        let open: Vec<PathBuf> = open.flatten().flat_map(|entry| fs::read_link(entry.path())).collect();
        assert!(!open.contains(&inode), "{child:?} holds the socket: {open:?}");
    }
    Ok(())
}

/// Starts `up` with a socket that does not fit, and looks for the reason it gives.
fn refused(name: &str, socket: impl Into<OwnedFd>, reason: &str) -> Result<(), Fault> {
    let (scratch, file) = configured("unfit")?;
    let manager = StandIn::new(&scratch, "up")?;
    let mut process = manager.hand_over(name, socket, "only1mcp", &up(&scratch, &file))?;
    process.wait_stderr(reason, LIMIT, |line| line.contains(reason).then_some(()))?;
    assert_eq!(process.wait(LIMIT)?.code(), Some(1), "{name}");
    Ok(())
}

#[test]
fn a_socket_that_does_not_fit_is_refused_at_the_start() -> Result<(), Fault> {
    let name = "the inherited socket 3 is named \"web\"; expected one of: admin, ops, mcp";
    refused("web", TcpListener::bind("127.0.0.1:0")?, name)?;
    let scratch = Scratch::new("unix")?;
    let tcp = "the inherited socket 3, \"mcp\", is not a listening TCP socket";
    refused("mcp", UnixListener::bind(scratch.file("socket"))?, tcp)?;
    let either = "the inherited socket 3, \"admin\", is not a listening TCP socket, nor a listening Unix socket";
    refused("admin", UdpSocket::bind("127.0.0.1:0")?, either)?;
    refused("mcp:ops", TcpListener::bind("127.0.0.1:0")?, "1 sockets are inherited, but LISTEN_FDNAMES has 2 names")?;
    let held = listening_socket()?;
    refused("ops", TcpStream::connect(held.local_addr()?)?, "\"ops\", is not a listening TCP socket")
}

#[test]
fn the_admin_api_and_the_ops_listener_can_be_inherited_too() -> Result<(), Fault> {
    let (scratch, file) = configured("others")?;
    let path = scratch.file("admin");
    let manager = StandIn::new(&scratch, "up")?;
    let mut process = manager.hand_over("admin", UnixListener::bind(&path)?, "only1mcp", &up(&scratch, &file))?;
    manager.hears("READY=1")?;
    std::os::unix::net::UnixStream::connect(&path)?;
    assert!(process.stop()?.success());
    assert!(path.exists(), "it belongs to whoever opened it");

    let ops = listening_socket()?;
    let address = ops.local_addr()?;
    let mut process = manager.hand_over("ops", ops, "only1mcp", &up(&scratch, &file))?;
    manager.hears("READY=1")?;
    assert_eq!(testkit::client::http_get(address, "/readyz")?.0, 200);
    assert!(process.stop()?.success());
    Ok(())
}
