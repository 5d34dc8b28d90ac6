//! Runs a [`Fold`]: rows → slots → dense groups of one call; accumulators gathered, folded, scattered back.

use std::collections::BTreeSet;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_select::take::take;

use super::window_aggregate_slice::Rows;
use super::{DeadRow, Fold, OperatorError, Output};
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, Schema};
use crate::state::{Chunked, Columns, StateError, check_rows};
use crate::wasm::RowFailure;

/// A user-defined aggregate of a step.
pub(super) struct FoldCall {
    fold: Box<dyn Fold>,
    input: Schema,
    /// accumulators without slots, to be cloned for each slice
    empty: Columns,
}

/// Dense numbers for the slots that the rows of one call touch.
pub(super) struct Groups {
    /// by slot: call and number in it
    places: Chunked<(u32, u32)>,
    chunks: usize,
    call: u32,
    /// by row of the call
    pub(super) groups: Vec<u32>,
    /// by group
    pub(super) slots: Vec<u32>,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { places: Chunked::new((0, 0)), chunks: 0, call: 0, groups: Vec::new(), slots: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.places.bytes()
    }

    /// Numbers the slots of `rows`, in order of first appearance.
    pub(super) fn assign(&mut self, rows: Rows<'_>) {
        let chunks = rows.slots_total().div_ceil(crate::state::CHUNK_ROWS);
        (self.chunks..chunks).for_each(|chunk| self.places.allocate(chunk));
        self.chunks = self.chunks.max(chunks);
        self.call = self.call.wrapping_add(1);
        if self.call == 0 {
            self.places.refill((0, 0), |_| true);
            self.call = 1;
        }
        self.groups.clear();
        self.slots.clear();
        let Self { places, call, groups, slots, .. } = self;
        rows.each(|_, slot| _ = places.prefetch(slot));
        rows.each(|_, slot| {
            let Some((last_call, group)) = places.get_mut(slot) else { return };
            if *last_call != *call {
                (*last_call, *group) = (*call, slots.len() as u32);
                slots.push(slot);
            }
            groups.push(*group);
        });
    }
}

impl FoldCall {
    pub(super) fn new(mut fold: Box<dyn Fold>, input: &Schema) -> Result<Self, OperatorError> {
        let mut fields = Vec::new();
        for column in fold.input() {
            fields.push(input.fields().get(*column).cloned().ok_or_else(|| OperatorError::Internal {
                reason: format!("an aggregate reads column {column} of an input with {} columns", input.fields().len()),
            })?);
        }
        let created = fold.create()?;
        let empty = Columns::new(fold.state(), &created).map_err(|error| breach("create", &error))?;
        Ok(Self { fold, input: Schema::new(fields), empty })
    }

    pub(super) fn output(&self) -> &Schema {
        self.fold.output()
    }

    pub(super) fn state(&self) -> &Schema {
        self.fold.state()
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self) -> Columns {
        self.empty.clone()
    }

    /// Folds rows, one call. All chunks of their slots exist, and `groups` are those of the rows. Rows at fault are dead as
    /// the step received them.
    pub(super) fn accumulate(
        &mut self,
        into: &mut Columns,
        batch: &Batch,
        rows: Rows<'_>,
        groups: &Groups,
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        let accumulators = into.gather(&groups.slots).map_err(|error| internal(&error))?;
        let input = self.rows_of(batch, rows).map_err(|error| internal(&error))?;
        let mut failed = Vec::new();
        let folded = self.fold.accumulate(&groups.groups, &accumulators, &input, &mut failed)?;
        for RowFailure { row, reason } in failed {
            let row = match rows.picked() {
                None => row,
                Some(picked) => picked.get(row as usize).copied().unwrap_or(u32::MAX),
            };
            // a row that does not exist is of no batch
            let Some(time) = batch.times().get(row as usize).copied() else { continue };
            out.dead.push(DeadRow { row: batch.columns().slice(row as usize, 1), time, reason, slot: None });
        }
        into.scatter(&groups.slots, &folded).map_err(|error| breach("accumulate", &error))
    }

    fn rows_of(&self, batch: &Batch, rows: Rows<'_>) -> Result<RecordBatch, StateError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.input.fields().len());
        let indices = rows.picked().map(|rows| UInt32Array::from(rows.to_vec()));
        for column in self.fold.input() {
            let Some(column) = batch.columns().columns().get(*column) else { continue };
            columns.push(match &indices {
                None => column.clone(),
                Some(indices) => take(column.as_ref(), indices, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.input.arrow().clone(), columns, &options)?)
    }

    /// Slots of `from` go to those of `into`, `pairs` of which are (to, from), each `to` once: into what is there if it
    /// is `occupied`, which is the earlier then. All chunks exist. Slots (to) that could not be merged are `failed`; there
    /// stays what is there.
    pub(super) fn merge(
        &mut self,
        into: &mut Columns,
        from: &Columns,
        pairs: &[(u32, u32)],
        occupied: impl Fn(u32) -> bool,
        failed: &mut Vec<(u32, String)>,
    ) -> Result<(), OperatorError> {
        for pairs in pairs.chunks(BATCH_ROWS) {
            let (both, new): (Vec<_>, Vec<_>) = pairs.iter().copied().partition(|(to, _)| occupied(*to));
            if !new.is_empty() {
                let (to, of): (Vec<_>, Vec<_>) = new.into_iter().unzip();
                let rows = from.gather(&of).map_err(|error| internal(&error))?;
                into.scatter(&to, &rows).map_err(|error| internal(&error))?;
            }
            if !both.is_empty() {
                let (mut to, of): (Vec<_>, Vec<_>) = both.into_iter().unzip();
                let left = into.gather(&to).map_err(|error| internal(&error))?;
                let right = from.gather(&of).map_err(|error| internal(&error))?;
                let mut rows = Vec::new();
                let merged = self.fold.merge(&left, &right, &mut rows)?;
                failed.extend(take_out(&mut to, rows));
                into.scatter(&to, &merged).map_err(|error| breach("merge", &error))?;
            }
        }
        Ok(())
    }

    /// The result columns of `slots`, without those that are `failed` then.
    pub(super) fn finish(
        &mut self,
        of: &Columns,
        slots: &[u32],
        failed: &mut Vec<RowFailure>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let accumulators = of.gather(slots).map_err(|error| internal(&error))?;
        let results = self.fold.finish(&accumulators, failed)?;
        check_rows(self.fold.output(), slots.len().saturating_sub(failed.len()), &results)
            .map_err(|error| breach("finish", &error))?;
        Ok(results.columns().to_vec())
    }

    /// What new accumulators hold.
    pub(super) fn initial(&self) -> &Columns {
        &self.empty
    }
}

/// Takes the slots of rows at fault out, and answers which those are, and why.
pub(super) fn take_out(slots: &mut Vec<u32>, failed: Vec<RowFailure>) -> Vec<(u32, String)> {
    let reason = |RowFailure { row, reason }| Some((slots.get(row as usize).copied()?, reason));
    let taken: Vec<(u32, String)> = failed.into_iter().filter_map(reason).collect();
    if !taken.is_empty() {
        let gone: BTreeSet<u32> = taken.iter().map(|(slot, _)| *slot).collect();
        slots.retain(|slot| !gone.contains(slot));
    }
    taken
}

fn breach(call: &str, error: &StateError) -> OperatorError {
    OperatorError::Contract { reason: format!("answer of {call}: {error}") }
}

pub(super) fn internal(error: &StateError) -> OperatorError {
    OperatorError::Internal { reason: error.to_string() }
}
