//! Key columns → dense slots.
//!
//! Three ways to hold a key, chosen by the key's columns:
//! - one column of fixed width: its 64 bits;
//! - two columns of fixed width without nulls: 128 bits;
//! - anything else: bytes ([`super::row_keys`]); a single text or binary column as it is, several encoded
//!   ([`super::key_rows`]).
//!
//! The null of a single column has a slot outside the table.

use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;

use super::arrays::{is_word, varlen, words};
use super::key_rows::{KeyRows, canonical_float};
use super::rounds::{NO_SLOT, Packed, Rounds};
use super::row_keys::{RowBytes, RowKeys};
use super::{Chunked, StateError};
use crate::record::{Field, Kind};

mod frozen;

pub(crate) use frozen::FrozenKeys;
use frozen::{BySlot, FrozenBySlot, gather};

/// Keys and their slots. Slots are `0 .. len()`, in the order in which keys were first seen.
///
/// Null is a key like any other, -0.0 is 0.0, and all NaNs are one key.
#[derive(Debug)]
pub struct KeyTable {
    fields: Vec<Field>,
    keys: Keys,
    numbers: Numbers,
    words: Vec<u64>,
    pairs: Vec<u128>,
    rows: KeyRows,
}

#[derive(Debug)]
enum Keys {
    Word(PackedKeys<u64>),
    Pair(PackedKeys<u128>),
    /// one column of text or binary
    Bytes(Box<RowKeys>),
    /// any columns, encoded
    Rows(Box<RowKeys>),
}

#[derive(Debug)]
struct PackedKeys<K> {
    table: Rounds<K>,
    by_slot: Chunked<K>,
}

/// Gives out slots.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    next: u32,
    null: Option<u32>,
}

impl Numbers {
    fn take(&mut self) -> Result<u32, StateError> {
        if self.next == NO_SLOT {
            return Err(StateError::TooManyKeys);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn null(&mut self) -> Result<u32, StateError> {
        let slot = match self.null {
            Some(slot) => slot,
            None => self.take()?,
        };
        self.null = Some(slot);
        Ok(slot)
    }
}

impl<K: Packed> PackedKeys<K> {
    fn with_room(keys: usize) -> Self {
        Self { table: Rounds::with_room(keys), by_slot: Chunked::new(K::default()) }
    }

    fn insert(&mut self, key: K, slot: u32) {
        self.table.insert(key, slot);
        self.by_slot.set(slot, key);
    }

    fn slots(
        &mut self,
        keys: &[K],
        nulls: Option<&NullBuffer>,
        numbers: &mut Numbers,
        slots: &mut Vec<u32>,
    ) -> Result<(), StateError> {
        self.table.find(keys, slots);
        forget_nulls(nulls, slots);
        for (row, (key, slot)) in keys.iter().zip(slots).enumerate() {
            if *slot != NO_SLOT {
                continue;
            }
            *slot = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                numbers.null()?
            } else if let Some(slot) = self.table.get(*key) {
                slot
            } else {
                let slot = numbers.take()?;
                self.insert(*key, slot);
                slot
            };
        }
        Ok(())
    }
}

/// New keys get their slots in row order, nulls among them.
fn number_rows(
    keys: &mut RowKeys,
    rows: RowBytes<'_>,
    nulls: Option<&NullBuffer>,
    numbers: &mut Numbers,
    slots: &mut Vec<u32>,
) -> Result<(), StateError> {
    keys.find(rows, slots);
    forget_nulls(nulls, slots);
    for (row, slot) in slots.iter_mut().enumerate() {
        if *slot != NO_SLOT {
            continue;
        }
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            *slot = numbers.null()?;
            continue;
        }
        let range = rows.offsets.get(row).zip(rows.offsets.get(row + 1));
        let key = range.and_then(|(start, end)| rows.bytes.get(*start..*end)).unwrap_or_default();
        *slot = match keys.get(key) {
            Some(slot) => slot,
            None => {
                let slot = numbers.take()?;
                keys.insert(key, slot)?;
                slot
            }
        };
    }
    Ok(())
}

/// Two words as one key.
#[inline(always)]
fn pair((first, high): (&Field, u64), (second, low): (&Field, u64)) -> u128 {
    let part =
        |field: &Field, word: u64| u128::from(if field.kind == Kind::Float64 { canonical_float(word) } else { word });
    part(first, high) << 64 | part(second, low)
}

/// The slot of null where there are nulls.
fn put_null(nulls: Option<&NullBuffer>, null: u32, slots: &mut [u32]) {
    let Some(nulls) = nulls else { return };
    for (slot, valid) in slots.iter_mut().zip(nulls.iter()) {
        if !valid {
            *slot = null;
        }
    }
}

/// What was found for the value that lies under a null does not count.
fn forget_nulls(nulls: Option<&NullBuffer>, slots: &mut [u32]) {
    let Some(nulls) = nulls else { return };
    for (slot, valid) in slots.iter_mut().zip(nulls.iter()) {
        if !valid {
            *slot = NO_SLOT;
        }
    }
}

impl KeyTable {
    /// An empty table for keys of these columns. No columns at all make one key.
    pub fn new(fields: &[Field]) -> Self {
        Self::with_room(fields, 0)
    }

    fn with_room(fields: &[Field], keys: usize) -> Self {
        let keys = match fields {
            [field] if is_word(field.kind) => Keys::Word(PackedKeys::with_room(keys)),
            [_] => Keys::Bytes(Box::new(RowKeys::with_room(keys))),
            [a, b] if [a, b].iter().all(|field| is_word(field.kind) && !field.nullable) => {
                Keys::Pair(PackedKeys::with_room(keys))
            }
            _ => Keys::Rows(Box::new(RowKeys::with_room(keys))),
        };
        Self {
            fields: fields.to_vec(),
            keys,
            numbers: Numbers::default(),
            words: Vec::new(),
            pairs: Vec::new(),
            rows: KeyRows::default(),
        }
    }

    /// The key columns.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Number of keys, and so of slots.
    pub fn len(&self) -> usize {
        self.numbers.next as usize
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot of each of `rows` rows (`slots` is cleared first). Keys that are new get the next slots, in row order.
    pub fn slots(&mut self, columns: &[&ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<(), StateError> {
        self.check(columns, rows)?;
        match (&mut self.keys, self.fields.as_slice(), columns) {
            (Keys::Word(keys), [field], [column]) => {
                let values = words(field, column)?;
                let values = if field.kind == Kind::Float64 {
                    self.words.clear();
                    self.words.extend(values.iter().map(|word| canonical_float(*word)));
                    self.words.as_slice()
                } else {
                    &values
                };
                keys.slots(values, column.nulls(), &mut self.numbers, slots)
            }
            (Keys::Pair(keys), [first, second], [left, right]) => {
                let (high, low) = (words(first, left)?, words(second, right)?);
                self.pairs.clear();
                let pairs = high.iter().zip(low.iter());
                self.pairs.extend(pairs.map(|(high, low)| pair((first, *high), (second, *low))));
                keys.slots(&self.pairs, None, &mut self.numbers, slots)
            }
            (Keys::Bytes(keys), [field], [column]) => {
                let (offsets, bytes) = varlen(field, column)?;
                self.rows.offsets.clear();
                self.rows.offsets.extend(offsets.iter().map(|offset| *offset as usize));
                let rows = RowBytes { offsets: &self.rows.offsets, bytes };
                number_rows(keys, rows, column.nulls(), &mut self.numbers, slots)
            }
            (Keys::Rows(keys), fields, columns) => {
                self.rows.encode(fields, columns, rows)?;
                let rows = RowBytes { offsets: &self.rows.offsets, bytes: &self.rows.bytes };
                number_rows(keys, rows, None, &mut self.numbers, slots)
            }
            _ => Err(StateError::ColumnCount { expected: self.fields.len(), found: columns.len() }),
        }
    }

    /// As [`KeyTable::slots`], but keys that are not there are not put in: theirs is [`NO_SLOT`].
    pub(crate) fn find(&mut self, columns: &[&ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<(), StateError> {
        self.check(columns, rows)?;
        let null = self.numbers.null.unwrap_or(NO_SLOT);
        match (&mut self.keys, self.fields.as_slice(), columns) {
            (Keys::Word(keys), [field], [column]) => {
                let float = field.kind == Kind::Float64;
                let values = words(field, column)?;
                self.words.clear();
                self.words.extend(values.iter().map(|word| if float { canonical_float(*word) } else { *word }));
                keys.table.find(&self.words, slots);
                put_null(column.nulls(), null, slots);
            }
            (Keys::Pair(keys), [first, second], [left, right]) => {
                let (high, low) = (words(first, left)?, words(second, right)?);
                self.pairs.clear();
                let pairs = high.iter().zip(low.iter());
                self.pairs.extend(pairs.map(|(high, low)| pair((first, *high), (second, *low))));
                keys.table.find(&self.pairs, slots);
            }
            (Keys::Bytes(keys), [field], [column]) => {
                let (offsets, bytes) = varlen(field, column)?;
                self.rows.offsets.clear();
                self.rows.offsets.extend(offsets.iter().map(|offset| *offset as usize));
                keys.find(RowBytes { offsets: &self.rows.offsets, bytes }, slots);
                put_null(column.nulls(), null, slots);
            }
            (Keys::Rows(keys), fields, columns) => {
                self.rows.encode(fields, columns, rows)?;
                keys.find(RowBytes { offsets: &self.rows.offsets, bytes: &self.rows.bytes }, slots);
            }
            _ => return Err(StateError::ColumnCount { expected: self.fields.len(), found: columns.len() }),
        }
        Ok(())
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Word(keys) => keys.table.bytes() + keys.by_slot.bytes(),
            Keys::Pair(keys) => keys.table.bytes() + keys.by_slot.bytes(),
            Keys::Bytes(keys) | Keys::Rows(keys) => keys.bytes(),
        };
        keys + self.words.capacity() * 8 + self.pairs.capacity() * 16 + self.rows.bytes.capacity()
    }

    /// Column count, row counts and nulls as declared; kinds are checked where values are read.
    fn check(&self, columns: &[&ArrayRef], rows: usize) -> Result<(), StateError> {
        if columns.len() != self.fields.len() {
            return Err(StateError::ColumnCount { expected: self.fields.len(), found: columns.len() });
        }
        for (field, column) in self.fields.iter().zip(columns) {
            if column.len() != rows {
                return Err(StateError::RowCount { expected: rows, found: column.len() });
            }
            if !field.nullable && column.null_count() > 0 {
                return Err(StateError::Nulls { column: field.name.clone() });
            }
        }
        Ok(())
    }

    /// The key columns of `slots`, a row a slot, as declared.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        let by_slot = match &self.keys {
            Keys::Word(keys) => BySlot::Word(&keys.by_slot),
            Keys::Pair(keys) => BySlot::Pair(&keys.by_slot),
            Keys::Bytes(keys) => BySlot::Bytes(keys.kept()),
            Keys::Rows(keys) => BySlot::Rows(keys.kept()),
        };
        gather(&self.fields, self.numbers, by_slot, slots)
    }

    /// The keys as of now, see [`Chunked::freeze`].
    pub(crate) fn freeze(&mut self) -> FrozenKeys {
        let keys = match &mut self.keys {
            Keys::Word(keys) => FrozenBySlot::Word(keys.by_slot.freeze()),
            Keys::Pair(keys) => FrozenBySlot::Pair(keys.by_slot.freeze()),
            Keys::Bytes(keys) => FrozenBySlot::Bytes(keys.freeze()),
            Keys::Rows(keys) => FrozenBySlot::Rows(keys.freeze()),
        };
        FrozenKeys { fields: self.fields.clone(), numbers: self.numbers, keys }
    }

    /// Drops all keys but those of `slots` (ascending), which are numbered anew in the same order: the answer's pairs
    /// are old and new slots. Takes time by the number of keys kept; what they took is given back.
    pub fn retain(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, StateError> {
        let mut kept = Self::with_room(&self.fields, slots.len());
        let mut moves = Vec::with_capacity(slots.len());
        let mut scratch = [0; 16];
        for old in slots {
            let missing = || StateError::Slot { slot: *old };
            let new = kept.numbers.take()?;
            moves.push((*old, new));
            if Some(*old) == self.numbers.null {
                kept.numbers.null = Some(new);
                continue;
            }
            match (&self.keys, &mut kept.keys) {
                (Keys::Word(from), Keys::Word(to)) => to.insert(*from.by_slot.get(*old).ok_or_else(missing)?, new),
                (Keys::Pair(from), Keys::Pair(to)) => to.insert(*from.by_slot.get(*old).ok_or_else(missing)?, new),
                (Keys::Bytes(from), Keys::Bytes(to)) | (Keys::Rows(from), Keys::Rows(to)) => {
                    to.insert(from.key(*old, &mut scratch).ok_or_else(missing)?, new)?;
                }
                _ => return Err(missing()),
            }
        }
        *self = kept;
        Ok(moves)
    }
}

#[cfg(test)]
mod tests;
