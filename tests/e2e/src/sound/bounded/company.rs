//! Three hostile peers beside any other scenario: a server that says for ever that its list has changed, clients that
//! read no event, and clients whose heads come byte by byte.

use std::{net::SocketAddr, sync::atomic::Ordering, thread::JoinHandle, time::Duration};

use testkit::{Document, Fault, Scratch, fault};

use super::{
    clients,
    peer::{Attack, Target},
    servers,
};
use crate::Figures;

/// Longer than any scenario.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The parties of an attack, before they do anything.
pub struct Company {
    _scratch: Scratch,
    server: Box<dyn Attack>,
    clients: Vec<(Target, Vec<JoinHandle<()>>)>,
}

impl std::fmt::Debug for Company {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Company").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Company {
    pub fn invite() -> Result<Self, Fault> {
        let scratch = Scratch::new("company")?;
        let server = servers::list_changed_for_ever(&scratch)?;
        Ok(Self { _scratch: scratch, server, clients: Vec::new() })
    }

    /// A configuration with the server in it.
    pub fn join(&self, document: Document) -> Document {
        self.server.servers().into_iter().fold(document, Document::with)
    }

    /// The clients begin.
    pub fn begin(&mut self, endpoints: &[SocketAddr]) -> Result<(), Fault> {
        for endpoint in endpoints {
            let target = Target::new(*endpoint, FOR_EVER);
            let mut threads = target.start(4, Duration::from_millis(100), |target| {
                clients::reads_no_events(target, "steady-stdio__echo")
            })?;
            threads.extend(target.start(20, Duration::from_millis(10), clients::head_byte_by_byte)?);
            self.clients.push((target, threads));
        }
        Ok(())
    }

    /// The clients end; that they did something is demanded.
    pub fn end(self, figures: &mut Figures) -> Result<(), Fault> {
        let mut deeds = 0;
        for (target, threads) in self.clients {
            target.stopped.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().map_err(|_| fault("a hostile client panicked"))?;
            }
            deeds += target.deeds.load(Ordering::Relaxed);
        }
        figures.demand("hostile_deeds", deeds, "some", deeds > 0);
        Ok(())
    }
}
