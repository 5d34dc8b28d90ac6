//! What joins by key do with keys whose rows do not fit into memory, see `spilled_keys.rs`.

use super::{JoinColumns, keys, saved, wrong};
use crate::operator::OperatorError;
use crate::operator::spilled_keys::{SpilledKeys, Spilling};
use crate::record::Batch;
use crate::spill::Spill;
use crate::state::KeyTable;

/// Where keys of a join go that do not fit into memory.
pub(super) fn spilled(spill: Option<Spill>, columns: &JoinColumns) -> Result<Option<Box<SpilledKeys>>, OperatorError> {
    let Some(spill) = spill else { return Ok(None) };
    let [left, right] = [super::LEFT, super::RIGHT].map(|side| saved::table(saved::NAMES[side], columns, side));
    Ok(Some(Box::new(SpilledKeys::new(spill, &[&left, &right])?)))
}

/// A join that has its rows by key.
pub(super) trait SpillingJoin: Spilling {
    /// What goes in and out, the keys, and where the slots of a batch are put.
    fn numbering(&mut self) -> (&JoinColumns, &mut KeyTable, &mut Vec<u32>);

    /// Numbers the keys of rows, and makes room for those that are new.
    fn number(&mut self, side: usize, batch: &Batch) -> Result<(), OperatorError> {
        let (columns, table, slots) = self.numbering();
        let columns = columns.keys.get(side).ok_or_else(|| wrong("a join has two inputs"))?;
        keys::keyed_slots(table, batch, columns, slots)
    }

    /// Brings the keys of rows back that are in the store.
    fn bring_in(&mut self, side: usize, batch: &Batch) -> Result<(), OperatorError> {
        let known = self.key_table().len();
        self.lent(|of, spilled| {
            let found = of.number(side, batch).and_then(|()| spilled.look_up(of, known));
            let found = found.and_then(|()| of.number(side, batch));
            let (_, table, slots) = of.numbering();
            spilled.note_used(slots, known as u32..table.len() as u32);
            found
        })
        .map(drop)
    }
}
