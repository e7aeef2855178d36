//! Tools survive byte for byte; bad ones do not spoil the list.

use super::{Item, ItemError, ItemPage};
use crate::kind::Kind;

#[test]
fn only_the_name_changes() {
    let json = r#"{ "title":"T","na\u006de" : "r\u0065ad" ,"inputSchema":{"$defs":{"name":1}, "x":1.0e2},"execution":{"taskSupport":"optional"},"annotations":{"readOnlyHint":true,"new":[]}}"#;
    let tool = Item::parse(Kind::Tool, json).unwrap();
    assert_eq!((tool.name(), tool.read_only, tool.idempotent), ("read", true, false));
    let named = |exposed: &str| {
        let mut out = Vec::new();
        tool.push_named(exposed, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(named("read"), json);
    assert_eq!(named("files__read"), json.replace(r#""r\u0065ad""#, r#""files__read""#));
}

#[test]
fn bad_tools_are_refused_alone() {
    let page = ItemPage::parse(
        Kind::Tool,
        r#"{"tools":[{"name":"a","inputSchema":{}},{"name":5,"inputSchema":{}},{"name":"b"},7,
            {"name":"c","name":"d","inputSchema":{}},{"name":"","inputSchema":{}},
            {"name":"e","inputSchema":{},"annotations":"?"}],"nextCursor":""}"#,
    )
    .unwrap();
    let names: Vec<&str> = page.items.iter().map(Item::name).collect();
    assert_eq!((names, page.next_cursor.as_deref()), (vec!["a", "e"], Some("")));
    let positions: Vec<usize> = page.refused.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    assert_eq!(page.refused[1].1, ItemError::InputSchema { name: "b".into() });
    let many = format!(r#"{{"tools":[{}0],"nextCursor":"n"}}"#, "0,".repeat(ItemPage::MAX + 6));
    let page = ItemPage::parse(Kind::Tool, &many).unwrap();
    assert_eq!((page.refused.len(), page.beyond, page.next_cursor.as_deref()), (ItemPage::MAX, 7, Some("n")));
    // Only the members that were asked for have to have their form.
    let page = ItemPage::parse(Kind::Tool, r#"{"prompts":5,"tools":[],"prompts":{},"resources":{"a":[]}}"#).unwrap();
    assert!(page.items.is_empty());
    for bad in ["{}", "[]", r#"{"tools":{}}"#, r#"{"tools":[],"tools":[]}"#, r#"{"tools":[]} x"#] {
        assert!(ItemPage::parse(Kind::Tool, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_tool_that_is_too_long_is_refused_alone() {
    let tool = |name: &str, bytes: usize| {
        let (head, tail) = (format!(r#"{{"name":"{name}","inputSchema":{{}},"description":""#), r#""}"#);
        format!("{head}{}{tail}", "d".repeat(bytes - head.len() - tail.len()))
    };
    let (fits, too_long) = (tool("fits", Item::JSON_MAX), tool("long", Item::JSON_MAX + 1));
    let page = ItemPage::parse(Kind::Tool, &format!(r#"{{"tools":[{too_long},{fits}]}}"#)).unwrap();
    assert_eq!(page.items.iter().map(Item::name).collect::<Vec<_>>(), ["fits"]);
    let (0, error) = &page.refused[0] else { panic!("{:?}", page.refused) };
    assert_eq!(error.name(), Some("long"));
    assert_eq!(error.to_string(), "tool `long` has 262145 bytes of JSON, more than the 262144 that one may have");
    // Wherever its bytes are.
    let padded = format!(r#"{{"name":"p",{}"inputSchema":{{}}}}"#, " ".repeat(Item::JSON_MAX));
    assert!(matches!(Item::parse(Kind::Tool, &padded), Err(ItemError::TooLong { .. })));
}

#[test]
fn each_kind_has_its_own_list_and_what_names_its_elements() {
    for (kind, named) in [
        (Kind::Tool, r#""name":"x","inputSchema":{}"#),
        (Kind::Prompt, r#""name":"x""#),
        (Kind::Resource, r#""uri":"x","name":"y""#),
        (Kind::Template, r#""uriTemplate":"x","name":"y""#),
    ] {
        let page = |kind: Kind| ItemPage::parse(kind, &format!(r#"{{"{}":[{{{named}}},{{}}]}}"#, kind.array()));
        let read = page(kind).unwrap();
        assert_eq!(read.items.iter().map(Item::name).collect::<Vec<_>>(), ["x"]);
        let error = format!("not a {}: missing field `{}`", kind.noun(), kind.key());
        assert_eq!(read.refused.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>(), [error]);
        let other = Kind::ALL.into_iter().find(|other| *other != kind).unwrap();
        let error = ItemPage::parse(other, &format!(r#"{{"{}":[]}}"#, kind.array())).unwrap_err().to_string();
        assert_eq!(error, format!("not a {} result: missing field `{}`", other.list(), other.array()));
    }
}
