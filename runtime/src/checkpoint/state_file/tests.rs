//! Every type there and back, and hostile bytes.

use arrow_array::{
    Float64Array, Int32Array, Int64Array, TimestampMillisecondArray, UInt8Array, UInt32Array, UInt64Array,
};

use super::*;

fn batch(rows: i64) -> RecordBatch {
    let numbers = 0..rows;
    let some = |number: i64| (number % 3 != 0).then_some(number);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(numbers.clone().map(|n| some(n).map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("int", Arc::new(numbers.clone().map(some).collect::<Int64Array>())),
        ("float", Arc::new(numbers.clone().map(|n| n as f64 / 2.0).collect::<Float64Array>())),
        ("text", Arc::new(numbers.clone().map(|n| some(n).map(|n| "ü".repeat(n as usize))).collect::<StringArray>())),
        ("bytes", Arc::new(numbers.clone().map(|n| some(n).map(|n| vec![n as u8; 3])).collect::<BinaryArray>())),
        ("at", Arc::new(numbers.clone().map(some).collect::<TimestampMillisecondArray>())),
        ("i32", Arc::new(numbers.clone().map(|n| n as i32).collect::<Int32Array>())),
        ("u32", Arc::new(numbers.clone().map(|n| n as u32).collect::<UInt32Array>())),
        ("u64", Arc::new(numbers.clone().map(|n| n as u64).collect::<UInt64Array>())),
        ("sum", Arc::new(sums(numbers.clone()))),
        ("u8", Arc::new(numbers.clone().map(|n| n as u8).collect::<UInt8Array>())),
        ("texts", Arc::new(lists(rows))),
        ("nested", Arc::new(nested(lists(rows)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn sums(numbers: std::ops::Range<i64>) -> Decimal128Array {
    let sums = numbers.map(|n| (n % 4 != 0).then_some(i128::from(n) << 64));
    sums.collect::<Decimal128Array>().with_data_type(SUM)
}

/// Lists of 0 to 4 texts, some of them null.
fn lists(rows: i64) -> ListArray {
    let items = Arc::new(Field::new("item", DataType::Utf8, true));
    let lengths: Vec<usize> = (0..rows).map(|n| if n % 3 == 0 { 0 } else { n as usize % 5 }).collect();
    let values: StringArray = (0..lengths.iter().sum()).map(|n| (n % 7 != 0).then(|| n.to_string())).collect();
    let nulls = (0..rows).map(|n| n % 3 != 0).collect::<Vec<_>>().into();
    ListArray::new(items, OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls))
}

/// One list of each.
fn nested(lists: ListArray) -> ListArray {
    let items = Arc::new(Field::new("inner", lists.data_type().clone(), true));
    ListArray::new(items, OffsetBuffer::from_lengths(vec![1; lists.len()]), Arc::new(lists), None)
}

#[test]
fn lists_deeper_than_any_state_has_are_refused_both_ways() {
    let mut deep = lists(3);
    for _ in 1..DEPTH_MAX {
        deep = nested(deep);
    }
    let table = |lists: &ListArray| {
        let rows = RecordBatch::try_from_iter([("deep", Arc::new(lists.clone()) as ArrayRef)]).unwrap();
        Snapshot::default().with("t", None, vec![rows])
    };
    assert!(equal(&decode(&encode(&table(&deep)).unwrap()).unwrap(), &table(&deep)));
    assert!(encode(&table(&nested(deep))).unwrap_err().to_string().contains("column `deep`"));
    // a field that is a list of a list of a list ..
    let mut hostile = vec![1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b't', 0, 0, 0, 0, 1, 0, 0, 0];
    hostile.extend([0, 0, 0, 0, 0, 0, 0, 0, LIST, 1].repeat(100_000));
    let error = decode(&sealed::seal(MAGIC, VERSION, &hostile)).unwrap_err().to_string();
    assert!(error.contains("unknown type 12"), "{error}");
}

fn snapshot() -> Snapshot {
    let all = batch(50);
    let rows = vec![all.clone(), all.slice(7, 20), all.slice(3, 0)];
    Snapshot::default().with("windows", Some(2), rows).with("empty", None, Vec::new())
}

fn equal(left: &Snapshot, right: &Snapshot) -> bool {
    left.tables.len() == right.tables.len()
        && left
            .tables
            .iter()
            .zip(&right.tables)
            .all(|(left, right)| (&left.name, left.keys, &left.rows) == (&right.name, right.keys, &right.rows))
}

#[test]
fn every_type_comes_back_as_it_was_also_from_a_slice() {
    let bytes = encode(&snapshot()).unwrap();
    assert!(equal(&decode(&bytes).unwrap(), &snapshot()));
}

#[test]
fn a_type_that_files_do_not_hold_is_named() {
    let column: ArrayRef = Arc::new(arrow_array::Int16Array::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("small", column)]).unwrap();
    let error = encode(&Snapshot::default().with("t", None, vec![rows])).unwrap_err().to_string();
    assert_eq!(error, "column `small` of the state `t` is of type Int16, which state files do not hold");
}

#[test]
fn damage_behind_a_good_seal_is_an_error_and_never_a_panic() {
    let bytes = encode(&snapshot()).unwrap();
    let content = bytes[20..].to_vec();
    for at in 0..content.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = content.clone();
            changed[at] ^= change;
            let _ = decode(&sealed::seal(MAGIC, VERSION, &changed));
        }
        assert!(decode(&sealed::seal(MAGIC, VERSION, &content[..at])).is_err(), "cut at {at}");
    }
}
