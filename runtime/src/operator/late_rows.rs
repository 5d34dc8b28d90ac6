//! Rows that come too late, on their way to the output that the step names for them.

use arrow_array::UInt32Array;
use arrow_select::take::take_record_batch;

use super::aggregate_fold::internal;
use super::{OperatorError, Output};
use crate::record::Batch;
use crate::state::StateError;

/// The number of the output for late rows.
const LATE: usize = 0;

/// Rows of a batch by their numbers, each with its time.
pub(super) fn picked(batch: &Batch, rows: Vec<u32>) -> Result<Batch, OperatorError> {
    let time = |row: &u32| batch.times().get(*row as usize).copied().unwrap_or_default();
    let times = rows.iter().map(time).collect();
    let columns = take_record_batch(batch.columns(), &UInt32Array::from(rows));
    let columns = columns.map_err(|error| internal(&StateError::Arrow(error)))?;
    Batch::new(columns, times).ok_or_else(|| OperatorError::Internal { reason: "times and rows differ".to_owned() })
}

/// Counts late rows, and puts them out as they came if the step has an output for them (`wanted`).
pub(super) fn put_out_late(batch: &Batch, rows: Vec<u32>, wanted: bool, out: &mut Output) -> Result<(), OperatorError> {
    put_out_late_by(batch, rows, wanted.then_some(LATE), out)
}

/// As [`put_out_late`], by the output of this number if there is one.
pub(super) fn put_out_late_by(
    batch: &Batch,
    rows: Vec<u32>,
    output: Option<usize>,
    out: &mut Output,
) -> Result<(), OperatorError> {
    out.late_rows += rows.len() as u64;
    if let Some(output) = output.filter(|_| !rows.is_empty()) {
        out.sides.push((output, picked(batch, rows)?));
    }
    Ok(())
}
