//! What a table finds, and what it refuses to be.

use super::*;

fn backend(id: &str) -> BackendRoutes<u8> {
    BackendRoutes { id: BackendId::new(id).unwrap(), variants: Box::default(), having: ByKind::default() }
}

fn entry(exposed: &str, backend: usize, own: &str) -> Entry {
    let item = Item::parse(Kind::Tool, &format!(r#"{{"name":"{own}","inputSchema":{{}}}}"#)).unwrap();
    Entry { exposed: exposed.into(), route: Route { kind: Kind::Tool, item: Arc::new(item), backend } }
}

#[test]
fn a_name_leads_to_its_backend_and_to_the_name_used_there() {
    let entries = vec![entry("a__read", 0, "read"), entry("b__read", 1, "read")];
    let table = RouteTable::build(vec![backend("a"), backend("b")], entries).unwrap();
    let tool = table.find(Kind::Tool, "b__read").unwrap();
    assert_eq!((tool.item.name(), table.backend(tool).id.as_str()), ("read", "b"));
    assert_eq!(table.find(Kind::Tool, "read"), None);
    assert_eq!(table.find(Kind::Prompt, "b__read"), None, "each kind has names of its own");
    assert_eq!((table.count(Kind::Tool), table.count(Kind::Prompt)), (2, 0));
}

#[test]
fn who_keeps_a_name_is_not_decided_here() {
    let twice =
        RouteTable::build(vec![backend("a"), backend("b")], vec![entry("read", 0, "read"), entry("read", 1, "read")]);
    let id = |id| BackendId::new(id).unwrap();
    assert_eq!(twice.unwrap_err(), BuildError::Duplicate { name: "read".into(), first: id("a"), second: id("b") });
    let stray = RouteTable::build(vec![backend("a")], vec![entry("read", 1, "read")]);
    assert_eq!(stray.unwrap_err(), BuildError::NoBackend { name: "read".into(), backend: 1, backends: 1 });
}

#[test]
fn a_set_of_variants_can_be_cut_off_at_a_position() {
    let has = |set: Variants| (0..70).filter(|position| set.has(*position)).collect::<Vec<_>>();
    assert_eq!(has(Variants::ALL.below(2)), [0, 1]);
    assert_eq!(has(Variants::from_iter([1, 5]).below(5).and(7)), [1, 7]);
    assert_eq!(Variants::ALL.below(64), Variants::ALL);
    assert_eq!(Variants::ALL.below(70), Variants::ALL);
    assert!(has(Variants::ALL.below(0)).is_empty());
}
