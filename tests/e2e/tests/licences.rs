//! Licences and sources of everything that is built, by the rules of `deny.toml`; `cargo deny check` adds advisories.

use std::{fs, process::Command};

use serde_json::Value;
use testkit::{Fault, fault};

#[test]
fn all_dependencies_have_a_licence_we_accept() -> Result<(), Fault> {
    let allowed = list("allow = [")?;
    assert!(allowed.iter().any(|licence| licence == "MIT"), "deny.toml was not understood");
    let refused: Vec<String> = packages()?
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter(|package| !package["license"].as_str().is_some_and(|licence| accepts(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(())
}

#[test]
fn all_dependencies_come_from_the_registry() -> Result<(), Fault> {
    let elsewhere: Vec<String> = packages()?
        .iter()
        .filter(|package| package["source"].as_str().is_some_and(|source| !source.contains("crates.io-index")))
        .map(|package| format!("{} from {}", package["name"], package["source"]))
        .collect();
    assert!(elsewhere.is_empty(), "{}", elsewhere.join("\n"));
    Ok(())
}

#[test]
fn no_version_is_a_wildcard() -> Result<(), Fault> {
    let own = packages()?.into_iter().filter(|package| package["source"].is_null());
    let wanted = own.flat_map(|package| package["dependencies"].as_array().cloned().unwrap_or_default());
    let any: Vec<_> = wanted.filter(|one| one["req"] == "*" && one["path"].is_null()).collect();
    assert!(any.is_empty(), "{any:?}");
    Ok(())
}

#[test]
fn banned_crates_stay_out() -> Result<(), Fault> {
    let text = deny_toml()?;
    let banned: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("{ name = \"")?.split('"').next()).collect();
    assert!(!banned.is_empty(), "deny.toml was not understood");
    let lock = fs::read_to_string(testkit::binaries::checkout().join("Cargo.lock"))?;
    let found = banned.iter().find(|name| lock.contains(&format!("name = \"{name}\"\n")));
    assert_eq!(found, None);
    Ok(())
}

/// `A OR B` needs one of them, `A AND B` both. AND binds more closely; brackets occur only around an OR.
fn accepts(licence: &str, allowed: &[String]) -> bool {
    let plain = licence.replace(['(', ')'], "").replace('/', " OR ");
    let one = |name: &str| allowed.iter().any(|known| known == name.trim());
    if licence.contains('(') {
        plain.split(" AND ").all(|part| part.split(" OR ").any(one))
    } else {
        plain.split(" OR ").any(|part| part.split(" AND ").all(one))
    }
}

fn list(start: &str) -> Result<Vec<String>, Fault> {
    let text = deny_toml()?;
    let inside = text.split(start).nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    Ok(inside.lines().filter_map(|line| Some(line.trim().strip_prefix('"')?.split('"').next()?.to_owned())).collect())
}

fn deny_toml() -> Result<String, Fault> {
    Ok(fs::read_to_string(testkit::binaries::checkout().join("deny.toml"))?)
}

fn packages() -> Result<Vec<Value>, Fault> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()?;
    if !output.status.success() {
        return Err(fault(String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"].as_array().cloned().ok_or_else(|| fault("cargo names no packages"))
}
