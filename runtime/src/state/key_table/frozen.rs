//! Keys by slot, read: of a table, or of how it was when it was frozen.

use std::ops::Range;

use arrow_array::ArrayRef;

use super::Numbers;
use crate::record::Field;
use crate::state::arrays::ColumnBuilder;
use crate::state::key_rows::decode;
use crate::state::row_keys::KeyBytes;
use crate::state::{Chunked, StateError};

/// The keys of a table as they were.
#[derive(Debug)]
pub(crate) struct FrozenKeys {
    pub(super) fields: Vec<Field>,
    pub(super) numbers: Numbers,
    pub(super) keys: FrozenBySlot,
}

#[derive(Debug)]
pub(super) enum FrozenBySlot {
    Word(Chunked<u64>),
    Pair(Chunked<u128>),
    Bytes(KeyBytes),
    Rows(KeyBytes),
}

/// Keys by slot, however they are held.
#[derive(Clone, Copy)]
pub(super) enum BySlot<'a> {
    Word(&'a Chunked<u64>),
    Pair(&'a Chunked<u128>),
    Bytes(&'a KeyBytes),
    Rows(&'a KeyBytes),
}

impl FrozenKeys {
    /// As [`super::KeyTable::keys`].
    pub(crate) fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        let by_slot = match &self.keys {
            FrozenBySlot::Word(keys) => BySlot::Word(keys),
            FrozenBySlot::Pair(keys) => BySlot::Pair(keys),
            FrozenBySlot::Bytes(keys) => BySlot::Bytes(keys),
            FrozenBySlot::Rows(keys) => BySlot::Rows(keys),
        };
        gather(&self.fields, self.numbers, by_slot, slots)
    }

    /// As [`Chunked::marks`]; the last is the slot of null.
    pub(crate) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        match &self.keys {
            FrozenBySlot::Word(keys) => keys.marks(chunks, to),
            FrozenBySlot::Pair(keys) => keys.marks(chunks, to),
            FrozenBySlot::Bytes(keys) | FrozenBySlot::Rows(keys) => keys.marks(chunks, to),
        }
        to.push(self.numbers.null.map_or(u64::MAX, u64::from));
    }
}

/// The key columns of `slots`, a row a slot.
pub(super) fn gather(
    fields: &[Field],
    numbers: Numbers,
    by_slot: BySlot<'_>,
    slots: &[u32],
) -> Result<Vec<ArrayRef>, StateError> {
    let mut columns: Vec<_> = fields.iter().map(|field| ColumnBuilder::new(field, slots.len())).collect();
    if let (BySlot::Word(keys), [column], None) = (by_slot, columns.as_mut_slice(), numbers.null) {
        for (slot, key) in slots.iter().zip(keys.of_slots(slots)) {
            column.push_word(*key.filter(|_| *slot < numbers.next).ok_or(StateError::Slot { slot: *slot })?);
        }
        return columns.into_iter().map(ColumnBuilder::finish).collect();
    }
    for slot in slots {
        if *slot >= numbers.next {
            return Err(StateError::Slot { slot: *slot });
        }
        if Some(*slot) == numbers.null {
            columns.iter_mut().try_for_each(ColumnBuilder::push_null)?;
        } else {
            push_key(fields, by_slot, *slot, &mut columns)?;
        }
    }
    columns.into_iter().map(ColumnBuilder::finish).collect()
}

#[inline]
fn push_key(fields: &[Field], by_slot: BySlot<'_>, slot: u32, columns: &mut [ColumnBuilder]) -> Result<(), StateError> {
    let missing = || StateError::Slot { slot };
    let mut scratch = [0; 16];
    match (by_slot, columns) {
        (BySlot::Word(keys), [column]) => column.push_word(*keys.get(slot).ok_or_else(missing)?),
        (BySlot::Pair(keys), [first, second]) => {
            let pair = *keys.get(slot).ok_or_else(missing)?;
            first.push_word((pair >> 64) as u64);
            second.push_word(pair as u64);
        }
        (BySlot::Bytes(keys), [column]) => {
            column.push_bytes(keys.key(slot, &mut scratch).ok_or_else(missing)?)?;
        }
        (BySlot::Rows(keys), columns) => {
            let key = keys.key(slot, &mut scratch).ok_or_else(missing)?;
            decode(fields, key, columns).ok_or_else(missing)??;
        }
        _ => return Err(missing()),
    }
    Ok(())
}
