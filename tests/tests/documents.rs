//! A sink to a store of documents: what a process that dies has stored comes again under the same ids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::control::{Handle, Running};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::sink::{BoxFuture, DocumentId, DocumentSink, DocumentStore, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream::wasm::{Sandbox, SandboxOptions};
use millstream_tests::run;

const ROWS: u64 = 6_000;

/// Documents by id, and how often rows have been put.
type Documents = Arc<Mutex<(BTreeMap<DocumentId, String>, usize)>>;

struct Store(Documents);

impl DocumentStore for Store {
    fn put<'a>(&'a mut self, ids: &'a [DocumentId], rows: &'a Batch) -> BoxFuture<'a, Result<(), String>> {
        let mut documents = self.0.lock().expect("documents");
        for (id, row) in ids.iter().zip(run::rows(rows)) {
            let row = serde_json::to_string(&row).expect("JSON");
            documents.1 += 1;
            let before = documents.0.insert(*id, row.clone());
            assert!(before.as_ref().is_none_or(|before| *before == row), "{id}: {before:?}, then {row}");
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Windows of 10 keys that arrive while it runs.
fn pipeline(store: &Path, documents: &Documents, parallelism: usize) -> PipelineSpec {
    let source = Source::generator(GeneratorSpec {
        kind: GeneratorKind::Sequence { keys: 10 },
        rows: Some(ROWS),
        rate: Some(12_000),
        seed: 7,
        start_ms: 0,
        interval_ns: Some(1_000_000),
    });
    let windows = Step::aggregate().from("rows").key_by(["key"]).tumbling(Duration::from_millis(100));
    let documents = Arc::clone(documents);
    let sink = DocumentSink::new("windows", ["key", "window_start"], move |_| {
        let store: Box<dyn DocumentStore> = Box::new(Store(Arc::clone(&documents)));
        Box::pin(std::future::ready(Ok(store)))
    });
    let pipeline = Pipeline::new("windows")
        .parallelism(parallelism)
        .checkpoint(store.to_string_lossy(), Duration::from_millis(20))
        .source("rows", source.max_out_of_orderness(Duration::from_secs(1)))
        .step("sums", windows.count("n").sum("total", "amount"))
        .sink("out", Sink::of(SinkKind::Documents(sink)).from("sums"));
    pipeline.build().expect("a pipeline")
}

async fn start(store: &Path, documents: &Documents, parallelism: usize) -> Running {
    let sandbox = Sandbox::new(SandboxOptions::default()).expect("a sandbox");
    let resolution = resolve(pipeline(store, documents, parallelism), &sandbox).expect("a plan");
    Running::start(resolution, sandbox, &RunOptions::default()).await.expect("a start")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn until_made(handle: &Handle, checkpoints: u64) {
    while handle.status().checkpoints.is_none_or(|of| of.made < checkpoints) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_is_put_again_after_a_death_has_the_id_that_it_had() {
    let store = tempfile::tempdir().expect("a folder");
    let documents = Documents::default();
    for parallelism in [2, 3] {
        let life = runtime();
        life.block_on(async {
            let running = start(store.path(), &documents, parallelism).await;
            until_made(&running.handle(), 4).await;
            // dies between two checkpoints
            tokio::time::sleep(Duration::from_millis(15)).await;
        });
        drop(life);
    }
    let status = runtime().block_on(async {
        let running = start(store.path(), &documents, 1).await;
        running.wait().await.expect("an end")
    });
    assert!(status.checkpoints.and_then(|of| of.restored).is_some());
    let documents = documents.lock().expect("documents");
    let counts = documents.0.values().map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
        row["n"].as_u64().expect("a count")
    });
    assert_eq!(counts.sum::<u64>(), ROWS, "every row is in one document");
    assert!(documents.1 > documents.0.len(), "nothing came again: {} documents", documents.1);
}
