//! The scan beside its anchor: serde_json filling plain structs with the same borrowed parts, without positions and
//! without refusing anything. `cargo bench -p mcp`.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Shows allocations beside times: the scan's only one is serde_json's stack for nested arguments, as
/// in the anchor.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [20, 600, 100_000];

/// A `tools/call` whose arguments take about `size` bytes.
fn call(size: usize) -> Vec<u8> {
    let row = r#"{"path":"/data/a\n.txt","line":17,"flags":[true,null,1.5]},"#;
    let rows = row.repeat(size.div_ceil(row.len()));
    let rows = rows.trim_end_matches(',');
    format!(
        r#"{{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{{"name":"files__read","arguments":{{"rows":[{rows}]}},"_meta":{{"progressToken":7}}}}}}"#
    )
    .into_bytes()
}

#[divan::bench(args = SIZES)]
fn scan(bencher: Bencher<'_, '_>, size: usize) {
    let body = call(size);
    bencher.counter(BytesCount::new(body.len())).bench(|| mcp::scan(black_box(&body)).is_ok());
}

#[divan::bench(args = SIZES)]
fn anchor_serde_structs(bencher: Bencher<'_, '_>, size: usize) {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "filled to be measured")]
    struct Wire<'a> {
        #[serde(borrow)]
        jsonrpc: &'a str,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<&'a str>,
        #[serde(borrow)]
        params: Option<Params<'a>>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "filled to be measured")]
    struct Params<'a> {
        #[serde(borrow)]
        name: Option<&'a str>,
        #[serde(borrow)]
        arguments: Option<&'a RawValue>,
        #[serde(borrow)]
        _meta: Option<&'a RawValue>,
    }
    let body = call(size);
    bencher.counter(BytesCount::new(body.len())).bench(|| serde_json::from_slice::<Wire<'_>>(black_box(&body)).is_ok());
}

#[divan::bench(args = SIZES)]
fn scan_and_splice(bencher: Bencher<'_, '_>, size: usize) {
    let body = call(size);
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let envelope = mcp::scan(black_box(&body)).expect("a valid call");
        let name = envelope.call().and_then(|call| call.require_name(mcp::Kind::Tool).ok()).expect("it has a name");
        mcp::splice(&body, &mut [mcp::Edit::new(name.raw().span(), &b"\"read\""[..])])
    });
}

#[divan::bench(args = SIZES)]
fn sse_event(bencher: Bencher<'_, '_>, size: usize) {
    let mut stream = Vec::new();
    mcp::sse::Frame::message(&call(size)).write(&mut stream);
    bencher
        .counter(BytesCount::new(stream.len()))
        .bench(|| mcp::sse::Decoder::new(1 << 20).next(&mut black_box(&*stream)));
}

/// A whole merge: 200 backends of 20 tools.
#[divan::bench]
fn catalog_merge(bencher: Bencher<'_, '_>) {
    let schema = r#"{"type":"object","properties":{"path":{"type":"string","description":"where"}}}"#;
    let tool = |index: usize| format!(r#"{{"name":"tool_{index}","description":"does","inputSchema":{schema}}}"#);
    let tools: Vec<_> = (0..20)
        .map(|index| std::sync::Arc::new(mcp::Item::parse(mcp::Kind::Tool, &tool(index)).expect("a tool")))
        .collect();
    let names: Vec<String> = (0..200).map(|index| format!("backend-{index}")).collect();
    let offers: Vec<_> =
        names.iter().map(|backend| mcp::Offer { backend, items: &tools, shown: None, missing: None }).collect();
    let owners = mcp::Owners::new();
    bencher
        .bench(|| mcp::Catalog::merge(mcp::Kind::Tool, mcp::Naming::Prefix, &offers, &owners, mcp::catalog::PAGE_SIZE));
}
