//! A WASM aggregate behind the window operator: accumulators cross as columns, failed rows are left out.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use super::isolate::{Failed, Isolation};
use super::{Fold, OnError, Operator, OperatorError, Output, Replacement, WindowAggregate};
use super::{KeyWindowAggregate, WindowAggregateSpec};
use crate::record::{Batch, Schema, Watermark};
use crate::state::Snapshot;
use crate::wasm::{CallError, Guest};

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

/// A call without rows to leave out failed: nothing can be saved.
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
        times: &[i64],
        out: &mut Output,
    ) -> Result<RecordBatch, OperatorError> {
        // The whole batch passes nearly always: one call, nothing copied.
        let error = match self.guest.accumulate(groups, accumulators, input) {
            Ok(folded) => return Ok(folded),
            Err(error) => error,
        };
        tracing::debug!(%error, rows = groups.len(), "an accumulate call failed; looking for the rows at fault");
        self.accumulate_in_pieces(groups, accumulators, input, times, out)
    }

    fn merge(&mut self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, OperatorError> {
        self.guest.merge(left, right).map_err(|error| fatal(&error))
    }

    fn finish(&mut self, accumulators: &RecordBatch) -> Result<RecordBatch, OperatorError> {
        let finished = self.guest.finish(accumulators).map_err(|error| fatal(&error))?;
        // the pipeline's names in place of the guest's
        RecordBatch::try_new(Arc::clone(self.output.arrow()), finished.columns().to_vec())
            .map_err(|error| OperatorError::Internal { reason: error.to_string() })
    }
}

impl GuestFold {
    fn accumulate_in_pieces(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
        times: &[i64],
        out: &mut Output,
    ) -> Result<RecordBatch, OperatorError> {
        let internal = |reason: &str| OperatorError::Internal { reason: reason.to_owned() };
        // Groups travel with their rows as one more column, so that pieces keep them together.
        let tagged = with_groups(input, groups).ok_or_else(|| internal("groups and rows differ"))?;
        let batch =
            Batch::new(tagged, ScalarBuffer::from(times.to_vec())).ok_or_else(|| internal("times and rows differ"))?;
        let mut folded = accumulators.clone();
        let guest = &mut self.guest;
        let mut pass = |piece: &Batch| -> Result<(), Failed> {
            let (groups, columns) = without_groups(piece.columns()).ok_or_else(|| internal("groups are missing"))?;
            let (dense, touched) = numbered(&groups);
            let some = take_record_batch(&folded, &touched).map_err(|error| internal(&error.to_string()))?;
            let changed = guest.accumulate(&dense, &some, &columns)?;
            folded = put_back(&folded, &touched, &changed).map_err(|error| internal(&error.to_string()))?;
            Ok(())
        };
        let dead_before = out.dead.len();
        Isolation { on_error: self.on_error, out: &mut *out }.run(&batch, &mut pass)?;
        for dead in out.dead.iter_mut().skip(dead_before) {
            if let Some((_, row)) = without_groups(&dead.row) {
                dead.row = row;
            }
        }
        Ok(folded)
    }
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

const GROUP: &str = "\u{0}group";

fn with_groups(input: &RecordBatch, groups: &[u32]) -> Option<RecordBatch> {
    let mut fields: Vec<_> = input.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow_schema::Field::new(GROUP, arrow_schema::DataType::UInt32, false)));
    let mut columns = input.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from(groups.to_vec())));
    RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).ok()
}

fn without_groups(tagged: &RecordBatch) -> Option<(Vec<u32>, RecordBatch)> {
    let last = tagged.num_columns().checked_sub(1)?;
    let groups = tagged.column(last).as_any().downcast_ref::<UInt32Array>()?.values().to_vec();
    let columns: Vec<usize> = (0..last).collect();
    Some((groups, tagged.project(&columns).ok()?))
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
        let windows = if spec.window.is_alike_for_all_keys() {
            Windowed::Alike(Box::new(WindowAggregate::new(spec)?))
        } else {
            Windowed::Keyed(Box::new(KeyWindowAggregate::new(spec)?))
        };
        Ok(Self { windows, on_error, outputs })
    }
}

impl AggregateStep {
    /// Applies the step's policy to rows that the window itself gave up (without event time, a sum out of range); those
    /// of guests have been dealt with.
    fn judge(&self, before: usize, out: &mut Output) -> Result<(), OperatorError> {
        self.on_error.judge(before, out)
    }
}

/// The operator by kind of window.
enum Windowed {
    /// tumbling, sliding
    Alike(Box<WindowAggregate>),
    /// session, count, global
    Keyed(Box<KeyWindowAggregate>),
}

impl Operator for AggregateStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        match &mut self.windows {
            Windowed::Alike(windows) => windows.on_batch(batch, out)?,
            Windowed::Keyed(windows) => windows.on_batch(batch, out)?,
        }
        self.judge(before, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        match &mut self.windows {
            Windowed::Alike(windows) => windows.on_watermark(watermark, out)?,
            Windowed::Keyed(windows) => windows.on_watermark(watermark, out)?,
        }
        self.judge(before, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        match &mut self.windows {
            Windowed::Alike(windows) => windows.snapshot(),
            Windowed::Keyed(windows) => windows.snapshot(),
        }
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        match &mut self.windows {
            Windowed::Alike(windows) => windows.restore(state, watermark),
            Windowed::Keyed(windows) => windows.restore(state, watermark),
        }
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        let Some(Some(output)) = self.outputs.get(slot) else {
            return Err(OperatorError::Internal { reason: format!("aggregate {slot} is not a component") });
        };
        let fold = Box::new(GuestFold::new(replacement.guest, replacement.inputs, output.clone(), self.on_error)?);
        match &mut self.windows {
            Windowed::Alike(windows) => windows.replace_fold(slot, fold),
            Windowed::Keyed(windows) => windows.replace_fold(slot, fold),
        }
    }
}
