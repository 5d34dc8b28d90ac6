//! Slices put away and taken up again.
//!
//! One table `windows`, a row a key and slice: the keys, `slice_start`, `slice_end`, `rows`, then the accumulators. Which
//! windows have fired follows from the watermark. What has spilled is in it as it lies in the store: a key may have several rows of
//! a slice, one for each run that it is in, the earliest first and what was in memory last. They are merged when they come back.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{Field as ArrowField, SchemaRef};

use super::running::merge_all;
use super::{Entry, SliceState, WindowAggregate};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::frozen_slices::{FrozenSlice, FrozenSlices, Head, built_in};
use crate::operator::saved_table::SavedTable;
use crate::operator::window_aggregate_parts::Parts;
use crate::operator::window_aggregate_slice::saved_fields;
use crate::record::{Field, Kind, Watermark};
use crate::state::{Snapshot, StateError, words};
use crate::window::Slice;

/// `windows` of a step whose windows have bounds under the names `head`.
pub(in crate::operator) fn windows_table(parts: &Parts, head: &[(&str, Kind)]) -> SavedTable {
    let head = head.iter().map(|(name, kind)| ArrowField::new(*name, kind.data_type(), false));
    let keys = parts.output.fields().get(..parts.keys.len()).unwrap_or_default();
    SavedTable::new("windows", keys, head.chain(saved_fields(&parts.aggregates)))
}

/// Columns of a row in the store: the keys, then accumulators.
pub(super) fn row_fields(parts: &Parts) -> Vec<ArrowField> {
    let keys = parts.output.fields().iter().take(parts.keys.len());
    let keys = keys.map(|field| ArrowField::new(&field.name, field.kind.data_type(), field.nullable));
    keys.chain(saved_fields(&parts.aggregates)).collect()
}

/// A column of times.
pub(in crate::operator) fn times(column: Option<&ArrayRef>) -> Result<Vec<i64>, OperatorError> {
    let Some(column) = column else { return Ok(Vec::new()) };
    let words = words(&Field::new("time", Kind::TimestampMs), column).map_err(|error| internal(&error))?;
    Ok(words.iter().map(|word| *word as i64).collect())
}

/// Rows of a slice as the table has them: what the store has of each, with the bounds of the slice between `keys` and the rest.
fn with_bounds(
    schema: &SchemaRef,
    keys: usize,
    (start, end): (i64, i64),
    mut columns: Vec<ArrayRef>,
) -> Result<RecordBatch, StateError> {
    let rows = columns.last().map_or(0, |column| column.len());
    let rest = columns.split_off(keys.min(columns.len()));
    columns.extend([start, end].map(|time| Arc::new(TimestampMillisecondArray::from_value(time, rows)) as ArrayRef));
    columns.extend(rest);
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Rows one after the other, no slot of which comes twice.
fn without_twice(slots: &[u32]) -> Vec<Range<usize>> {
    // as they are where nothing has spilled
    let ascend = slots.is_sorted_by(|one, other| one < other);
    let (mut ranges, mut from, mut seen) = (Vec::new(), 0, HashSet::new());
    for (row, slot) in slots.iter().enumerate() {
        if !ascend && !seen.insert(*slot) {
            ranges.push(from..row);
            seen = HashSet::from([*slot]);
            from = row;
        }
    }
    ranges.push(from..slots.len());
    ranges
}

impl WindowAggregate {
    fn saved_table(&self) -> SavedTable {
        let time = Kind::TimestampMs;
        windows_table(&self.parts, &[("slice_start", time), ("slice_end", time)])
    }

    pub(super) fn save(&mut self) -> Result<Snapshot, OperatorError> {
        let table = self.saved_table();
        let (schema, keys) = (table.schema().clone(), table.keys());
        let make = move |span, columns| with_bounds(&schema, keys, span, columns);
        let spilled = self.spilled.as_ref().and_then(|spilled| spilled.freeze());
        let mut rows = spilled.map(|spilled| spilled.later(0, make)).unwrap_or_default();
        let slices = self.states.values_mut().filter(|state| state.touched > 0);
        let frozen = FrozenSlices {
            schema: table.schema().clone(),
            slices: slices.map(|state| FrozenSlice { state: state.freeze(), head: Head::Bounds }).collect(),
            keys: self.parts.table.freeze(),
            aggregates: built_in(&self.parts.aggregates),
        };
        rows.extend(frozen.blocks());
        Ok(Snapshot::default().with("windows", Some(keys), Vec::new()).with_later(rows))
    }

    pub(super) fn load(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.groups = Groups::new();
        let table = self.saved_table();
        for batch in table.rows(state)? {
            let (keys, rest) = batch.columns().split_at_checked(table.keys()).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let slots = &mut self.slots;
            self.parts.table.slots(&keys, batch.num_rows(), slots).map_err(|error| internal(&error))?;
            let (starts, ends) = (times(rest.first())?, times(rest.get(1))?);
            let mut row = 0;
            while let Some((start, end)) = starts.get(row).zip(ends.get(row)) {
                let same = |other: &&i64| **other == *start;
                let rows = starts.iter().skip(row).take_while(same).count();
                let run: Vec<ArrayRef> = rest.iter().skip(2).map(|column| column.slice(row, rows)).collect();
                self.load_slice(Slice { start: *start, end: *end }, row..row + rows, &run)?;
                row += rows;
            }
            self.spill_if_over(batch.num_rows())?;
        }
        Ok(())
    }

    /// Rows of one slice; those whose windows are all late by now are dropped, as they would have been.
    fn load_slice(
        &mut self,
        slice: Slice,
        rows: std::ops::Range<usize>,
        columns: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        let expected = self.windows.slices().slice_of(slice.start);
        if expected != slice {
            let reason = format!(
                "it has rows of {}..{} ms, the windows of this step lie at {}..{} ms: the window has been changed",
                slice.start, slice.end, expected.start, expected.end
            );
            return Err(OperatorError::State { reason });
        }
        if self.is_late(slice.start) {
            return Ok(());
        }
        let state = match self.states.entry(slice.start) {
            Entry::Occupied(state) => state.into_mut(),
            Entry::Vacant(place) => {
                let first = self.windows.first_open_of(slice.start, self.watermark);
                self.next = self.next.into_iter().chain(first).min();
                place.insert(SliceState::new(slice, &self.parts.aggregates))
            }
        };
        let slots = self.slots.get(rows).unwrap_or_default();
        for rows in without_twice(slots) {
            let some: Vec<ArrayRef> = columns.iter().map(|column| column.slice(rows.start, rows.len())).collect();
            let slots = slots.get(rows).unwrap_or_default();
            if slots.iter().any(|slot| state.has(*slot)) {
                let mut later = SliceState::new(slice, &self.parts.aggregates);
                later.load(&self.parts.aggregates, slots, &some)?;
                merge_all(state, &later, &mut self.parts.aggregates)?;
            } else {
                state.load(&self.parts.aggregates, slots, &some)?;
            }
        }
        Ok(())
    }
}
