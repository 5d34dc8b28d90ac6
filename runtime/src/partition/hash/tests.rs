//! Tests of the hash.

use std::sync::Arc;

use arrow_array::TimestampMillisecondArray;
use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};

use super::*;

fn hash(columns: &[ArrayRef]) -> u64 {
    let rows = columns.first().map_or(1, |column| column.len());
    let mut hashes = Vec::new();
    hash_rows(&columns.iter().collect::<Vec<_>>(), rows, &mut hashes).unwrap();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "rows of one test key differ: {hashes:x?}");
    hashes[0]
}

fn int(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

fn float(value: f64) -> ArrayRef {
    Arc::new(Float64Array::from(vec![value]))
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// Computed by another implementation of the definition above. A change here loses the state of every checkpoint.
#[test]
fn golden_vectors_never_change() {
    let null_int: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let null_text: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let boolean = |value| Arc::new(BooleanArray::from(vec![value])) as ArrayRef;
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1007]));
    let binary: ArrayRef = Arc::new(BinaryArray::from(vec![&[0xff_u8, 0][..]]));
    let vectors: Vec<(Vec<ArrayRef>, u64, u32)> = vec![
        (vec![boolean(false)], 0xe220a8397b1dcdaf, 113),
        (vec![boolean(true)], 0xe4d971771b652c20, 114),
        (vec![int(0)], 0xe220a8397b1dcdaf, 113),
        (vec![int(-1)], 0xde0a564cbcd060c4, 111),
        (vec![int(i64::MIN)], 0x481ec0a212a9f3db, 36),
        (vec![int(1007)], 0x0cbe32eecf9760a9, 6),
        (vec![time], 0x0cbe32eecf9760a9, 6),
        (vec![float(1.5)], 0x88747b63583e67c7, 68),
        (vec![float(0.0)], 0xe220a8397b1dcdaf, 113),
        (vec![float(-0.0)], 0xe220a8397b1dcdaf, 113),
        (vec![float(f64::NAN)], 0x8709d8d19b4c0ac2, 67),
        (vec![float(f64::from_bits(0xfff8_0000_0000_0001))], 0x8709d8d19b4c0ac2, 67),
        (vec![float(f64::INFINITY)], 0xa9fe2c7f019f06da, 84),
        (vec![text("")], 0xe220a8397b1dcdaf, 113),
        (vec![text("a")], 0xa3c028f2bbdf2b73, 81),
        (vec![text("a\0")], 0x73103ddaff819ed7, 57),
        (vec![text("12345678")], 0x21b7737e4bc485f3, 16),
        (vec![text("millstream, à la carte")], 0x2a02a0e3ec64d93b, 21),
        (vec![binary], 0x9a9cfac390afad9d, 77),
        (vec![null_int.clone()], 0xc012a927c11ab70f, 96),
        (vec![null_text.clone()], 0xc012a927c11ab70f, 96),
        (vec![int(1), text("a")], 0x509d74a7ad8075cf, 40),
        (vec![text("a"), int(1)], 0xc3f4263c1f51ac57, 97),
        (vec![null_text, boolean(true), float(2.0)], 0x4a8c9728b1757791, 37),
        (vec![], 0, 0),
    ];
    for (columns, expected, group) in vectors {
        let found = hash(&columns);
        assert_eq!(found, expected, "{columns:?} hashes to {found:#x}");
        assert_eq!(key_group(found), group, "{columns:?}");
    }
}

#[test]
fn what_lies_under_a_null_does_not_matter() {
    let values = vec![1, 2, 3].into();
    let nulls = NullBuffer::from(vec![false, false, false]);
    assert_eq!(hash(&[Arc::new(Int64Array::new(values, Some(nulls)))]), 0xc012a927c11ab70f);
}

#[test]
fn offsets_of_arrays_do_not_matter() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(1)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("yy"), Some("a")]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
    assert_eq!(hash(&[ints.slice(2, 1), texts.slice(2, 1)]), 0x509d74a7ad8075cf);
    assert_eq!(hash(&[ints.slice(1, 1)]), 0xc012a927c11ab70f);
    assert_eq!(hash(&[flags.slice(2, 1)]), 0xe4d971771b652c20);
}

#[test]
fn tasks_own_contiguous_groups_and_none_is_without() {
    for parallelism in 1..=KEY_GROUPS as usize {
        let tasks: Vec<_> = (0..KEY_GROUPS).map(|group| task_of_group(group, parallelism)).collect();
        assert!(tasks.is_sorted());
        assert!((0..parallelism).all(|task| tasks.contains(&task)));
        assert_eq!(tasks.last(), Some(&(parallelism - 1)));
    }
}

#[test]
fn keys_spread_over_the_groups() {
    let mut hashes = Vec::new();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..128_000));
    hash_rows(&[&keys], 128_000, &mut hashes).unwrap();
    let mut rows = [0; KEY_GROUPS as usize];
    hashes.iter().for_each(|hash| rows[key_group(*hash) as usize] += 1);
    assert!(rows.iter().all(|rows| (850..1_150).contains(rows)), "{rows:?}");
}

#[test]
fn other_kinds_of_column_are_refused() {
    let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let error = hash_rows(&[&column], 1, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("Int32"), "{error}");
}
