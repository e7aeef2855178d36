//! The fleet's hands: what the deciding parts want done, done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drain::departures;
use fleet::{Effect, Event, Offered, Serial, new_collisions};
use mcp::Owners;
use model::{AttemptId, CandidateOutcome, EndpointKey, Naming};
use rollout::Refusal;
use rollout::follower::Event as FollowerEvent;
use runtime::{Kind, TraceContext};
use tokio::time::Instant;

use super::{Command, Task, status, turn};
use crate::disk::DiskCopy;
use crate::endpoint::{BringUpError, BringUpFailure, Endpoint, Listing};

impl From<Listing> for Offered {
    fn from(listing: Listing) -> Self {
        let Listing { tools, instructions, warnings, left_out, .. } = listing;
        Self { tools, instructions, warnings, left_out }
    }
}

impl Task {
    /// Carries out everything that is wanted, and what follows from it.
    pub(super) fn settle(&mut self) {
        self.draw_consequences(None);
        if let Some((revision, begun)) = self.swapping.take() {
            metrics::histogram!("only1mcp_router_swap_seconds").record(begun.elapsed());
            tracing::info!(revision = revision.0, "live");
            self.answer(FollowerEvent::Swapped { revision });
        }
    }

    /// Carries out everything that is wanted, in the trace of `cause`.
    pub(crate) fn draw_consequences(&mut self, cause: Option<TraceContext>) {
        self.cause = cause;
        loop {
            if let Some(effect) = self.roster.poll_effect() {
                self.carry_out(effect);
            } else if !self.pass_departures() {
                break;
            }
        }
        self.cause = None;
    }

    /// What nobody waits for: the copy on disk, the status, and the end of the generation before.
    pub(super) fn tidy(&mut self) {
        self.retired = None;
        self.copy_to_disk();
        if std::mem::take(&mut self.unseen) {
            let departures = self.departures.departures(self.now());
            let mut status = status::status(&self.roster, &self.endpoints, &self.live.load(), departures);
            status.trace = self.swapped_by;
            self.status.send_replace(Arc::new(status));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Create { serial, key, spec } => {
                let limits = Arc::new(self.roster.limits_for(&key));
                let endpoint = Endpoint::new(key, spec, 1, limits, &self.upstreams);
                self.serials.insert(endpoint.serial, serial);
                self.endpoints.insert(serial, endpoint);
                self.wanted_by.extend(self.cause.map(|cause| (serial, cause)));
                self.unseen = true;
            }
            Effect::BringUp { serial, timeout } => self.bring_up(serial, timeout),
            Effect::List { serial } => self.list(serial),
            Effect::NotListed { serial, reason } => {
                if let Some(endpoint) = self.endpoints.get(&serial) {
                    tracing::warn!(endpoint = %endpoint.key, reason, "cannot list the tools anew; the old list stays");
                }
            }
            Effect::Verdict { serial, verdict } => {
                if let Some(endpoint) = self.endpoints.get(&serial) {
                    tracing::debug!(endpoint = %endpoint.key, %verdict, "verdict");
                    endpoint.set_verdict(verdict);
                }
                self.unseen = true;
            }
            Effect::Publish { swap, by_file } => self.publish(swap, by_file),
            Effect::ShutDown { serial } => self.shut_down(serial),
            Effect::Restart { serial, unhealthy } => self.restart_endpoint(serial, unhealthy),
            Effect::Prepared { attempt, outcomes } => self.prepared(attempt, outcomes),
        }
    }

    fn bring_up(&mut self, serial: Serial, timeout: Duration) {
        let Some(endpoint) = self.endpoints.get(&serial).map(Arc::clone) else { return };
        let commands = self.commands.clone();
        let mut span = self.tracer.start("router.bring_up", Kind::Internal, self.wanted_by.remove(&serial));
        span.set("only1mcp.server", endpoint.key.backend.to_string());
        span.set("only1mcp.endpoint", endpoint.key.to_string());
        self.tasks.spawn("bring up", async move {
            let result = endpoint.bring_up(Instant::now() + timeout).await;
            match &result {
                Ok(listing) => {
                    tracing::info!(endpoint = %endpoint.key, tools = listing.tools.len(), "up");
                    span.count("only1mcp.tools", listing.tools.len() as u64);
                }
                Err(BringUpError { failure: BringUpFailure::Ended, .. }) => span.fail("not wanted any more"),
                Err(error) => {
                    tracing::warn!(endpoint = %endpoint.key, %error, "cannot be brought up");
                    // Traces leave the gateway: the words of the server are for the log.
                    span.fail(format!("{} (reference {})", error.failure.plain(), error.output.reference));
                }
            }
            drop(span);
            let result = result.map(Offered::from).map_err(|error| error.reason());
            // Fails only when the fleet is gone.
            drop(commands.send(Command::BroughtUp { serial, result }).await);
        });
    }

    fn list(&self, serial: Serial) {
        let Some(endpoint) = self.endpoints.get(&serial).map(Arc::clone) else { return };
        let commands = self.commands.clone();
        self.tasks.spawn("list tools", async move {
            let result = endpoint.list().await.map(Offered::from).map_err(|error| error.to_string());
            drop(commands.send(Command::Listed { serial, result }).await);
        });
    }

    /// Nothing is in flight on it, or ever was.
    fn shut_down(&mut self, serial: Serial) {
        let Some(endpoint) = self.endpoints.remove(&serial) else { return };
        self.serials.remove(&endpoint.serial);
        self.wanted_by.remove(&serial);
        // Who waits for a restart of it hears that there is none.
        self.restarters.remove(&serial);
        self.unseen = true;
        endpoint.admission.cordon();
        if !endpoint.admission.try_close() {
            tracing::error!(endpoint = %endpoint.key, admission = ?endpoint.admission, "shut down with calls in flight");
        }
        let commands = self.commands.clone();
        self.tasks.spawn("shut down", async move {
            endpoint.shut_down().await;
            tracing::info!(endpoint = %endpoint.key, "ended");
            drop(commands.send(Command::Ended { serial }).await);
        });
    }

    /// Before a swap what comes back is opened, after it what leaves is cordoned: a call finds every endpoint of either
    /// generation as that generation has it.
    fn publish(&mut self, swap: bool, by_file: bool) {
        let Some(layout) = self.roster.layout().cloned() else { return };
        if swap {
            let endpoints = layout.keys().cloned().collect();
            self.departures.handle(self.now(), departures::Event::Coming { endpoints });
            self.pass_departures();
        }
        self.turn += 1;
        let begun = Instant::now();
        let disputable = !by_file && layout.content.snapshot.policy.naming != Naming::Prefix;
        let owners = if disputable { self.live.load().catalog.owners() } else { Owners::new() };
        fail::fail_point!("router-before-swap");
        let Some(generation) = turn::generation(&self.roster, &self.endpoints, &owners, self.turn) else { return };
        self.retired = Some(self.live.publish(generation));
        metrics::histogram!("only1mcp_router_turn_seconds").record(begun.elapsed());
        if swap {
            self.swapped_by = self.cause;
            let snapshot = &layout.content.snapshot;
            for key in layout.keys() {
                if let Some(endpoint) = self.endpoint(key) {
                    endpoint.set_limits(Arc::new(layout.limits_of(key)));
                }
            }
            let timeout = |key: &EndpointKey| {
                layout
                    .backend_of(key)
                    .map_or(snapshot.policy.drain.timeout, |backend| snapshot.drain_of(backend).timeout)
            };
            let endpoints: BTreeMap<_, _> = layout.keys().map(|key| (key.clone(), timeout(key))).collect();
            let revision = self.roster.revision();
            self.departures.handle(self.now(), departures::Event::Live { revision, endpoints });
            self.pass_departures();
        }
        self.unsaved |= self.saved.is_some();
        self.unseen = true;
    }

    /// Collisions of names are judged here: only with the lists of all candidates are they known.
    fn prepared(&self, attempt: AttemptId, outcomes: Vec<CandidateOutcome>) {
        let collisions = self.roster.attempt_layout().map(|layout| new_collisions(&self.roster, layout));
        let collisions = collisions.unwrap_or_default();
        let refusal = (!collisions.is_empty()).then(|| Refusal::Names(collisions.join(", ")));
        self.answer(FollowerEvent::Built { attempt, outcomes, refusal });
    }

    pub(crate) fn endpoint(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&self.roster.members().get(key)?.serial)
    }

    /// What left is closed: nobody can come in any more.
    pub(crate) fn closed(&mut self, key: &EndpointKey) {
        let Some(serial) = self.roster.members().get(key).map(|member| member.serial) else { return };
        self.roster.handle(self.now(), Event::Closed { serial });
    }

    pub(super) fn copy_to_disk(&mut self) {
        let Some(saved) = self.saved.as_ref().filter(|_| self.unsaved) else { return };
        // Between a swap and the follower's word for it the copy would mix two revisions.
        if saved.revision != self.roster.revision() {
            return;
        }
        let copy = DiskCopy {
            saved: saved.clone(),
            known: self.roster.known().clone(),
            cordons: self.departures.overlay(self.now()),
        };
        self.unsaved = false;
        self.copies.send_replace(Some(Arc::new(copy)));
    }
}
