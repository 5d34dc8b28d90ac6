//! Tests of the partitioner.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::record::{Field, Kind, Schema};

type Row = (Option<i64>, String, i64);

fn batch(rows: &[Row]) -> Batch {
    let schema = Schema::new([Field::new("id", Kind::Int64).nullable(), Field::new("name", Kind::Text)]);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)));
    let columns = arrow_array::RecordBatch::try_new(schema.arrow().clone(), vec![ids, names]).unwrap();
    Batch::new(columns, rows.iter().map(|row| row.2).collect()).unwrap()
}

fn rows(batch: &Batch) -> Vec<Row> {
    let (ids, names) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
    let id = |row| ids.is_valid(row).then(|| ids.value(row));
    (0..batch.rows()).map(|row| (id(row), names.value(row).to_owned(), batch.times()[row])).collect()
}

proptest! {
    #[test]
    fn every_row_goes_to_one_task_with_its_key_in_order(
        input in prop::collection::vec((prop::option::of(-5i64..5), "[a-c]{0,2}", any::<i64>()), 0..60),
        parallelism in 1usize..9,
        skip in 0usize..5,
    ) {
        let whole = batch(&input);
        let part = whole.slice(skip, whole.rows());
        let mut partitioner = Partitioner::key(vec![1, 0], parallelism).unwrap();
        let parts = partitioner.split(&part).unwrap();
        let mut task_of_key = HashMap::new();
        let mut found = Vec::new();
        for (task, part) in &parts {
            prop_assert!(*task < parallelism && !part.is_empty());
            for row in rows(part) {
                prop_assert_eq!(task_of_key.entry((row.0, row.1.clone())).or_insert(*task), task);
                found.push(row);
            }
            let order: Vec<_> = rows(part);
            let expected: Vec<_> = rows(&whole.slice(skip, whole.rows()))
                .into_iter()
                .filter(|row| task_of_key.get(&(row.0, row.1.clone())) == Some(task))
                .collect();
            prop_assert_eq!(order, expected);
        }
        prop_assert!(parts.is_sorted_by_key(|(task, _)| *task));
        let mut expected = input[skip.min(input.len())..].to_vec();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_batch_for_one_task_is_not_copied() {
    let whole = batch(&[(Some(1), "a".into(), 5), (Some(1), "a".into(), 6)]);
    for mut partitioner in [
        Partitioner::key(vec![0], 8).unwrap(),
        Partitioner::key(vec![0], 1).unwrap(),
        Partitioner::rebalance(3).unwrap(),
    ] {
        let parts = partitioner.split(&whole).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(Arc::ptr_eq(parts[0].1.column(0), whole.column(0)));
    }
}

#[test]
fn rebalance_goes_round_and_evens_out_rows() {
    let row = || (None, String::new(), 0);
    let (small, large) = (batch(&[row()]), batch(&[row(), row(), row()]));
    let mut partitioner = Partitioner::rebalance(2).unwrap();
    let tasks: Vec<_> =
        [&large, &small, &small, &small, &small, &small].map(|batch| partitioner.split(batch).unwrap()[0].0).into();
    assert_eq!(tasks, [0, 1, 1, 1, 0, 1]);
    assert!(partitioner.split(&small.slice(0, 0)).unwrap().is_empty());
}

#[test]
fn what_cannot_be_is_refused_with_the_bounds() {
    assert!(Partitioner::key(vec![0], 0).is_err());
    let error = Partitioner::rebalance(129).unwrap_err();
    assert!(error.to_string().contains("1..=128"), "{error}");
    let error = Partitioner::key(vec![2], 2).unwrap().split(&batch(&[(None, String::new(), 0)])).unwrap_err();
    assert!(error.to_string().contains("key column 2 of a batch with 2 columns"), "{error}");
}

fn numbers(values: std::ops::Range<i64>) -> Batch {
    let schema = crate::record::Schema::new([crate::record::Field::new("n", crate::record::Kind::Int64)]);
    let column: ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::from_iter_values(values.clone()));
    let columns = arrow_array::RecordBatch::try_new(schema.arrow().clone(), vec![column]).unwrap();
    Batch::new(columns, values.collect()).unwrap()
}

#[test]
fn all_rows_reach_all_tasks_when_they_are_broadcast() {
    let mut partitioner = Partitioner::broadcast(3).unwrap();
    let parts = partitioner.split(&numbers(0..10)).unwrap();
    let found: Vec<(usize, Vec<i64>)> = parts.iter().map(|(task, part)| (*task, part.times().to_vec())).collect();
    assert_eq!(found, [0, 1, 2].map(|task| (task, (0..10).collect())));
    assert!(partitioner.split(&numbers(0..0)).unwrap().is_empty());
}

#[test]
fn rows_of_one_range_reach_one_task_in_their_order() {
    let splits = super::SplitPoints::Integers(vec![3, 5, 8]);
    let mut partitioner = Partitioner::range(0, splits.clone(), 3).unwrap();
    let parts = partitioner.split(&numbers(0..10)).unwrap();
    let found: Vec<(usize, Vec<i64>)> = parts.iter().map(|(task, part)| (*task, part.times().to_vec())).collect();
    // four ranges in three tasks: the first two share one
    assert_eq!(found, [(0, vec![0, 1, 2, 3, 4]), (1, vec![5, 6, 7]), (2, vec![8, 9])]);
    assert!(Partitioner::range(7, splits, 3).unwrap().split(&numbers(0..10)).is_err());
}

#[test]
fn rows_reach_the_task_in_their_last_column_which_goes_no_further() {
    let addressed = |tasks: &[u32]| {
        let rows = numbers(0..tasks.len() as i64);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", std::sync::Arc::clone(rows.column(0))),
            ("task", std::sync::Arc::new(arrow_array::UInt32Array::from(tasks.to_vec()))),
        ];
        Batch::new(arrow_array::RecordBatch::try_from_iter(columns).unwrap(), rows.times().clone()).unwrap()
    };
    let mut partitioner = Partitioner::addressed(3).unwrap();
    let parts = partitioner.split(&addressed(&[2, 0, 2, 0])).unwrap();
    let found: Vec<_> =
        parts.iter().map(|(task, part)| (*task, part.times().to_vec(), part.columns().num_columns())).collect();
    assert_eq!(found, [(0, vec![1, 3], 1), (2, vec![0, 2], 1)]);
    let only = Partitioner::addressed(1).unwrap().split(&addressed(&[0, 0])).unwrap();
    assert_eq!((only[0].0, only[0].1.columns().num_columns()), (0, 1));
    assert!(partitioner.split(&addressed(&[3])).is_err());
    assert!(partitioner.split(&numbers(0..1)).is_err());
}
