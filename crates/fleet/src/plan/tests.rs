//! What is started, kept and let go from one layout to the next.

use model::{Backend, BackendPolicy, Isolation, Snapshot, Transport, Variant};

use super::*;

pub(crate) fn backend(id: &str, urls: &[&str], replace: ReplaceMode) -> Arc<FixedBackend> {
    let endpoints = urls.iter().map(|url| EndpointSpec {
        transport: Transport::Http { url: (*url).into(), headers: BTreeMap::new() },
        isolation: Isolation::Shared,
    });
    let backend = Backend {
        id: BackendId::new(id).unwrap(),
        variants: vec![Variant { id: VariantId::only(), weight: 100, endpoints: endpoints.collect() }],
        tools: None,
        policy: BackendPolicy { replace, ..BackendPolicy::default() },
    };
    Arc::new(backend.into())
}

pub(crate) fn layout(backends: &[&Arc<FixedBackend>]) -> Arc<Layout> {
    let snapshot = Snapshot { backends: backends.iter().copied().cloned().collect(), ..Snapshot::default() };
    Arc::new(Layout::of(Content::new(Arc::new(snapshot)), None))
}

fn key(backend: &Backend) -> EndpointKey {
    backend.endpoints().next().unwrap().0
}

#[test]
fn only_what_differs_is_touched() {
    let a = backend("a", &["http://a"], ReplaceMode::Beside);
    let b = backend("b", &["http://b"], ReplaceMode::Beside);
    let b2 = backend("b", &["http://b2", "http://b2"], ReplaceMode::Beside);
    let c = backend("c", &["http://c"], ReplaceMode::Beside);
    let (live, next) = (layout(&[&a, &b]), layout(&[&c, &b2, &a]));
    // The last one is leaving, and wanted again.
    let existing = [&a, &b, &c].map(|backend| (key(backend), ())).into();
    let plan = Plan::toward(&next, Some(&live), &existing, &BTreeSet::new());
    let expected = Plan { start: vec![key(&b2)], start_after: vec![], depart: vec![key(&b)] };
    assert_eq!(plan, expected);
    assert_eq!(next.changed_from(Some(&live)).cloned().collect::<Vec<_>>(), [key(&b2), key(&c)]);
}

#[test]
fn one_that_cannot_run_twice_waits_for_its_old_copy() {
    let old = backend("a", &["http://old"], ReplaceMode::StopFirst);
    let new = backend("a", &["http://new"], ReplaceMode::StopFirst);
    let (live, next) = (layout(&[&old]), layout(&[&new]));
    let check = |existing: &[EndpointKey], ending: &[&str], waits: bool| {
        let ending = ending.iter().map(|id| BackendId::new(id).unwrap()).collect();
        let plan = Plan::toward(&next, Some(&live), &existing.iter().map(|key| (key.clone(), ())).collect(), &ending);
        assert_eq!(plan.start_after == [key(&new)], waits, "{existing:?} {ending:?}");
        assert_eq!(plan.start == [key(&new)], !waits, "{existing:?} {ending:?}");
    };
    check(&[key(&old)], &[], true);
    check(&[], &["a"], true);
    check(&[], &["b"], false);
    check(&[], &[], false);
}
