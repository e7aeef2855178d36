//! Tools survive byte for byte; bad ones do not spoil the list.

use super::{Tool, ToolError, ToolPage};

#[test]
fn only_the_name_changes() {
    let json = r#"{ "title":"T","na\u006de" : "r\u0065ad" ,"inputSchema":{"$defs":{"name":1}, "x":1.0e2},"execution":{"taskSupport":"optional"},"annotations":{"readOnlyHint":true,"new":[]}}"#;
    let tool = Tool::parse(json).unwrap();
    assert_eq!((tool.name(), tool.read_only, tool.idempotent), ("read", true, false));
    assert_eq!(tool.render_named("read"), json.as_bytes());
    let named = String::from_utf8(tool.render_named("files__read")).unwrap();
    assert_eq!(named, json.replace(r#""r\u0065ad""#, r#""files__read""#));
}

#[test]
fn bad_tools_are_refused_alone() {
    let page = ToolPage::parse(
        r#"{"tools":[{"name":"a","inputSchema":{}},{"name":5,"inputSchema":{}},{"name":"b"},7,
            {"name":"c","name":"d","inputSchema":{}},{"name":"","inputSchema":{}},
            {"name":"e","inputSchema":{},"annotations":"?"}],"nextCursor":""}"#,
    )
    .unwrap();
    let names: Vec<&str> = page.tools.iter().map(Tool::name).collect();
    assert_eq!((names, page.next_cursor.as_deref()), (vec!["a", "e"], Some("")));
    let positions: Vec<usize> = page.refused.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    assert_eq!(page.refused[1].1, ToolError::InputSchema { name: "b".into() });
    let many = format!(r#"{{"tools":[{}0],"nextCursor":"n"}}"#, "0,".repeat(ToolPage::MAX + 6));
    let page = ToolPage::parse(&many).unwrap();
    assert_eq!((page.refused.len(), page.beyond, page.next_cursor.as_deref()), (ToolPage::MAX, 7, Some("n")));
    for bad in ["{}", "[]", r#"{"tools":{}}"#] {
        assert!(ToolPage::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_tool_that_is_too_long_is_refused_alone() {
    let tool = |name: &str, bytes: usize| {
        let (head, tail) = (format!(r#"{{"name":"{name}","inputSchema":{{}},"description":""#), r#""}"#);
        format!("{head}{}{tail}", "d".repeat(bytes - head.len() - tail.len()))
    };
    let (fits, too_long) = (tool("fits", Tool::JSON_MAX), tool("long", Tool::JSON_MAX + 1));
    let page = ToolPage::parse(&format!(r#"{{"tools":[{too_long},{fits}]}}"#)).unwrap();
    assert_eq!(page.tools.iter().map(Tool::name).collect::<Vec<_>>(), ["fits"]);
    let (0, error) = &page.refused[0] else { panic!("{:?}", page.refused) };
    assert_eq!(error.tool(), Some("long"));
    assert_eq!(error.to_string(), "tool `long` has 262145 bytes of JSON, more than the 262144 that one may have");
    // Wherever its bytes are.
    let padded = format!(r#"{{"name":"p",{}"inputSchema":{{}}}}"#, " ".repeat(Tool::JSON_MAX));
    assert!(matches!(Tool::parse(&padded), Err(ToolError::TooLong { .. })));
}
