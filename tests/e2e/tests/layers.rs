//! The dependency direction of the workspace, as a table and a test.
//!
//! A crate may depend on the workspace crates named on its row, and on no others. Adding an arrow is an architectural
//! decision: change the table, and say why in ARCHITECTURE.md.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use testkit::{Fault, binaries, fault};

const LAYERS: &[(&str, &[&str])] = &[
    // Words and pure cores.
    ("backoff", &[]),
    ("model", &[]),
    ("mcp", &[]),
    ("routing", &["model", "mcp"]),
    ("rollout", &["model"]),
    ("health", &["model"]),
    ("drain", &["model"]),
    ("fleet", &["backoff", "model", "mcp", "routing", "rollout", "drain"]),
    // Adapters. The messages that `wire` carries are the cores' own.
    ("config-file", &["model"]),
    ("wire", &["model", "rollout", "health", "drain"]),
    ("runtime", &["backoff"]),
    // Services, which never know each other.
    ("config-manager", &["model", "rollout", "config-file", "wire", "runtime"]),
    ("router", &["backoff", "model", "mcp", "routing", "rollout", "health", "drain", "fleet", "wire", "runtime"]),
    ("health-monitor", &["model", "health", "wire", "runtime"]),
    ("drain-coordinator", &["backoff", "model", "drain", "wire", "runtime"]),
    (
        "only1mcp",
        &[
            "backoff",
            "model",
            "mcp",
            "config-file",
            "wire",
            "runtime",
            "config-manager",
            "router",
            "health-monitor",
            "drain-coordinator",
        ],
    ),
    // Never shipped.
    ("simulation", &["model", "mcp", "routing", "rollout", "drain", "fleet"]),
    ("testkit", &["runtime"]),
    ("e2e", &["wire", "runtime", "testkit"]),
];

/// These may not reach what moves bytes or reads clocks, not even through others.
const PURE: [&str; 9] = ["backoff", "model", "mcp", "rollout", "routing", "health", "drain", "fleet", "simulation"];
const IMPURE: [&str; 9] = ["tokio", "tonic", "prost", "hyper", "rand", "notify", "redb", "nix", "tracing"];

/// The only crates that may name these.
const FENCED: [(&str, &[&str]); 4] = [
    ("prost", &["wire", "runtime"]), // `runtime` reads descriptors, and speaks gRPC's error details
    ("prost-types", &["wire", "runtime"]),
    ("saphyr-parser", &["config-file"]),
    ("redb", &["config-manager"]),
];

/// No crate of ours that is shipped may depend on these.
const NEVER_SHIPPED: [&str; 3] = ["simulation", "testkit", "e2e"];

#[test]
fn dependencies_point_down() -> Result<(), Fault> {
    let packages = packages()?;
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let present: BTreeSet<&str> = packages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(present, known, "the table and the workspace name different crates");
    for (name, dependencies) in &packages {
        let (_, allowed) = LAYERS.iter().find(|(known, _)| known == name).expect("compared above");
        for dependency in dependencies.iter().filter(|dependency| known.contains(dependency.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "`{name}` may not depend on `{dependency}`");
        }
    }
    for (_, allowed) in LAYERS.iter().filter(|(name, _)| !NEVER_SHIPPED.contains(name)) {
        assert!(allowed.iter().all(|dependency| !NEVER_SHIPPED.contains(dependency)));
    }
    Ok(())
}

#[test]
fn fenced_dependencies_stay_in_their_crate() -> Result<(), Fault> {
    for (name, dependencies) in packages()? {
        for (fenced, allowed) in FENCED {
            let breaks =
                dependencies.iter().any(|dependency| dependency == fenced) && !allowed.contains(&name.as_str());
            assert!(!breaks, "`{name}` may not depend on `{fenced}`");
        }
    }
    Ok(())
}

#[test]
fn pure_crates_cannot_do_io() -> Result<(), Fault> {
    for name in PURE {
        let tree = cargo(&["tree", "--offline", "-e", "normal", "--prefix", "none", "-p", name])?;
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            assert!(!IMPURE.contains(&dependency), "`{name}` reaches `{dependency}`");
        }
    }
    Ok(())
}

#[test]
fn pure_crates_are_linted_alike() -> Result<(), Fault> {
    let rules = |name: &str| {
        let path = binaries::checkout().join("crates").join(name).join("clippy.toml");
        fs::read_to_string(&path).map_err(|error| fault(format!("{path:?}: {error}")))
    };
    let first = rules(PURE[0])?;
    for name in PURE {
        assert_eq!(rules(name)?, first, "clippy.toml of `{name}` differs from that of `{}`", PURE[0]);
    }
    Ok(())
}

/// Each crate of the workspace with what it depends on outside its own tests.
fn packages() -> Result<Vec<(String, Vec<String>)>, Fault> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1", "--offline"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let shipped = |package: &Value| {
        list(&package["dependencies"]).iter().filter(|with| with["kind"].is_null()).map(name).collect()
    };
    Ok(list(&metadata["packages"]).iter().map(|package| (name(package), shipped(package))).collect())
}

fn cargo(args: &[&str]) -> Result<String, Fault> {
    let output = Command::new(env!("CARGO")).args(args).output()?;
    if !output.status.success() {
        return Err(fault(String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8(output.stdout)?)
}
