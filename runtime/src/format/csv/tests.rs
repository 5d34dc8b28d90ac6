//! CSV against the csv crate, and the records that a decoder refuses.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;

use super::*;
use crate::format::{Decoder, Format};

fn schema() -> Schema {
    use crate::record::Field;
    Schema::new([
        Field::new("id", Kind::Int64),
        Field::new("name", Kind::Text).nullable(),
        Field::new("price", Kind::Float64).nullable(),
        Field::new("at", Kind::TimestampMs).nullable(),
        Field::new("open", Kind::Boolean).nullable(),
    ])
}

fn decode<R: AsRef<[u8]>>(wanted: &[&str], header: bool, records: impl IntoIterator<Item = R>) -> Decoded {
    let mut frames = Frames::default();
    for record in records {
        let offset = frames.bytes.len() as u64;
        frames.push(record.as_ref(), offset);
    }
    let full = schema();
    let wanted = Schema::new(wanted.iter().map(|name| full.field(name).unwrap().clone()).collect::<Vec<_>>());
    Decoder::new(Format::Csv, &full, &wanted, header).unwrap().decode(&mut frames)
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<Option<&str>> {
    batch.column(column).as_string::<i32>().iter().collect()
}

#[test]
fn fields_are_read_by_position_and_empty_ones_are_null() {
    let all = ["id", "name", "price", "at", "open"];
    let decoded = decode(
        &all,
        false,
        ["1,a,1.5,5,true", "2,,,,", "-3,\"x,\"\"y\"\"\n\",1e3,2015-07-15 00:00:01.001,false", "4,\"\"", "5"],
    );
    assert_eq!(decoded.bad, []);
    let batch = decoded.columns;
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values()[..], [1, 2, -3, 4, 5]);
    assert_eq!(texts(&batch, 1), [Some("a"), None, Some("x,\"y\"\n"), Some(""), None]);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(2), 1e3);
    assert_eq!(batch.column(3).as_primitive::<TimestampMillisecondType>().value(2), 1_436_918_401_001);
    assert_eq!(batch.column(4).null_count(), 3);
}

#[test]
fn bad_records_cost_themselves_alone_and_say_why() {
    let decoded = decode(
        &["id", "open"],
        false,
        [
            &b"1,a"[..],
            b"x,a",
            b"1.5,a",
            b",a",
            b"",
            b"1,\"a",
            b"1,\"a\"b",
            b"1,a,1,1,true,6",
            b"1,a,1,1,yes",
            b"1,\xff",
            b"9223372036854775808",
            b" 1",
            b"2,b",
        ],
    );
    let expected = [
        "column `id`: expected int64, got `x`",
        "column `id`: expected int64, got `1.5`",
        "column `id`: expected int64, got ``",
        "column `id`",
        "expected a quote at the end",
        "expected a comma after the closing quote at byte 5",
        "expected 5 fields, got 6",
        "column `open`: expected boolean, got `yes`",
        "not UTF-8",
        "column `id`: expected int64, got `9223372036854775808`",
        "column `id`: expected int64, got ` 1`",
    ];
    assert_eq!(decoded.bad.len(), expected.len());
    for (bad, reason) in decoded.bad.iter().zip(expected) {
        assert!(bad.reason.contains(reason), "{}", bad.reason);
    }
    assert_eq!(decoded.origin, Some(vec![0, 12]));
}

#[test]
fn a_header_is_no_row_and_must_name_the_columns_in_order() {
    let good = decode(&["id"], true, ["id,name,price,at,open", "1", "2"]);
    assert_eq!((good.columns.num_rows(), good.bad.len(), good.origin), (2, 0, Some(vec![1, 2])));
    let bad = decode(&["id"], true, ["name,id,price,at,open", "1"]);
    assert_eq!(
        bad.bad[0].reason,
        "expected the header `id,name,price,at,open`, got `name,id,price,at,open`; name the columns of the schema in this order"
    );
}

#[test]
fn two_halves_of_a_character_in_neighbouring_records_are_two_bad_records() {
    let decoded = decode(&["name"], false, [&b"1,\xc3"[..], b"\xa9,x", b"2,\xc3\xa9"]);
    assert_eq!((decoded.origin, decoded.bad.len()), (Some(vec![2]), 2));
}

proptest! {
    #[test]
    fn what_the_csv_crate_writes_is_read_back(rows in proptest::collection::vec(any::<(i64, String)>(), 1..8)) {
        let records = rows.iter().map(|(id, name)| {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::NonNumeric).from_writer(Vec::new());
            writer.write_record([id.to_string().as_str(), name]).unwrap();
            let mut record = writer.into_inner().unwrap();
            record.pop();
            record
        });
        let decoded = decode(&["id", "name"], false, records);
        prop_assert_eq!(decoded.bad, vec![]);
        let expected = rows.iter().map(|(_, name)| Some(name.as_str())).collect::<Vec<_>>();
        prop_assert_eq!(texts(&decoded.columns, 1), expected);
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_but_never_a_panic(records in proptest::collection::vec("[\",a1\\-é\n]{0,12}", 1..8)) {
        let decoded = decode(&["name"], false, &records);
        prop_assert_eq!(decoded.columns.num_rows() + decoded.bad.len(), records.len());
    }
}
