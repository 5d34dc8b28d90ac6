//! What a Parquet sink leaves on the disk.

use super::*;
use crate::format::{Format, ParquetFile};
use crate::sink::testing::{context, text_batch};

fn context_in(folder: &std::path::Path) -> SinkContext {
    SinkContext { base: folder.to_owned(), format: Format::Parquet, ..context("text") }
}

#[tokio::test]
async fn a_file_appears_whole_when_the_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let context = context_in(folder.path());
    let mut sink = ParquetSink::create("new/rows.parquet", &context).unwrap();
    sink.write(&text_batch(&["a", "b"])).await.unwrap();
    sink.flush().await.unwrap();
    sink.write(&text_batch(&["c"])).await.unwrap();
    let (path, pending) = (folder.path().join("new/rows.parquet"), folder.path().join("new/rows.parquet.pending"));
    assert!(!path.exists() && pending.exists());
    Box::new(sink).finish().await.unwrap();
    assert!(!pending.exists());
    let file = ParquetFile::open(File::open(&path).unwrap()).unwrap();
    assert_eq!(file.schema().unwrap(), context.schema);
    let rows = file.read(&context.schema, None).unwrap().next_rows().unwrap().unwrap();
    assert_eq!(rows.columns.num_rows(), 3);
}

#[tokio::test]
async fn an_input_without_rows_makes_a_file_with_columns() {
    let folder = tempfile::tempdir().unwrap();
    let context = SinkContext { parallelism: 2, subtask: 1, ..context_in(folder.path()) };
    Box::new(ParquetSink::create("rows.parquet", &context).unwrap()).finish().await.unwrap();
    let file = ParquetFile::open(File::open(folder.path().join("rows-1.parquet")).unwrap()).unwrap();
    assert_eq!(file.schema().unwrap(), context.schema);
    assert!(file.read(&context.schema, None).unwrap().next_rows().unwrap().is_none());
}

#[tokio::test]
async fn a_run_that_fails_leaves_the_last_result_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.parquet"), "before").unwrap();
    let mut sink = ParquetSink::create("rows.parquet", &context_in(folder.path())).unwrap();
    sink.write(&text_batch(&["half"])).await.unwrap();
    drop(sink);
    assert_eq!(std::fs::read(folder.path().join("rows.parquet")).unwrap(), b"before");
}
