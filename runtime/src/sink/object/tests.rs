//! Objects epoch by epoch, on a local disk: what is visible when, and that a commit can be repeated.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};

use super::super::testing::context;
use super::commit::{CommitError, commit_in, stale};
use super::*;
use crate::record::{Field, Kind};

fn schema() -> Schema {
    Schema::new([Field::new("n", Kind::Int64)])
}

fn sink_context(folder: &Path, format: Format, next: Option<u64>) -> SinkContext {
    let epochs = next.map(|next| SinkEpochs { attempt: "a".into(), next, transactions: None });
    SinkContext { base: folder.to_owned(), epochs, format, schema: schema(), ..context("json") }
}

async fn open(folder: &Path, format: Format, next: Option<u64>, roll: Option<usize>) -> ObjectSink {
    let spec = ObjectSinkSpec { url: "out/rows.json".into(), roll };
    ObjectSink::open(&spec, &sink_context(folder, format, next)).await.unwrap()
}

fn batch(from: i64, rows: i64) -> Batch {
    let schema = schema();
    let numbers = Arc::new(Int64Array::from_iter_values(from..from + rows));
    let rows = usize::try_from(rows).unwrap();
    Batch::new(RecordBatch::try_new(schema.arrow().clone(), vec![numbers]).unwrap(), vec![0; rows].into()).unwrap()
}

/// Names of all files, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("out")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_epoch_is_visible_once_it_is_committed_and_a_commit_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    let mut sink = open(base, Format::Json, Some(4), None).await;
    sink.append(&batch(0, 2)).await.unwrap();
    let prepared = sink.prepare(4).await.unwrap().unwrap();
    assert_eq!(names(base), [".rows-0000000004-0.json.a.pending"]);
    assert!(sink.prepare(5).await.unwrap().is_none(), "an epoch without rows has no object");
    assert_eq!(last_committed("out", "out/rows.json", base).await.unwrap(), None);
    for _ in 0..2 {
        crate::sink::commit("out", base, &prepared).await.unwrap();
        assert_eq!(names(base), ["rows-0000000004-0.json"]);
    }
    assert_eq!(std::fs::read_to_string(base.join("out/rows-0000000004-0.json")).unwrap(), "{\"n\":0}\n{\"n\":1}\n");
    assert_eq!(last_committed("out", "out/rows.json", base).await.unwrap(), Some(4));
    std::fs::remove_file(base.join("out/rows-0000000004-0.json")).unwrap();
    let error = crate::sink::commit("out", base, &prepared).await.unwrap_err().to_string();
    assert!(error.contains("sink `out`") && error.contains("rows-0000000004-0.json"), "{error}");
}

#[tokio::test]
async fn a_commit_that_was_cut_short_is_finished_and_another_object_in_its_place_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), Format::Json, Some(1), None).await;
    sink.append(&batch(0, 2)).await.unwrap();
    let prepared = sink.prepare(1).await.unwrap().unwrap();
    let part = decode(&prepared.bytes).unwrap();
    let out = folder.path().join("out");
    // the new name is there and the old one not yet gone
    std::fs::copy(out.join(".rows-0000000001-0.json.a.pending"), out.join("rows-0000000001-0.json")).unwrap();
    assert!(commit_in(&sink.objects, &part).await.is_ok());
    assert_eq!(names(folder.path()), ["rows-0000000001-0.json"]);
    std::fs::write(out.join("rows-0000000001-0.json"), "another").unwrap();
    assert!(matches!(commit_in(&sink.objects, &part).await, Err(CommitError::Gone(_))));
}

#[tokio::test]
async fn only_pending_files_of_epochs_that_are_over_are_stale() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(folder.path(), Format::Json, Some(1), None).await;
    for name in [
        ".rows-0000000006-0.json.b.pending",
        "..rows-0000000006-1.json.b.pending.tmp.1",
        ".rows-0000000007-0.json.b.pending",
        ".other-0000000006-0.json.b.pending",
        "rows-0000000006-0.json",
    ] {
        std::fs::write(folder.path().join("out").join(name), "").unwrap();
    }
    let epochs = SinkEpochs { attempt: "c".into(), next: 7, transactions: None };
    let found = stale(&sink.objects, "rows.json", &epochs).await.unwrap();
    assert_eq!(found, ["..rows-0000000006-1.json.b.pending.tmp.1", ".rows-0000000006-0.json.b.pending"]);
}

#[tokio::test]
async fn without_checkpoints_an_object_appears_at_the_end_or_at_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), Format::Json, None, None).await;
    sink.append(&batch(0, 2)).await.unwrap();
    Box::new(sink).finish().await.unwrap();
    assert_eq!(names(folder.path()), ["rows.json"]);

    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), Format::Json, None, Some(100)).await;
    for at in 0..3 {
        sink.append(&batch(at * 10 + 10, 10)).await.unwrap();
    }
    sink.append(&batch(0, 1)).await.unwrap();
    let first = ["rows-0-0000000001.json"];
    assert_eq!(names(folder.path())[..1], first, "two batches are more than 100 bytes");
    Box::new(sink).finish().await.unwrap();
    assert_eq!(names(folder.path()), ["rows-0-0000000001.json", "rows-0-0000000002.json"]);
    let all = names(folder.path())
        .into_iter()
        .map(|name| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap());
    assert_eq!(all.collect::<String>().lines().count(), 31);
}

#[tokio::test]
async fn parquet_is_a_whole_file_each_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), Format::Parquet, Some(1), None).await;
    for epoch in 1..=2 {
        sink.append(&batch(0, 5)).await.unwrap();
        let prepared = sink.prepare(epoch).await.unwrap().unwrap();
        crate::sink::commit("out", folder.path(), &prepared).await.unwrap();
    }
    for name in names(folder.path()) {
        let file = std::fs::File::open(folder.path().join("out").join(name)).unwrap();
        let mut reader = crate::format::ParquetFile::open(file).unwrap();
        assert_eq!(reader.schema().unwrap().fields().len(), 1);
        let _ = &mut reader;
    }
    assert_eq!(names(folder.path()).len(), 2);
}
