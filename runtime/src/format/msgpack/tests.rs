//! The skipper against the seed, and the hostile records that a decoder meets.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;
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
        frames.push(record.as_ref(), index as u64);
    }
    frames
}

fn decode_as(wanted: &Schema, frames: &mut Frames) -> Decoded {
    Decoder::new(Format::Msgpack, &schema(), wanted, false).unwrap().decode(frames)
}

/// Whether the decoder took the same records as rmp-serde, read the same values and gave the same reasons.
fn assert_same(wanted: &Schema, frames: &mut Frames) {
    let decoded = decode_as(wanted, frames);
    let MsgpackDecoder { names, order, .. } = MsgpackDecoder::new(&schema(), wanted);
    let mut columns = Columns::new(wanted);
    let mut bad = decoded.bad.iter();
    let mut row = 0;
    for index in 0..frames.len() {
        let record = frames.get(index);
        match reference(record, &names, &order, &mut columns) {
            Ok(()) => {
                let expected: RecordBatch = columns.take().unwrap();
                let found = decoded.columns.slice(row, 1);
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{record:x?}");
                row += 1;
            }
            Err(reason) => {
                columns.undo_row();
                let found = bad.next().unwrap();
                assert_eq!((found.index as usize, &found.reason), (index, &reason), "{record:x?}");
            }
        }
    }
    assert_eq!(row, decoded.columns.num_rows());
    assert!(bad.next().is_none());
}

/// A map of one to three entries from pieces.
fn map(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut record = vec![0x80 | entries.len() as u8];
    for (key, value) in entries {
        rmp::encode::write_str(&mut record, key).unwrap();
        record.extend_from_slice(value);
    }
    record
}

#[test]
fn maps_and_arrays_are_read_in_every_encoding_of_a_number() {
    let mut frames = frames([
        map(&[("auction", &[5]), ("price", &[0xca, 0x3f, 0xc0, 0, 0]), ("x", &[0x92, 1, 0x81, 0xa1, b'k', 2])]),
        map(&[
            ("auction", &[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
            ("at", b"\xb41970-01-01T00:00:01Z"),
        ]),
        vec![0x93, 0xcd, 1, 0, 7, 0xa2, b'o', b'k'],
        map(&[("blob", &[0xc4, 1, 9]), ("auction", &[0xe0]), ("open", &[0xc3])]),
    ]);
    let decoded = decode_as(&schema(), &mut frames);
    assert_eq!(decoded.bad, []);
    let columns = decoded.columns;
    assert_eq!(columns.column(0).as_primitive::<Int64Type>().values()[..], [5, -2, 256, -32]);
    let prices = columns.column(1).as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
    assert_eq!(prices, [Some(1.5), None, Some(7.0), None]);
    assert_eq!(columns.column(2).as_string::<i32>().value(2), "ok");
    assert_eq!(columns.column(3).as_primitive::<TimestampMillisecondType>().value(1), 1_000);
    assert_eq!(columns.column(4).as_boolean().iter().flatten().collect::<Vec<_>>(), [true]);
    assert_eq!(columns.column(5).as_binary::<i32>().value(3), [9]);
}

#[test]
fn each_hostile_record_costs_itself_alone_and_says_why() {
    let good = map(&[("auction", &[1]), ("channel", b"\xa4good")]);
    let deep = map(&[("x", &[0x91].repeat(100_000))]);
    let hostile: Vec<(Vec<u8>, &str)> = vec![
        (map(&[("auction", b"\xa217")]), r#"string "17", expected int64 for column `auction`"#),
        (map(&[("auction", &[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0])]), "floating point `1.5`, expected int64"),
        (map(&[("auction", &[0xcf, 0xff, 0, 0, 0, 0, 0, 0, 0])]), "expected int64 for column `auction`"),
        (map(&[("auction", &[0xc0])]), "expected int64 for column `auction`"),
        (map(&[("price", &[1])]), "column `auction`: expected int64, got nothing"),
        (map(&[("auction", &[1]), ("auction", &[1])]), "column `auction` occurs twice"),
        (map(&[("auction", &[1]), ("channel", b"\xa1\xff")]), "utf-8"),
        (map(&[("auction", &[1]), ("channel", b"\xa2\xe2\x82")]), "utf-8"),
        (map(&[("auction", &[1]), ("channel", b"\xc4\x01x")]), "expected text for column `channel`"),
        (map(&[("auction", &[1]), ("at", b"\xa1x")]), "expected timestamp_ms"),
        (map(&[("auction", &[1]), ("x", &[0xc1])]), "Reserved"),
        ([good.clone(), vec![0]].concat(), "1 more bytes"),
        (good[..good.len() - 1].to_vec(), "IO error"),
        (vec![], "IO error"),
        (vec![0x81, 5, 5], "text as a column's name"),
        (vec![0x81, 0xc4, 1, b'x', 5], "text as a column's name"),
        (vec![0xdf, 0xff, 0xff, 0xff, 0xff], "IO error"),
        (vec![0xdd, 0xff, 0xff, 0xff, 0xff], "IO error"),
        (vec![0x97, 1, 2, 0xc0, 3, 0xc0, 0xc0, 5], "array of 6 columns, got more"),
        (vec![7], "expected a MessagePack map or array"),
        (deep, "depth limit"),
    ];
    let mut records = vec![good.clone()];
    for (record, _) in &hostile {
        records.extend([record.clone(), good.clone()]);
    }
    let decoded = decode_as(&schema(), &mut frames(&records));
    for ((record, reason), bad) in hostile.iter().zip(&decoded.bad) {
        let start = &record[..record.len().min(32)];
        assert!(bad.reason.to_lowercase().contains(&reason.to_lowercase()), "{start:x?}: {}", bad.reason);
    }
    assert_eq!(decoded.bad.len(), hostile.len());
    assert!(decoded.columns.column(2).as_string::<i32>().iter().all(|text| text == Some("good")));
    assert_eq!(decoded.origin, Some((0..=hostile.len()).map(|index| 2 * index as u32).collect()));
}

#[test]
fn two_halves_of_a_character_in_neighbouring_texts_are_two_bad_records() {
    let mut frames = frames([
        map(&[("auction", &[1]), ("channel", b"\xa1\xc3")]),
        map(&[("auction", &[2]), ("channel", b"\xa1\xa9")]),
        map(&[("auction", &[3]), ("channel", b"\xa2\xc3\xa9")]),
    ]);
    let decoded = decode_as(&schema(), &mut frames);
    assert_eq!(decoded.origin, Some(vec![2]));
    assert_eq!(decoded.columns.column(2).as_string::<i32>().value(0), "é");
}

#[test]
fn nesting_is_refused_beyond_the_same_depth_on_any_stack() {
    let nested = |depth: usize| map(&[("x", &[&[0x91].repeat(depth)[..], &[1]].concat()), ("auction", &[1])]);
    let test = move || {
        let decoded =
            decode_as(&schema(), &mut frames([nested(1), nested(15), nested(17), nested(200), nested(1_000)]));
        assert_eq!(decoded.origin, Some(vec![0, 1, 2, 3]));
        const { assert!(RECORD_DEPTH_MAX > 200) };
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(test).unwrap().join().unwrap();
}

/// Values of all shapes, in random encodings.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<u64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        (-40_i64..300).prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<f64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<f32>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<bool>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        any::<String>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
        Just(vec![0xc0]),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            let mut out = Vec::new();
            rmp::encode::write_bin(&mut out, &bytes).unwrap();
            out
        }),
        Just(rmp_serde::to_vec("2015-07-15 00:00:01.001").unwrap()),
        Just(vec![0xd4, 5, 5]),
        Just(vec![0xc7, 2, 1, 5, 5]),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(|values| {
            let head = if values.len() % 2 == 0 { 0x80 | (values.len() as u8 / 2) } else { 0x90 | values.len() as u8 };
            [vec![head], values.concat()].concat()
        })
    })
}

/// Maps with the schema's keys, or arrays, sometimes with a byte changed or an end cut off.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let key = proptest::sample::select(vec!["auction", "price", "channel", "at", "open", "blob", "x", ""]);
    let entries = proptest::collection::vec((key, value()), 0..7);
    let keyed = entries.prop_map(|entries| {
        let mut record = vec![0x80 | entries.len() as u8];
        for (key, value) in entries {
            rmp::encode::write_str(&mut record, key).unwrap();
            record.extend(value);
        }
        record
    });
    let fitting = (any::<i64>(), any::<f64>(), any::<String>(), any::<i64>(), any::<bool>(), any::<bool>()).prop_map(
        |(auction, price, channel, at, open, named)| {
            #[derive(serde::Serialize)]
            struct Row {
                auction: i64,
                price: f64,
                channel: String,
                at: i64,
                open: bool,
            }
            let row = Row { auction, price, channel, at, open };
            if named { rmp_serde::to_vec_named(&row).unwrap() } else { rmp_serde::to_vec(&row).unwrap() }
        },
    );
    let any_record = prop_oneof![keyed, fitting];
    (any_record, any::<prop::sample::Index>(), any::<u8>(), 0..6).prop_map(|(mut record, place, byte, how)| {
        let place = place.index(record.len());
        match how {
            0 => record[place] = byte,
            1 => record.truncate(place),
            _ => {}
        }
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn skipper_and_rmp_serde_agree_on_every_record(
        records in proptest::collection::vec(record(), 1..12),
        projection in proptest::sample::subsequence((0..6).collect::<Vec<usize>>(), 0..=6),
    ) {
        let all = schema();
        let wanted = Schema::new(projection.iter().map(|&index| all.fields()[index].clone()).collect::<Vec<_>>());
        assert_same(&wanted, &mut frames(records));
    }
}
