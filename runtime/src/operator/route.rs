//! Where a partitioner sends rows: its answer goes with them as a last column, which the exchange behind it takes off again.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};

use super::isolate::{Failed, Isolation};
use super::{OnError, Operator, OperatorError, Output, Replacement};
use crate::record::Batch;
use crate::wasm::Guest;

/// A partitioner in front of the tasks that it decides between. Holds no rows between calls.
#[derive(Debug)]
pub struct RouteStep {
    guest: Guest,
    /// columns of the input that the guest reads, in its order
    inputs: Vec<usize>,
    /// number of tasks
    targets: u32,
    on_error: OnError,
}

impl RouteStep {
    /// Asks `guest`, with the columns `inputs`, which of `targets` tasks gets a row.
    pub fn new(guest: Guest, inputs: Vec<usize>, targets: u32, on_error: OnError) -> Self {
        Self { guest, inputs, targets, on_error }
    }
}

impl Operator for RouteStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let Self { guest, inputs, targets, on_error } = self;
        let mut results = Vec::new();
        let mut pass = |piece: &Batch| -> Result<(), Failed> {
            let columns = piece.columns().project(inputs).map_err(|error| internal(error.to_string()))?;
            results.push(addressed(piece, guest.route(&columns, *targets)?)?);
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

fn internal(reason: String) -> OperatorError {
    OperatorError::Internal { reason }
}

/// The rows with their targets as the last column.
fn addressed(rows: &Batch, targets: Vec<u32>) -> Result<Batch, OperatorError> {
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::with_capacity(rows.columns().num_columns() + 1);
    for (field, column) in rows.columns().schema().fields().iter().zip(rows.columns().columns()) {
        columns.push((field.name().clone(), Arc::clone(column), field.is_nullable()));
    }
    columns.push(("task".to_owned(), Arc::new(UInt32Array::from(targets)), false));
    let columns = RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| internal(error.to_string()))?;
    Batch::new(columns, rows.times().clone()).ok_or_else(|| internal("rows and targets differ".to_owned()))
}
