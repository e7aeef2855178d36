//! What an operator is told of an edit that has to be undone.

use std::fs;

use serde_json::json;
use testkit::{ConfigFile, Document, Fault, Gateway, Scratch, demo};

#[test]
fn an_edit_that_takes_tools_away_is_explained_undone_and_told_to_be_in_the_file_still() -> Result<(), Fault> {
    let scratch = Scratch::new("undo")?;
    let text = Document::default().with(demo::stdio("a", "a", &scratch)?).yaml();
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &text)?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let says = |arguments: &[&str], code: i32, parts: &[&str]| -> Result<(), Fault> {
        let said = gateway.cli(arguments)?.expect(code)?;
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(parts.iter().all(|part| all.contains(part)), "{arguments:?}: {parts:?} in {all}");
        Ok(())
    };
    let fewer = Document::default().with(demo::stdio("a", "a", &scratch)?.key("tools", json!(["add", "echo"]))).yaml();
    fs::write(scratch.file("fewer.yaml"), &fewer)?;
    let filter = "tools: all → [\"add\",\"echo\"]";
    says(&["diff", scratch.file("fewer.yaml").to_str().unwrap_or_default()], 0, &[filter, "clients lose "])?;
    file.replace(&fewer)?;
    gateway.cli(&["reload"])?;
    says(&["diff"], 0, &["revision 1 → revision 2", filter, "clients lose "])?;
    says(&["history"], 0, &[&format!("~a({filter})")])?;

    let undone = ["revision 2 is undone:", "tools: [\"add\",\"echo\"] → all", "clients gain "];
    says(&["rollback"], 0, &[&undone[..], &["still says what was undone", "`only1mcp show` prints it"]].concat())?;
    says(&["rollback"], 1, &["revision 3 is live, by a rollback to 1 already; nothing older is kept"])?;

    let layer = Document::default().with(demo::stdio("b", "b", &scratch)?).yaml();
    let layer = layer.lines().skip_while(|line| !line.starts_with("servers")).collect::<Vec<_>>().join("\n");
    fs::write(scratch.file("layer.yaml"), layer)?;
    fs::write(scratch.file("bad.yaml"), "servers: [{ id: b }]\n")?;
    let dry = |name: &str, code: i32, parts: &[&str]| {
        let path = scratch.file(name);
        says(&["apply", path.to_str().unwrap_or_default(), "--owner", "ops", "--dry-run"], code, parts)
    };
    dry("layer.yaml", 0, &["~ layer api:ops: added", "+ server b: added", "what it offers is known once it is up"])?;
    dry("bad.yaml", 1, &["bad.yaml:1:", "not valid"])?;
    says(&["apply", "--remove", "--owner", "ops", "--dry-run"], 2, &["no difference"])?;
    let history = gateway.cli(&["history", "--refused", "--output", "json"])?.json()?;
    assert_eq!(
        history.as_array().map(Vec::len),
        Some(4),
        "three revisions, and the rollback that was refused: {history}"
    );
    gateway.process.stop()?;
    Ok(())
}
