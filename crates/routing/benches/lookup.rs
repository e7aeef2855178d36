//! What finding the endpoint of a call costs: load of the published table, lookup by name, choice, with 500 servers
//! and a writer that publishes a new table a hundred times a second.
//!
//! Prints one line `figure NAME VALUE` per figure for scripts.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use mcp::{ByKind, Item, Kind};
use model::{BackendId, VariantId, Verdict};
use routing::{BackendRoutes, Entry, Load, Route, RouteTable, VariantRoutes};

const SERVERS: usize = 500;
const TOOLS_EACH: usize = 4;
const LOOKUPS: u64 = 20_000_000;
/// One bucket per nanosecond; what took longer is counted in the last.
const BUCKETS: usize = 10_000;
const SWAP_EVERY: Duration = Duration::from_millis(10);

/// As an endpoint of the router: shared, its load in one atomic word.
type Handle = Arc<AtomicU64>;

fn handles() -> Vec<Handle> {
    (0..2 * SERVERS).map(|_| Handle::default()).collect()
}

fn table(handles: &[Handle]) -> RouteTable<Handle> {
    let backends = handles.chunks(2).enumerate().map(|(i, pair)| BackendRoutes {
        id: BackendId::new(&format!("server{i}")).expect("a legal id"),
        variants: [VariantRoutes {
            id: VariantId::only(),
            weight: 100,
            endpoints: pair.into(),
            staying: Box::default(),
        }]
        .into(),
        having: ByKind::default(),
    });
    let tools = names().into_iter().enumerate().map(|(i, exposed)| Entry {
        exposed: exposed.into(),
        route: Route { kind: Kind::Tool, item: item(i % TOOLS_EACH), backend: i / TOOLS_EACH },
    });
    RouteTable::build(backends.collect(), tools.collect()).expect("distinct names")
}

fn item(tool: usize) -> Arc<Item> {
    let json = format!(r#"{{"name":"tool{tool}","inputSchema":{{}}}}"#);
    Arc::new(Item::parse(Kind::Tool, &json).expect("a tool"))
}

fn names() -> Vec<String> {
    (0..SERVERS).flat_map(|server| (0..TOOLS_EACH).map(move |tool| format!("server{server}__tool{tool}"))).collect()
}

fn route(live: &ArcSwap<RouteTable<Handle>>, name: &str, random: u64) -> u64 {
    let table = live.load();
    let tool = table.find(Kind::Tool, name).expect("a known name");
    let look = |handle: &Handle| Load {
        weight: model::Weight::FULL,
        in_flight: u32::try_from(handle.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
        verdict: Verdict::Healthy,
        standing: model::Standing::Full,
        cordoned: false,
    };
    let backend = table.backend(tool);
    let variants = backend.having[tool.kind].variants(tool.item.name());
    backend.pick(random, variants, |_| false, look).expect("an open endpoint").load(Ordering::Relaxed)
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock and runs a second thread")]
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn main() {
    let handles = handles();
    let live = ArcSwap::from_pointee(table(&handles));
    let (names, stop, swaps) = (names(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                live.store(Arc::new(table(&handles)));
                swaps.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(SWAP_EVERY);
            }
        });
        let mut took = vec![0_u64; BUCKETS];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        // The first look of a thread at a published value registers the thread, once and for all.
        drop(live.load());
        let allocated = allocation_counter::measure(|| {
            for _ in 0..LOOKUPS {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let name = &names[usize::try_from(random >> 33).unwrap_or(0) % names.len()];
                let start = Instant::now();
                black_box(route(&live, black_box(name), random));
                let nanos = usize::try_from(start.elapsed().as_nanos()).unwrap_or(usize::MAX);
                took[nanos.min(BUCKETS - 1)] += 1;
            }
        });
        stop.store(true, Ordering::Relaxed);
        let at = |permille: u64| {
            let mut left = LOOKUPS * permille / 1000;
            took.iter()
                .position(|count| left.checked_sub(*count).inspect(|rest| left = *rest).is_none())
                .unwrap_or(BUCKETS)
        };
        println!("figure route_lookup_p50_ns {}", at(500));
        println!("figure route_lookup_p99_ns {}", at(990));
        println!("figure route_lookup_allocations {}", allocated.count_total);
        println!("figure route_lookup_swaps {}", swaps.load(Ordering::Relaxed));
        println!("figure route_lookup_servers {SERVERS}");
    });
}
