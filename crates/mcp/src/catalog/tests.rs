//! Which backend gets a name, what is withheld, and paging over a list that changes.

use std::num::NonZeroUsize;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::{Catalog, Entry, InvalidCursor, Offer, Owners, PAGE_BYTES, PAGE_SIZE, Reason};
use crate::item::Item;
use crate::kind::Kind;
use crate::names::Naming;

fn tools(names: &[&str]) -> Vec<Arc<Item>> {
    let tool = |name: &&str| Item::parse(Kind::Tool, &format!(r#"{{"name":"{name}","inputSchema":{{}}}}"#)).unwrap();
    names.iter().map(tool).map(Arc::new).collect()
}

fn offer<'a>(backend: &'a str, tools: &'a [Arc<Item>]) -> Offer<'a> {
    Offer { backend, items: tools, shown: None, missing: None }
}

fn shown(catalog: &Catalog) -> Vec<(&str, usize)> {
    catalog.entries().iter().map(|entry: &Entry| (&*entry.exposed, entry.backend)).collect()
}

#[test]
fn a_collision_goes_to_the_present_owner_then_to_file_order() {
    let (a, b) = (tools(&["x", "y"]), tools(&["z", "x"]));
    let offers = [offer("a", &a), offer("b", &b)];
    let fresh = Catalog::merge(Kind::Tool, Naming::None, &offers, &Owners::new(), PAGE_SIZE);
    assert_eq!(shown(&fresh), [("x", 0), ("y", 0), ("z", 1)]);
    assert_eq!(fresh.withheld().len(), 1);
    assert_eq!((&*fresh.withheld()[0].name, fresh.withheld()[0].reason), ("x", Reason::Collision { owner: 0 }));

    let alone = Catalog::merge(Kind::Tool, Naming::None, &offers[1..], &Owners::new(), PAGE_SIZE);
    let later = Catalog::merge(Kind::Tool, Naming::None, &offers, &alone.owners(), PAGE_SIZE);
    assert_eq!(shown(&later), [("x", 1), ("y", 0), ("z", 1)]);
    assert_eq!(later.withheld()[0].reason, Reason::Collision { owner: 1 });
    // The owner stops offering it: the name passes on.
    let gone = tools(&["z"]);
    let passed = Catalog::merge(Kind::Tool, Naming::None, &[offers[0], offer("b", &gone)], &later.owners(), PAGE_SIZE);
    assert_eq!(shown(&passed), [("x", 0), ("y", 0), ("z", 1)]);
}

#[test]
fn filters_and_duplicates() {
    let a = tools(&["x", "hidden", "x"]);
    let names = ["x".to_owned(), "missing".to_owned()];
    let offers = [Offer { shown: Some(&names), ..offer("a", &a) }];
    let catalog = Catalog::merge(Kind::Tool, Naming::Prefix, &offers, &Owners::new(), PAGE_SIZE);
    assert_eq!(shown(&catalog), [("a__x", 0)]);
    let withheld: Vec<_> = catalog.withheld().iter().map(|withheld| (&*withheld.name, withheld.reason)).collect();
    assert_eq!(withheld, [("hidden", Reason::NotShown), ("x", Reason::Duplicate)]);
    assert_eq!(catalog.absent(), [(0, "missing".into())]);
    assert_eq!(catalog.find("a__x").unwrap().item.name(), "x");
    assert!(catalog.find("x").is_none());
}

#[test]
fn same_list_sees_order_of_offers_as_no_change() {
    let (a, b, c) = (tools(&["x"]), tools(&["y", "z"]), tools(&["z", "y"]));
    let merge = |offers: &[Offer<'_>]| Catalog::merge(Kind::Tool, Naming::Prefix, offers, &Owners::new(), PAGE_SIZE);
    let first = merge(&[offer("a", &a), offer("b", &b)]);
    assert!(first.same_list(&merge(&[offer("b", &c), offer("a", &a)])));
    assert!(!first.same_list(&merge(&[offer("a", &a)])));
    let other = [Arc::new(Item::parse(Kind::Tool, r#"{"name":"x","inputSchema":{"a":1}}"#).unwrap())];
    assert!(!first.same_list(&merge(&[offer("a", &other), offer("b", &b)])));
}

/// The names and the next cursor of one response.
fn page(catalog: &Catalog, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
    let response = catalog.page(cursor).unwrap().response("\"i\"");
    let response: serde_json::Value = serde_json::from_slice(&response).unwrap();
    assert_eq!(response["id"], "i");
    let tools = response["result"]["tools"].as_array().unwrap();
    let names = tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    (names, response["result"]["nextCursor"].as_str().map(str::to_owned))
}

#[test]
fn cursors_outlive_the_tool_they_name() {
    let two = NonZeroUsize::new(2).unwrap();
    let merge =
        |names: &[&str]| Catalog::merge(Kind::Tool, Naming::None, &[offer("a", &tools(names))], &Owners::new(), two);
    let all = merge(&["e", "d", "c", "b", "a"]);
    let (names, cursor) = page(&all, None);
    assert_eq!(names, ["a", "b"]);
    assert_eq!(page(&all, Some("")).0, ["a", "b"]);
    let without_b = merge(&["a", "c", "d", "e"]);
    let (names, cursor) = page(&without_b, cursor.as_deref());
    assert_eq!(names, ["c", "d"]);
    assert_eq!(page(&all, cursor.as_deref()), (vec!["e".to_owned()], None));
    // Exactly full pages end without a cursor; beyond the end is an empty page.
    assert_eq!(page(&merge(&["a", "b"]), None), (vec!["a".to_owned(), "b".to_owned()], None));
    assert_eq!(page(&merge(&["a"]), cursor.as_deref()), (vec![], None));
    assert_eq!(page(&merge(&[]), None), (vec![], None));
    for bad in ["x", "zz", "6", "ff"] {
        assert_eq!(all.page(Some(bad)).map(|page| page.response("1")), Err(InvalidCursor), "{bad}");
    }
}

/// Some small, some as long as a tool may be: as many as would make several pages.
fn long_tools() -> Vec<Arc<Item>> {
    let tool = |n: usize| {
        let head = format!(r#"{{"name":"t{n:03}","inputSchema":{{}},"description":""#);
        let long = if n.is_multiple_of(3) { Item::JSON_MAX - head.len() - 2 } else { 1_000 * n };
        Arc::new(Item::parse(Kind::Tool, &format!(r#"{head}{}"}}"#, "d".repeat(long))).unwrap())
    };
    (0..40).map(tool).collect()
}

#[test]
fn a_page_ends_by_its_bytes_as_well() {
    let tools = long_tools();
    let all = Catalog::merge(Kind::Tool, Naming::None, &[offer("a", &tools)], &Owners::new(), PAGE_SIZE);
    let (mut names, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let length = all.page(cursor.as_deref()).unwrap().response("\"i\"").len();
        assert!((PAGE_BYTES / 2..PAGE_BYTES + 1_000).contains(&length) || pages > 2, "{length} bytes");
        let (more, next) = page(&all, cursor.as_deref());
        assert!(!more.is_empty());
        names.extend(more);
        pages += 1;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(names, tools.iter().map(|tool| tool.name()).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(pages, 5);
    // A cursor from before, or from a router with other pages, goes on after its tool.
    for (n, name) in names.iter().enumerate() {
        let (more, _) = page(&all, Some(&HEXLOWER.encode(name.as_bytes())));
        assert_eq!(more.first(), names.get(n + 1), "after {name}");
    }
}

#[test]
fn what_a_page_will_weigh_is_known_before_it_is_made() {
    let tools = long_tools();
    let offers = [offer("a", &tools), Offer { missing: Some("starting"), ..offer("b", &[]) }];
    let all = Catalog::merge(Kind::Tool, Naming::Prefix, &offers, &Owners::new(), PAGE_SIZE);
    let empty = Catalog::merge(Kind::Tool, Naming::Prefix, &[], &Owners::new(), PAGE_SIZE);
    let pages = [all.page(None), all.page(Some("615f5f74303339")), empty.page(None)];
    for page in pages.map(Result::unwrap) {
        for id in ["1", "\"a long one\""] {
            assert_eq!(page.response(id).len(), page.length(id));
        }
    }
}

#[test]
fn who_is_missing_is_named_and_nobody_at_all_is_no_empty_list() {
    let a = tools(&["x.y"]);
    let missing = |backend, reason| Offer { missing: Some(reason), ..offer(backend, &[]) };
    let merge = |offers: &[Offer<'_>]| Catalog::merge(Kind::Tool, Naming::Prefix, offers, &Owners::new(), PAGE_SIZE);
    let some = merge(&[offer("a", &a), missing("b", "starting"), missing("c", "say \"no\"")]);
    assert!(!some.is_unknown());
    let response: serde_json::Value = serde_json::from_slice(&some.page(None).unwrap().response("1")).unwrap();
    let expected = serde_json::json!({
        "only1mcp/missing": [{ "server": "b", "reason": "starting" }, { "server": "c", "reason": "say \"no\"" }],
    });
    assert_eq!(response["result"]["_meta"], expected);
    assert_eq!(some.renamed().map(|entry| entry.item.name()).collect::<Vec<_>>(), ["x.y"]);
    let all = merge(&[offer("a", &a)]);
    assert!(!String::from_utf8(all.page(None).unwrap().response("1")).unwrap().contains("_meta"));
    assert!(all.same_list(&merge(&[offer("a", &a), missing("b", "starting")])), "no other tools, nothing to tell");
    assert!(merge(&[missing("b", "starting")]).is_unknown());
    assert!(!merge(&[]).is_unknown(), "no servers have no tools");
    assert!(!merge(&[offer("a", &[]), missing("b", "starting")]).is_unknown(), "a server without tools has answered");
}

/// Every way in which three backends offer some of two tools, one of them filtered.
fn ways() -> Vec<[Vec<Arc<Item>>; 3]> {
    let some = |bits: usize| {
        let names: Vec<_> = ["x", "y"].into_iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).collect();
        tools(&names.iter().map(|(_, name)| *name).collect::<Vec<_>>())
    };
    (0..64).map(|bits| [some(bits), some(bits >> 2), some(bits >> 4)]).collect()
}

#[test]
fn a_catalog_that_is_of_the_same_offers_is_what_merging_them_makes() {
    let (ways, shown) = (ways(), ["x".to_owned()]);
    let filtered = Offer { shown: Some(&shown), ..offer("b", &[]) };
    let offers: Vec<_> =
        ways.iter().map(|[a, b, c]| [offer("a", a), Offer { items: b, ..filtered }, offer("c", c)]).collect();
    let state = |catalog: &Catalog| {
        let entries: Vec<_> = catalog.entries().iter().map(|one| (one.exposed.clone(), one.backend)).collect();
        (entries, catalog.withheld().to_vec(), catalog.absent().to_vec())
    };
    for naming in [Naming::None, Naming::Prefix] {
        let merge =
            |offers: &[Offer<'_>], owners: &Owners| Catalog::merge(Kind::Tool, naming, offers, owners, PAGE_SIZE);
        for (first, then) in offers.iter().flat_map(|first| offers.iter().map(move |then| (first, then))) {
            let catalog = merge(then, &merge(first, &Owners::new()).owners());
            assert!(catalog.is_of(naming, then));
            assert_eq!(catalog.is_of(naming, first), first == then);
            assert_eq!(state(&catalog), state(&merge(then, &catalog.owners())));
            assert!(catalog.is_disputed() || state(&catalog) == state(&merge(then, &Owners::new())));
        }
        let other = if naming == Naming::None { Naming::Prefix } else { Naming::None };
        assert!(!merge(&offers[0], &Owners::new()).is_of(other, &offers[0]));
    }
}
