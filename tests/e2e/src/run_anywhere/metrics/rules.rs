//! The shipped rules as text: every alert has its tests and its part of the runbooks.

use std::{fs, path::PathBuf};

use testkit::Fault;

use super::checkout;
use crate::Figures;

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) files: Vec<PathBuf>,
    pub(super) tests: Vec<PathBuf>,
    alerts: Vec<String>,
}

impl Rules {
    pub(super) fn alerts(&self) -> &[String] {
        &self.alerts
    }
}

pub(super) fn read() -> Result<Rules, Fault> {
    let folder = checkout("deploy/observability/prometheus");
    let (files, tests) = (listed(&folder.join("rules"))?, listed(&folder.join("tests"))?);
    let text = all(&files)?;
    let alerts = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    Ok(Rules { files, tests, alerts })
}

pub(super) fn judge(rules: &Rules, figures: &mut Figures) -> Result<(), Fault> {
    figures.demand("alerts", rules.alerts.len(), "some", !rules.alerts.is_empty());
    let (tests, runbooks) = (all(&rules.tests)?, fs::read_to_string(checkout("docs/runbooks.md"))?);
    let tested = |alert: &String, fires: bool| {
        let mut cases = tests.split("- eval_time:").filter(|case| case.contains(&format!("alertname: {alert}\n")));
        cases.any(|case| case.contains("exp_labels:") == fires)
    };
    let untested = rules.alerts.iter().filter(|alert| !tested(alert, true) || !tested(alert, false));
    figures.none("alerts_without_a_test_of_firing_and_of_not_firing", untested);
    let unexplained = rules.alerts.iter().filter(|alert| !runbooks.contains(&format!("\n### {alert}\n")));
    figures.none("alerts_without_a_runbook", unexplained);
    let text = all(&rules.files)?;
    let unlinked = rules
        .alerts
        .iter()
        .filter(|alert| !text.contains(&format!("runbook_url: docs/runbooks.md#{}\n", alert.to_lowercase())));
    figures.none("alerts_without_a_link", unlinked);
    Ok(())
}

fn listed(folder: &PathBuf) -> Result<Vec<PathBuf>, Fault> {
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

fn all(files: &[PathBuf]) -> Result<String, Fault> {
    Ok(files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?)
}
