//! A page of metrics in Prometheus' text format, and the list of documented ones.

use std::collections::{BTreeMap, BTreeSet};

/// What docs/metrics.md says of one metric.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Documented {
    sort: String,
    labels: BTreeSet<String>,
}

/// By name: the rows whose first cell is a name.
pub(super) fn documented(text: &str) -> BTreeMap<String, Documented> {
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<(String, Documented)> {
    let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
    let [name, sort, _unit, labels, _meaning] = cells.as_slice() else { return None };
    let labels = labels.split("; ").filter_map(|label| label.strip_prefix('`')?.split('`').next());
    let documented = Documented { sort: (*sort).to_owned(), labels: labels.map(str::to_owned).collect() };
    Some((name.trim_end_matches('`').to_owned(), documented))
}

#[derive(Debug, Default)]
struct Family {
    sort: String,
    has_help: bool,
    /// The labels of each series.
    labels: Vec<BTreeSet<String>>,
}

/// One process, at one moment.
#[derive(Debug, Default)]
pub(super) struct Page(BTreeMap<String, Family>);

impl Page {
    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("TYPE"), Some(name), Some(sort)) => sort.clone_into(&mut page.family(name).sort),
                (Some("#"), Some("HELP"), Some(name), Some(_)) => page.family(name).has_help = true,
                _ => page.sample(line),
            }
        }
        page
    }

    fn family(&mut self, name: &str) -> &mut Family {
        self.0.entry(name.to_owned()).or_default()
    }

    fn sample(&mut self, line: &str) {
        let (series, _) = line.rsplit_once(' ').unwrap_or((line, ""));
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name =
            base.filter(|base| self.0.get(*base).is_some_and(|family| family.sort == "histogram")).unwrap_or(name);
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
        let labels = names.filter(|name| *name != "le").map(str::to_owned).collect();
        self.family(name).labels.push(labels);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.keys().cloned()
    }

    /// Where it differs from what is documented.
    pub(super) fn faults(&self, known: &BTreeMap<String, Documented>) -> Vec<String> {
        let fault = |(name, family): (&String, &Family)| {
            let Some(documented) = known.get(name) else { return Some(format!("{name} is not documented")) };
            if documented.sort != family.sort {
                return Some(format!("{name} is a {}", family.sort));
            }
            if !family.has_help {
                return Some(format!("{name} has no help text"));
            }
            let other = family.labels.iter().find(|labels| **labels != documented.labels);
            other.map(|labels| format!("{name} has the labels {labels:?}"))
        };
        self.0.iter().filter_map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_held_against_the_list() {
        let known = documented(
            "| metric | type |\n| `a_total` | counter | 1 | `server`; `result`: `ok`, `failed` | Help. |\n\
             | `b_seconds` | histogram | seconds |  | Help. |\n",
        );
        let good = "# HELP a_total Help.\n# TYPE a_total counter\na_total{server=\"x, y\",result=\"ok\"} 1\n\
                    # HELP b_seconds Help.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"1\"} 0\nb_seconds_sum 0\n";
        assert_eq!(Page::read(good).faults(&known), Vec::<String>::new());
        let bad = good.replace(",result=\"ok\"", "").replace("# HELP b", "# HELP c");
        assert_eq!(Page::read(&bad).faults(&known).len(), 3);
    }
}
