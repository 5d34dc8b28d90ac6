//! Map, filter and flat_map: a guest over the columns it reads.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take;

use super::isolate::{Failed, Isolation, selected};
use super::{OnError, Operator, OperatorError, Output, Replacement};
use crate::record::{Batch, Schema};
use crate::wasm::{Guest, OperatorKind};

/// A guest as a step. Holds no rows between calls.
#[derive(Debug)]
pub struct GuestStep {
    guest: Guest,
    kind: OperatorKind,
    /// columns of the input that the guest reads, in its order
    inputs: Vec<usize>,
    /// columns of the input that are carried over
    keep: Vec<usize>,
    output: Schema,
    on_error: OnError,
}

impl GuestStep {
    /// A step that calls `guest`, whose kind is `kind`, with the columns `inputs` and puts out `output`:
    /// the columns `keep`, then the guest's.
    pub fn new(
        guest: Guest,
        kind: OperatorKind,
        inputs: Vec<usize>,
        keep: Vec<usize>,
        output: Schema,
        on_error: OnError,
    ) -> Self {
        Self { guest, kind, inputs, keep, output, on_error }
    }
}

impl Operator for GuestStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let Self { guest, kind, inputs, keep, output, on_error } = self;
        let mut results = Vec::new();
        let mut pass = |piece: &Batch| -> Result<(), Failed> {
            let columns = projected(piece.columns(), inputs)?;
            match kind {
                OperatorKind::Mapper => results.push(beside(piece, keep, None, guest.transform(&columns)?, output)?),
                OperatorKind::Filter => {
                    let mask = guest.select(&columns)?;
                    match mask.true_count() {
                        0 => {}
                        all if all == piece.rows() => results.push(piece.clone()),
                        _ => results.push(selected(piece, &mask)?),
                    }
                }
                OperatorKind::FlatMapper => {
                    let made = guest.expand(&columns)?;
                    if made.output.num_rows() > 0 {
                        results.push(beside(piece, keep, Some(made.origin), made.output, output)?);
                    }
                }
                OperatorKind::Aggregator
                | OperatorKind::Processor
                | OperatorKind::WindowProcessor
                | OperatorKind::Partitioner => {
                    let reason = format!("a step of a row at a time is no {kind}");
                    return Err(OperatorError::Internal { reason }.into());
                }
            }
            Ok(())
        };
        Isolation { on_error: *on_error, out: &mut *out }.run(&batch, &mut pass)?;
        out.batches.append(&mut results);
        Ok(())
    }

    fn replace(&mut self, _slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.guest = replacement.guest;
        self.inputs = replacement.inputs;
        Ok(())
    }
}

/// The columns that the guest reads.
fn projected(columns: &RecordBatch, inputs: &[usize]) -> Result<RecordBatch, OperatorError> {
    columns.project(inputs).map_err(|error| OperatorError::Internal { reason: error.to_string() })
}

/// Kept columns of the input (each output row's taken from its `origin`) beside those that the guest made.
fn beside(
    input: &Batch,
    keep: &[usize],
    origin: Option<Vec<u32>>,
    made: RecordBatch,
    output: &Schema,
) -> Result<Batch, OperatorError> {
    let internal = |reason: String| OperatorError::Internal { reason };
    let rows = made.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(keep.len() + made.num_columns());
    let times = match origin {
        None => {
            columns.extend(keep.iter().map(|&column| Arc::clone(input.column(column))));
            input.times().clone()
        }
        Some(origin) => {
            let times = origin.iter().map(|&row| input.times().get(row as usize).copied().unwrap_or_default());
            let times = ScalarBuffer::from_iter(times);
            let origin = UInt32Array::from(origin);
            for &column in keep {
                columns.push(take(input.column(column), &origin, None).map_err(|error| internal(error.to_string()))?);
            }
            times
        }
    };
    columns.extend(made.columns().iter().map(Arc::clone));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = RecordBatch::try_new_with_options(Arc::clone(output.arrow()), columns, &options)
        .map_err(|error| internal(error.to_string()))?;
    Batch::new(columns, times).ok_or_else(|| internal("a map changed the number of rows".to_owned()))
}
