//! The shipped dashboards: they contain what Grafana and their readers need.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use testkit::{Fault, fault};

use super::checkout;
use crate::Figures;

/// One dashboard, by the name of its file.
#[derive(Debug)]
pub(super) struct Dashboard {
    pub(super) name: String,
    json: Value,
}

pub(super) fn read() -> Result<Vec<Dashboard>, Fault> {
    let mut boards = Vec::new();
    for entry in fs::read_dir(checkout("deploy/observability/grafana/dashboards"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = serde_json::from_str(&fs::read_to_string(&path)?);
        let json = json.map_err(|error| fault(format!("{}: {error}", path.display())))?;
        boards.push(Dashboard { name, json });
    }
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(boards)
}

pub(super) fn judge(boards: &[Dashboard], figures: &mut Figures) {
    let panels: usize = boards.iter().map(|board| board.panels().count()).sum();
    figures.demand("dashboards", boards.len(), "4 or more", boards.len() >= 4);
    figures.note("panels", panels);
    let uids: BTreeSet<_> = boards.iter().map(|board| board.json["uid"].as_str()).collect();
    figures.demand("uids", uids.len(), "one each", uids.len() == boards.len() && !uids.contains(&None));
    figures.none("faults_of_dashboards", boards.iter().flat_map(Dashboard::faults));
}

/// Against the types that Grafana publishes.
pub(super) fn judge_types(figures: &mut Figures) -> Result<(), Fault> {
    let output = Command::new(checkout("scripts/check-dashboards")).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    figures.demand(
        "grafana_types",
        u8::from(output.status.success()),
        &format!("1:\n{complaints}"),
        output.status.success(),
    );
    Ok(())
}

impl Dashboard {
    /// The panels that show data.
    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.all().filter(|panel| panel["type"] != "row")
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().into_iter().flatten()
    }

    fn variables(&self) -> impl Iterator<Item = &Value> {
        self.json["templating"]["list"].as_array().into_iter().flatten()
    }

    fn annotations(&self) -> impl Iterator<Item = &Value> {
        self.json["annotations"]["list"].as_array().into_iter().flatten()
    }

    /// Every query, with where it is.
    pub(super) fn queries(&self) -> Vec<(String, String)> {
        let of_panel = |panel: &Value| {
            let title = panel["title"].to_string();
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.into_iter().map(move |target| (title.clone(), target["expr"].clone())).collect::<Vec<_>>()
        };
        let panels = self.panels().flat_map(of_panel);
        let annotations = self.annotations().map(|one| ("annotation".to_owned(), one["expr"].clone()));
        let variables = self.variables().filter(|one| one["type"] == "query").map(|one| {
            let query = one["query"]["query"].as_str().unwrap_or_default();
            let series = query.strip_prefix("label_values(").and_then(|inner| inner.rsplit_once(','));
            ("variable".to_owned(), series.map_or(Value::Null, |(series, _)| series.into()))
        });
        let all = panels.chain(annotations).chain(variables);
        all.map(|(place, query)| (format!("{}, {place}", self.name), text(&query))).collect()
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut demand = |what: &str, holds: bool| {
            if !holds {
                faults.push(format!("{}: {what}", self.name));
            }
        };
        for key in ["title", "description", "refresh"] {
            demand(&format!("{key} is missing"), !text(&self.json[key]).is_empty());
        }
        demand("schemaVersion is no number", self.json["schemaVersion"].is_u64());
        let variables: BTreeSet<String> = self.variables().map(|one| text(&one["name"])).collect();
        for name in ["datasource", "job", "instance"] {
            demand(&format!("there is no variable {name}"), variables.contains(name));
        }
        let ids: BTreeSet<_> = self.all().map(|panel| panel["id"].as_u64()).collect();
        demand("ids of panels are not unique", ids.len() == self.all().count() && !ids.contains(&None));
        for panel in self.panels() {
            let title = text(&panel["title"]);
            for key in ["title", "description", "type"] {
                demand(&format!("panel {title}: {key} is missing"), !text(&panel[key]).is_empty());
            }
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            demand(&format!("panel {title}: no unit"), !text(unit).is_empty());
            demand(&format!("panel {title}: no query"), panel["targets"].as_array().is_some_and(|all| !all.is_empty()));
        }
        for source in sources(&self.json) {
            let chosen = source["uid"] == "${datasource}" && source["type"] == "prometheus";
            demand(&format!("the data source {source} is not the chosen one"), chosen);
        }
        let queries = self.queries();
        demand("a query is missing", queries.iter().all(|(_, query)| !query.is_empty()));
        for (place, query) in queries.iter().filter(|(place, _)| !place.ends_with("variable")) {
            let narrowed = query.contains("job=~\"$job\",instance=~\"$instance\"");
            demand(&format!("{place}: not narrowed to job and instance: {query}"), narrowed);
        }
        demand("panels overlap or stick out", self.is_laid_out());
        faults
    }

    /// Panels are on a grid of 24 columns, and none covers another.
    fn is_laid_out(&self) -> bool {
        let place =
            |panel: &Value| ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX / 4));
        let places: Vec<_> = self.all().map(place).collect();
        let apart = |[ax, ay, aw, ah]: [u64; 4], [bx, by, bw, bh]: [u64; 4]| {
            ax + aw <= bx || bx + bw <= ax || ay + ah <= by || by + bh <= ay
        };
        let inside = places.iter().all(|[x, _, w, _]| x + w <= 24);
        inside && places.iter().enumerate().all(|(i, a)| places[..i].iter().all(|b| apart(*a, *b)))
    }
}

/// Every value of a key `datasource`, wherever it is.
fn sources(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(map) => {
            let inner = map.iter().filter(|(key, _)| *key != "datasource").flat_map(|(_, inner)| sources(inner));
            map.get("datasource").into_iter().chain(inner).collect()
        }
        Value::Array(list) => list.iter().flat_map(sources).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
