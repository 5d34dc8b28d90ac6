//! Files as a source: what is read, by whom, and what is said when it cannot be.

use std::fs;

use super::*;
use crate::record::{Field, Kind, NO_EVENT_TIME, Schema};
use crate::source::testing::{context, read_to_end};
use crate::source::{Source, SourceEvent};

#[tokio::test]
async fn lines_come_in_order_without_a_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("in.txt"), "one\ntwo\r\n\nfour").unwrap();
    let mut source = open("in.txt", false, context(folder.path())).unwrap();
    assert_eq!(source.partitions(), [0]);
    let told = read_to_end(&mut source).await;
    assert_eq!(told.values(), ["one", "two", "", "four"]);
    assert!(told.rows.iter().all(|(partition, _, time)| *partition == 0 && *time == NO_EVENT_TIME));
    assert_eq!(told.ended, [0]);
    assert!(matches!(source.next().await, Ok(SourceEvent::End)), "it says so again");
}

#[tokio::test]
async fn many_lines_come_as_full_batches() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 100_000;
    let lines: String = (0..rows).map(|i| format!("line {i} {}\n", "x".repeat(i % 50))).collect();
    fs::write(folder.path().join("in.txt"), lines).unwrap();
    let mut source = open("in.txt", false, context(folder.path())).unwrap();
    let mut sizes = Vec::new();
    let mut next = 0;
    loop {
        match source.next().await.unwrap() {
            SourceEvent::End => break,
            SourceEvent::Batch { batch, .. } => {
                use arrow_array::cast::AsArray;
                for value in batch.column(0).as_string::<i32>() {
                    assert_eq!(value.unwrap(), format!("line {next} {}", "x".repeat(next % 50)));
                    next += 1;
                }
                sizes.push(batch.rows());
            }
            _ => {}
        }
    }
    assert_eq!(next, rows);
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.iter().all(|size| *size == crate::limits::BATCH_ROWS), "{sizes:?}");
    assert!(*last <= crate::limits::BATCH_ROWS);
}

#[tokio::test]
async fn matching_files_are_partitions_shared_by_the_subtasks() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["c", "a", "b"] {
        fs::write(folder.path().join(format!("{name}.txt")), format!("{name}1\n{name}2\n")).unwrap();
    }
    let mut all = Vec::new();
    for subtask in 0..2 {
        let context = SourceContext { subtask, parallelism: 2, ..context(folder.path()) };
        let told = read_to_end(&mut open("*.txt", false, context).unwrap()).await;
        all.push(told.rows.into_iter().map(|(partition, value, _)| format!("{partition} {value}")).collect::<Vec<_>>());
    }
    assert_eq!(all, [vec!["0 a1", "0 a2", "2 c1", "2 c2"], vec!["1 b1", "1 b2"]]);
}

#[tokio::test]
async fn a_subtask_without_a_file_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("in.txt"), "one\n").unwrap();
    let mut source =
        open("in.txt", false, SourceContext { subtask: 1, parallelism: 2, ..context(folder.path()) }).unwrap();
    assert!(source.partitions().is_empty());
    assert!(matches!(source.next().await, Ok(SourceEvent::End)));
}

#[test]
fn a_file_that_is_not_there_is_named_when_the_source_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["no.txt", "*.txt"] {
        let error = open(path, false, context(folder.path())).err().unwrap().to_string();
        let expected = format!("source `input`: no file matches `{}`; ", folder.path().join(path).display());
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn every_csv_file_may_begin_with_a_header() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(folder.path().join(format!("{name}.csv")), format!("value\n{name}1\n{name}2\n")).unwrap();
    }
    let context = SourceContext { format: Some(Format::Csv), ..context(folder.path()) };
    let told = read_to_end(&mut open("*.csv", true, context.clone()).unwrap()).await;
    assert_eq!(told.values(), ["a1", "a2", "b1", "b2"]);
    let told = read_to_end(&mut open("a.csv", false, context).unwrap()).await;
    assert_eq!(told.values(), ["value", "a1", "a2"]);
}

#[tokio::test]
async fn rows_take_their_time_from_a_column_and_those_without_one_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ["{\"value\":\"a\",\"at\":5}", "{\"value\":\"b\"}", "no json", "{\"value\":\"d\",\"at\":-7}"];
    fs::write(folder.path().join("in.json"), lines.join("\n")).unwrap();
    for kind in [Kind::TimestampMs, Kind::Int64] {
        let schema = Schema::new([Field::new("value", Kind::Text), Field::new("at", kind).nullable()]);
        let (format, wanted) = (Some(Format::Json), schema.clone());
        let context = SourceContext { format, schema, wanted, event_time: Some(1), ..context(folder.path()) };
        let told = read_to_end(&mut open("in.json", false, context).unwrap()).await;
        assert_eq!(told.rows, [(0, "a".to_owned(), 5), (0, "d".to_owned(), -7)]);
        let mut bad = told.bad;
        bad.sort_by_key(|bad| bad.offset);
        let found: Vec<_> = bad.iter().map(|bad| (bad.index, bad.offset, bad.bytes.as_slice())).collect();
        assert_eq!(found, [(1, 21, lines[1].as_bytes()), (2, 35, lines[2].as_bytes())]);
        assert!(bad[0].reason.contains("event time `at` is missing or null"), "{}", bad[0].reason);
    }
}

#[test]
fn an_empty_folder_is_no_input() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let error = open("in/", false, context(folder.path())).err().unwrap().to_string();
    assert!(error.contains("no file matches `") && error.contains("a folder with files"), "{error}");
}

#[tokio::test]
async fn a_folder_is_read_file_by_file_each_with_its_header() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for name in ["b", "c", "a"] {
        fs::write(folder.path().join(format!("in/{name}.csv")), format!("value\n{name}1\n{name}2\n")).unwrap();
    }
    for path in ["in", "in/", "in/*.csv"] {
        let context = SourceContext { format: Some(Format::Csv), ..context(folder.path()) };
        let told = read_to_end(&mut open(path, true, context).unwrap()).await;
        assert_eq!(told.values(), ["a1", "a2", "b1", "b2", "c1", "c2"], "{path}");
        assert_eq!(told.ended, [0, 1, 2], "{path}");
    }
}

#[tokio::test]
async fn a_dropped_source_stops_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.txt");
    fs::write(&path, "line\n".repeat(1_000_000)).unwrap();
    let mut source = open("in.txt", false, context(folder.path())).unwrap();
    let _ = source.next().await.unwrap();
    drop(source);
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    for _ in 0..500 {
        if !open_files().any(|target| target == path) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the reader still holds its file");
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..50_000).map(|i| format!("{i}\n")).collect();
    fs::write(folder.path().join("in.txt"), &lines).unwrap();
    let mut source = open("in.txt", false, context(folder.path())).unwrap();
    let mut told = crate::source::testing::Told::default();
    loop {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            event = source.next() => match event.unwrap() {
                SourceEvent::End => break,
                event => told.add(event),
            },
        }
    }
    let expected: Vec<&str> = lines.lines().collect();
    assert_eq!(told.values(), expected);
}

/// Reads from where the checkpoint of the last reading left off, to the end; what is read, and where it stands then.
async fn read_on(folder: &Path, format: Format, restore: &mut Vec<Position>) -> Result<Vec<String>, String> {
    let positions = (!restore.is_empty()).then(|| std::sync::Arc::new(restore.iter().cloned().collect()));
    let context = SourceContext { format: Some(format), restore: positions, ..context(folder) };
    let mut source = open("*.txt", false, context).map_err(|error| error.to_string())?;
    let told = read_to_end(&mut source).await;
    *restore = source.positions().into_iter().map(|(_, position)| position).collect();
    Ok(told.values().into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn what_is_appended_after_the_end_is_read_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.txt");
    let mut at = Vec::new();
    let steps: [(&str, &[&str]); 6] = [
        ("one\ntwo\n", &["one", "two"]),
        ("one\ntwo\n", &[]),
        ("one\ntwo\nthree\nfour", &["three", "four"]),
        // the line end of `four` has come: it is not an empty line
        ("one\ntwo\nthree\nfour\n", &[]),
        ("one\ntwo\nthree\nfour\nfive\n\n", &["five", ""]),
        ("one\ntwo\nthree\nfour\nfive\n\nsix\n", &["six"]),
    ];
    for (content, expected) in steps {
        fs::write(&path, content).unwrap();
        assert_eq!(read_on(folder.path(), Format::Text, &mut at).await.unwrap(), expected, "{content:?}");
        assert!(at.iter().all(|position| position.ended && position.next == content.len() as u64), "{at:?}");
    }
    fs::write(&path, "one\ntwo\n").unwrap();
    let error = read_on(folder.path(), Format::Text, &mut at).await.unwrap_err();
    assert!(error.contains("has 8 bytes, but 29 of it"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("new.txt"), "new\n").unwrap();
    assert_eq!(read_on(folder.path(), Format::Text, &mut at).await.unwrap(), ["new"], "a finished file may go");
}

#[tokio::test]
async fn a_line_that_was_taken_without_its_end_must_not_be_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.txt");
    let mut at = Vec::new();
    fs::write(&path, "one\ntw").unwrap();
    assert_eq!(read_on(folder.path(), Format::Text, &mut at).await.unwrap(), ["one", "tw"]);
    fs::write(&path, "one\ntwo\n").unwrap();
    let error = read_on(folder.path(), Format::Text, &mut at).await.unwrap_err();
    assert!(error.contains("ended at byte 6") && error.contains("end lines before"), "{error}");
    fs::write(&path, "one\ntw\r\nthree\r\n").unwrap();
    assert_eq!(read_on(folder.path(), Format::Text, &mut at).await.unwrap(), ["three"]);
}

#[tokio::test]
async fn messagepack_needs_no_line_ends() {
    let folder = tempfile::tempdir().unwrap();
    let record = b"\x81\xa5value\xa1a";
    let mut at = Vec::new();
    for times in 1..4 {
        fs::write(folder.path().join("in.txt"), record.repeat(times)).unwrap();
        assert_eq!(read_on(folder.path(), Format::Msgpack, &mut at).await.unwrap(), ["a"]);
    }
}
