//! Tests of the key table.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::record::Schema;
use crate::state::cells::{Cell, array, batch, rows};

fn cell(kind: Kind, nullable: bool) -> BoxedStrategy<Cell> {
    let value = match kind {
        Kind::Boolean => any::<bool>().prop_map(Cell::Bool).boxed(),
        Kind::Int64 => prop_oneof![-3i64..3, any::<i64>(), Just(i64::MIN)].prop_map(Cell::Int).boxed(),
        Kind::TimestampMs => (-3i64..3).prop_map(Cell::Time).boxed(),
        Kind::Float64 => {
            prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(-f64::NAN), Just(1.5), Just(f64::INFINITY)]
                .prop_map(Cell::Float)
                .boxed()
        }
        Kind::Text => "[a-b]{0,3}|[ab]{14,17}|é{5,9}".prop_map(Cell::Text).boxed(),
        Kind::Binary => prop_oneof![prop::collection::vec(0u8..2, 0..3), prop::collection::vec(254u8..=255, 14..18)]
            .prop_map(Cell::Bytes)
            .boxed(),
    };
    if nullable { prop_oneof![4 => value, 1 => Just(Cell::Null)].boxed() } else { value }
}

type Columns = Vec<(Kind, bool)>;

fn input() -> impl Strategy<Value = (Columns, Vec<Vec<Cell>>)> {
    let column = (prop::sample::select(&Kind::ALL[..]), any::<bool>());
    prop::collection::vec(column, 1..4).prop_flat_map(|columns| {
        let row: Vec<_> = columns.iter().map(|(kind, nullable)| cell(*kind, *nullable)).collect();
        (Just(columns), prop::collection::vec(row, 1..80))
    })
}

fn schema(columns: &Columns) -> Schema {
    let field = |(at, (kind, nullable)): (usize, &(Kind, bool))| Field {
        name: format!("c{at}"),
        kind: *kind,
        nullable: *nullable,
    };
    Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>())
}

/// What makes keys equal, and what comes back.
fn canonical(row: &[Cell]) -> String {
    let cell = |cell: &Cell| match cell {
        Cell::Float(value) if *value == 0.0 => "Float(0.0)".to_owned(),
        other => format!("{other:?}").replace("-NaN", "NaN"),
    };
    row.iter().map(cell).collect::<Vec<_>>().join(", ")
}

/// Puts the rows in, `step` at a time as slices of one batch; answers their slots.
fn put_in(table: &mut KeyTable, schema: &Schema, input: &[Vec<Cell>], step: usize) -> Vec<u32> {
    let whole = batch(schema, input);
    let mut all = Vec::new();
    let mut slots = vec![7; 3];
    for start in (0..input.len()).step_by(step) {
        let part = whole.slice(start, step.min(input.len() - start));
        table.slots(&part.columns().iter().collect::<Vec<_>>(), part.num_rows(), &mut slots).unwrap();
        assert_eq!(slots.len(), part.num_rows());
        all.extend_from_slice(&slots);
    }
    all
}

proptest! {
    #[test]
    fn slots_are_those_of_a_map_in_order_of_first_sight(
        (columns, input) in input(),
        step in 1usize..40,
        poor_hash in any::<bool>(),
        keep in prop::collection::vec(any::<bool>(), 80),
    ) {
        let schema = schema(&columns);
        let mut table = KeyTable::new(schema.fields());
        if poor_hash && let Keys::Bytes(keys) | Keys::Rows(keys) = &mut table.keys {
            **keys = RowKeys::with_poor_hash();
        }
        let slots = put_in(&mut table, &schema, &input, step);
        let mut model: HashMap<String, u32> = HashMap::new();
        for (row, slot) in input.iter().zip(&slots) {
            let next = model.len() as u32;
            prop_assert_eq!(*slot, *model.entry(canonical(row)).or_insert(next), "row {:?}", row);
        }
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(&put_in(&mut table, &schema, &input, 1), &slots);

        let keys = table.keys(&slots).unwrap();
        for (key, row) in rows(&keys).iter().zip(&input) {
            prop_assert_eq!(canonical(key), canonical(row));
        }
        let keys = arrow_array::RecordBatch::try_new(schema.arrow().clone(), keys);
        prop_assert!(keys.is_ok(), "{:?}", keys);

        let kept: Vec<u32> = (0..table.len() as u32).filter(|slot| keep[*slot as usize]).collect();
        let moves = table.retain(&kept).unwrap();
        prop_assert_eq!(&moves, &kept.iter().copied().zip(0..).collect::<Vec<_>>());
        let again = put_in(&mut table, &schema, &input, step);
        let mut expected: HashMap<u32, u32> = moves.into_iter().collect();
        for (old, new) in slots.iter().zip(&again) {
            let next = expected.len() as u32;
            prop_assert_eq!(*new, *expected.entry(*old).or_insert(next));
        }
    }
}

#[test]
fn slots_stay_while_a_table_grows_into_parts() {
    let schema = schema(&vec![(Kind::Int64, false)]);
    let mut table = KeyTable::new(schema.fields());
    let mut slots = Vec::new();
    let keys = |range: std::ops::Range<i64>| {
        array(Kind::Int64, range.map(|key| Cell::Int(key.wrapping_mul(1 << 33))).collect::<Vec<_>>().iter())
    };
    for start in (0..400_000).step_by(10_000) {
        table.slots(&[&keys(start..start + 10_000)], 10_000, &mut slots).unwrap();
        assert!(slots.iter().copied().eq(start as u32..start as u32 + 10_000), "new keys at {start}");
    }
    table.slots(&[&keys(0..400_000)], 400_000, &mut slots).unwrap();
    assert!(slots.iter().copied().eq(0..400_000));
    assert_eq!(table.len(), 400_000);
}

#[test]
fn no_key_columns_are_one_key() {
    let mut table = KeyTable::new(&[]);
    let mut slots = Vec::new();
    table.slots(&[], 3, &mut slots).unwrap();
    assert_eq!(slots, [0, 0, 0]);
    assert!(table.keys(&[0]).unwrap().is_empty());
}

#[test]
fn columns_that_were_not_planned_are_refused() {
    let mut table = KeyTable::new(&[Field::new("id", Kind::Int64)]);
    let mut slots = Vec::new();
    let text = array(Kind::Text, [Cell::Text("a".into())].iter());
    let error = table.slots(&[&text], 1, &mut slots).unwrap_err();
    assert_eq!(error.to_string(), "column `id`: expected int64, got Utf8");
    let null = array(Kind::Int64, [Cell::Null].iter());
    assert!(matches!(table.slots(&[&null], 1, &mut slots), Err(StateError::Nulls { .. })));
    assert!(matches!(table.slots(&[&null], 2, &mut slots), Err(StateError::RowCount { .. })));
    assert!(matches!(table.slots(&[], 1, &mut slots), Err(StateError::ColumnCount { .. })));
    assert!(table.keys(&[0]).is_err());
    assert!(table.retain(&[0]).is_err());
}
