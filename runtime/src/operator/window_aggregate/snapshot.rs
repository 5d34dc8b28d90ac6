//! Slices put away and taken up again.
//!
//! One table `windows`, a row a key and slice: the keys, `slice_start`, `slice_end`, `rows`, then the accumulators. Which
//! windows have fired follows from the watermark.

use arrow_array::{Array, ArrayRef};
use arrow_schema::Field as ArrowField;

use super::{Entry, SliceState, WindowAggregate};
use crate::limits::BATCH_ROWS;
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::frozen_slices::{FrozenSlice, FrozenSlices, Head, built_in};
use crate::operator::saved_table::SavedTable;
use crate::operator::window_aggregate_parts::Parts;
use crate::operator::window_aggregate_slice::{Aggregate, saved_fields};
use crate::record::{Field, Kind, Watermark};
use crate::state::{KeyTable, Snapshot, words};
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

/// A column of the same time for all rows.
fn same_time(time: i64, rows: usize) -> ArrayRef {
    std::sync::Arc::new(arrow_array::TimestampMillisecondArray::from_value(time, rows))
}

/// Rows of the table: the slots of a slice.
fn rows_of(
    table: &KeyTable,
    state: &SliceState,
    aggregates: &[Aggregate],
    slots: &[u32],
) -> Result<Vec<ArrayRef>, OperatorError> {
    let mut columns = table.keys(slots).map_err(|error| internal(&error))?;
    columns.push(same_time(state.slice.start, slots.len()));
    columns.push(same_time(state.slice.end, slots.len()));
    columns.extend(state.save(aggregates, slots)?);
    Ok(columns)
}

impl WindowAggregate {
    fn saved_table(&self) -> SavedTable {
        let time = Kind::TimestampMs;
        windows_table(&self.parts, &[("slice_start", time), ("slice_end", time)])
    }

    pub(super) fn save(&mut self) -> Result<Snapshot, OperatorError> {
        let table = self.saved_table();
        let mut writer = table.writer();
        let spilled = self.spilled_slices();
        let in_memory = self.states.values_mut().filter(|state| !spilled.contains(&state.slice.start));
        let frozen = FrozenSlices {
            schema: table.schema().clone(),
            slices: in_memory.map(|state| FrozenSlice { state: state.freeze(), head: Head::Bounds }).collect(),
            keys: self.parts.table.freeze(),
            aggregates: built_in(&self.parts.aggregates),
        };
        for start in spilled {
            self.merged_slice(start, |table, state, aggregates| {
                let slots: Vec<u32> = state.slots().collect();
                for slots in slots.chunks(BATCH_ROWS) {
                    writer.push(slots.len(), rows_of(table, state, aggregates, slots)?)?;
                }
                Ok(())
            })?;
        }
        Ok(writer.finish(Snapshot::default())?.with_later(frozen.blocks()))
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
        state.load(&self.parts.aggregates, self.slots.get(rows).unwrap_or_default(), columns)
    }
}
