//! What is visible when, and what a repeated commit does.

use std::fs;

use super::*;
use crate::sink::testing::{context, text_batch};

fn open(folder: &Path, attempt: &str, next: u64) -> PartsSink {
    let context = SinkContext { base: folder.to_owned(), ..context("text") };
    PartsSink::create("out/rows.txt", &context, &SinkEpochs { attempt: attempt.to_owned(), next, transactions: None })
        .unwrap()
}

fn visible(folder: &Path) -> Vec<String> {
    let mut names = names_in(&folder.join("out")).unwrap();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[tokio::test]
async fn rows_become_visible_with_the_commit_of_their_epoch_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), "a", 7);
    sink.write(&text_batch(&["a", "b"])).await.unwrap();
    let first = sink.prepare(7).await.unwrap().unwrap();
    assert_eq!(sink.prepare(8).await.unwrap(), None, "an epoch without rows has no part");
    sink.write(&text_batch(&["c"])).await.unwrap();
    let third = sink.prepare(9).await.unwrap().unwrap();
    assert!(visible(folder.path()).is_empty());
    for _ in 0..2 {
        commit("out", folder.path(), &first).unwrap();
        assert_eq!(visible(folder.path()), ["rows-0000000007-0.txt"]);
    }
    commit("out", folder.path(), &third).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("out/rows-0000000007-0.txt")).unwrap(), "a\nb\n");
    assert_eq!(fs::read_to_string(folder.path().join("out/rows-0000000009-0.txt")).unwrap(), "c\n");
    assert_eq!(last_committed("out", &folder.path().join("out/rows.txt")).unwrap(), Some(9));
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_a_part_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), "a", 1);
    sink.write(&text_batch(&["a"])).await.unwrap();
    let prepared = sink.prepare(1).await.unwrap().unwrap();
    fs::write(folder.path().join("out/.other-0000000001-0.txt.a.pending"), "of another sink").unwrap();
    let _next = open(folder.path(), "b", 2);
    assert_eq!(names_in(&folder.path().join("out")).unwrap().len(), 2, "opening removes nothing");
    remove_stale("out", &folder.path().join("out/rows.txt"), "a").unwrap();
    assert_eq!(names_in(&folder.path().join("out")).unwrap().len(), 2, "its own stay");
    remove_stale("out", &folder.path().join("out/rows.txt"), "b").unwrap();
    assert_eq!(names_in(&folder.path().join("out")).unwrap(), [".other-0000000001-0.txt.a.pending"]);
    let error = commit("out", folder.path(), &prepared).unwrap_err().to_string();
    assert!(error.contains("rows-0000000001-0.txt") && error.contains("--fresh"), "{error}");
    assert_eq!(last_committed("out", &folder.path().join("out/rows.txt")).unwrap(), None);
}

#[tokio::test]
async fn a_part_that_cannot_be_made_is_tried_again_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), "a", 1);
    let out = folder.path().join("out");
    fs::remove_dir(&out).unwrap();
    fs::write(&out, "in the way").unwrap();
    let rows = text_batch(&["a", "b"]);
    let write = async {
        sink.write(&rows).await.unwrap();
        sink.flush().await.unwrap();
    };
    let clear = async {
        tokio::time::sleep(RETRY_FIRST * 2).await;
        fs::remove_file(&out).unwrap();
    };
    tokio::join!(write, clear);
    sink.write(&text_batch(&["c"])).await.unwrap();
    let prepared = sink.prepare(1).await.unwrap().unwrap();
    commit("out", folder.path(), &prepared).unwrap();
    assert_eq!(fs::read_to_string(out.join("rows-0000000001-0.txt")).unwrap(), "a\nb\nc\n");
}

#[tokio::test]
async fn what_waiting_cannot_help_ends_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), "a", 1);
    fs::create_dir(folder.path().join("out/.rows-0000000001-0.txt.a.pending")).unwrap();
    sink.write(&text_batch(&["a"])).await.unwrap();
    let error = sink.flush().await.unwrap_err().to_string();
    assert!(error.contains("cannot create") && error.contains("pending"), "{error}");
}

/// A disk with room for so many bytes.
struct Small {
    disk: io::Cursor<Vec<u8>>,
    room: usize,
}

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.room.saturating_sub(usize::try_from(self.disk.position()).unwrap());
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.write(&bytes[..bytes.len().min(left)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Small {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

#[test]
fn half_a_write_on_a_full_disk_is_written_over() {
    let mut file = Small { disk: io::Cursor::default(), room: 7 };
    write_at(&mut file, 0, b"first\n").unwrap();
    let error = write_at(&mut file, 6, b"second\n").unwrap_err();
    assert!(may_pass(&error), "{error}");
    file.room = 100;
    write_at(&mut file, 6, b"second\n").unwrap();
    assert_eq!(file.disk.into_inner(), b"first\nsecond\n");
}
