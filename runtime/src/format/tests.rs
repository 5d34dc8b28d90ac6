//! What holds for all formats: what is encoded is decoded, text and raw move their bytes, wrong schemas are refused.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::record::{Field, Kind, Schema};

fn schema() -> Schema {
    Schema::new(Kind::ALL.map(|kind| Field::new(format!("a \"{kind}\"\n"), kind).nullable()))
}

type Row = (Option<bool>, Option<i64>, Option<f64>, Option<String>, Option<Vec<u8>>, Option<i64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.3.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.4.clone()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.5).collect::<TimestampMillisecondArray>()),
    ];
    RecordBatch::try_new(schema().arrow().clone(), columns).unwrap()
}

fn encode(format: Format, schema: &Schema, batch: &RecordBatch) -> Frames {
    let mut frames = Frames::default();
    Encoder::new(format, schema).unwrap().encode(batch, &mut frames).unwrap();
    frames
}

fn frames(records: &[&[u8]]) -> Frames {
    let mut frames = Frames::default();
    records.iter().for_each(|record| frames.push(record, 7));
    frames
}

fn value(kind: Kind) -> Schema {
    Schema::new([Field::new("value", kind)])
}

#[test]
fn json_writes_all_columns_in_order_with_times_as_numbers() {
    let rows = [
        (Some(true), Some(-5), Some(1.0), Some("a\"\\\n\u{1}é".into()), Some(b"fo".to_vec()), Some(-1)),
        (None, None, Some(f64::NAN), None, None, None),
    ];
    let frames = encode(Format::Json, &schema(), &batch(&rows));
    let expected = concat!(
        r#"{"a \"boolean\"\n":true,"a \"int64\"\n":-5,"a \"float64\"\n":1.0,"a \"text\"\n":"a\"\\\n\u0001é","#,
        r#""a \"binary\"\n":"Zm8=","a \"timestamp_ms\"\n":-1}"#
    );
    assert_eq!(String::from_utf8_lossy(frames.get(0)), expected);
    let nulls: serde_json::Value = serde_json::from_slice(frames.get(1)).unwrap();
    assert!(
        nulls.as_object().unwrap().len() == 6 && nulls.as_object().unwrap().values().all(serde_json::Value::is_null)
    );
}

#[test]
fn records_are_appended_to_what_is_there_and_taken_back_on_an_error() {
    let (mut frames, schema) = (frames(&[b"before"]), value(Kind::Int64));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_new(schema.arrow().clone(), vec![column]).unwrap();
    Encoder::new(Format::Csv, &schema).unwrap().encode(&batch, &mut frames).unwrap();
    assert_eq!((&frames.bytes[..], &frames.ends[..]), (&b"before12"[..], &[6, 7, 8][..]));
    let mut other = Encoder::new(Format::Csv, &value(Kind::Text)).unwrap();
    let error = other.encode(&batch, &mut frames).unwrap_err();
    assert_eq!(error.to_string(), "expected column `value: text` at position 0 of the batch, got Int64");
    assert_eq!(frames.len(), 3);
}

#[test]
fn text_and_raw_move_their_bytes_and_refuse_only_rows_that_are_not_utf8() {
    let mut good = frames(&[b"a", b"", "é".as_bytes()]);
    let bytes = good.bytes.as_ptr();
    let text = value(Kind::Text);
    let decoded = Decoder::new(Format::Text, &text, &text, false).unwrap().decode(&mut good);
    assert_eq!(decoded.columns.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "", "é"]);
    assert_eq!(decoded.columns.column(0).as_string::<i32>().values().as_ptr(), bytes);
    assert!(decoded.origin.is_none() && decoded.bad.is_empty());

    // the two halves of é are bad on their own, though the bytes as a whole are UTF-8
    let mut halves = frames(&[b"a", b"\xc3", b"\xa9", b"b"]);
    let decoded = Decoder::new(Format::Text, &text, &text, false).unwrap().decode(&mut halves);
    assert_eq!(decoded.origin, Some(vec![0, 3]));
    assert_eq!((decoded.bad[1].index, decoded.bad[1].offset, &decoded.bad[1].bytes[..]), (2, 7, &b"\xa9"[..]));
    assert!(decoded.bad[0].reason.contains("not UTF-8"));

    let raw = value(Kind::Binary);
    let decoded = Decoder::new(Format::Raw, &raw, &raw, false).unwrap().decode(&mut frames(&[b"\xc3", b"x"]));
    assert_eq!(decoded.columns.column(0).as_binary::<i32>().iter().flatten().collect::<Vec<_>>(), [b"\xc3", b"x"]);

    let none = Schema::new([]);
    for (format, full) in [(Format::Text, &text), (Format::Raw, &raw)] {
        let decoded = Decoder::new(format, full, &none, false).unwrap().decode(&mut frames(&[b"a", b"b"]));
        assert_eq!((decoded.columns.num_rows(), decoded.origin, decoded.bad), (2, None, vec![]));
    }
}

#[test]
fn no_records_make_an_empty_batch_in_every_format() {
    for format in [Format::Json, Format::Msgpack, Format::Csv, Format::Text, Format::Raw] {
        let schema = value(if format == Format::Raw { Kind::Binary } else { Kind::Text });
        let decoded = Decoder::new(format, &schema, &schema, false).unwrap().decode(&mut Frames::default());
        assert_eq!((decoded.columns.num_rows(), decoded.columns.schema()), (0, schema.arrow().clone()));
    }
}

#[test]
fn columns_that_a_format_cannot_have_are_refused_with_what_it_has() {
    let wrong = Schema::new([Field::new("line", Kind::Text)]);
    let error = Decoder::new(Format::Text, &wrong, &wrong, false).err().unwrap().to_string();
    assert_eq!(
        error,
        "format `text` has the one column `value: text`, but the column `line: text` is read; read `value: text`, or choose the format json, msgpack or csv"
    );
    assert!(Decoder::new(Format::Raw, &wrong, &value(Kind::Text), false).is_err());
    assert!(Decoder::new(Format::Csv, &value(Kind::Text), &wrong, false).is_err());

    let two = Schema::new([Field::new("a", Kind::Text), Field::new("b", Kind::Text)]);
    let error = Encoder::new(Format::Text, &two).err().unwrap().to_string();
    assert_eq!(
        error,
        "format `text` writes the text column `value`, or the only text column, but the columns are: a: text, b: text; keep one such column, or choose the format json, msgpack or csv"
    );
    for (format, schema, good) in [
        (Format::Text, Schema::new([Field::new("a", Kind::Text), Field::new("n", Kind::Int64)]), true),
        (Format::Text, Schema::new([Field::new("a", Kind::Text), Field::new("value", Kind::Text)]), true),
        (Format::Text, value(Kind::Binary), false),
        (Format::Raw, value(Kind::Binary), true),
        (Format::Raw, value(Kind::Text), true),
        (Format::Raw, two, false),
    ] {
        assert_eq!(Encoder::new(format, &schema).is_ok(), good, "{format:?} {schema}");
    }
}

fn row() -> impl Strategy<Value = Row> {
    let float = any::<f64>().prop_filter("JSON has no NaN and infinities", |value| value.is_finite());
    any::<(Option<bool>, Option<i64>)>().prop_flat_map(move |(boolean, int64)| {
        let rest = (proptest::option::of(float.clone()), any::<(Option<String>, Option<Vec<u8>>, Option<i64>)>());
        rest.prop_map(move |(float64, (text, binary, at))| {
            (boolean, int64, float64, text, binary.filter(|b| !b.is_empty()), at)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_encoded_is_decoded(rows in proptest::collection::vec(row(), 0..12)) {
        let batch = batch(&rows);
        for format in [Format::Json, Format::Msgpack, Format::Csv] {
            let mut frames = encode(format, &schema(), &batch);
            prop_assert_eq!(frames.len(), rows.len());
            let decoded = Decoder::new(format, &schema(), &schema(), false).unwrap().decode(&mut frames);
            prop_assert_eq!(decoded.bad, vec![]);
            prop_assert_eq!(&decoded.columns, &batch);
        }
    }

    #[test]
    fn encoded_lines_survive_framing(rows in proptest::collection::vec(row(), 0..12)) {
        for (format, separator) in [(Format::Json, &b"\n"[..]), (Format::Csv, b"\n"), (Format::Msgpack, b"")] {
            let encoded = encode(format, &schema(), &batch(&rows));
            let stream = (0..encoded.len()).flat_map(|index| [encoded.get(index), separator].concat()).collect::<Vec<_>>();
            let mut framer = Framer::new(format, Framing::Lines);
            let mut frames = Frames::default();
            framer.push(&stream, &mut frames);
            prop_assert_eq!(framer.finish(&mut frames), None);
            prop_assert_eq!((&frames.bytes, &frames.ends), (&encoded.bytes, &encoded.ends));
        }
    }
}
