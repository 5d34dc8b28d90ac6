//! What is on the disk at which moment.

use std::fs;

use super::*;
use crate::sink::testing::{context, text_batch};

fn context_in(folder: &Path) -> SinkContext {
    SinkContext { base: folder.to_owned(), ..context("text") }
}

#[tokio::test]
async fn a_file_appears_whole_when_the_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FileSink::create("new/folder/rows.txt", &context_in(folder.path())).unwrap();
    sink.write(&text_batch(&["a", "b"])).await.unwrap();
    let (path, pending) =
        (folder.path().join("new/folder/rows.txt"), folder.path().join("new/folder/rows.txt.pending"));
    assert!(!path.exists());
    sink.flush().await.unwrap();
    assert_eq!(fs::read_to_string(&pending).unwrap(), "a\nb\n");
    sink.write(&text_batch(&["c"])).await.unwrap();
    Box::new(sink).finish().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
    assert!(!pending.exists());
}

#[tokio::test]
async fn a_run_that_fails_leaves_the_last_result_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.txt"), "before\n").unwrap();
    for _ in 0..2 {
        let mut sink = FileSink::create("rows.txt", &context_in(folder.path())).unwrap();
        sink.write(&text_batch(&["half"])).await.unwrap();
        sink.flush().await.unwrap();
    }
    assert_eq!(fs::read_to_string(folder.path().join("rows.txt")).unwrap(), "before\n");
    assert_eq!(fs::read_to_string(folder.path().join("rows.txt.pending")).unwrap(), "half\n", "not twice");
}

#[tokio::test]
async fn an_input_without_rows_makes_an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::create("rows.txt", &context_in(folder.path())).unwrap();
    Box::new(sink).finish().await.unwrap();
    assert_eq!(fs::read(folder.path().join("rows.txt")).unwrap(), b"");
}

#[tokio::test]
async fn large_results_are_written_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FileSink::create("rows.txt", &context_in(folder.path())).unwrap();
    let line = "x".repeat(1_000);
    for _ in 0..300 {
        sink.write(&text_batch(&[&line, &line])).await.unwrap();
    }
    let pending = fs::metadata(folder.path().join("rows.txt.pending")).unwrap().len();
    assert!(pending >= WRITE_BYTES as u64, "{pending}");
    Box::new(sink).finish().await.unwrap();
    assert_eq!(fs::metadata(folder.path().join("rows.txt")).unwrap().len(), 600 * 1_001);
}

#[test]
fn each_of_several_tasks_has_a_file() {
    assert_eq!(subtask_path(Path::new("out/rows.json"), 0, 1), Path::new("out/rows.json"));
    assert_eq!(subtask_path(Path::new("out/rows.json"), 2, 3), Path::new("out/rows-2.json"));
    assert_eq!(subtask_path(Path::new("rows"), 0, 2), Path::new("rows-0"));
}

#[test]
fn messages_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = FileSink::create("file/rows.txt", &context_in(folder.path())).err().unwrap().to_string();
    assert!(error.starts_with("sink `out`: cannot create the folder `") && error.contains("/file`: "), "{error}");
    fs::create_dir(folder.path().join("folder")).unwrap();
    let error = FileSink::create("folder", &context_in(folder.path())).err().unwrap().to_string();
    assert!(error.contains("cannot write to `") && error.contains("/folder`: "), "{error}");
}
