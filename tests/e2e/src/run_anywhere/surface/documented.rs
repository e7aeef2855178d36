//! What `docs/api.md` promises in its tables.

use std::{collections::BTreeMap, fs};

use testkit::{Fault, binaries};

/// Code and reason of each error, with the names of its details.
pub(super) fn errors() -> Result<BTreeMap<(String, String), Vec<String>>, Fault> {
    let rows = rows()?;
    // Codes are the only words in capitals that begin a row.
    let is_code = |cells: &&Vec<String>| {
        cells.len() == 4
            && quoted(&cells[0]).iter().any(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let first = |cell: &str| quoted(cell).into_iter().next().unwrap_or_default();
    let errors = rows.iter().filter(is_code).map(|cells| {
        let mut details = quoted(&cells[2]);
        details.sort_unstable();
        ((first(&cells[0]), first(&cells[1])), details)
    });
    Ok(errors.collect())
}

/// The names that health knows, and the process that knows each.
pub(super) fn dependencies() -> Result<Vec<(String, String)>, Fault> {
    let names = rows()?.into_iter().filter_map(|cells| {
        let name = quoted(cells.first()?).into_iter().next()?;
        let process = cells.get(1)?.split(' ').next()?.to_owned();
        name.starts_with("only1mcp.dependency/").then_some((name, process))
    });
    Ok(names.collect())
}

/// The cells of each row of all tables above the generated part.
fn rows() -> Result<Vec<Vec<String>>, Fault> {
    let text = fs::read_to_string(binaries::checkout().join("docs/api.md"))?;
    let head = text.split("<!--").next().unwrap_or_default();
    let rows = head.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    Ok(rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect())
}

/// The text between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
