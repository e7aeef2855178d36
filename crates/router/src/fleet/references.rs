//! Before an attempt starts anything: whether what its new endpoints refer to can be had here.
//!
//! A change is strict about that, whatever share of its servers must come up: a missing reference is a vote of no. A
//! restore does not ask; an endpoint whose references cannot be had is one that cannot be brought up yet.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Event, Layout, Roster};
use futures_util::FutureExt;
use model::{AttemptId, BackendId, Time, Transport};
use rollout::follower::Event as FollowerEvent;
use rollout::{Content, Refusal};
use runtime::TraceContext;

use super::{Command, Task};
use crate::secrets::{READ_LIMIT, Secrets};

/// What is known of the references of an attempt.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) attempt: AttemptId,
    pub(crate) layout: Arc<Layout>,
    /// When the vote is due.
    pub(crate) until: Time,
    /// What cannot be had, and why.
    pub(crate) missing: Option<String>,
    pub(crate) trace: TraceContext,
}

impl Task {
    pub(super) fn prepare(&mut self, attempt: AttemptId, content: Content, within: Duration, trace: TraceContext) {
        let layout = Arc::new(Layout::of(content));
        let until = self.now() + within;
        let mut missing = Box::pin(missing(new_transports(&self.roster, &layout), READ_LIMIT.min(within)));
        self.resolving = Some(attempt);
        if let Some(missing) = missing.as_mut().now_or_never() {
            return self.resolved(Resolved { attempt, layout, until, missing, trace });
        }
        let commands = self.commands.clone();
        self.tasks.spawn("references of an attempt", async move {
            let missing = missing.await;
            drop(commands.send(Command::Resolved(Resolved { attempt, layout, until, missing, trace })).await);
        });
    }

    /// Goes on with the attempt, unless it was given up or replaced meanwhile.
    pub(super) fn resolved(&mut self, resolved: Resolved) {
        let Resolved { attempt, layout, until, missing, trace } = resolved;
        if self.resolving.take_if(|resolving| *resolving == attempt).is_none() {
            return;
        }
        if let Some(missing) = missing {
            let refusal = Some(Refusal::Secret(missing));
            self.answer(FollowerEvent::Built { attempt, outcomes: Vec::new(), refusal });
            return;
        }
        tracing::info!(%attempt, digest = %layout.content.digest.short(), "preparing");
        let now = self.now();
        self.roster.handle(now, Event::Prepare { attempt, layout, within: until.since(now) });
        self.draw_consequences(Some(trace));
    }
}

/// Of the endpoints that `layout` has and the fleet lacks.
fn new_transports(roster: &Roster, layout: &Layout) -> Vec<(BackendId, Transport)> {
    let new = layout.keys().filter(|key| !roster.members().contains_key(key));
    new.filter_map(|key| Some((key.backend.clone(), layout.spec(key)?.transport.clone()))).collect()
}

async fn missing(transports: Vec<(BackendId, Transport)>, limit: Duration) -> Option<String> {
    let texts: Vec<_> =
        transports.iter().flat_map(|(_, transport)| transport.templates()).map(|(_, text)| text).collect();
    let secrets = Secrets::of_texts(texts.into_iter(), limit).await;
    let errors = transports.iter().flat_map(|(backend, transport)| {
        let errors = transport.templates().into_iter().filter_map(|(place, text)| {
            secrets.resolve(&place, text).err().map(|error| format!("server `{backend}`: {error}"))
        });
        errors.collect::<Vec<_>>()
    });
    let all: Vec<_> = errors.collect();
    (!all.is_empty()).then(|| all.join("; "))
}
