//! `diff`: what is different between two configurations, in the words of the file.

use std::{collections::BTreeMap, path::Path};

use config_file::{Format, spell};
use model::{Change, Diff, Snapshot};
use runtime::exit;
use serde_json::{Value, json};
use wire::pb::config::v1::{GetRevisionRequest, ValidateRequest};

use super::{Lines, Output, changes, render, validate};
use crate::{admin::Admin, args::DiffArgs, failure::Failure};

/// One of the two sides.
pub(super) struct Side {
    /// For people.
    pub(super) name: String,
    revision: Option<u64>,
    digest: String,
    pub(super) snapshot: Snapshot,
    /// The revision it was made from.
    parent: u64,
}

impl Side {
    /// `digest` is not the digest of `snapshot`, in which secrets are replaced by marks.
    pub(super) fn of_file(name: String, digest: String, snapshot: Snapshot) -> Self {
        Self { name, revision: None, digest, snapshot, parent: 0 }
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
    Ok(match new {
        Ok(new) => show(&old, &new),
        Err(invalid) => invalid,
    })
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
    Ok(Side {
        name: format!("revision {}", record.revision),
        revision: Some(record.revision),
        digest: record.digest,
        snapshot: snapshot(&config.target, &answer.content)?,
        parent: record.parent,
    })
}

/// Before the first one there was nothing.
async fn before(admin: &Admin, side: &Side) -> Result<Side, Failure> {
    match side.parent {
        0 => {
            let nothing = Snapshot::default();
            Ok(Side::of_file("nothing".into(), nothing.digest().to_string(), nothing))
        }
        parent => revision(admin, parent).await,
    }
}

/// The configuration if the file replaced the followed one: merged with the layers that came over the API.
async fn file(admin: &Admin, path: &Path) -> Result<Result<Side, Output>, Failure> {
    let name = validate::display(path);
    let document = validate::read(path)?;
    let mut config = admin.config()?;
    let request = ValidateRequest {
        name: name.clone(),
        document,
        format: changes::format_to_pb(Format::of(path)),
        ..ValidateRequest::default()
    };
    let answer = admin.ask(&config.target, config.client.validate(request)).await?;
    if !answer.violations.is_empty() {
        let violations: Vec<_> = answer.violations.into_iter().map(wire::violation).collect();
        return Ok(Err(validate::invalid(&name, &violations)));
    }
    let snapshot = snapshot(&config.target, &answer.content)?;
    Ok(Ok(Side::of_file(name, answer.digest, snapshot)))
}

fn snapshot(target: &str, content: &str) -> Result<Snapshot, Failure> {
    serde_json::from_str(content)
        .map_err(|error| Failure::Content { target: target.to_owned(), reason: error.to_string() })
}

pub(super) fn show(old: &Side, new: &Side) -> Output {
    let heading = json!({ "from": side_json(old), "to": side_json(new) });
    let diff = Diff::between(&old.snapshot, &new.snapshot);
    let (before, after) = (document(&old.snapshot), document(&new.snapshot));
    let policy = differences(before.get(""), after.get(""));
    let servers: Vec<(&str, Change, Vec<Difference>)> = diff
        .backends
        .iter()
        .map(|entry| {
            let id = entry.id.as_str();
            (id, entry.change, differences(before.get(id), after.get(id)))
        })
        .collect();
    let mut text = Lines::of(format_args!("{} → {}", old.name, new.name));
    if diff.is_empty() {
        text = Lines::of(format_args!("no difference between {} and {}", old.name, new.name));
    }
    for difference in &policy {
        text.line(format_args!("~ {difference}"));
    }
    for (id, change, keys) in &servers {
        let sign = match change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Reconnected | Change::Adjusted | Change::Moved => '~',
        };
        text.line(format_args!("{sign} server {id}: {}", change.as_str()));
        // For a removed server the name is enough.
        for difference in keys.iter().filter(|_| *change != Change::Removed) {
            text.line(format_args!("    {difference}"));
        }
    }
    let mut json = heading;
    json["policy"] = policy.iter().map(Difference::json).collect();
    json["servers"] = servers
        .iter()
        .map(|(id, change, keys)| {
            json!({ "id": id, "change": change.as_str(), "keys": keys.iter().map(Difference::json).collect::<Value>() })
        })
        .collect();
    let code = if diff.is_empty() { exit::NOTHING_TO_DO } else { exit::DONE };
    Output { code, ..Output::done(text, json) }
}

fn side_json(side: &Side) -> Value {
    json!({ "name": side.name, "revision": side.revision, "digest": render::some(&side.digest) })
}

type Keys = BTreeMap<String, Value>;

/// The keys of a configuration, as a file would have them: by server, those of the gateway under the empty id.
fn document(snapshot: &Snapshot) -> BTreeMap<String, Keys> {
    let mut document = spell(snapshot);
    let servers = document.as_object_mut().and_then(|document| document.remove("servers"));
    let mut all = BTreeMap::new();
    for mut server in servers.as_ref().and_then(Value::as_array).cloned().unwrap_or_default() {
        let id = server.as_object_mut().and_then(|server| server.remove("id"));
        let mut keys = Keys::new();
        flatten("", &server, &mut keys);
        all.insert(id.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(), keys);
    }
    let mut keys = Keys::new();
    flatten("", &document, &mut keys);
    all.insert(String::new(), keys);
    all
}

/// Mappings are taken apart; a list is one value.
fn flatten(path: &str, value: &Value, keys: &mut Keys) {
    let Value::Object(entries) = value else {
        keys.insert(path.to_owned(), value.clone());
        return;
    };
    for (name, value) in entries {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        flatten(&path, value, keys);
    }
}

/// A key whose value is another one.
struct Difference {
    key: String,
    old: Option<Value>,
    new: Option<Value>,
}

fn differences(old: Option<&Keys>, new: Option<&Keys>) -> Vec<Difference> {
    let none = Keys::new();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Difference { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() })
        .collect()
}

impl Difference {
    fn json(&self) -> Value {
        json!({ "key": self.key, "old": self.old, "new": self.new })
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "{key}: {old} → {new}"),
            (Some(old), None) => write!(f, "{key}: {old} → not set"),
            (None, Some(new)) => write!(f, "{key}: {new}"),
            (None, None) => Ok(()),
        }
    }
}
