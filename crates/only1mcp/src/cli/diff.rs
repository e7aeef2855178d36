//! `diff`: what is different between two configurations, in the words of the file.

mod clients;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use config_file::{Difference, Format};
use model::{Change, Diff, Owner, Snapshot, Violation};
use runtime::exit;
use serde_json::{Value, json};
use wire::pb::{
    config::v1::{self as pb, GetRevisionRequest, LayerMark, ValidateRequest},
    words::v1::EndpointKey,
};

pub(super) use clients::{Effect, Lists};

use super::{Lines, Output, render, validate};
use crate::{admin::Admin, args::DiffArgs, failure::Failure};

/// One of the two sides.
pub(super) struct Side {
    /// For people.
    pub(super) name: String,
    pub(super) revision: Option<u64>,
    digest: String,
    pub(super) snapshot: Snapshot,
    /// The revision it was made from.
    parent: u64,
    /// With digests that cannot be had from `snapshot`, in which secrets are replaced by marks.
    endpoints: Vec<EndpointKey>,
    /// By owner, what its layer can be told from others by.
    layers: BTreeMap<String, String>,
    /// Of a document: what is right and probably not meant.
    pub(super) advice: Vec<Violation>,
}

impl Side {
    /// `digest` and `endpoints` are not those of `snapshot`, in which secrets are replaced by marks.
    pub(super) fn of_file(
        name: String,
        digest: String,
        snapshot: Snapshot,
        endpoints: Vec<EndpointKey>,
        layers: Vec<LayerMark>,
    ) -> Self {
        let layers = layers.into_iter().map(|layer| (layer.owner, layer.mark)).collect();
        Self { name, revision: None, digest, snapshot, parent: 0, endpoints, layers, advice: Vec::new() }
    }
}

/// What the user wants to compare.
enum Operand<'a> {
    Revision(u64),
    File(&'a Path),
}

impl<'a> Operand<'a> {
    fn of(text: &'a str) -> Self {
        text.parse().map_or_else(|_| Self::File(Path::new(text)), Self::Revision)
    }
}

pub(crate) async fn run(args: &DiffArgs) -> Result<Output, Failure> {
    let operands: Vec<Operand<'_>> = args.operands.iter().map(|text| Operand::of(text)).collect();
    let admin = Admin::find(&args.admin).await?;
    let (old, new) = match operands.as_slice() {
        [] => {
            let new = revision(&admin, 0).await?;
            (before(&admin, &new).await?, Ok(new))
        }
        [file @ Operand::File(_)] => (revision(&admin, 0).await?, side(&admin, file).await?),
        [old @ Operand::Revision(_)] => match side(&admin, old).await? {
            Ok(old) => (old, Ok(revision(&admin, 0).await?)),
            Err(invalid) => return Ok(invalid),
        },
        [old, new, ..] => match side(&admin, old).await? {
            Ok(old) => (old, side(&admin, new).await?),
            Err(invalid) => return Ok(invalid),
        },
    };
    match new {
        Ok(new) => Ok(show(&old, &new, &Lists::of(&admin).await)),
        Err(invalid) => Ok(invalid),
    }
}

/// The violations are the answer when a file is none.
async fn side(admin: &Admin, operand: &Operand<'_>) -> Result<Result<Side, Output>, Failure> {
    match operand {
        // To the service 0 means what is live, which here is said by leaving it out.
        Operand::Revision(0) => Err(Failure::NoRevision),
        Operand::Revision(number) => revision(admin, *number).await.map(Ok),
        Operand::File(path) => file(admin, path).await,
    }
}

/// 0 is the live one.
pub(super) async fn revision(admin: &Admin, number: u64) -> Result<Side, Failure> {
    let mut config = admin.config()?;
    let answer = admin.ask(&config.target, config.client.get_revision(GetRevisionRequest { revision: number })).await?;
    let record = answer.revision.unwrap_or_default();
    if answer.content.is_empty() {
        return Err(Failure::NotKept { revision: record.revision });
    }
    let snapshot = snapshot(&config.target, &answer.content)?;
    let name = format!("revision {}", record.revision);
    let side = Side::of_file(name, record.digest, snapshot, answer.endpoints, answer.layers);
    Ok(Side { revision: Some(record.revision), parent: record.parent, ..side })
}

/// The one it was made from. Before the first one there was nothing.
pub(super) async fn before(admin: &Admin, side: &Side) -> Result<Side, Failure> {
    match side.parent {
        0 => {
            let nothing = Snapshot::default();
            Ok(Side::of_file("nothing".into(), nothing.digest().to_string(), nothing, Vec::new(), Vec::new()))
        }
        parent => revision(admin, parent).await,
    }
}

/// The configuration if the file replaced the followed one: merged with the layers that came over the API.
async fn file(admin: &Admin, path: &Path) -> Result<Result<Side, Output>, Failure> {
    let name = validate::display(path);
    let document = validate::read(path)?;
    let format = format_to_pb(Format::of(path));
    candidate(admin, ValidateRequest { name, document, format, ..ValidateRequest::default() }).await
}

/// The configuration that a document would make; or its violations, which are the answer then.
pub(super) async fn candidate(admin: &Admin, request: ValidateRequest) -> Result<Result<Side, Output>, Failure> {
    let name = request.name.clone();
    let mut config = admin.config()?;
    let answer = admin.ask(&config.target, config.client.validate(request)).await?;
    if !answer.violations.is_empty() {
        let violations: Vec<_> = answer.violations.into_iter().map(wire::violation).collect();
        return Ok(Err(validate::invalid(&name, &violations)));
    }
    let snapshot = snapshot(&config.target, &answer.content)?;
    let advice = answer.advice.into_iter().map(wire::violation).collect();
    Ok(Ok(Side { advice, ..Side::of_file(name, answer.digest, snapshot, answer.endpoints, answer.layers) }))
}

pub(super) fn format_to_pb(format: Format) -> i32 {
    match format {
        Format::Yaml => pb::Format::Yaml,
        Format::Toml => pb::Format::Toml,
    }
    .into()
}

fn snapshot(target: &str, content: &str) -> Result<Snapshot, Failure> {
    serde_json::from_str(content)
        .map_err(|error| Failure::Content { target: target.to_owned(), reason: error.to_string() })
}

/// `lists`: what servers offer, as far as routers know it.
pub(super) fn show(old: &Side, new: &Side, lists: &Lists) -> Output {
    let heading = json!({ "from": side_json(old), "to": side_json(new) });
    let changed = Changed::between(old, new, lists);
    let mut text = Lines::of(format_args!("{} → {}", old.name, new.name));
    text.append(&changed.text());
    let mut json = heading;
    changed.add_to(&mut json);
    let code = if changed.is_empty() { exit::NOTHING_TO_DO } else { exit::DONE };
    Output { code, ..Output::done(text, json) }
}

fn side_json(side: &Side) -> Value {
    json!({ "name": side.name, "revision": side.revision, "digest": render::some(&side.digest) })
}

/// All that is different between two configurations, and what clients notice of it.
pub(super) struct Changed {
    layers: Vec<(String, &'static str)>,
    /// There is no other layer than the file.
    file_alone: bool,
    policy: Vec<Difference>,
    servers: Vec<Server>,
    /// Clients see all tools under other names.
    renamed: bool,
}

struct Server {
    id: String,
    change: Change,
    keys: Vec<Difference>,
    clients: Effect,
}

impl Changed {
    pub(super) fn between(old: &Side, new: &Side, lists: &Lists) -> Self {
        let diff = Diff::between(&old.snapshot, &new.snapshot);
        let mut keys = config_file::differences(&old.snapshot, &new.snapshot);
        let mut of = |id: &str| keys.remove(id).unwrap_or_default();
        let policy = of("");
        let servers = diff.backends.iter().map(|entry| Server {
            id: entry.id.to_string(),
            change: entry.change,
            keys: of(entry.id.as_str()),
            clients: lists.effect(&entry.id, old, new),
        });
        let servers = servers.collect();
        let renamed = old.snapshot.policy.naming != new.snapshot.policy.naming;
        let mut owners = old.layers.keys().chain(new.layers.keys());
        let file_alone = owners.all(|owner| *owner == Owner::file().0);
        Self { layers: layers(&old.layers, &new.layers), file_alone, policy, servers, renamed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policy.is_empty() && self.servers.is_empty()
    }

    pub(super) fn text(&self) -> Lines {
        let mut text = Lines::default();
        if self.is_empty() {
            text.line("no difference");
        }
        for (owner, what) in self.layers.iter().filter(|_| !self.file_alone) {
            text.line(format_args!("~ layer {owner}: {what}"));
        }
        for difference in &self.policy {
            text.line(format_args!("~ {difference}"));
        }
        if self.renamed {
            text.line("    clients see all tools under other names");
        }
        for Server { id, change, keys, clients } in &self.servers {
            let sign = match change {
                Change::Added => '+',
                Change::Removed => '-',
                Change::Reconnected | Change::Adjusted | Change::Moved => '~',
            };
            text.line(format_args!("{sign} server {id}: {}", change.as_str()));
            for difference in keys {
                match (change, &difference.new) {
                    // The name is enough.
                    (Change::Removed, _) => {}
                    (Change::Added, Some(value)) => text.line(format_args!("    {}: {value}", difference.key)),
                    _ => text.line(format_args!("    {difference}")),
                }
            }
            clients.lines().iter().for_each(|line| text.line(format_args!("    {line}")));
        }
        text
    }

    pub(super) fn add_to(&self, json: &mut Value) {
        let layer = |(owner, change): &(String, &str)| json!({ "owner": owner, "change": change });
        json["layers"] = self.layers.iter().map(layer).collect();
        json["policy"] = self.policy.iter().map(difference_json).collect();
        let server = |server: &Server| {
            json!({
                "id": server.id,
                "change": server.change.as_str(),
                "keys": server.keys.iter().map(difference_json).collect::<Value>(),
                "clients": server.clients.json(),
            })
        };
        json["servers"] = self.servers.iter().map(server).collect();
    }
}

/// Whose wishes are others, as far as both sides have them.
fn layers(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<(String, &'static str)> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let owners: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = owners.into_iter().filter_map(|owner| {
        let what = match (old.get(owner), new.get(owner)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        Some((owner.clone(), what))
    });
    changed.collect()
}

pub(super) fn difference_json(difference: &Difference) -> Value {
    json!({ "key": difference.key, "old": difference.old, "new": difference.new })
}
