//! What the point of decision costs: one durable transaction with a revision of 200 servers, on the disk of the
//! temporary directory; and the same transaction from a thread that blocks for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use config_manager::log::{Entry, Layer, Log, RevisionRecord, Written};
use divan::Bencher;
use model::{AttemptId, Diff, HistoryPolicy, Owner, Revision, WallTime};

fn main() {
    divan::main();
}

/// Numbers them as they are asked for.
struct Appender {
    log: Arc<Log>,
    template: Entry,
    _dir: tempfile::TempDir,
}

impl Appender {
    fn new() -> Self {
        let text = servers(200);
        let source = config_file::Source {
            owner: Owner::file(),
            name: "gateway.yaml".into(),
            format: config_file::Format::Yaml,
            text: text.clone(),
        };
        let (bytes, digest) = config_file::parse(&[source]).expect("the text is right").canonical();
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let log = Log::open(Path::new(&dir.path().join("log")), WallTime(0)).expect("a new log opens").log;
        let layers = BTreeMap::from([(Owner::file(), Layer { name: "gateway.yaml".into(), text, ..Layer::default() })]);
        let record = RevisionRecord {
            revision: Revision::NONE,
            parent: Revision::NONE,
            digest,
            actor: "file".into(),
            source: "file".into(),
            time: WallTime(0),
            attempt: AttemptId { epoch: 1, sequence: 0 },
            diff: Diff::default(),
            reason: String::new(),
            without: Vec::new(),
        };
        let template = Entry {
            record,
            content: Some((bytes.into(), Arc::new(layers))),
            cursors: BTreeMap::from([(Owner::file(), digest)]),
            history: HistoryPolicy::default(),
        };
        Self { log: Arc::new(log), template, _dir: dir }
    }

    fn next(&mut self) -> Entry {
        let record = &mut self.template.record;
        record.parent = record.revision;
        record.revision = record.revision.next();
        Entry {
            record: record.clone(),
            content: self.template.content.clone(),
            cursors: self.template.cursors.clone(),
            history: self.template.history.clone(),
        }
    }
}

#[divan::bench(sample_count = 1000)]
fn inline(bencher: Bencher<'_, '_>) {
    let mut appender = Appender::new();
    let log = appender.log.clone();
    bencher
        .with_inputs(|| appender.next())
        .bench_local_values(|entry| assert!(matches!(log.append(&entry), Written::Durable)));
}

#[divan::bench(sample_count = 1000)]
fn on_a_blocking_thread(bencher: Bencher<'_, '_>) {
    let mut appender = Appender::new();
    let log = appender.log.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    bencher.with_inputs(|| appender.next()).bench_local_values(|entry| {
        let log = log.clone();
        let written = runtime.block_on(async { tokio::task::spawn_blocking(move || log.append(&entry)).await });
        assert!(matches!(written, Ok(Written::Durable)));
    });
}

fn servers(n: usize) -> String {
    let mut text = "version: \"1.0\"\nservers:\n".to_owned();
    for i in 0..n {
        text.push_str(&format!(
            "  - id: s{i}\n    transport: {{ type: http, url: \"http://127.0.0.1:{}/mcp\" }}\n",
            9000 + i
        ));
    }
    text
}
