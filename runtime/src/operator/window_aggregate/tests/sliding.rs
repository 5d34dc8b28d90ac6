//! What sliding windows cost: merges are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fold::{Joined, input};
use super::*;
use crate::wasm::RowFailure;

/// Counts the accumulators that it merges.
struct Counting {
    joined: Joined,
    merges: Arc<AtomicU64>,
}

impl Fold for Counting {
    fn input(&self) -> &[usize] {
        self.joined.input()
    }

    fn state(&self) -> &Schema {
        self.joined.state()
    }

    fn output(&self) -> &Schema {
        self.joined.output()
    }

    fn create(&mut self) -> Result<RecordBatch, OperatorError> {
        self.joined.create()
    }

    fn accumulate(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        self.joined.accumulate(groups, accumulators, input, failed)
    }

    fn merge(
        &mut self,
        left: &RecordBatch,
        right: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        self.merges.fetch_add(left.num_rows() as u64, Ordering::Relaxed);
        self.joined.merge(left, right, failed)
    }

    fn finish(
        &mut self,
        accumulators: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        self.joined.finish(accumulators, failed)
    }
}

fn counting(every_ms: u64, lateness_ms: u64) -> (WindowAggregate, Arc<AtomicU64>) {
    let merges = Arc::new(AtomicU64::new(0));
    let fold = Counting { joined: Joined::new(), merges: Arc::clone(&merges) };
    let window = sliding(10_000, every_ms, 0);
    (late(&input(), &[0], window, lateness_ms, vec![AggregateCall::Fold(Box::new(fold))]), merges)
}

fn row(id: i64, time: i64) -> (Vec<Cell>, i64) {
    (vec![Cell::Int(id), Cell::Null, Cell::Int(1), Cell::Float(0.0), Cell::Text("a".into())], time)
}

#[test]
fn a_window_costs_three_merges_a_key_however_many_slices_it_has() {
    for every_ms in [1_000, 100, 10] {
        let (mut operator, merges) = counting(every_ms, 0);
        let mut results_total = 0;
        for second in 0..40 {
            let rows: Vec<_> = (0..1_000 / every_ms as i64)
                .flat_map(|part| (0..3).map(move |id| row(id, second * 1_000 + part * every_ms as i64)))
                .collect();
            put_in(&mut operator, &input(), &rows);
            results_total += results(&advance(&mut operator, second * 1_000 + 999)).len() as u64;
        }
        let merges = merges.load(Ordering::Relaxed);
        assert!(merges <= 3 * results_total, "{merges} merges for {results_total} results every {every_ms} ms");
    }
}

#[test]
fn a_row_behind_the_watermark_costs_merges_of_its_key_alone_and_is_in_all_windows_to_come() {
    let (mut operator, merges) = counting(100, 0);
    let rows: Vec<_> = (0..100).flat_map(|part| (0..50).map(move |id| row(id, part * 100))).collect();
    put_in(&mut operator, &input(), &rows);
    assert_eq!(results(&advance(&mut operator, 12_000)).len(), (100 + 20) * 50);
    let before = merges.load(Ordering::Relaxed);
    // [2100, 12100) is the next to fire
    put_in(&mut operator, &input(), &[row(7, 5_000), row(7, 2_050), row(7, 10_000)]);
    let found = results(&advance(&mut operator, 12_099));
    let mut counts: Vec<_> = found.iter().map(|row| row[3].clone()).collect();
    counts.retain(|count| *count != Cell::Int(79));
    assert_eq!(counts, [Cell::Int(81)]);
    assert!(merges.load(Ordering::Relaxed) - before <= 100 + 50);
}
