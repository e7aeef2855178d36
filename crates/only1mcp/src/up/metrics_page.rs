//! docs/metrics.md, made from the lists that the crates keep.

use std::fs;
use std::path::Path;

use runtime::telemetry::{Label, METRICS, Metric, PROCESS_METRICS};

const HEAD: &str = "\
# Metrics

What `/metrics` of each process shows. `only1mcp up` shows all of it on one page. The lists below are made from the
code; `crates/only1mcp/src/up/metrics_page.rs` says how.

- Scrapers that ask for OpenMetrics get it, with exemplars: the trace of the newest recorded observation of a bucket.
- Counters and histograms whose labels are listed here are there from the start, at 0.
- Series with a label `server` or `digest` are forgotten an hour after what they are about is gone; before that, its
  gauges are 0.
- Servers are as many as the configuration has. No label takes its values from a client.
- The names in the original specification (`config_reloads_success` and so on) are recording rules, in
  `deploy/observability/prometheus/rules/specification.yml`.
- `only1mcp_limit_used` and `only1mcp_limit_max` show every queue and limit under one pair of names, see the end.
";

const LIMITS: &str = "
## Queues and limits

Values of the label `limit`, each with what a full one means.

| limit | process | what is bounded | when it is full |
|---|---|---|---|
| `config_commands` | config-manager | calls and words of routers waiting for the engine | callers wait |
| `config_file` | config-manager | what the file's task saw | the file's task waits |
| `config_pending` | config-manager | changes not decided yet | more are refused with RESOURCE_EXHAUSTED |
| `config_to_router` | config-manager | directives on their way to one router | the stream ends, and begins anew |
| `health_commands` | health-monitor | words of routers waiting for the engine | their streams wait |
| `health_to_router` | health-monitor | probes and verdicts on their way to one router | the router is hung up on |
| `drain_commands` | drain-coordinator | words of routers and calls waiting for the engine | their streams wait |
| `drain_to_router` | drain-coordinator | directives on their way to one router | the router is hung up on |
| `router_commands` | router | what control streams want of the fleet | the streams wait |
| `router_core_commands` | router | cancellations and evictions for one core | the command is lost, and logged |
| `router_core_connections` | router | connections that other cores give to one core | the core that accepted one keeps it |
| `router_line` | router | messages to one control service | the router hangs up and says everything anew |
| `router_probed` | router | results of probes | probes wait |
| `router_to_child` | router | calls on their way to one child process | calls wait |
| `spans` | each | finished spans waiting for the collector | more are dropped, and counted |
| `grpc_connections` | each | gRPC connections of one listener | the oldest without a call that was let in is closed for the next; else that waits in the listener's queue |
| `ops_connections` | each | connections to `/metrics` and its like | the oldest is closed for the next |
";

fn page() -> String {
    let parts: [(&str, &[&[Metric]]); 6] = [
        ("Router", &[router::METRICS]),
        ("config-manager", config_manager::METRICS),
        ("health-monitor", &[health_monitor::METRICS]),
        ("drain-coordinator", &[drain_coordinator::METRICS]),
        ("Every process", &[METRICS]),
        ("Every process, as the operating system says", &[PROCESS_METRICS]),
    ];
    let parts: String = parts.iter().map(|(title, metrics)| part(title, metrics)).collect();
    HEAD.to_owned() + &parts + LIMITS
}

fn part(title: &str, metrics: &[&[Metric]]) -> String {
    let rows: String = metrics.iter().copied().flatten().map(row).collect();
    format!("\n## {title}\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n{rows}")
}

fn row(metric: &Metric) -> String {
    let label = |Label(name, values): &Label| {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        format!("`{name}`{values}")
    };
    let labels: Vec<_> = metric.labels.iter().map(label).collect();
    let Metric { name, sort, help, .. } = metric;
    format!("| `{name}` | {} | {} | {} | {help} |\n", sort.as_str(), metric.unit(), labels.join("; "))
}

#[test]
fn the_page_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    assert!(
        written == page,
        "docs/metrics.md is not what the code says; make it anew by running this with UPDATE_GOLDEN=1"
    );
}

#[test]
fn names_follow_the_rules_and_clash_nowhere() {
    let lists = [METRICS, PROCESS_METRICS, router::METRICS, health_monitor::METRICS, drain_coordinator::METRICS];
    let lists = lists.into_iter().chain(config_manager::METRICS.iter().copied());
    let mut families: Vec<_> = Vec::new();
    for metric in lists.flatten() {
        let Metric { name, sort, help, .. } = metric;
        let counter = sort.as_str() == "counter";
        assert_eq!(name.ends_with("_total"), counter, "{name}: counters, and they alone, end in _total");
        assert!(name.starts_with("only1mcp_") || name.starts_with("process_"), "{name}: the prefix");
        assert!(sort.as_str() != "histogram" || metric.unit() == "seconds", "{name}: bounds are seconds");
        assert!(help.ends_with('.') && !help.contains(['"', '\\', '\n', '|']), "{name}: {help}");
        // As OpenMetrics names families.
        families.push(name.strip_suffix("_total").unwrap_or(name));
    }
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "two metrics share a name");
}
