//! A WASM aggregate behind the window operator: accumulators cross as columns, failed rows are left out.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use super::isolate::{Failed, Isolation};
use super::{
    Fold, KeptColumns, Left, MadeColumns, OnError, Operator, OperatorError, Output, Replacement, WindowAggregate,
};
use super::{KeyWindowAggregate, RollingAggregate, Sweeping, WindowAggregateSpec};
use crate::record::{Batch, Schema, Watermark};
use crate::state::Snapshot;
use crate::wasm::{CallError, Guest, RowFailure};

/// A guest that folds.
#[derive(Debug)]
pub struct GuestFold {
    guest: Guest,
    inputs: Vec<usize>,
    state: Schema,
    output: Schema,
    on_error: OnError,
}

impl GuestFold {
    /// Folds the columns `inputs` with `guest`. `output` are the guest's columns under the names the pipeline gives.
    pub fn new(guest: Guest, inputs: Vec<usize>, output: Schema, on_error: OnError) -> Result<Self, OperatorError> {
        let Some(state) = guest.signature().state.as_ref().map(|state| state.fields.clone()) else {
            return Err(OperatorError::Contract { reason: "an aggregator declares no state".to_owned() });
        };
        Ok(Self { guest, inputs, state, output, on_error })
    }
}

/// A call without rows failed: nothing can be saved.
fn fatal(error: &CallError) -> OperatorError {
    OperatorError::Contract { reason: error.to_string() }
}

impl Fold for GuestFold {
    fn input(&self) -> &[usize] {
        &self.inputs
    }

    fn state(&self) -> &Schema {
        &self.state
    }

    fn output(&self) -> &Schema {
        &self.output
    }

    fn create(&mut self) -> Result<RecordBatch, OperatorError> {
        self.guest.create().map_err(|error| fatal(&error))
    }

    fn accumulate(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        // The whole batch passes nearly always: one call, nothing copied.
        let error = match self.guest.accumulate(groups, accumulators, input) {
            Ok(folded) => return Ok(folded),
            Err(error) => error,
        };
        tracing::debug!(%error, rows = groups.len(), "an accumulate call failed; looking for the rows at fault");
        let mut folded = accumulators.clone();
        self.in_pieces(input, failed, &mut |guest, rows, piece| {
            let groups: Vec<u32> = rows.iter().filter_map(|row| groups.get(*row as usize)).copied().collect();
            let (dense, touched) = numbered(&groups);
            let some = take_record_batch(&folded, &touched).map_err(|error| internal(&error))?;
            let changed = guest.accumulate(&dense, &some, piece)?;
            folded = put_back(&folded, &touched, &changed).map_err(|error| internal(&error))?;
            Ok(())
        })?;
        Ok(folded)
    }

    fn merge(
        &mut self,
        left: &RecordBatch,
        right: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        let error = match self.guest.merge(left, right) {
            Ok(merged) => return Ok(merged),
            Err(error) => error,
        };
        tracing::debug!(%error, rows = left.num_rows(), "a merge call failed; looking for the accumulators at fault");
        let mut merged = Vec::new();
        self.in_pieces(left, failed, &mut |guest, rows, piece| {
            let right =
                take_record_batch(right, &UInt32Array::from(rows.to_vec())).map_err(|error| internal(&error))?;
            merged.push(guest.merge(piece, &right)?);
            Ok(())
        })?;
        concat_batches(self.state.arrow(), &merged).map_err(|error| internal(&error))
    }

    fn finish(
        &mut self,
        accumulators: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        let finished = match self.guest.finish(accumulators) {
            Ok(finished) => vec![finished],
            Err(error) => {
                let rows = accumulators.num_rows();
                tracing::debug!(%error, rows, "a finish call failed; looking for the accumulators at fault");
                let mut finished = Vec::new();
                self.in_pieces(accumulators, failed, &mut |guest, _, piece| {
                    finished.push(guest.finish(piece)?);
                    Ok(())
                })?;
                finished
            }
        };
        // the pipeline's names in place of the guest's
        let renamed = |made: RecordBatch| {
            let options = RecordBatchOptions::new().with_row_count(Some(made.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(self.output.arrow()), made.columns().to_vec(), &options)
        };
        let finished: Vec<_> = finished.into_iter().map(renamed).collect::<Result<_, _>>().map_err(|e| internal(&e))?;
        match finished.as_slice() {
            [all] => Ok(all.clone()),
            pieces => concat_batches(self.output.arrow(), pieces).map_err(|error| internal(&error)),
        }
    }
}

/// Makes a call with a piece of the rows; which they are, then their columns.
type CallPiece<'a> = dyn FnMut(&mut Guest, &[u32], &RecordBatch) -> Result<(), Failed> + 'a;

impl GuestFold {
    /// Calls with all of `rows`, in order, but those that `failed`, in as few and as large pieces as will pass.
    fn in_pieces(
        &mut self,
        rows: &RecordBatch,
        failed: &mut Vec<RowFailure>,
        call: &mut CallPiece<'_>,
    ) -> Result<(), OperatorError> {
        let Self { guest, on_error, .. } = self;
        // The policy is applied where it is known what a row is: of a step's input, or of a window. Only if it is to stop
        // no other rows have to be looked for.
        let on_error = if *on_error == OnError::Fail { OnError::Fail } else { OnError::DeadLetter };
        let missing = || OperatorError::Internal { reason: "the numbers of rows are missing".to_owned() };
        let numbers: Vec<u32> = (0..).take(rows.num_rows()).collect();
        let times = ScalarBuffer::from(vec![0; rows.num_rows()]);
        let batch = with_numbers(rows, numbers).and_then(|rows| Batch::new(rows, times)).ok_or_else(missing)?;
        let mut found = Output::default();
        let mut pass = |piece: &Batch| -> Result<(), Failed> {
            let (numbers, columns) = without_numbers(piece.columns()).ok_or_else(missing)?;
            call(guest, &numbers, &columns)
        };
        Isolation { on_error, out: &mut found }.run(&batch, &mut pass)?;
        for dead in found.dead {
            let (numbers, _) = without_numbers(&dead.row).ok_or_else(missing)?;
            failed.extend(numbers.first().map(|row| RowFailure { row: *row, reason: dead.reason }));
        }
        failed.sort_by_key(|failure| failure.row);
        Ok(())
    }
}

fn internal(error: &ArrowError) -> OperatorError {
    OperatorError::Internal { reason: error.to_string() }
}

/// Groups by their number among those that occur, and which those are. A piece takes only its own accumulators along: those
/// of other rows may be what is wrong, or too much for the guest's memory.
fn numbered(groups: &[u32]) -> (Vec<u32>, UInt32Array) {
    let mut touched = groups.to_vec();
    touched.sort_unstable();
    touched.dedup();
    let number = |group: &u32| touched.binary_search(group).ok().and_then(|at| u32::try_from(at).ok()).unwrap_or(0);
    let dense = groups.iter().map(number).collect();
    (dense, UInt32Array::from(touched))
}

/// `all` with the rows `touched` replaced by those of `changed`.
fn put_back(all: &RecordBatch, touched: &UInt32Array, changed: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut from: Vec<(usize, usize)> = (0..all.num_rows()).map(|row| (0, row)).collect();
    for (row, &group) in touched.values().iter().enumerate() {
        if let Some(place) = from.get_mut(group as usize) {
            *place = (1, row);
        }
    }
    interleave_record_batch(&[all, changed], &from)
}

const NUMBER: &str = "\u{0}number";

/// Rows with their numbers as one more column, so that pieces of them know which they are.
fn with_numbers(rows: &RecordBatch, numbers: Vec<u32>) -> Option<RecordBatch> {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow_schema::Field::new(NUMBER, arrow_schema::DataType::UInt32, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from(numbers)));
    RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).ok()
}

fn without_numbers(numbered: &RecordBatch) -> Option<(Vec<u32>, RecordBatch)> {
    let last = numbered.num_columns().checked_sub(1)?;
    let numbers = numbered.column(last).as_any().downcast_ref::<UInt32Array>()?.values().to_vec();
    let columns: Vec<usize> = (0..last).collect();
    Some((numbers, numbered.project(&columns).ok()?))
}

/// The window operator with the policy that its guests are replaced under.
pub struct AggregateStep {
    windows: Windowed,
    on_error: OnError,
    /// output columns of each aggregate that is a guest, by slot
    outputs: Vec<Option<Schema>>,
}

impl AggregateStep {
    /// `outputs`: for each entry of `aggregate` the guest's columns under their pipeline names, `None` for built-ins.
    pub fn new(
        spec: WindowAggregateSpec,
        on_error: OnError,
        outputs: Vec<Option<Schema>>,
    ) -> Result<Self, OperatorError> {
        let windows = if !spec.window.has_bounds() {
            Windowed::Rolling(Box::new(RollingAggregate::new(spec)?))
        } else if spec.window.is_alike_for_all_keys() && spec.fires_at_end_only() {
            Windowed::Alike(Box::new(WindowAggregate::new(spec)?))
        } else {
            Windowed::Keyed(Box::new(KeyWindowAggregate::new(spec)?))
        };
        Ok(Self { windows, on_error, outputs })
    }
}

impl AggregateStep {
    /// Another implementation of component `slot`.
    fn fold(&self, slot: usize, replacement: Replacement) -> Result<Box<dyn Fold>, OperatorError> {
        let Some(Some(output)) = self.outputs.get(slot) else {
            return Err(OperatorError::Internal { reason: format!("aggregate {slot} is not a component") });
        };
        Ok(Box::new(GuestFold::new(replacement.guest, replacement.inputs, output.clone(), self.on_error)?))
    }

    /// Applies the step's policy to rows that were given up: without event time or refused by a guest, and keys and windows
    /// without a result (a sum out of range, a guest that failed).
    fn judge(&self, before: usize, out: &mut Output) -> Result<(), OperatorError> {
        self.on_error.judge(before, out)
    }
}

/// The operator by kind of window.
enum Windowed {
    /// tumbling and sliding ones that fire at their end
    Alike(Box<WindowAggregate>),
    /// session, count, global, and those with another trigger
    Keyed(Box<KeyWindowAggregate>),
    /// none
    Rolling(Box<RollingAggregate>),
}

impl Operator for AggregateStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        match &mut self.windows {
            Windowed::Alike(windows) => windows.on_batch(batch, out)?,
            Windowed::Keyed(windows) => windows.on_batch(batch, out)?,
            Windowed::Rolling(keys) => keys.on_batch(batch, out)?,
        }
        self.judge(before, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        match &mut self.windows {
            Windowed::Alike(windows) => windows.on_watermark(watermark, out)?,
            Windowed::Keyed(windows) => windows.on_watermark(watermark, out)?,
            Windowed::Rolling(keys) => keys.on_watermark(watermark, out)?,
        }
        self.judge(before, out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let before = out.dead.len();
        let left = match &mut self.windows {
            Windowed::Alike(windows) => windows.go_on(out)?,
            Windowed::Keyed(windows) => windows.go_on(out)?,
            Windowed::Rolling(keys) => keys.go_on(out)?,
        };
        self.judge(before, out)?;
        Ok(left)
    }

    fn next_processing_time(&self) -> Option<i64> {
        match &self.windows {
            Windowed::Alike(windows) => windows.next_processing_time(),
            Windowed::Keyed(windows) => windows.next_processing_time(),
            Windowed::Rolling(_) => None,
        }
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        match &mut self.windows {
            Windowed::Alike(windows) => windows.on_processing_time(now_ms, out)?,
            Windowed::Keyed(windows) => windows.on_processing_time(now_ms, out)?,
            Windowed::Rolling(_) => {}
        }
        self.judge(before, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        match &mut self.windows {
            Windowed::Alike(windows) => windows.snapshot(),
            Windowed::Keyed(windows) => windows.snapshot(),
            Windowed::Rolling(keys) => keys.snapshot(),
        }
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        match &mut self.windows {
            Windowed::Alike(windows) => windows.restore(state, watermark),
            Windowed::Keyed(windows) => windows.restore(state, watermark),
            Windowed::Rolling(keys) => keys.restore(state, watermark),
        }
    }

    fn state_rows(&self) -> Option<u64> {
        Some(match &self.windows {
            Windowed::Alike(windows) => windows.state_rows(),
            Windowed::Keyed(windows) => windows.state_rows(),
            Windowed::Rolling(keys) => keys.state_rows(),
        })
    }

    fn kept_columns(&self, slot: usize) -> Option<KeptColumns> {
        let output = self.outputs.get(slot)?.as_ref()?.fields().first()?;
        let table = if matches!(self.windows, Windowed::Rolling(_)) { "keys" } else { "windows" };
        Some(KeptColumns { table, prefix: format!("{}.", output.name) })
    }

    fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        match &mut self.windows {
            Windowed::Alike(windows) => windows.sweeping(),
            Windowed::Keyed(windows) => windows.sweeping(),
            Windowed::Rolling(keys) => keys.sweeping(),
        }
    }

    fn adopt(&mut self, slot: usize, replacement: Replacement, made: MadeColumns) -> Result<Left, OperatorError> {
        let fold = self.fold(slot, replacement)?;
        match &mut self.windows {
            Windowed::Alike(windows) => windows.adopt_fold(slot, fold, made),
            Windowed::Keyed(windows) => windows.adopt_fold(slot, fold, made),
            Windowed::Rolling(keys) => keys.adopt_fold(slot, fold, made),
        }
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        let fold = self.fold(slot, replacement)?;
        match &mut self.windows {
            Windowed::Alike(windows) => windows.replace_fold(slot, fold),
            Windowed::Keyed(windows) => windows.replace_fold(slot, fold),
            Windowed::Rolling(keys) => keys.replace_fold(slot, fold),
        }
    }
}
