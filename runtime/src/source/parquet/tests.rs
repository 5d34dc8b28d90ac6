//! Parquet files as a source.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::*;
use crate::format::{Format, ParquetWriter};
use crate::record::{Field, Kind};
use crate::source::testing::{context, read_to_end};

fn schema() -> Schema {
    Schema::new([
        Field::new("value", Kind::Text),
        Field::new("at", Kind::Int64).nullable(),
        Field::new("more", Kind::Int64),
    ])
}

fn write(path: &Path, schema: &Schema, values: &[(&str, Option<i64>)]) {
    let mut writer = ParquetWriter::new(File::create(path).unwrap(), schema).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(values.iter().map(|(value, _)| value))),
        Arc::new(Int64Array::from_iter(values.iter().map(|(_, at)| *at))),
        Arc::new(Int64Array::from_iter_values(0..values.len() as i64)),
    ];
    writer.write(RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()).unwrap();
    writer.finish().unwrap();
}

/// Wants `value` and, as event time, `at`.
fn parquet_context(folder: &Path) -> SourceContext {
    let wanted = Schema::new(schema().fields()[..2].to_vec());
    SourceContext { format: Some(Format::Parquet), schema: schema(), wanted, event_time: Some(1), ..context(folder) }
}

#[tokio::test]
async fn files_are_shared_among_subtasks_and_rows_without_a_time_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["c", "a", "b"] {
        let rows = [("1", Some(1)), ("2", None), ("3", Some(-3))].map(|(row, at)| (format!("{name}{row}"), at));
        let rows: Vec<_> = rows.iter().map(|(value, at)| (value.as_str(), *at)).collect();
        write(&folder.path().join(format!("{name}.parquet")), &schema(), &rows);
    }
    let mut all = Vec::new();
    for subtask in 0..2 {
        let context = SourceContext { subtask, parallelism: 2, ..parquet_context(folder.path()) };
        let told = read_to_end(&mut open("*.parquet", &context).unwrap()).await;
        all.push(told.rows.iter().map(|(p, value, at)| format!("{p} {value} {at}")).collect::<Vec<_>>());
        assert!(told.bad.iter().all(|bad| bad.offset == 1 && bad.reason.contains("event time `at`")), "{:?}", told.bad);
        assert_eq!(told.bad.len(), told.ended.len());
    }
    assert_eq!(all, [vec!["0 a1 1", "0 a3 -3", "2 c1 1", "2 c3 -3"], vec!["1 b1 1", "1 b3 -3"]]);
}

#[test]
fn the_schema_is_that_of_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let strict = Schema::new(
        schema().fields().iter().map(|field| Field { nullable: false, ..field.clone() }).collect::<Vec<_>>(),
    );
    write(&folder.path().join("a.parquet"), &strict, &[("a", Some(1))]);
    write(&folder.path().join("b.parquet"), &schema(), &[("b", None)]);
    let context = parquet_context(folder.path());
    assert_eq!(super::schema("*.parquet", &context).unwrap(), schema());
    let other =
        Schema::new([Field::new("value", Kind::Text), Field::new("at", Kind::Int64), Field::new("other", Kind::Int64)]);
    write(&folder.path().join("c.parquet"), &other, &[("c", Some(1))]);
    let error = super::schema("*.parquet", &context).unwrap_err().to_string();
    assert!(error.contains("c.parquet`: no column `more` in the file; it has value"), "{error}");
}

#[test]
fn a_file_that_does_not_fit_is_told_before_any_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), &schema(), &[("a", Some(1))]);
    let wanted = Schema::new([Field::new("value", Kind::Int64)]);
    let context = SourceContext { wanted, event_time: None, ..parquet_context(folder.path()) };
    let error = open("a.parquet", &context).err().unwrap().to_string();
    assert!(error.starts_with("source `input`: cannot read `"), "{error}");
    assert!(error.ends_with("a.parquet`: column `value` is declared as int64, but the file holds text"), "{error}");
    std::fs::write(folder.path().join("a.parquet"), "no parquet here").unwrap();
    assert!(open("a.parquet", &context).is_err());
}

#[tokio::test]
async fn a_dropped_source_stops_its_reader_and_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let many: Vec<(&str, Option<i64>)> = vec![("row", Some(1)); 200_000];
    write(&path, &schema(), &many);
    let mut source = open("a.parquet", &parquet_context(folder.path())).unwrap();
    let SourceEvent::Batch { batch, .. } = source.next().await.unwrap() else { panic!("no rows") };
    assert!(batch.rows() <= crate::limits::BATCH_ROWS);
    assert_eq!(batch.columns().num_columns(), 2);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 1);
    drop(source);
    let open_files =
        || std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    for _ in 0..500 {
        if !open_files().any(|target| target == path) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the reader still holds its file");
}
