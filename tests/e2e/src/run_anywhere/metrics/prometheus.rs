//! A Prometheus of the operating system, scraping the processes under test.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use testkit::{Fault, Scratch, Services, Supervised, client::http_get, fault, services::Kind, wait};

use super::{checkout, dashboards::Dashboard, queries, rules::Rules};
use crate::Figures;

const START: Duration = Duration::from_secs(30);

/// Where its programs are.
#[derive(Debug)]
pub(super) struct Tools(PathBuf);

impl Tools {
    /// None when they cannot be had and need not.
    pub(super) fn find(needed: bool) -> Result<Option<Self>, Fault> {
        let output = Command::new(checkout("scripts/prometheus")).output()?;
        if output.status.success() {
            return Ok(Some(Self(String::from_utf8(output.stdout)?.trim().into())));
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        if needed { Err(fault(format!("prometheus: {why}"))) } else { Ok(None) }
    }

    /// Configurations, rules, and the tests of alerts.
    pub(super) fn check_shipped(&self, rules: &Rules, figures: &mut Figures) -> Result<(), Fault> {
        let folder = checkout("deploy/observability/prometheus");
        let mut complaints = Vec::new();
        for file in ["prometheus.yml", "prometheus-up.yml"] {
            complaints.extend(self.promtool(&["check", "config"], &[folder.join(file)])?);
        }
        complaints.extend(self.promtool(&["check", "rules"], &rules.files)?);
        complaints.extend(self.promtool(&["test", "rules"], &rules.tests)?);
        figures.note("files_of_rule_tests", rules.tests.len());
        figures.none("promtool_complaints_about_files", complaints);
        Ok(())
    }

    /// The complaint of promtool, if there is one.
    fn promtool(&self, what: &[&str], files: &[PathBuf]) -> Result<Option<String>, Fault> {
        let output = Command::new(self.0.join("promtool")).args(what).args(files).output()?;
        let said = || [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        Ok((!output.status.success()).then(said))
    }

    /// The complaints of `promtool check metrics` about a page.
    pub(super) fn lint(&self, page: &Path) -> Result<Vec<String>, Fault> {
        let output =
            Command::new(self.0.join("promtool")).args(["check", "metrics"]).stdin(File::open(page)?).output()?;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        let failed = (!output.status.success() && text.is_empty()).then(|| format!("{:?}", output.status));
        Ok(text.lines().map(str::to_owned).chain(failed).collect())
    }
}

/// Killed at the end.
#[derive(Debug)]
pub(super) struct Prometheus {
    _process: Supervised,
    address: SocketAddr,
    targets: usize,
}

impl Prometheus {
    /// With what is shipped, the addresses and the interval of scrapes aside.
    pub(super) fn start(tools: &Tools, services: &Services, scratch: &Scratch) -> Result<Self, Fault> {
        let folder = checkout("deploy/observability/prometheus");
        let quoted = |address: SocketAddr| format!("\"{address}\"");
        let routers: Vec<_> = services.routers.iter().map(|router| quoted(router.ops)).collect();
        let control = |kind| quoted(services.service(kind).ops);
        let replacements = [
            ("\"127.0.0.1:9451\"", control(Kind::ConfigManager)),
            ("\"127.0.0.1:9452\"", routers.join(", ")),
            ("\"127.0.0.1:9453\"", control(Kind::HealthMonitor)),
            ("\"127.0.0.1:9454\"", control(Kind::DrainCoordinator)),
            ("_interval: 15s", "_interval: 1s".to_owned()),
            ("rules/*.yml", folder.join("rules/*.yml").display().to_string()),
        ];
        let mut config = fs::read_to_string(folder.join("prometheus.yml"))?;
        for (shipped, here) in replacements {
            if !config.contains(shipped) {
                return Err(fault(format!("the shipped prometheus.yml lacks {shipped}")));
            }
            config = config.replace(shipped, &here);
        }
        let path = scratch.file("prometheus.yml");
        fs::write(&path, config)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(tools.0.join("prometheus"));
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", scratch.folder("tsdb")?.display()));
        command.args([&format!("--web.listen-address={address}"), "--enable-feature=exemplar-storage"]);
        let process = Supervised::start("prometheus", &mut command, &scratch.folder("logs")?)?;
        let prometheus = Self { _process: process, address, targets: 3 + routers.len() };
        wait::until_true("prometheus to be ready", START, || {
            http_get(address, "/-/ready").is_ok_and(|(status, _)| status == 200)
        })?;
        prometheus.wait_scraped(START)?;
        Ok(prometheus)
    }

    /// Waits until each process was scraped from now on.
    pub(super) fn wait_scraped(&self, limit: Duration) -> Result<(), Fault> {
        let from = self.now()?;
        let fresh = format!("count(up == 1 and timestamp(up) > {from})");
        wait::until_true("all processes to be scraped", limit, || {
            self.number(&fresh).is_ok_and(|count| count == Some(self.targets as f64))
        })
    }

    /// Its own time, in seconds since 1970.
    pub(super) fn now(&self) -> Result<f64, Fault> {
        self.number("time()")?.ok_or_else(|| fault("prometheus does not know the time"))
    }

    fn api(&self, path: &str) -> Result<Value, Fault> {
        let (status, body) = http_get(self.address, &format!("/api/v1/{path}"))?;
        let answer: Value = serde_json::from_str(&body)?;
        if status != 200 || answer["status"] != "success" {
            return Err(fault(format!("prometheus says {body} to {path}")));
        }
        Ok(answer["data"].clone())
    }

    fn number(&self, query: &str) -> Result<Option<f64>, Fault> {
        let data = self.api(&format!("query?query={}", queries::encoded(query)))?;
        let scalar = (data["resultType"] == "scalar").then(|| data["result"][1].clone());
        let value = scalar.unwrap_or_else(|| data["result"][0]["value"][1].clone());
        Ok(value.as_str().and_then(|text| text.parse().ok()))
    }

    /// Whether a query has a number for an answer, at some moment of the time from `began`.
    fn has_data(&self, query: &str, began: f64) -> Result<bool, Fault> {
        let query = queries::encoded(query);
        let data = self.api(&format!("query_range?query={query}&start={began}&end={}&step=1", self.now()?))?;
        let series = data["result"].as_array().into_iter().flatten();
        let values = series.flat_map(|series| series["values"].as_array().into_iter().flatten());
        Ok(values.filter_map(|value| value[1].as_str()).any(|value| value != "NaN"))
    }

    /// Every query that is shipped has data from the storm that `began` then.
    pub(super) fn judge(
        &self,
        boards: &[Dashboard],
        rules: &Rules,
        began: f64,
        figures: &mut Figures,
    ) -> Result<(), Fault> {
        let mut asked = BTreeSet::new();
        let mut empty = Vec::new();
        for (place, query) in boards.iter().flat_map(Dashboard::queries) {
            let query = queries::substituted(&query);
            if asked.insert(query.clone()) && !self.has_data(&query, began)? {
                empty.push(format!("{place}: {query}"));
            }
        }
        figures.note("dashboard_queries", asked.len());
        figures.none("dashboard_queries_without_data", empty);
        self.judge_rules(rules, began, figures)?;
        self.judge_exemplars(began, figures)
    }

    fn judge_rules(&self, shipped: &Rules, began: f64, figures: &mut Figures) -> Result<(), Fault> {
        let rules = self.api("rules")?;
        let groups = rules["groups"].as_array().into_iter().flatten();
        let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        let (mut sick, mut empty, mut alerts, mut recorded) = (Vec::new(), Vec::new(), 0, 0);
        let mut firing = BTreeSet::new();
        for rule in &rules {
            let text = |key: &str| rule[key].as_str().unwrap_or_default();
            if text("health") != "ok" {
                sick.push(format!("{}: {}", text("name"), text("lastError")));
            }
            // An alert has data when it fires; what it compares has data always.
            let queries = if text("type") == "recording" {
                recorded += 1;
                vec![text("query").to_owned(), text("name").to_owned()]
            } else {
                alerts += 1;
                queries::selectors(text("query"))
            };
            for query in queries {
                if !self.has_data(&query, began)? {
                    empty.push(format!("{}: {query}", text("name")));
                }
            }
            let fired = format!("ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}", text("name"));
            if text("type") == "alerting" && self.has_data(&fired, began)? {
                firing.insert(text("name"));
            }
        }
        figures.demand("recording_rules", recorded, "some", recorded > 0);
        figures.demand("alerting_rules", alerts, "as in the files", alerts == shipped.alerts().len());
        figures.none("sick_rules", sick);
        figures.none("rule_queries_without_data", empty);
        let expected = ["Only1mcpChangeRefused", "Only1mcpCallsEvicted", "Only1mcpSpansDropped"];
        figures.none("alerts_that_should_have_fired", expected.iter().filter(|name| !firing.contains(*name)));
        figures.note("alerts_that_fired", firing.into_iter().collect::<Vec<_>>().join(","));
        Ok(())
    }

    /// Prometheus keeps them only with the flag that it was started with.
    fn judge_exemplars(&self, began: f64, figures: &mut Figures) -> Result<(), Fault> {
        for (name, series) in [
            ("call_exemplars", "only1mcp_call_seconds_bucket"),
            ("change_exemplars", "only1mcp_config_apply_seconds_bucket"),
        ] {
            let data = self.api(&format!("query_exemplars?query={series}&start={began}&end={}", self.now()?))?;
            let kept =
                data.as_array().into_iter().flatten().flat_map(|one| one["exemplars"].as_array().into_iter().flatten());
            let ids = kept.filter_map(|one| one["labels"]["trace_id"].as_str()).filter(|id| id.len() == 32);
            let count = ids.collect::<BTreeSet<_>>().len();
            figures.demand(name, count, "some traces", count > 0);
        }
        Ok(())
    }
}
