//! The store's side of rows that leave memory in runs.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};

use super::*;
use crate::record::{Kind, Schema};
use crate::spill::testing;

fn schema() -> Schema {
    Schema::new([Field::new("n", Kind::Int64)])
}

fn runs(memory_bytes: usize) -> SpilledRuns {
    let codec = || RowCodec::new(schema().arrow().fields().iter().map(AsRef::as_ref)).unwrap();
    SpilledRuns::new(testing::spill(memory_bytes), vec![codec(), codec()])
}

fn batch(values: Range<i64>) -> RecordBatch {
    RecordBatch::try_new(schema().arrow().clone(), vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

fn put(runs: &mut SpilledRuns, span: Span, table: usize, values: Range<i64>) {
    let partition = |batch: &RecordBatch| partitions_of(schema().fields(), &[batch.column(0)], batch.num_rows());
    runs.write_rows(span, table, &[batch(values)], partition).unwrap();
}

fn numbers(columns: &[ArrayRef]) -> Vec<i64> {
    let mut values = columns[0].as_primitive::<Int64Type>().values().to_vec();
    values.sort_unstable();
    values
}

#[test]
fn what_is_written_of_a_span_and_table_comes_back_in_all_partitions_together() {
    let mut runs = runs(1 << 20);
    put(&mut runs, (0, 10), 0, 0..3_000);
    put(&mut runs, (0, 10), 1, 0..10);
    put(&mut runs, (0, 10), 0, 3_000..4_000);
    put(&mut runs, (-10, 0), 0, 0..7);
    let mut partitions = BTreeSet::new();
    runs.partitions((0, 10), &mut partitions);
    let mut left = runs.left(partitions, 20 << 20);
    let (mut found, mut times) = ([Vec::new(), Vec::new()], 0);
    while let Some(partitions) = left.next() {
        let read = runs.read((0, 10), &partitions).unwrap();
        (0..2).for_each(|table| found[table].extend(numbers(&runs.columns(table, &read).unwrap())));
        times += 1;
    }
    found.iter_mut().for_each(|values| values.sort_unstable());
    assert!(left.is_empty() && times > 100, "{times}");
    assert!(found[0].iter().copied().eq(0..4_000) && found[1].iter().copied().eq(0..10));
    assert_eq!((runs.first_from(-10), runs.first_from(1)), (Some((-10, 0)), None));
    runs.forget((0, 10)).unwrap();
    runs.forget((-10, 0)).unwrap();
    assert_eq!((runs.entries(), runs.has((0, 10)), runs.freeze().is_none()), (0, false, true));
}

#[test]
fn blocks_of_a_snapshot_are_as_of_the_barrier_and_stay_the_same_once_they_are_full() {
    let mut runs = runs(1 << 20);
    put(&mut runs, (0, 10), 0, 0..600_000);
    let later = |runs: &SpilledRuns| {
        let make = |_, columns| Ok(RecordBatch::try_new(schema().arrow().clone(), columns)?);
        runs.freeze().unwrap().later(0, make)
    };
    let (before, again) = (later(&runs), later(&runs));
    let ids = |blocks: &[Later]| blocks.iter().map(Later::id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&again));
    // many small ones share a block
    (0..50).for_each(|run| put(&mut runs, (0, 10), 0, 600_000 + run * 10..600_010 + run * 10));
    let after = later(&runs);
    let (first, second) = (ids(&before), ids(&after));
    let full = first.len() - 1;
    assert!(full >= 2 && first[..full] == second[..full] && first[full] != second[full], "{full} full blocks");
    runs.forget((0, 10)).unwrap();
    let all = |blocks: &[Later]| {
        let mut values: Vec<i64> = blocks.iter().flat_map(|block| numbers(block.rows().unwrap().columns())).collect();
        values.sort_unstable();
        values
    };
    assert!(all(&before).into_iter().eq(0..600_000));
    assert!(all(&after).into_iter().eq(0..600_500));
}

#[test]
fn a_block_of_many_runs_has_each_row_once_and_takes_no_memory_for_each_run() {
    let mut runs = runs(1 << 20);
    let index = |runs: &SpilledRuns| runs.index_bytes();
    put(&mut runs, (0, 10), 0, 0..3_000);
    let of_one = index(&runs);
    // rows of the other table lie between
    (0..200).for_each(|run| put(&mut runs, (0, 10), (run % 2) as usize, 3_000 + run * 10..3_010 + run * 10));
    assert!(of_one > 0 && index(&runs) <= of_one + 4 * size_of::<Block>(), "{of_one}, then {}", index(&runs));
    let make = |_, columns| Ok(RecordBatch::try_new(schema().arrow().clone(), columns)?);
    let frozen = runs.freeze().unwrap();
    let found = [0, 1].map(|table| {
        let blocks = frozen.later(table, make);
        assert_eq!(blocks.len(), 1);
        numbers(blocks[0].rows().unwrap().columns())
    });
    let of =
        |table: i64| (0..200).filter(move |run| run % 2 == table).flat_map(|run| 3_000 + run * 10..3_010 + run * 10);
    assert!(found[0].iter().copied().eq((0..3_000).chain(of(0))));
    assert!(found[1].iter().copied().eq(of(1)));
}

#[test]
fn what_is_kept_of_rows_in_the_store_counts_as_memory_but_never_as_more_than_half_of_it() {
    let mut runs = runs(4_000);
    assert!(!runs.is_over(4_000) && runs.is_over(4_001));
    put(&mut runs, (0, 10), 0, 0..10);
    let index = runs.index_bytes();
    assert!(index > 100 && !runs.is_over(4_000 - index) && runs.is_over(4_001 - index), "{index}");
    runs.report(1_000);
    assert_eq!(runs.counts().state_bytes, (1_000 + index) as u64);
    (0..100).for_each(|start| put(&mut runs, (start, start + 10), 0, 0..10));
    assert!(runs.index_bytes() > 4_000 && !runs.is_over(2_000) && runs.is_over(2_001));
}
