//! What clients gain or lose by a change: tools, as far as routers have lists of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use model::{Backend, BackendId};
use serde_json::{Value, json};
use wire::pb::{
    router::v1::{InspectRequest, InspectResponse},
    words::v1::EndpointKey,
};

use super::Side;
use crate::{admin::Admin, cli::render};

/// Names in a line for people.
const NAMED: usize = 5;
/// How long routers have to say what they know.
const PATIENCE: Duration = Duration::from_millis(500);

/// The tools that endpoints offer, by variant and digest.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(super) by_endpoint: BTreeMap<(String, String, Vec<u8>), BTreeSet<String>>,
    /// No router is among the addresses.
    pub(super) unasked: bool,
}

/// What a change of one server does to clients.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effect {
    pub(crate) gained: Vec<String>,
    pub(crate) lost: Vec<String>,
    /// Why there is no more to say.
    pub(crate) unknown: Option<String>,
}

impl Lists {
    /// What the routers among the addresses know. One that does not answer at once adds nothing: an operator who
    /// undoes a change does not wait for it.
    pub(crate) async fn of(admin: &Admin) -> Self {
        let routers = admin.routers();
        let mut lists = Self { unasked: routers.is_empty(), ..Self::default() };
        let answers = routers.into_iter().map(async |mut router| {
            let request = InspectRequest { server: String::new(), with_tools: true };
            admin.ask_for(PATIENCE, &router.target, router.client.inspect(request)).await
        });
        join_all(answers).await.into_iter().flatten().for_each(|answer| lists.add(answer));
        lists
    }

    pub(crate) fn add(&mut self, answer: InspectResponse) {
        for (key, offered) in answer.endpoints.into_iter().filter_map(|one| one.key.zip(one.offered)) {
            self.by_endpoint.entry(name(key)).or_default().extend(offered.names);
        }
    }

    /// What other lists have beside these.
    pub(crate) fn join(&mut self, other: Self) {
        for (key, names) in other.by_endpoint {
            self.by_endpoint.entry(key).or_insert(names);
        }
    }

    /// What clients notice of the change of that server.
    pub(crate) fn effect(&self, id: &BackendId, old: &Side, new: &Side) -> Effect {
        let ((before, old_keys), (after, new_keys)) = (of(id, old), of(id, new));
        let filter = |backend: Option<&Backend>| backend.map(|backend| (backend.policy.enabled, backend.tools.clone()));
        if old_keys == new_keys && filter(before) == filter(after) {
            return Effect::default();
        }
        let shown = |backend: Option<&Backend>, keys: &[&EndpointKey]| match backend {
            Some(backend) if backend.policy.enabled => self.shown(backend.tools.as_deref(), keys),
            // Of one that is switched off, clients see nothing.
            Some(_) | None => Some(BTreeSet::new()),
        };
        match (shown(before, &old_keys), shown(after, &new_keys)) {
            (Some(before), Some(after)) => Effect {
                gained: after.difference(&before).cloned().collect(),
                lost: before.difference(&after).cloned().collect(),
                unknown: None,
            },
            (None, _) | (_, None) if self.unasked => {
                Effect::unknown("routers were not asked; add --admin URL with the address of one")
            }
            (None, Some(_)) => Effect::unknown("no router has a list of what it offered"),
            (Some(_), None) => Effect::unknown("what it offers is known once it is up"),
            (None, None) => Effect::unknown("no router has a list of what it offers"),
        }
    }

    /// What clients see of these endpoints together, if any was ever listed.
    fn shown(&self, filter: Option<&[String]>, keys: &[&EndpointKey]) -> Option<BTreeSet<String>> {
        let known: Vec<_> = keys.iter().filter_map(|key| self.by_endpoint.get(&name((*key).clone()))).collect();
        let wanted = |tool: &&String| filter.is_none_or(|filter| filter.contains(tool));
        let shown = || known.iter().flat_map(|tools| tools.iter()).filter(wanted).cloned().collect();
        (!known.is_empty()).then(shown)
    }
}

/// The server as that side has it, and its endpoints.
fn of<'a>(id: &BackendId, side: &'a Side) -> (Option<&'a Backend>, Vec<&'a EndpointKey>) {
    let backend = side.snapshot.backends.iter().find(|backend| backend.id == *id);
    let keys = side.endpoints.iter().filter(|key| key.backend == id.as_str());
    (backend.map(|backend| &***backend), keys.collect())
}

fn name(key: EndpointKey) -> (String, String, Vec<u8>) {
    (key.backend, key.variant, key.digest)
}

impl Effect {
    fn unknown(why: &str) -> Self {
        Self { unknown: Some(why.to_owned()), ..Self::default() }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let some = |verb: &str, names: &[String]| {
            let (number, named) = (render::count(names.len(), "tool"), render::first_of(names, NAMED));
            (!names.is_empty()).then(|| format!("clients {verb} {number}: {named}"))
        };
        let unknown = self.unknown.as_ref().map(|why| format!("what clients gain or lose is not known: {why}"));
        [some("lose", &self.lost), some("gain", &self.gained), unknown].into_iter().flatten().collect()
    }

    /// As far as it is known: `7 tools gone`.
    pub(crate) fn in_short(&self) -> Vec<String> {
        let some = |names: &[String], what: &str| {
            (!names.is_empty()).then(|| format!("{} {what}", render::count(names.len(), "tool")))
        };
        [some(&self.lost, "gone"), some(&self.gained, "new")].into_iter().flatten().collect()
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "gained": self.gained,
            "lost": self.lost,
            "unknown": self.unknown.as_deref().and_then(render::some),
        })
    }
}
