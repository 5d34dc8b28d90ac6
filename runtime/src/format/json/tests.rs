//! The scanner against the seed, and the hostile lines that a decoder meets.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;
use crate::format::decode::Decoded;
use crate::format::{Decoder, Format};
use crate::record::Field;

fn schema() -> Schema {
    Schema::new([
        Field::new("auction", Kind::Int64),
        Field::new("price", Kind::Float64).nullable(),
        Field::new("channel", Kind::Text).nullable(),
        Field::new("at", Kind::TimestampMs).nullable(),
        Field::new("open", Kind::Boolean).nullable(),
        Field::new("blob", Kind::Binary).nullable(),
    ])
}

fn frames<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Frames {
    let mut frames = Frames::default();
    for (index, record) in records.into_iter().enumerate() {
        frames.push(record.as_ref(), 1_000 + index as u64);
    }
    frames
}

fn decode_as(wanted: &Schema, frames: &mut Frames) -> Decoded {
    Decoder::new(Format::Json, wanted, wanted, false).unwrap().decode(frames)
}

/// What serde_json alone makes of the records, each on its own: `None` is a bad one.
fn by_reference(wanted: &Schema, frames: &Frames) -> Vec<Result<RecordBatch, String>> {
    let names = Names::new(wanted);
    let mut columns = Columns::new(wanted);
    let records = (0..frames.len()).map(|index| {
        let record = frames.get(index);
        let read = decode::check_utf8(record).and_then(|()| reference(record, &names, &mut columns));
        read.inspect_err(|_| columns.undo_row())?;
        Ok(columns.take().unwrap())
    });
    records.collect()
}

/// Whether the decoder took the same records as the reference, read the same values and gave the same reasons.
fn assert_same(wanted: &Schema, frames: &mut Frames) {
    let decoded = decode_as(wanted, frames);
    let mut bad = decoded.bad.iter();
    let mut row = 0;
    for (index, expected) in by_reference(wanted, frames).into_iter().enumerate() {
        match expected {
            Ok(expected) => {
                let origin = decoded.origin.as_ref().map_or(row, |origin| origin[row] as usize);
                assert_eq!(origin, index);
                let found = decoded.columns.slice(row, 1);
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", frames.get(index).escape_ascii());
                row += 1;
            }
            Err(reason) => {
                let found = bad.next().unwrap();
                assert_eq!(found.index as usize, index, "{}", frames.get(index).escape_ascii());
                assert_eq!(found.reason, reason);
                assert_eq!(found.bytes, frames.get(index));
                assert_eq!(found.offset, frames.offsets[index]);
            }
        }
    }
    assert_eq!(row, decoded.columns.num_rows());
    assert!(bad.next().is_none());
}

#[test]
fn all_kinds_are_read_and_unwanted_keys_passed_over() {
    let decoded = decode_as(
        &schema(),
        &mut frames([
            r#"{"auction":1,"price":1.5,"channel":"x","at":5,"open":true,"blob":"Zm8=","other":{"a":[1,{}]}}"#,
            r#" { "price" : 3 , "x" : [ ] , "auction" : -7 , "channel" : "\u00e9\n\ud83d\ude00" , "at" : "1970-01-01T00:00:01Z" } "#,
            r#"{"auction":9223372036854775807,"price":null,"blob":"","open":false}"#,
        ]),
    );
    assert_eq!(decoded.bad, []);
    assert_eq!(decoded.origin, None);
    let columns = decoded.columns;
    assert_eq!(columns.column(0).as_primitive::<Int64Type>().values()[..], [1, -7, i64::MAX]);
    assert_eq!(
        columns.column(1).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
        [Some(1.5), Some(3.0), None]
    );
    let texts = columns.column(2).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(texts, [Some("x"), Some("é\n😀"), None]);
    let times = columns.column(3).as_primitive::<TimestampMillisecondType>().iter().collect::<Vec<_>>();
    assert_eq!(times, [Some(5), Some(1_000), None]);
    assert_eq!(columns.column(4).as_boolean().iter().collect::<Vec<_>>(), [Some(true), None, Some(false)]);
    let blobs = columns.column(5).as_binary::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(blobs, [Some(&b"fo"[..]), None, Some(&b""[..])]);
}

#[test]
fn each_hostile_line_costs_itself_alone_and_says_why() {
    let deep = format!(r#"{{"auction":1,"x":{}"#, "[".repeat(100_000));
    let hostile: Vec<(&[u8], &str)> = vec![
        (b"{\"auction\":1,\"channel\":\"\xff\"}", "not UTF-8"),
        (b"{\"auction\":1,\"other\":\"\xff\"}", "not UTF-8"),
        (b"{\"auction\":1,\"other\":\"\xe2\x82\"}", "not UTF-8"),
        (br#"{"auction":1"#, "EOF"),
        (br#"{"auction":1,"channel":"x"#, "EOF"),
        (br#"{"auction":9223372036854775808}"#, "expected int64 for column `auction`"),
        (br#"{"auction":"17"}"#, r#"string "17", expected int64 for column `auction`"#),
        (br#"{"auction":1.5}"#, "floating point `1.5`, expected int64 for column `auction`"),
        (br#"{"auction":1e3}"#, "expected int64"),
        (br#"{"auction":-0}"#, "expected int64"),
        (br#"{"auction":null}"#, "invalid type: null, expected int64 for column `auction`"),
        (br#"{"auction":true}"#, "boolean `true`, expected int64"),
        (br#"{"auction":[1]}"#, "sequence, expected int64"),
        (br#"{"auction":{"a":1}}"#, "map, expected int64"),
        (br#"{"price":1}"#, "column `auction`: expected int64, got nothing"),
        (br#"{"auction":1,"price":"1"}"#, "expected float64 for column `price`"),
        (br#"{"auction":1,"price":1e400}"#, "number out of range"),
        (br#"{"auction":1,"channel":7}"#, "expected text for column `channel`"),
        (br#"{"auction":1,"open":1}"#, "expected boolean for column `open`"),
        (br#"{"auction":1,"open":"true"}"#, "expected boolean for column `open`"),
        (br#"{"auction":1,"blob":"Zg"}"#, "expected binary (base64 text) for column `blob`"),
        (br#"{"auction":1,"at":"yesterday"}"#, "expected timestamp_ms"),
        (br#"{"auction":1,"at":1.5}"#, "expected timestamp_ms"),
        (br#"{"auction":012}"#, "invalid number"),
        (br#"{"auction":1,"other":012}"#, "invalid number"),
        (br#"{"auction":1,}"#, "trailing comma"),
        (br#"{"auction":1,"other":[1,]}"#, "expected value"),
        (br#"{"auction":1 "price":2}"#, "expected `,` or `}`"),
        (b"{\"auction\":1,\"channel\":\"a\tb\"}", "control character"),
        (b"{\"auction\":1,\"other\":\"a\tb\"}", "control character"),
        (br#"{"auction":1,"auction":1}"#, "column `auction` occurs twice"),
        (br#"{"auction":1,"auct\u0069on":1}"#, "column `auction` occurs twice"),
        (br#"{"auction":1} x"#, "trailing characters"),
        (br#"{"auction":1}{"auction":2}"#, "trailing characters"),
        (br#"{"auction":1,"channel":"\ud800"}"#, "hex escape"),
        (br#"{"auction":1,"channel":"\x"}"#, "invalid escape"),
        (br#"{"auction":1,"other":"\x"}"#, "invalid escape"),
        (br"[1]", "sequence, expected a JSON object"),
        (br"17", "expected a JSON object"),
        (b"", "EOF"),
        (b"   ", "EOF"),
        (b"{", "EOF"),
        (b"\xef\xbb\xbf{\"auction\":1}", "expected value"),
        (deep.as_bytes(), "EOF"),
    ];
    let good = r#"{"auction":1,"price":2.5,"channel":"good"}"#;
    let mut records = vec![good.as_bytes()];
    for (line, _) in &hostile {
        records.extend([*line, good.as_bytes()]);
    }
    let mut frames = frames(records);
    let decoded = decode_as(&schema(), &mut frames);
    assert_eq!(decoded.columns.num_rows(), hostile.len() + 1);
    let expected = (0..=hostile.len()).map(|index| 2 * index as u32).collect::<Vec<_>>();
    assert_eq!(decoded.origin, Some(expected));
    assert!(decoded.columns.column(2).as_string::<i32>().iter().all(|text| text == Some("good")));
    for ((line, reason), bad) in hostile.iter().zip(&decoded.bad) {
        assert!(bad.reason.contains(reason), "{}: {}", line.escape_ascii(), bad.reason);
        assert_eq!(bad.bytes, line[..line.len().min(64 << 10)]);
        assert_eq!(bad.offset, 1_000 + u64::from(bad.index));
    }
    assert_eq!(decoded.bad.len(), hostile.len());
}

#[test]
fn deep_nesting_in_an_unwanted_field_needs_no_stack() {
    for depth in [1, 63, 64, 65, 100_000] {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        let objects = r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
        let mut frames = frames([
            format!(r#"{{"x":{nested},"auction":1}}"#),
            format!(r#"{{"x":{objects},"auction":2}}"#),
            format!(r#"{{"x":{},"auction":3}}"#, "[".repeat(depth)),
        ]);
        let decoded = decode_as(&schema(), &mut frames);
        assert_eq!(decoded.columns.column(0).as_primitive::<Int64Type>().values()[..], [1, 2], "{depth}");
    }
}

#[test]
fn without_wanted_columns_records_are_still_checked_and_counted() {
    let none = Schema::new([]);
    let decoded = decode_as(&none, &mut frames([r#"{"a":1}"#, "{}", r#"{"a":}"#, r#"{"a":[1,{"b":null}]}"#]));
    assert_eq!(decoded.columns.num_rows(), 3);
    assert_eq!(decoded.columns.schema(), *none.arrow());
    assert_eq!(decoded.origin, Some(vec![0, 1, 3]));
}

#[test]
fn a_text_cut_by_the_end_of_its_record_does_not_read_the_next() {
    let mut frames = frames([r#"{"auction":1"#, r#"2}"#, r#"{"auction":3,"channel":"a"#, r#"b"}"#, r#"{"auction":4}"#]);
    assert_same(&schema(), &mut frames);
    assert_eq!(decode_as(&schema(), &mut frames).columns.num_rows(), 1);
}

#[test]
fn a_long_value_does_not_make_a_long_reason() {
    let line = format!(r#"{{"auction":"{}"}}"#, "é".repeat(100_000));
    let bad = decode_as(&schema(), &mut frames([line])).bad;
    assert!(bad[0].reason.len() < 5_000);
    assert_eq!(bad[0].bytes.len(), 64 << 10);
}

/// JSON-like text: mostly objects with the schema's keys, values of all sorts, odd white space.
fn line() -> impl Strategy<Value = String> {
    let space = prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\t ")];
    let scalar = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        (-200_i64..200).prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| format!("{value:?}")),
        (-1e6..1e6_f64).prop_map(|value| format!("{value}")),
        any::<u64>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"[a-zé\u{20ac}]{0,40}\"",
        r#""(\\u[0-9a-f]{4}|\\n|\\"|\\\\|x){0,6}""#,
        "\"[A-Za-z0-9+/]{4}{0,3}(=|==)?\"",
        "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,4})?Z?\"",
        Just("true".to_string()),
        Just("false".to_string()),
        Just("null".to_string()),
        "-?[0-9]{1,25}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?",
    ];
    let value = scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            proptest::collection::vec(("[a-c]{1,2}", inner), 0..4).prop_map(|fields| {
                let fields = fields.into_iter().map(|(key, value)| format!("\"{key}\": {value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(" ,"))
            }),
        ]
    });
    let key =
        proptest::sample::select(vec!["auction", "price", "channel", "at", "open", "blob", "x", "y", "auct\\u0069on"]);
    let fields = proptest::collection::vec((key, value, space.clone(), space), 0..8);
    fields.prop_map(|fields| {
        let fields = fields.into_iter().map(|(key, value, a, b)| format!("{a}\"{key}\"{b}:{a}{value}{b}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    })
}

/// A line that fits the schema, so that values are compared and not only refusals.
fn fitting_line() -> impl Strategy<Value = String> {
    (any::<i64>(), any::<f64>(), any::<String>(), any::<i64>(), any::<bool>(), 0..4).prop_map(
        |(auction, price, channel, at, open, shape)| {
            let channel = serde_json::to_string(&channel).unwrap();
            let price = if price.is_finite() { format!("{price:?}") } else { "null".into() };
            match shape {
                0 => format!(r#"{{"auction":{auction},"price":{price},"channel":{channel},"at":{at},"open":{open}}}"#),
                1 => format!(r#"{{"auction":{auction},"x":{price},"channel":{channel}}}"#),
                2 => format!(r#"{{ "channel": {channel}, "at": {at}, "y": [{price}], "auction": {auction} }}"#),
                _ => format!(r#"{{"auction":{auction},"price":{at},"open":{open},"channel":null}}"#),
            }
        },
    )
}

/// A byte put in, taken out or changed at some place.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let any_line = prop_oneof![line(), fitting_line()].prop_map(String::into_bytes);
    let byte = prop_oneof![proptest::sample::select(b"{}[]\",:\\0 1-.eEnt\x00\x1f\xff\xe2".to_vec()), any::<u8>()];
    (any_line, any::<prop::sample::Index>(), byte, 0..4).prop_map(|(mut line, place, byte, how)| {
        let place = place.index(line.len() + 1);
        match how {
            0 => line.insert(place, byte),
            1 => drop(line.drain(place..(place + 1).min(line.len()))),
            2 => line.truncate(place),
            _ => line.iter_mut().skip(place).take(1).for_each(|old| *old = byte),
        }
        line
    })
}

#[test]
fn a_character_that_is_cut_between_two_records_is_wrong_in_both() {
    let records = [&b"{\"auction\":1,\"channel\":\"\xce"[..], b"\x80\"}"];
    let decoded = decode_as(&schema(), &mut frames(records));
    let reasons: Vec<&str> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert!(reasons.len() == 2 && reasons.iter().all(|reason| reason.contains("not UTF-8")), "{reasons:?}");
    assert_same(&schema(), &mut frames(records));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn scanner_and_serde_json_agree_on_every_record(
        records in proptest::collection::vec(
            prop_oneof![fitting_line().prop_map(String::into_bytes), line().prop_map(String::into_bytes), mutated()],
            1..12,
        ),
        projection in proptest::sample::subsequence((0..6).collect::<Vec<usize>>(), 0..=6),
    ) {
        let all = schema();
        let wanted = Schema::new(projection.iter().map(|&index| all.fields()[index].clone()).collect::<Vec<_>>());
        assert_same(&wanted, &mut frames(records));
    }

    #[test]
    fn batch_boundaries_change_nothing(
        records in proptest::collection::vec(prop_oneof![fitting_line().prop_map(String::into_bytes), mutated()], 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = decode_as(&schema(), &mut frames(&records));
        let (left, right) = records.split_at(cut.index(records.len()));
        let mut decoder = Decoder::new(Format::Json, &schema(), &schema(), false).unwrap();
        let left = decoder.decode(&mut frames(left));
        let right = decoder.decode(&mut frames(right));
        let parts = arrow_select::concat::concat_batches(schema().arrow(), [&left.columns, &right.columns]).unwrap();
        prop_assert_eq!(format!("{:?}", parts), format!("{:?}", whole.columns));
        let reasons = left.bad.into_iter().chain(right.bad).map(|bad| bad.reason).collect::<Vec<_>>();
        prop_assert_eq!(reasons, whole.bad.into_iter().map(|bad| bad.reason).collect::<Vec<_>>());
    }
}
