//! Keys whose rows do not fit into memory, see `spilled_keys.rs`. Rows with a null in their key have none and stay.

use arrow_array::RecordBatch;

use super::{EventTime, KeyRows, SessionJoin, Watermark};
use crate::operator::join::spilled::{Keyed, SpillingJoin, spilled};
use crate::operator::join::{internal, saved, wrong};
use crate::operator::spilled_keys::{ByKey, Wakes};
use crate::operator::{OperatorError, Output};
use crate::spill::Spill;
use crate::state::KeyTable;

impl ByKey for SessionJoin {
    fn key_table(&self) -> &KeyTable {
        &self.table
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let waiting = slots.iter().filter_map(|key| self.by_key.get(*key as usize)).flat_map(|key| &key.rows);
        let mut tables = Vec::with_capacity(2);
        for (side, ((rows, keys), input)) in
            self.sides.iter().zip(&self.columns.keys).zip(&self.columns.inputs).enumerate()
        {
            let of_side = waiting.clone().filter(|row| row.1 == side);
            let (times, numbers): (Vec<EventTime>, Vec<u32>) = of_side.map(|row| (row.0, row.2)).unzip();
            let rows = rows.gather(input.arrow(), &numbers)?;
            tables.push(vec![saved::saved(&rows, keys, times.into(), None).map_err(|error| internal(&error))?]);
        }
        Ok(tables)
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        let timer = |key: &u32| self.by_key.get(*key as usize).and_then(|key| key.timer);
        slots.iter().map(|key| [timer(key), None, None]).collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        let mut gone = [Vec::new(), Vec::new()];
        for (key, of_key) in (0_u32..).zip(&mut self.by_key) {
            if slots.binary_search(&key).is_err() {
                let KeyRows { rows, .. } = std::mem::take(of_key);
                for (_, side, number) in rows {
                    gone.get_mut(side).into_iter().for_each(|gone| gone.push(number));
                }
            }
        }
        for (side, gone) in self.sides.iter_mut().zip(gone) {
            side.remove(&gone)?;
        }
        let moves = self.table.retain(slots).map_err(|error| internal(&error))?;
        self.renumber(&moves);
        Ok(moves)
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        // a late row that touched an open session is in it: rows come back before lateness counts
        let watermark = std::mem::replace(&mut self.watermark, Watermark::MIN);
        let mut out = Output::default();
        for (side, table) in tables.iter().enumerate() {
            let input = self.columns.inputs.get(side).zip(self.columns.keys.get(side));
            let (input, keys) = input.ok_or_else(|| wrong("a join has two inputs"))?;
            let rows = saved::restored(table, input, keys.len())?;
            self.take(side, rows.batch, &mut out)?;
        }
        self.watermark = watermark;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let lists: usize = self.by_key.iter().map(|key| 64 + key.rows.capacity() * 24).sum();
        let sides: usize = self.sides.iter().map(super::Rows::bytes).sum();
        let times: usize = self.times.iter().map(super::Chunked::bytes).sum();
        self.table.bytes() + sides + times + lists + self.timers.len() * 32
    }
}

impl SpillingJoin for SessionJoin {
    fn keyed(&mut self) -> Keyed<'_> {
        let Self { columns, table, slots, spilled, .. } = self;
        Keyed { columns, table, slots, spilled }
    }

    fn make_room(&mut self) {
        self.by_key.resize_with(self.table.len(), KeyRows::default);
    }
}

impl SessionJoin {
    /// The same with a bound of memory.
    pub(in crate::operator) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        self.spilled = spilled(spill, &self.columns)?;
        Ok(self)
    }
}
