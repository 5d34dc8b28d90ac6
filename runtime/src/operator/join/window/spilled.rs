//! Rows of slices that do not fit into memory.
//!
//! When rows take more than their share of memory, those of all slices are written as runs (see `spilled_runs.rs`) and leave it. When
//! a window fires, what memory has of it follows, and its rows come back and are joined some partitions of the keys at a time. Rows with
//! a null in their key meet nothing: they lie in any partition.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;

use super::{SliceRows, Window, WindowJoin, WindowRows};
use crate::operator::join::{JoinColumns, LEFT, RIGHT, arrow, internal, keys, saved};
use crate::operator::spilled_runs::{LOOKS_A_ROW, Left, PARTITIONS, SpilledRuns, partitions_of};
use crate::operator::{OperatorError, Output};
use crate::record::{Batch, EventTime, Field, Schema};
use crate::spill::{RowCodec, Spill};
use crate::state::Later;

/// What the operator has in the store: by slice, rows of both sides.
pub(super) struct SpilledSlices {
    runs: SpilledRuns,
    /// of the keys of both sides
    keys: Vec<Field>,
    /// the window that is on its way out
    firing: Option<(Window, Left)>,
    /// where the next row without a key goes
    next: u32,
    /// rows taken in since memory was last measured
    unmeasured: usize,
    /// so many of them
    look_after: usize,
}

fn span(start: EventTime) -> (EventTime, EventTime) {
    (start, start)
}

impl SpilledSlices {
    fn new(spill: Spill, columns: &JoinColumns) -> Result<Self, OperatorError> {
        let codec = |input: &Schema| RowCodec::new(input.arrow().fields().iter().map(AsRef::as_ref));
        let tables = columns.inputs.iter().map(codec).collect::<Result<_, _>>().map_err(|error| internal(&error))?;
        let keys = keys::table(columns).fields().to_vec();
        Ok(Self { runs: SpilledRuns::new(spill, tables), keys, firing: None, next: 0, unmeasured: 0, look_after: 0 })
    }

    /// Drops a slice.
    pub(super) fn forget(&mut self, start: EventTime) -> Result<(), OperatorError> {
        self.runs.forget(span(start))
    }

    /// Whether any slice of the window is in the store.
    pub(super) fn has(&self, window: Window) -> bool {
        self.runs.first_from(window.bounds().start).is_some_and(|(start, _)| window.contains(start))
    }

    /// Writes the rows of a slice, which has none then.
    fn write(&mut self, start: EventTime, slice: &mut SliceRows, columns: &JoinColumns) -> Result<(), OperatorError> {
        let Self { runs, keys, next, .. } = self;
        let slice = std::mem::take(slice);
        for (side, (keyed, loners)) in slice.keyed.into_iter().zip(slice.loners).enumerate() {
            let key_columns = columns.keys.get(side).map(Vec::as_slice).unwrap_or_default();
            let of_keys = |batch: &RecordBatch| {
                let columns: Vec<_> = key_columns.iter().filter_map(|key| batch.columns().get(*key)).collect();
                partitions_of(keys, &columns, batch.num_rows())
            };
            runs.write_rows(span(start), side, &keyed.into_batches(), of_keys)?;
            let one_after_the_other = |batch: &RecordBatch| {
                let first = *next;
                *next = next.wrapping_add(batch.num_rows() as u32);
                Ok((0..batch.num_rows() as u32).map(|row| first.wrapping_add(row) % PARTITIONS).collect())
            };
            runs.write_rows(span(start), side, &loners.into_batches(), one_after_the_other)?;
        }
        Ok(())
    }

    /// Rows of a side as of now, as a snapshot holds them.
    pub(super) fn later(&self, columns: &JoinColumns) -> [Vec<Later>; 2] {
        let Some(frozen) = self.runs.freeze() else { return Default::default() };
        [LEFT, RIGHT].map(|side| {
            let (schema, keys) = (columns.inputs[side].arrow().clone(), columns.keys[side].clone());
            frozen.later(side, move |(start, _), columns| {
                let rows = RecordBatch::try_new(schema.clone(), columns)?;
                saved::saved(&rows, &keys, vec![start; rows.num_rows()].into(), None)
            })
        })
    }
}

impl WindowJoin {
    /// The same with a bound of memory.
    pub(in crate::operator) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        self.spilled = spill.map(|spill| SpilledSlices::new(spill, &self.columns)).transpose()?.map(Box::new);
        Ok(self)
    }

    #[cfg(test)]
    pub(in crate::operator) fn entries_spilled(&self) -> usize {
        self.spilled.as_ref().map_or(0, |spilled| spilled.runs.entries())
    }

    /// Bytes of the rows that are in memory.
    #[cfg(test)]
    pub(in crate::operator) fn state_bytes(&self) -> usize {
        self.slices.values().map(SliceRows::bytes).sum()
    }

    /// Writes what is in memory to the store if it is too much. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.unmeasured += rows;
        // looking at all batches takes time by their number
        if spilled.unmeasured < spilled.look_after {
            return Ok(());
        }
        spilled.unmeasured = 0;
        spilled.look_after = self.slices.values().map(SliceRows::batches).sum::<usize>() / LOOKS_A_ROW;
        let mut bytes = self.slices.values().map(SliceRows::bytes).sum();
        if spilled.runs.is_over(bytes) {
            for (start, slice) in &mut self.slices {
                spilled.write(*start, slice, &self.columns)?;
            }
            bytes = 0;
        }
        spilled.runs.report(bytes);
        Ok(())
    }

    /// Puts out some partitions of a window; true if they were the last.
    pub(super) fn fire_part(&mut self, window: Window, out: &mut Output) -> Result<bool, OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(true) };
        let start = window.bounds().start;
        let mut left = match spilled.firing.take().filter(|(firing, _)| *firing == window) {
            Some((_, left)) => left,
            None => {
                let (mut partitions, mut bytes) = (BTreeSet::new(), 0);
                for (start, slice) in self.slices.range_mut(start..).take_while(|(start, _)| window.contains(**start)) {
                    spilled.write(*start, slice, &self.columns)?;
                    spilled.runs.partitions(span(*start), &mut partitions);
                    bytes += spilled.runs.bytes_of(span(*start));
                }
                spilled.runs.left(partitions, bytes)
            }
        };
        let Some(partitions) = left.next() else { return Ok(true) };
        let done = left.is_empty();
        spilled.firing = (!done).then_some((window, left));
        let mut read = Vec::new();
        for (start, _) in self.slices.range(start..).take_while(|(start, _)| window.contains(**start)) {
            read.extend(spilled.runs.read(span(*start), &partitions)?);
        }
        let (mut keyed, mut loners) = ([None, None], [None, None]);
        for side in [LEFT, RIGHT] {
            let rows =
                RecordBatch::try_new(self.columns.inputs[side].arrow().clone(), spilled.runs.columns(side, &read)?);
            let rows = rows.map_err(|error| arrow(&error))?;
            let times = vec![start; rows.num_rows()].into();
            let Some(rows) = Batch::new(rows, times).filter(|rows| rows.rows() > 0) else { continue };
            let split = keys::split(rows, &self.columns.keys[side])?;
            (keyed[side], loners[side]) = (Some(split.keyed), split.loners);
        }
        drop(read);
        let of = |side: usize| keyed[side].iter().chain(&loners[side]).map(Batch::columns).collect();
        let count = |side: usize| usize::from(keyed[side].is_some());
        let rows = WindowRows { batches: [of(LEFT), of(RIGHT)], keyed: [count(LEFT), count(RIGHT)] };
        self.join(&rows, window.bounds(), out)?;
        Ok(done)
    }
}
