//! What is not run, what ends otherwise than with 0, and what a reader does by hand: each with the page's own words.

use testkit::Fault;

use super::reader::Reader;

/// How commands begin that cannot run here, and why.
pub(super) const NOT_RUN: &[(&str, &str)] = &[
    ("docker ", "there is no Docker daemon here; scripts/containers builds and runs the images with Podman"),
    ("cd deploy/compose", "as docker; run-anywhere 1 plays what the compose file starts"),
    ("./secrets", "as docker"),
    ("podman ", "an image from a registry; run-anywhere 3 plays a collector"),
    ("podman-compose", "as docker"),
    ("cargo ", "builds everything: main-job 1 and sound 0 do"),
    ("scripts/", "is what runs this, or runs for minutes"),
    ("tar xzf ", "scripts/newcomer types it on a machine that has nothing yet"),
    ("cp only1mcp-*/bin/only1mcp ", "as tar"),
    ("apt install ", "as tar"),
    ("npm install ", "as tar"),
    ("install ", "writes into /usr and /etc; tests/systemd.rs checks the units"),
    ("for program in ", "writes into /usr; tests/systemd.rs checks the units"),
    ("only1mcp up --upgrade", "crates/only1mcp/tests/up/upgrade.rs does it under load"),
    ("kill -USR2 ", "crates/only1mcp/tests/up/upgrade.rs does it under load"),
    ("systemctl ", "systemd does not run here; tests/systemd.rs checks the units"),
    ("(umask 077 && head ", "writes into /etc"),
    ("only1mcp status --state-dir /var/lib/only1mcp/up", "needs the unit"),
    ("only1mcp status --token-file /etc/only1mcp/token", "needs the units"),
    ("mkdir -p ~/.config/systemd/user", "needs systemd"),
    ("cp deploy/systemd/user", "needs systemd"),
    ("cp only1mcp.yaml ~/.config/only1mcp/", "needs systemd"),
    ("prometheus ", "check-observability runs it on these rules and dashboards"),
    ("grpcurl ", "is no package here; run-anywhere 5 calls every method by reflection"),
    ("token=\"authorization", "is for grpcurl"),
    ("TOKEN=$(cat admin.token)", "is for grpcurl"),
    ("alias g=", "is for grpcurl"),
    ("g ", "is for grpcurl"),
    ("only1mcp reload  --admin http://127.0.0.1:9441 --token-file secrets.d", "needs the containers"),
    ("only1mcp history --admin http://127.0.0.1:9441 --token-file secrets.d", "needs the containers"),
    ("only1mcp call demo__echo '{\"text\": \"hello\"}' --url", "needs the containers"),
    ("ONLY1MCP_", "is a line of a file of variables"),
];

/// Commands that do what the page says and end with another code.
pub(super) const ENDS: &[(&str, &str, i32, &str)] = &[
    ("README.md", "only1mcp import", 1, "no person says yes"),
    ("docs/tracing.md", "only1mcp reload", 2, "nothing was changed since"),
    ("deploy/systemd/README.md", "only1mcp status", 69, "systemd, which would have started it, does not run here"),
];

/// What the page tells its reader to do before a command.
pub(super) const HANDS: &[(&str, &str, fn(&mut Reader<'_>) -> Result<(), Fault>)] = &[
    ("README.md", "only1mcp history", |reader| reader.edits_the_demo()),
    ("README.md", "only1mcp import", |reader| reader.has_a_client()),
    ("docs/operations.md", "only1mcp up", |reader| reader.has_a_configuration()),
    ("docs/operations.md", "cp -a", |reader| reader.stops_all()),
];
