//! Keys whose rows do not fit into memory, see `spilled_keys.rs`. Rows with a null in their key have none and stay.

use std::cmp::Reverse;

use arrow_array::RecordBatch;

use super::{EventTime, IntervalJoin};
use crate::operator::OperatorError;
use crate::operator::join::spilled::{Keyed, SpillingJoin, spilled};
use crate::operator::join::{internal, saved};
use crate::operator::spilled_keys::{ByKey, Wakes};
use crate::spill::Spill;
use crate::state::KeyTable;

impl ByKey for IntervalJoin {
    fn key_table(&self) -> &KeyTable {
        &self.table
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let mut tables = Vec::with_capacity(2);
        for ((side, keys), input) in self.sides.iter().zip(&self.columns.keys).zip(&self.columns.inputs) {
            let numbers: Vec<u32> = slots.iter().flat_map(|key| side.all_of_key(*key)).collect();
            let rows = side.rows.gather(input.arrow(), &numbers)?;
            let known = || numbers.iter().filter_map(|number| side.known(*number));
            let (times, met) = (known().map(|row| row.time).collect(), known().map(|row| row.met).collect());
            tables.push(vec![saved::saved(&rows, keys, times, Some(met)).map_err(|error| internal(&error))?]);
        }
        Ok(tables)
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        let waits = |slot: &u32| {
            let of_side = |(side, rows): (usize, &super::Side)| {
                let known = rows.all_of_key(*slot).filter_map(|number| rows.known(number));
                let keeps = self.columns.kind.keeps(side);
                known.map(|row| row.high).filter(|high| keeps || *high < EventTime::MAX).min()
            };
            [self.sides.iter().enumerate().filter_map(of_side).min(), None, None]
        };
        slots.iter().map(waits).collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        let leaving: Vec<u32> = (0..self.table.len() as u32).filter(|key| slots.binary_search(key).is_err()).collect();
        for (number, side) in self.sides.iter_mut().enumerate() {
            let mut gone: Vec<u32> = leaving.iter().flat_map(|key| side.all_of_key(*key)).collect();
            side.remove(&gone)?;
            gone.sort_unstable();
            let stays = |Reverse((_, of, row)): &Reverse<(EventTime, usize, u32)>| {
                *of != number || gone.binary_search(row).is_err()
            };
            self.timers.retain(stays);
        }
        let moves = self.table.retain(slots).map_err(|error| internal(&error))?;
        self.sides.iter_mut().for_each(|side| side.renumber(&moves));
        Ok(moves)
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        tables.iter().enumerate().try_for_each(|(side, table)| self.load_side(side, table))
    }

    fn state_bytes(&self) -> usize {
        let timers = self.timers.capacity() * size_of::<(EventTime, usize, u32)>();
        self.table.bytes() + self.sides.iter().map(super::Side::bytes).sum::<usize>() + timers
    }
}

impl SpillingJoin for IntervalJoin {
    fn keyed(&mut self) -> Keyed<'_> {
        let Self { columns, table, slots, spilled, .. } = self;
        Keyed { columns, table, slots, spilled }
    }
}

impl IntervalJoin {
    /// The same with a bound of memory.
    pub(in crate::operator) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        self.spilled = spilled(spill, &self.columns)?;
        Ok(self)
    }

    #[cfg(test)]
    pub(in crate::operator) fn keys_spilled(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled())
    }
}
