//! Running aggregates put away and taken up again.
//!
//! One table `keys`, a row a key: the key columns, `changed_at` (null where there is no result to come), `rows`, then the
//! accumulators.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, TimestampMillisecondArray};
use arrow_schema::Field as ArrowField;

use super::RollingAggregate;
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::internal;
use crate::operator::frozen_slices::{FrozenSlice, FrozenSlices, Head, built_in};
use crate::operator::saved_table::SavedTable;
use crate::operator::spilled_keys::Spilling;
use crate::operator::window_aggregate::times;
use crate::operator::window_aggregate_parts::Parts;
use crate::operator::window_aggregate_slice::saved_fields;
use crate::record::{Kind, Watermark};
use crate::state::Snapshot;
use crate::window::Emit;

/// The columns after the keys.
fn value_fields(parts: &Parts) -> Vec<ArrowField> {
    let changed_at = ArrowField::new("changed_at", Kind::TimestampMs.data_type(), true);
    std::iter::once(changed_at).chain(saved_fields(&parts.aggregates)).collect()
}

impl RollingAggregate {
    pub(super) fn saved_table(&self) -> SavedTable {
        SavedTable::new("keys", self.parts.head.fields(), value_fields(&self.parts))
    }

    /// Rows of the table: these slots.
    pub(super) fn rows_of(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut columns = self.parts.table.keys(slots).map_err(|error| internal(&error))?;
        let changed_at = slots.iter().map(|slot| self.changed_at.get(*slot).copied().flatten());
        columns.push(Arc::new(changed_at.collect::<TimestampMillisecondArray>()));
        columns.extend(self.state.save(&self.parts.aggregates, slots)?);
        Ok(columns)
    }

    /// Takes over rows of the table but their keys; `self.slots` are theirs.
    pub(super) fn load_rows(&mut self, columns: &[ArrayRef]) -> Result<(), OperatorError> {
        let Some((changed_at, accumulators)) = columns.split_first() else { return Ok(()) };
        self.state.load(&self.parts.aggregates, &self.slots, accumulators)?;
        if self.emit == Emit::Changes {
            return Ok(());
        }
        for ((row, slot), time) in self.slots.iter().enumerate().zip(times(Some(changed_at))?) {
            if changed_at.is_valid(row) {
                self.changed_at.set(*slot, Some(time));
                self.changed.push(*slot);
            }
        }
        Ok(())
    }

    pub(super) fn save(&mut self) -> Result<Snapshot, OperatorError> {
        let table = self.saved_table();
        let frozen = FrozenSlices {
            schema: table.schema().clone(),
            keys: self.parts.table.freeze(),
            slices: vec![FrozenSlice { state: self.state.freeze(), head: Head::Times(self.changed_at.freeze()) }],
            aggregates: built_in(&self.parts.aggregates),
        };
        let mut rows = frozen.blocks();
        rows.extend(self.spilled.iter().flat_map(|spilled| spilled.freeze()).flatten());
        Ok(Snapshot::default().with("keys", Some(table.keys()), Vec::new()).with_later(rows))
    }

    pub(super) fn load(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        let table = self.saved_table();
        for batch in table.rows(state)? {
            let (keys, rest) = batch.columns().split_at_checked(table.keys()).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let slots = &mut self.slots;
            self.parts.table.slots(&keys, batch.num_rows(), slots).map_err(|error| internal(&error))?;
            self.load_rows(rest)?;
            self.note_used();
            self.spill_if_over(batch.num_rows())?;
        }
        Ok(())
    }
}
