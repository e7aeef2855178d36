//! Demo servers as backends: HTTP ones that the test starts, and stdio ones that the gateway is told to start.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    binaries,
    config::Server,
    fault::{Fault, fault},
    process::Supervised,
    scratch::Scratch,
};

/// A demo server starts in a few milliseconds; more means that the machine is overloaded.
const START: Duration = Duration::from_secs(20);

/// An HTTP backend that runs.
#[derive(Debug)]
pub struct DemoServer {
    process: Supervised,
    address: SocketAddr,
}

impl DemoServer {
    /// Starts one that counts into `counts/NAME`, with more arguments for the program.
    pub fn start(name: &str, scratch: &Scratch, more: &[&str]) -> Result<Self, Fault> {
        let port_file = scratch.folder("ports")?.join(name);
        let mut command = Command::new(binaries::path("only1mcp")?);
        command.args(["demo-server", "--listen", "127.0.0.1:0", "--name", name]).args(more);
        command.arg("--count-file").arg(count_file(scratch, name)?).arg("--port-file").arg(&port_file);
        let process = Supervised::start(&format!("demo-{name}"), &mut command, &scratch.folder("logs")?)?;
        process.wait_stdout("its address", START, |line| line.contains("listening on").then_some(()))?;
        let address = fs::read_to_string(port_file)?;
        let address = address.trim().parse().map_err(|_| fault(format!("not an address: {address}")))?;
        Ok(Self { process, address })
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&mut self) -> &mut Supervised {
        &mut self.process
    }
}

/// The entry of a stdio demo server that counts into `counts/NAME`.
pub fn stdio(id: &str, name: &str, scratch: &Scratch) -> Result<Server, Fault> {
    let counts = count_file(scratch, name)?;
    let args = ["demo-server", "--stdio", "--name", name, "--count-file", text(&counts)];
    Ok(Server::stdio(id, &binaries::path("only1mcp")?, &args))
}

fn count_file(scratch: &Scratch, name: &str) -> Result<PathBuf, Fault> {
    Ok(scratch.folder("counts")?.join(name))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of tests have plain names")
}
