//! Aggregates by key without windows: over all rows of a key so far.
//!
//! - `changes`: every row gives a row with the values after it, so results are a log of changes. Rows of a batch are folded in
//!   rounds, the first of every key, then the second, and so on, so a batch costs as many calls of a component as its most
//!   frequent key has rows.
//! - `latest`: when event time advances, every key that has changed since gives its result, keys in the order in which they
//!   were first seen.
//!
//! A result carries the time of its row; with `latest`, the latest of the rows since the last result. Event time decides
//! nothing else: no row is late, and rows without event time are taken. State is bounded by the number of keys, and keys
//! are never forgotten.

mod snapshot;
mod spilled;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::aggregate_fold::{Groups, internal};
use super::late_rows::picked;
use super::spilled_keys::{SpilledKeys, Spilling};
use super::sweep::{Left, MadeColumns, Sweeping};
use super::window_aggregate_parts::{Parts, accumulate};
use super::window_aggregate_slice::{Aggregate, Rows, SliceState, State};
use super::{DeadRow, Fold, Operator, OperatorError, Output, WindowAggregateSpec};
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, EventTime, Schema, Watermark};
use crate::state::{Chunked, ColumnBuilder, Snapshot, StateError, check_rows};
use crate::window::{Emit, Slice, WindowSpec};

/// The operator.
pub struct RollingAggregate {
    parts: Parts,
    emit: Emit,
    watermark: Watermark,
    state: SliceState,
    /// latest time of the rows of a slot since its last result
    changed_at: Chunked<Option<EventTime>>,
    /// slots that have one
    changed: Vec<u32>,
    /// those whose results are on their way out
    due: std::vec::IntoIter<u32>,
    /// whether results are put out up to the watermark: keys that change afterwards wait for the next
    firing: bool,
    slots: Vec<u32>,
    groups: Groups,
    /// numbers the keys of a batch
    keys: Groups,
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
}

/// Results on their way out, in pieces.
struct Results {
    /// by aggregate
    columns: Vec<Pieces>,
    /// row and slot of each
    origins: Vec<(u32, u32)>,
}

/// Columns of one aggregate.
enum Pieces {
    BuiltIn(ColumnBuilder),
    /// by column, arrays one after the other
    Fold(Vec<Vec<ArrayRef>>),
}

impl RollingAggregate {
    /// An operator without state. An error is a mistake in the plan, or a component that breaks its contract.
    pub fn new(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let WindowSpec::Rolling { emit } = spec.window else {
            return Err(OperatorError::Internal { reason: format!("{:?} is a window", spec.window) });
        };
        let spill = spec.spill.clone();
        let parts = Parts::new(spec)?;
        let everywhere = Slice { start: EventTime::MIN, end: EventTime::MAX };
        let operator = Self {
            state: SliceState::new(everywhere, &parts.aggregates),
            parts,
            emit,
            watermark: Watermark::MIN,
            changed_at: Chunked::new(None),
            changed: Vec::new(),
            due: Vec::new().into_iter(),
            firing: false,
            slots: Vec::new(),
            groups: Groups::new(),
            keys: Groups::new(),
            spilled: None,
        };
        operator.with_spill(spill)
    }

    /// Columns of the results: keys, then the aggregates.
    pub fn output(&self) -> &Schema {
        &self.parts.output
    }

    /// Keys that are held.
    pub fn keys_held(&self) -> usize {
        self.parts.table.len()
    }

    /// As [`super::WindowAggregate::replace_fold`].
    pub fn replace_fold(&mut self, index: usize, fold: Box<dyn Fold>) -> Result<(), OperatorError> {
        self.parts.replace_fold(index, fold, std::iter::once(&mut self.state))
    }

    /// As [`super::WindowAggregate::adopt_fold`].
    pub(super) fn adopt_fold(
        &mut self,
        index: usize,
        fold: Box<dyn Fold>,
        mut made: MadeColumns,
    ) -> Result<Left, OperatorError> {
        let rows = made.store.take();
        let left = self.parts.adopt_fold(index, fold, std::iter::once(&mut self.state), made)?;
        if let (Some(spilled), Some(rows)) = (&mut self.spilled, rows) {
            spilled.adopt(rows);
        }
        Ok(left)
    }

    /// Rows of its state, in memory and in the store.
    pub(super) fn state_rows(&self) -> u64 {
        self.state.touched as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled())
    }

    /// As [`super::WindowAggregate::sweeping`].
    pub(super) fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        let in_memory = Sweeping::new(&self.parts, std::iter::once(&mut self.state));
        Some(in_memory.and_spilled(self.spilled.as_deref_mut()))
    }

    /// Rows by how many of their key came before them in the batch.
    fn rounds(&mut self) -> Vec<Vec<u32>> {
        self.keys.assign(Rows::new(&self.slots, None, self.parts.table.len()));
        let mut seen = vec![0_usize; self.keys.slots.len()];
        let mut rounds: Vec<Vec<u32>> = Vec::new();
        for (row, group) in (0u32..).zip(&self.keys.groups) {
            let Some(seen) = seen.get_mut(*group as usize) else { continue };
            match rounds.get_mut(*seen) {
                Some(round) => round.push(row),
                None => rounds.push(vec![row]),
            }
            *seen += 1;
        }
        rounds
    }

    fn put_out_changes(&mut self, batch: &Batch, out: &mut Output) -> Result<(), OperatorError> {
        let mut results = Results::new(&self.parts.aggregates, batch.rows());
        let rounds = self.rounds();
        for rows in rounds {
            let slots: Vec<u32> = rows.iter().filter_map(|row| self.slots.get(*row as usize).copied()).collect();
            // cut out, since a round of one row must not look at all of them
            let part = match rows.as_slice() {
                [row] => batch.slice(*row as usize, 1),
                rows if rows.len() == batch.rows() => batch.clone(),
                rows => picked(batch, rows.to_vec())?,
            };
            let Parts { aggregates, table, .. } = &mut self.parts;
            let taken = Rows::new(&slots, None, table.len());
            accumulate(aggregates, &mut self.state, &part, taken, &mut self.groups, out)?;
            let origins = rows.into_iter().zip(slots).collect();
            self.finish(&mut results, origins, batch.times(), out)?;
        }
        let order = results.in_row_order();
        let time = |(row, _): &(u32, u32)| batch.times().get(*row as usize).copied().unwrap_or_default();
        self.put_out(results, order, time, out)
    }

    /// Adds the results of slots; one that cannot be made is a dead row of its key.
    fn finish(
        &mut self,
        results: &mut Results,
        mut origins: Vec<(u32, u32)>,
        times: &[EventTime],
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        for (aggregate, state) in self.parts.aggregates.iter().zip(&self.state.states) {
            let (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators)) = (aggregate, state) else { continue };
            if !built_in.may_fail() {
                continue;
            }
            let mut dead: Vec<(u32, u32, String)> = Vec::new();
            origins.retain(|(row, slot)| match built_in.failure(accumulators, *slot) {
                Some(reason) => {
                    dead.push((*row, *slot, reason));
                    false
                }
                None => true,
            });
            self.dead((dead, None), times, out)?;
        }
        let mut folded = self.folded(&mut origins, times, out)?.into_iter();
        let slots: Vec<u32> = origins.iter().map(|(_, slot)| *slot).collect();
        for ((aggregate, state), column) in
            self.parts.aggregates.iter_mut().zip(&self.state.states).zip(&mut results.columns)
        {
            match (aggregate, state, column) {
                (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators), Pieces::BuiltIn(column)) => {
                    let finished = built_in.finish_into(column, accumulators, &self.state.rows, &slots);
                    finished.map_err(|error| internal(&error))?;
                }
                (Aggregate::Fold(_), State::Fold(_), Pieces::Fold(pieces)) => {
                    let finished = folded.next().into_iter().flatten();
                    pieces.iter_mut().zip(finished).for_each(|(pieces, piece)| pieces.push(piece));
                }
                _ => return Err(OperatorError::Internal { reason: "state of another aggregate".into() }),
            }
        }
        results.origins.append(&mut origins);
        Ok(())
    }

    /// The results of components, in the order of the aggregates; what they refuse is taken off `origins`.
    fn folded(
        &mut self,
        origins: &mut Vec<(u32, u32)>,
        times: &[EventTime],
        out: &mut Output,
    ) -> Result<Vec<Vec<ArrayRef>>, OperatorError> {
        loop {
            let slots: Vec<u32> = origins.iter().map(|(_, slot)| *slot).collect();
            let (mut results, mut failed, mut refused_in) = (Vec::new(), Vec::new(), None);
            for (at, (aggregate, state)) in self.parts.aggregates.iter_mut().zip(&self.state.states).enumerate() {
                if let (Aggregate::Fold(fold), State::Fold(accumulators)) = (aggregate, state)
                    && !slots.is_empty()
                    && failed.is_empty()
                {
                    results.push(fold.finish(accumulators, &slots, &mut failed)?);
                    refused_in = (!failed.is_empty()).then_some(at);
                }
            }
            if failed.is_empty() {
                return Ok(results);
            }
            // each round takes at least one of them away
            let dead = failed.iter().filter_map(|failed| {
                let (row, slot) = origins.get(failed.row as usize).copied()?;
                Some((row, slot, failed.reason.clone()))
            });
            let dead: Vec<_> = dead.collect();
            if dead.is_empty() {
                return Err(OperatorError::Internal { reason: "a result that is not there has failed".into() });
            }
            origins.retain(|(row, _)| dead.iter().all(|(dead, ..)| dead != row));
            self.dead((dead, refused_in), times, out)?;
        }
    }

    /// Rows (row of the batch, slot) whose results cannot be made, why, and by which of several components: dead rows of their
    /// keys.
    fn dead(
        &self,
        (dead, slot_of): (Vec<(u32, u32, String)>, Option<usize>),
        times: &[EventTime],
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        for (row, slot, reason) in dead {
            let keys = self.parts.table.keys(&[slot]).map_err(|error| internal(&error))?;
            let time = times.get(row as usize).copied().unwrap_or_default();
            let row = record_batch(&self.parts.head, 1, keys)?;
            out.dead.push(DeadRow { row, time, reason, slot: slot_of });
        }
        Ok(())
    }

    /// Puts results out; `order` are their numbers.
    fn put_out(
        &self,
        results: Results,
        order: Option<UInt32Array>,
        time: impl Fn(&(u32, u32)) -> EventTime,
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        let Results { columns, origins } = results;
        if origins.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = origins.iter().map(|(_, slot)| *slot).collect();
        let mut arrays = self.parts.table.keys(&slots).map_err(|error| internal(&error))?;
        for column in columns {
            arrays.extend(column.finish().map_err(|error| internal(&error))?);
        }
        let mut times: Vec<EventTime> = origins.iter().map(time).collect();
        if let Some(order) = order {
            let ordered = |array: &ArrayRef| take(array, &order, None);
            let taken = arrays.iter().map(ordered).collect::<Result<Vec<_>, _>>();
            arrays = taken.map_err(|error| internal(&StateError::Arrow(error)))?;
            times = order.values().iter().filter_map(|at| times.get(*at as usize).copied()).collect();
        }
        let Some(batch) = Batch::new(record_batch(&self.parts.output, times.len(), arrays)?, times.into()) else {
            return Ok(());
        };
        out.batches.extend((0..batch.rows()).step_by(BATCH_ROWS).map(|from| batch.slice(from, BATCH_ROWS)));
        Ok(())
    }

    fn note_changes(&mut self, times: &[EventTime]) {
        for (slot, time) in self.slots.iter().zip(times) {
            self.changed_at.allocate(Chunked::<Option<EventTime>>::chunk_of(*slot));
            let Some(changed_at) = self.changed_at.get_mut(*slot) else { continue };
            if changed_at.is_none() {
                self.changed.push(*slot);
            }
            *changed_at = (*changed_at).max(Some(*time));
        }
    }

    /// Results of the keys that have changed are to be put out.
    fn take_changed(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        self.due = changed.into_iter();
    }

    /// Puts out results of keys that have changed, as many as may be at once.
    fn put_out_latest(&mut self, out: &mut Output) -> Result<(), OperatorError> {
        while !out.is_full() {
            let slots: Vec<u32> = self.due.by_ref().take(BATCH_ROWS.min(out.rows_at_once)).collect();
            if slots.is_empty() {
                break;
            }
            let mut times = Vec::with_capacity(slots.len());
            for slot in &slots {
                times.push(self.changed_at.get_mut(*slot).and_then(Option::take).unwrap_or_default());
            }
            let mut results = Results::new(&self.parts.aggregates, slots.len());
            let origins = (0u32..).zip(slots.iter().copied()).collect();
            self.finish(&mut results, origins, &times, out)?;
            let time = |(at, _): &(u32, u32)| times.get(*at as usize).copied().unwrap_or_default();
            self.put_out(results, None, time, out)?;
        }
        Ok(())
    }
}

/// A batch of so many rows, which may have no columns: the keys of a step without.
fn record_batch(schema: &Schema, rows: usize, columns: Vec<ArrayRef>) -> Result<RecordBatch, OperatorError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.arrow().clone(), columns, &options);
    batch.map_err(|error| internal(&StateError::Arrow(error)))
}

impl Results {
    fn new(aggregates: &[Aggregate], rows: usize) -> Self {
        let pieces = |aggregate: &Aggregate| match aggregate {
            Aggregate::BuiltIn(built_in) => Pieces::BuiltIn(ColumnBuilder::new(built_in.result(), rows)),
            Aggregate::Fold(fold) => Pieces::Fold(vec![Vec::new(); fold.output().fields().len()]),
        };
        Self { columns: aggregates.iter().map(pieces).collect(), origins: Vec::with_capacity(rows) }
    }

    /// The numbers of results in the order of their rows; none if they are so already.
    fn in_row_order(&self) -> Option<UInt32Array> {
        if self.origins.is_sorted() {
            return None;
        }
        let mut order: Vec<(u32, u32)> = self.origins.iter().map(|(row, _)| *row).zip(0..).collect();
        order.sort_unstable();
        Some(order.into_iter().map(|(_, at)| at).collect())
    }
}

impl Pieces {
    fn finish(self) -> Result<Vec<ArrayRef>, StateError> {
        let joined = |pieces: Vec<ArrayRef>| match pieces.as_slice() {
            [piece] => Ok(piece.clone()),
            pieces => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(StateError::Arrow),
        };
        match self {
            Self::BuiltIn(column) => Ok(vec![column.finish()?]),
            Self::Fold(columns) => columns.into_iter().map(joined).collect(),
        }
    }
}

impl Operator for RollingAggregate {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        check_rows(&self.parts.input, batch.rows(), batch.columns()).map_err(|error| internal(&error))?;
        if batch.is_empty() {
            return Ok(());
        }
        let columns = batch.columns().columns();
        let keys: Vec<&ArrayRef> = self.parts.keys.iter().filter_map(|key| columns.get(*key)).collect();
        let known = self.parts.table.len();
        self.parts.table.slots(&keys, batch.rows(), &mut self.slots).map_err(|error| internal(&error))?;
        self.bring_in(known)?;
        match self.emit {
            Emit::Changes => self.put_out_changes(&batch, out),
            Emit::Latest => {
                let rows = Rows::new(&self.slots, None, self.parts.table.len());
                accumulate(&mut self.parts.aggregates, &mut self.state, &batch, rows, &mut self.groups, out)?;
                self.note_changes(batch.times());
                Ok(())
            }
        }?;
        self.spill_if_over(batch.rows())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        self.firing = true;
        self.take_changed();
        self.put_out_latest(out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        if self.due.len() == 0 {
            self.firing = self.firing && self.bring_in_changed()?;
            if !self.firing {
                return Ok(false);
            }
            self.take_changed();
        }
        self.put_out_latest(out)?;
        if self.due.len() == 0 {
            // not before: what spills gives others its numbers
            self.spill_if_over(BATCH_ROWS)?;
        }
        Ok(true)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.save()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load(state, watermark)
    }
}

#[cfg(test)]
mod tests;
