//! What files of all sorts become, and that what is written is read back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::format::{Encoder, Format, Frames};
use crate::record::{Kind, Schema};

/// Writes columns as another program would.
struct Foreign<'a> {
    group: SerializedRowGroupWriter<'a, File>,
}

impl Foreign<'_> {
    fn column<T: DataType>(&mut self, values: &[T::T]) -> &mut Self {
        self.nullable::<T>(values, None)
    }

    fn nullable<T: DataType>(&mut self, values: &[T::T], levels: Option<&[i16]>) -> &mut Self {
        let mut column: SerializedColumnWriter<'_> = self.group.next_column().unwrap().unwrap();
        column.typed::<T>().write_batch(values, levels, None).unwrap();
        column.close().unwrap();
        self
    }
}

fn foreign(folder: &Path, message: &str, groups: &[&dyn Fn(&mut Foreign<'_>)]) -> PathBuf {
    foreign_with(folder, message, WriterProperties::default(), groups)
}

fn foreign_with(
    folder: &Path,
    message: &str,
    properties: WriterProperties,
    groups: &[&dyn Fn(&mut Foreign<'_>)],
) -> PathBuf {
    let path = folder.join("in.parquet");
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {message} }}")).unwrap());
    let mut file = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::new(properties)).unwrap();
    for write in groups {
        let mut foreign = Foreign { group: file.next_row_group().unwrap() };
        write(&mut foreign);
        foreign.group.close().unwrap();
    }
    file.close().unwrap();
    path
}

fn open(path: &Path) -> ParquetFile {
    ParquetFile::open(File::open(path).unwrap()).unwrap()
}

/// All rows as JSON, and the bad ones.
fn read(path: &Path, wanted: &Schema, event_time: Option<usize>) -> (Vec<String>, Vec<crate::format::BadRecord>) {
    let mut reader = open(path).read(wanted, event_time).unwrap();
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    while let Some(read) = reader.next_rows().unwrap() {
        assert_eq!(read.columns.schema(), *wanted.arrow());
        rows.extend(lines(wanted, &read.columns));
        bad.extend(read.bad);
    }
    (rows, bad)
}

fn lines(schema: &Schema, rows: &RecordBatch) -> Vec<String> {
    let mut frames = Frames::default();
    Encoder::new(Format::Json, schema).unwrap().encode(rows, &mut frames).unwrap();
    (0..frames.len()).map(|row| String::from_utf8(frames.get(row).to_vec()).unwrap()).collect()
}

#[test]
fn types_of_other_programs_become_our_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let message = "required boolean b; required int32 i; required int32 u (UINT_32); required int32 d (DATE); \
                   required int64 ms (TIMESTAMP_MILLIS); required int64 us (TIMESTAMP_MICROS); \
                   required int64 ns (TIMESTAMP(NANOS,true)); required int96 old; required float f; required double g; \
                   required binary t (UTF8); required binary r; required fixed_len_byte_array(2) x;";
    let mut old = Int96::new();
    // nanoseconds of the day, then the Julian day: half a second after 1970 began
    old.set_data(500_000_000, 0, 2_440_588);
    let path = foreign(
        folder.path(),
        message,
        &[&|group| {
            group.column::<BoolType>(&[true]).column::<Int32Type>(&[-7]).column::<Int32Type>(&[-1]);
            group.column::<Int32Type>(&[-1]).column::<Int64Type>(&[-5]).column::<Int64Type>(&[-1]);
            group.column::<Int64Type>(&[1_999_999]).column::<Int96Type>(&[old]);
            group.column::<FloatType>(&[0.5]).column::<DoubleType>(&[1e300]);
            group.column::<ByteArrayType>(&[ByteArray::from("ü")]).column::<ByteArrayType>(&[vec![0, 255].into()]);
            group.column::<FixedLenByteArrayType>(&[FixedLenByteArray::from(vec![1, 2])]);
        }],
    );
    let schema = open(&path).schema().unwrap();
    assert_eq!(
        schema.to_string(),
        "b: boolean, i: int64, u: int64, d: timestamp_ms, ms: timestamp_ms, us: timestamp_ms, ns: timestamp_ms, \
         old: timestamp_ms, f: float64, g: float64, t: text, r: binary, x: binary"
    );
    let (rows, _) = read(&path, &schema, None);
    assert_eq!(
        rows,
        ["{\"b\":true,\"i\":-7,\"u\":4294967295,\"d\":-86400000,\"ms\":-5,\"us\":-1,\"ns\":1,\"old\":500,\"f\":0.5,\
          \"g\":1e+300,\"t\":\"ü\",\"r\":\"AP8=\",\"x\":\"AQI=\"}"]
    );
}

#[test]
fn columns_of_no_kind_are_in_the_way_only_where_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let message = "required int64 id; required int64 big (UINT_64); required int32 price (DECIMAL(9,2)); \
                   optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }";
    let path = foreign(folder.path(), message, &[]);
    let error = open(&path).schema().unwrap_err().to_string();
    assert!(error.starts_with("column `big` is INT64 (UINT_64), which is none of the kinds"), "{error}");
    for (column, found) in [("price", "INT32 (DECIMAL)"), ("tags", "a group of columns")] {
        let error = open(&path).read(&Schema::new([Field::new(column, Kind::Int64)]), None).err().unwrap();
        assert_eq!(error, ParquetError::Unsupported { column: column.into(), found: found.into() });
    }
    let id = Schema::new([Field::new("id", Kind::Int64)]);
    assert!(open(&path).read(&id, None).unwrap().next_rows().unwrap().is_none());
}

#[test]
fn what_is_declared_must_be_what_the_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let message = "required int64 at; required binary bytes; required binary text (UTF8); required double x;";
    let path = foreign(folder.path(), message, &[]);
    let try_one = |name: &str, kind| open(&path).read(&Schema::new([Field::new(name, kind)]), None).err();
    for (name, kind) in [
        ("at", Kind::Int64),
        ("at", Kind::TimestampMs),
        ("bytes", Kind::Text),
        ("text", Kind::Binary),
        ("x", Kind::Float64),
    ] {
        assert_eq!(try_one(name, kind), None, "{name} as {kind}");
    }
    let error = try_one("x", Kind::Int64).unwrap().to_string();
    assert_eq!(error, "column `x` is declared as int64, but the file holds float64");
    let error = try_one("y", Kind::Int64).unwrap().to_string();
    assert_eq!(error, "no column `y` in the file; it has at: int64, bytes: binary, text: text, x: float64");
}

#[test]
fn rows_that_are_null_where_they_must_not_be_are_bad_with_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let write = |group: &mut Foreign<'_>| {
        group.nullable::<Int64Type>(&[1, 3], Some(&[1, 0, 1]));
        group.nullable::<Int64Type>(&[10, 20], Some(&[1, 1, 0]));
    };
    let path = foreign(folder.path(), "optional int64 id; optional int64 at;", &[&write, &write]);
    let schema = Schema::new([Field::new("id", Kind::Int64), Field::new("at", Kind::TimestampMs).nullable()]);
    let (rows, bad) = read(&path, &schema, None);
    let all = ["{\"id\":1,\"at\":10}", "{\"id\":3,\"at\":null}", "{\"id\":1,\"at\":10}", "{\"id\":3,\"at\":null}"];
    assert_eq!(rows, all);
    assert_eq!(bad.iter().map(|bad| bad.offset).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(bad[1].bytes, b"{\"id\":null,\"at\":20}");
    assert!(bad[1].reason.contains("column `id`: expected int64, got null"), "{}", bad[1].reason);
    let (rows, bad) = read(&path, &schema, Some(1));
    assert_eq!(rows.len(), 2);
    assert_eq!(bad.len(), 4);
    assert!(bad[1].reason.contains("event time `at` is missing"), "{}", bad[1].reason);
}

#[test]
fn only_rows_matter_where_no_column_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let write = |group: &mut Foreign<'_>| {
        let _ = group.column::<Int64Type>(&vec![5; 3_000]);
    };
    let path = foreign(folder.path(), "required int64 id;", &[&write, &write]);
    let mut reader = open(&path).read(&Schema::new([]), None).unwrap();
    let mut rows = 0;
    while let Some(read) = reader.next_rows().unwrap() {
        rows += read.columns.num_rows();
    }
    assert_eq!(rows, 6_000);
}

#[test]
fn large_values_make_small_batches() {
    let folder = tempfile::tempdir().unwrap();
    let value = ByteArray::from(vec![b'x'; 100_000]);
    let write = |group: &mut Foreign<'_>| {
        let _ = group.column::<ByteArrayType>(&vec![value.clone(); 2_000]);
    };
    let path = foreign(folder.path(), "required binary text (UTF8);", &[&write]);
    let mut reader = open(&path).read(&Schema::new([Field::new("text", Kind::Text)]), None).unwrap();
    let mut sizes = Vec::new();
    while let Some(read) = reader.next_rows().unwrap() {
        sizes.push(read.columns.num_rows());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 2_000);
    assert!(sizes.iter().skip(1).all(|rows| *rows < 50), "{sizes:?}");
}

#[test]
fn compressions_are_undone() {
    use parquet::basic::Compression;
    let folder = tempfile::tempdir().unwrap();
    let write = |group: &mut Foreign<'_>| {
        let _ = group.column::<Int64Type>(&vec![7; 5_000]);
    };
    for codec in
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(Default::default()), Compression::LZ4_RAW]
    {
        let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(false).build();
        let path = foreign_with(folder.path(), "required int64 id;", properties, &[&write]);
        let (rows, _) = read(&path, &Schema::new([Field::new("id", Kind::Int64)]), None);
        assert_eq!(rows, vec!["{\"id\":7}"; 5_000], "{codec}");
    }
}

#[test]
fn broken_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let write = |group: &mut Foreign<'_>| {
        group.nullable::<Int64Type>(&[1, 2], Some(&[1, 0, 1]));
        group.column::<ByteArrayType>(&["a".into(), "b".into(), "c".into()]);
    };
    let path = foreign(folder.path(), "optional int64 id; required binary text (UTF8);", &[&write]);
    let sound = fs::read(&path).unwrap();
    let schema = Schema::new([Field::new("id", Kind::Int64).nullable(), Field::new("text", Kind::Text)]);
    let (mut refused, mut read_well) = (0, 0);
    for place in 0..sound.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut broken = sound.clone();
            broken[place] ^= flip;
            fs::write(&path, &broken).unwrap();
            let opened = ParquetFile::open(File::open(&path).unwrap()).and_then(|file| file.read(&schema, None));
            match opened.and_then(|mut reader| reader.next_rows()) {
                Ok(_) => read_well += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && read_well > 0, "{refused} refused, {read_well} read");
    for bytes in [&b""[..], b"{\"id\":1}\n{\"id\":2}\n"] {
        fs::write(&path, bytes).unwrap();
        let error = ParquetFile::open(File::open(&path).unwrap()).err().unwrap().to_string();
        assert!(error.starts_with("not a whole Parquet file: "), "{error}");
    }
}

/// Rows of all kinds with nulls, by way of JSON.
fn batch(schema: &Schema, json: &[String]) -> RecordBatch {
    let mut frames = Frames::default();
    json.iter().for_each(|line| frames.push(line.as_bytes(), 0));
    let decoded = crate::format::Decoder::new(Format::Json, schema, schema, false).unwrap().decode(&mut frames);
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    decoded.columns
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(
        rows in proptest::collection::vec(
            (any::<bool>(), proptest::option::of(any::<i64>()), proptest::option::of(-1e9..1e9_f64),
             proptest::option::of("[a-zü\\\\ ]{0,8}"), -1_000..1_000_i64),
            0..300,
        ),
        parts in 1..5_usize,
    ) {
        let schema = Schema::new([
            Field::new("flag", Kind::Boolean),
            Field::new("number", Kind::Int64).nullable(),
            Field::new("ratio", Kind::Float64).nullable(),
            Field::new("name", Kind::Text).nullable(),
            Field::new("at", Kind::TimestampMs),
        ]);
        let json: Vec<String> = rows
            .iter()
            .map(|(flag, number, ratio, name, at)| {
                serde_json::json!({"flag": flag, "number": number, "ratio": ratio, "name": name, "at": at}).to_string()
            })
            .collect();
        let all = batch(&schema, &json);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let mut writer = ParquetWriter::new(File::create(&path).unwrap(), &schema).unwrap();
        let step = all.num_rows().div_ceil(parts).max(1);
        for start in (0..all.num_rows()).step_by(step) {
            writer.write(all.slice(start, step.min(all.num_rows() - start))).unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(open(&path).schema().unwrap(), schema.clone());
        let (found, bad) = read(&path, &schema, None);
        prop_assert!(bad.is_empty());
        prop_assert_eq!(found, lines(&schema, &all));
        let columns = Schema::new([schema.fields()[4].clone(), schema.fields()[1].clone()]);
        let (found, _) = read(&path, &columns, None);
        prop_assert_eq!(found.len(), all.num_rows());
    }
}

#[test]
fn many_rows_make_several_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    let schema = Schema::new([Field::new("id", Kind::Int64)]);
    let mut writer = ParquetWriter::new(File::create(&path).unwrap(), &schema).unwrap();
    let json: Vec<String> = (0..8_192).map(|id| format!("{{\"id\":{id}}}")).collect();
    let rows = batch(&schema, &json);
    for _ in 0..40 {
        writer.write(rows.clone()).unwrap();
    }
    writer.finish().unwrap();
    let (found, _) = read(&path, &schema, None);
    assert_eq!(found.len(), 40 * 8_192);
    assert_eq!(found[8_192 * 39 + 17], "{\"id\":17}");
    use parquet::file::reader::{FileReader, SerializedFileReader};
    assert_eq!(SerializedFileReader::new(File::open(&path).unwrap()).unwrap().num_row_groups(), 3);
}
