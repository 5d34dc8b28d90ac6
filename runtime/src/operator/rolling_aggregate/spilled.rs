//! Keys that do not fit into memory, see `spilled_keys.rs`. Every row changes the accumulators of its key, so keys are read back one
//! by one. A key with a result to come waits for the next watermark.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};

use super::{Groups, OperatorError, RollingAggregate, internal};
use crate::operator::spilled_keys::{ByKey, SpilledKeys, Spilling, Wake, Wakes};
use crate::spill::Spill;
use crate::state::{KeyTable, StateError};

impl ByKey for RollingAggregate {
    fn key_table(&self) -> &KeyTable {
        &self.parts.table
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        // a key whose rows were all refused has nothing
        let slots: Vec<u32> = slots.iter().copied().filter(|slot| self.state.has(*slot)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let rows =
            RecordBatch::try_new_with_options(self.saved_table().schema().clone(), self.rows_of(&slots)?, &options);
        Ok(vec![vec![rows.map_err(|error| internal(&StateError::Arrow(error)))?]])
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        // whatever the watermark is, it is due with the next
        slots.iter().map(|slot| [self.is_changed(*slot).then_some(i64::MIN), None, None]).collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        let moves = self.parts.table.retain(slots).map_err(|error| internal(&error))?;
        self.state.renumber(&moves);
        self.state.touched = moves.iter().filter(|(_, new)| self.state.has(*new)).count();
        self.changed_at.renumber(&moves);
        self.changed = moves.iter().map(|(_, new)| *new).filter(|new| self.is_changed(*new)).collect();
        (self.groups, self.keys) = (Groups::new(), Groups::new());
        Ok(moves)
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        let batch = std::mem::take(&mut self.slots);
        let loaded = tables.iter().try_for_each(|table| {
            let (keys, rest) = table.columns().split_at_checked(self.parts.keys.len()).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let numbered = self.parts.table.slots(&keys, table.num_rows(), &mut self.slots);
            numbered.map_err(|error| internal(&error))?;
            self.load_rows(rest)
        });
        self.slots = batch;
        loaded
    }

    fn state_bytes(&self) -> usize {
        let groups = self.groups.bytes() + self.keys.bytes() + self.changed_at.bytes();
        self.state.bytes() + self.parts.table.bytes() + groups + self.changed.capacity() * 4
    }
}

impl Spilling for RollingAggregate {
    fn spilled(&mut self) -> &mut Option<Box<SpilledKeys>> {
        &mut self.spilled
    }
}

impl RollingAggregate {
    pub(super) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        let table = self.saved_table();
        self.spilled = spill.map(|spill| SpilledKeys::new(spill, &[&table])).transpose()?.map(Box::new);
        Ok(self)
    }

    /// Takes the keys from slot `known` on, which are new in memory, out of the store, as far as they are there; notes that
    /// all keys of the batch are in use.
    pub(super) fn bring_in(&mut self, known: usize) -> Result<(), OperatorError> {
        self.lent(|of, spilled| {
            let found = spilled.look_up(of, known);
            spilled.note_used(&of.slots, known as u32..of.parts.table.len() as u32);
            found
        })
        .map(drop)
    }

    /// Notes that the keys of `self.slots` are in use.
    pub(super) fn note_used(&mut self) {
        self.spilled.iter_mut().for_each(|spilled| spilled.note_used(&self.slots, 0..0));
    }

    /// Brings keys into memory that have changed since the last watermark and left memory since; false if there are none.
    pub(super) fn bring_in_changed(&mut self) -> Result<bool, OperatorError> {
        self.bring_due(Wake::Event, self.watermark.0)?;
        Ok(!self.changed.is_empty())
    }

    fn is_changed(&self, slot: u32) -> bool {
        self.changed_at.get(slot).is_some_and(Option::is_some)
    }
}
