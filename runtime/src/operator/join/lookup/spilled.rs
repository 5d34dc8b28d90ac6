//! Keys whose rows do not fit into memory, see `spilled_keys.rs`.

use arrow_array::RecordBatch;

use super::{LookupJoin, NO_ROW, TABLE};
use crate::operator::OperatorError;
use crate::operator::join::spilled::{Keyed, SpillingJoin};
use crate::operator::join::{RIGHT, internal, saved};
use crate::operator::spilled_keys::{ByKey, SpilledKeys, Wakes};
use crate::spill::Spill;
use crate::state::KeyTable;

impl LookupJoin {
    fn row_of(&self, key: u32) -> Option<u32> {
        self.latest.get(key as usize).copied().filter(|row| *row != NO_ROW)
    }
}

impl ByKey for LookupJoin {
    fn key_table(&self) -> &KeyTable {
        &self.table
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let numbers: Vec<u32> = slots.iter().filter_map(|key| self.row_of(*key)).collect();
        let rows = self.rows.gather(self.columns.inputs[RIGHT].arrow(), &numbers)?;
        let times = vec![0; numbers.len()].into();
        let rows = saved::saved(&rows, &self.columns.keys[RIGHT], times, None).map_err(|error| internal(&error))?;
        Ok(vec![vec![rows]])
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        vec![Wakes::default(); slots.len()]
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        let leaving = (0..self.latest.len() as u32).filter(|key| slots.binary_search(key).is_err());
        let gone: Vec<u32> = leaving.filter_map(|key| self.row_of(key)).collect();
        self.rows.remove(&gone)?;
        let latest: Vec<u32> = slots.iter().map(|key| self.row_of(*key).unwrap_or(NO_ROW)).collect();
        self.latest = latest;
        self.table.retain(slots).map_err(|error| internal(&error))
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        let keys = self.columns.keys[RIGHT].len();
        for table in tables {
            self.learn(saved::restored(table, &self.columns.inputs[RIGHT], keys)?.batch)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes() + self.rows.bytes() + self.latest.capacity() * 4
    }
}

impl SpillingJoin for LookupJoin {
    fn keyed(&mut self) -> Keyed<'_> {
        let Self { columns, table, slots, spilled, .. } = self;
        Keyed { columns, table, slots, spilled }
    }
}

impl LookupJoin {
    /// The same with a bound of memory.
    pub(in crate::operator) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        let table = saved::table(TABLE, &self.columns, RIGHT);
        self.spilled = spill.map(|spill| SpilledKeys::new(spill, &[&table])).transpose()?.map(Box::new);
        Ok(self)
    }
}
