//! What joins by key do with keys whose rows do not fit into memory, see `spilled_keys.rs`.

use super::{JoinColumns, keys, saved, wrong};
use crate::operator::OperatorError;
use crate::operator::spilled_keys::{ByKey, SpilledKeys, Spilling};
use crate::record::Batch;
use crate::spill::Spill;
use crate::state::KeyTable;

/// Where keys of a join go that do not fit into memory.
pub(super) fn spilled(spill: Option<Spill>, columns: &JoinColumns) -> Result<Option<Box<SpilledKeys>>, OperatorError> {
    let Some(spill) = spill else { return Ok(None) };
    let [left, right] = [super::LEFT, super::RIGHT].map(|side| saved::table(saved::NAMES[side], columns, side));
    Ok(Some(Box::new(SpilledKeys::new(spill, &[&left, &right])?)))
}

/// What a join by key has of its keys.
pub(super) struct Keyed<'a> {
    /// what goes in and out
    pub(super) columns: &'a JoinColumns,
    /// the keys in memory
    pub(super) table: &'a mut KeyTable,
    /// where the slots of a batch are put
    pub(super) slots: &'a mut Vec<u32>,
    /// the keys in the store
    pub(super) spilled: &'a mut Option<Box<SpilledKeys>>,
}

/// A join that has its rows by key.
pub(super) trait SpillingJoin: ByKey + Sized {
    /// Its parts.
    fn keyed(&mut self) -> Keyed<'_>;

    /// Makes room for keys that are new.
    fn make_room(&mut self) {}

    /// Numbers the keys of rows.
    fn number(&mut self, side: usize, batch: &Batch) -> Result<(), OperatorError> {
        let Keyed { columns, table, slots, .. } = self.keyed();
        let columns = columns.keys.get(side).ok_or_else(|| wrong("a join has two inputs"))?;
        keys::keyed_slots(table, batch, columns, slots)?;
        self.make_room();
        Ok(())
    }

    /// Brings the keys of rows back that are in the store.
    fn bring_in(&mut self, side: usize, batch: &Batch) -> Result<(), OperatorError> {
        let known = self.key_table().len();
        self.lent(|of, spilled| {
            let found = of.number(side, batch).and_then(|()| spilled.look_up(of, known));
            let found = found.and_then(|()| of.number(side, batch));
            let Keyed { table, slots, .. } = of.keyed();
            spilled.note_used(slots, known as u32..table.len() as u32);
            found
        })
        .map(drop)
    }
}

impl<J: SpillingJoin> Spilling for J {
    fn spilled(&mut self) -> &mut Option<Box<SpilledKeys>> {
        self.keyed().spilled
    }
}
