//! Keys that are bytes. Up to 15 of them are packed into a `u128` and live in the table itself; longer ones are kept in
//! an arena, and the table holds their hash.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use super::prefetch::prefetch;
use super::rounds::{NO_SLOT, Rounds};
use super::{Chunked, StateError};

/// The longest key that is packed.
const SHORT_BYTES: usize = 15;

/// The last byte of a packed key is its length, or this: then the rest says where in the arena it is.
const LONG: u8 = u8::MAX;

/// Bytes of long keys that lie in one piece.
const ARENA_BYTES: usize = 64 << 10;

/// Keys as bytes: key i is `bytes[offsets[i] .. offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBytes<'a> {
    pub(super) offsets: &'a [usize],
    pub(super) bytes: &'a [u8],
}

impl<'a> RowBytes<'a> {
    fn row(self, row: usize) -> &'a [u8] {
        let range = self.offsets.get(row).zip(self.offsets.get(row + 1));
        range.and_then(|(start, end)| self.bytes.get(*start..*end)).unwrap_or_default()
    }

    fn rows(self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

/// Keys by slot.
#[derive(Debug)]
pub(super) struct KeyBytes {
    by_slot: Chunked<u128>,
    /// full pieces, and the last, which is copied when it grows while a frozen copy is there
    arena: Vec<Arc<Vec<u8>>>,
}

/// Table and keys by slot.
#[derive(Debug)]
pub(super) struct RowKeys {
    short: Rounds<u128>,
    /// hash of a long key → slot of the first key with that hash
    long: Rounds<u64>,
    /// long keys whose hash another key had before
    collided: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
    hash_mask: u64,
    kept: KeyBytes,
    packed: Vec<u128>,
    long_rows: Vec<u32>,
    long_hashes: Vec<u64>,
    long_slots: Vec<u32>,
}

impl RowKeys {
    /// No keys; room for that many short ones.
    pub(super) fn with_room(short_keys: usize) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self {
            short: Rounds::with_room(short_keys),
            long: Rounds::new(),
            collided: HashMap::with_hasher(hasher.clone()),
            hasher,
            hash_mask: u64::MAX,
            kept: KeyBytes { by_slot: Chunked::new(0), arena: Vec::new() },
            packed: Vec::new(),
            long_rows: Vec::new(),
            long_hashes: Vec::new(),
            long_slots: Vec::new(),
        }
    }

    /// A table in which nearly all long keys collide.
    #[cfg(test)]
    pub(super) fn with_poor_hash() -> Self {
        Self { hash_mask: 3, ..Self::with_room(0) }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        let arena: usize = self.kept.arena.iter().map(|piece| piece.capacity()).sum();
        self.short.bytes() + self.long.bytes() + self.kept.by_slot.bytes() + arena + self.collided.len() * 96
    }

    /// The slot of every key, [`NO_SLOT`] where it is not there. `slots` is cleared first.
    pub(super) fn find(&mut self, rows: RowBytes<'_>, slots: &mut Vec<u32>) {
        self.packed.clear();
        self.long_rows.clear();
        for (row, range) in (0u32..).zip(rows.offsets.windows(2)) {
            let &[start, end] = range else { continue };
            let packed = pack(rows.bytes, start, end);
            if packed.is_none() {
                self.long_rows.push(row);
            }
            // a long key's stand-in is in no table of short keys
            self.packed.push(packed.unwrap_or(u128::MAX));
        }
        if self.long_rows.len() < rows.rows() {
            self.short.find(&self.packed, slots);
        } else {
            slots.clear();
            slots.resize(rows.rows(), NO_SLOT);
        }
        if !self.long_rows.is_empty() {
            self.find_long(rows, slots);
        }
    }

    fn find_long(&mut self, rows: RowBytes<'_>, slots: &mut [u32]) {
        let mut hashes = std::mem::take(&mut self.long_hashes);
        let mut found = std::mem::take(&mut self.long_slots);
        hashes.clear();
        hashes.extend(self.long_rows.iter().map(|row| self.hash(rows.row(*row as usize))));
        self.long.find(&hashes, &mut found);
        found.iter().for_each(|slot| _ = self.kept.by_slot.prefetch(*slot));
        found.iter().for_each(|slot| self.kept.prefetch_long(*slot));
        for (row, slot) in self.long_rows.iter().zip(&found) {
            if *slot != NO_SLOT
                && self.key(*slot, &mut [0; 16]) == Some(rows.row(*row as usize))
                && let Some(place) = slots.get_mut(*row as usize)
            {
                *place = *slot;
            }
        }
        self.long_hashes = hashes;
        self.long_slots = found;
    }

    /// The slot of one key.
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        if let Some(packed) = pack(key, 0, key.len()) {
            return self.short.get(packed);
        }
        let slot = self.long.get(self.hash(key))?;
        if self.key(slot, &mut [0; 16]) == Some(key) { Some(slot) } else { self.collided.get(key).copied() }
    }

    /// Puts in a key that is not there.
    pub(super) fn insert(&mut self, key: &[u8], slot: u32) -> Result<(), StateError> {
        if let Some(packed) = pack(key, 0, key.len()) {
            self.short.insert(packed, slot);
            self.kept.by_slot.set(slot, packed);
            return Ok(());
        }
        let place = self.kept.keep(key)?;
        self.kept.by_slot.set(slot, place);
        let hash = self.hash(key);
        if self.long.get(hash).is_none() {
            self.long.insert(hash, slot);
        } else {
            self.collided.insert(key.into(), slot);
        }
        Ok(())
    }

    /// The key of a slot. A packed one is written to `scratch`.
    pub(super) fn key<'a>(&'a self, slot: u32, scratch: &'a mut [u8; 16]) -> Option<&'a [u8]> {
        self.kept.key(slot, scratch)
    }

    /// Keys by slot.
    pub(super) fn kept(&self) -> &KeyBytes {
        &self.kept
    }

    /// As [`Chunked::freeze`].
    pub(super) fn freeze(&mut self) -> KeyBytes {
        KeyBytes { by_slot: self.kept.by_slot.freeze(), arena: self.kept.arena.clone() }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish() & self.hash_mask
    }
}

impl KeyBytes {
    /// As [`Chunked::marks`]: what a slot's bytes are is settled when it gets them.
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        self.by_slot.marks(chunks, to);
    }

    /// The key of a slot. A packed one is written to `scratch`.
    pub(super) fn key<'a>(&'a self, slot: u32, scratch: &'a mut [u8; 16]) -> Option<&'a [u8]> {
        let packed = *self.by_slot.get(slot)?;
        *scratch = packed.to_le_bytes();
        let length = scratch[SHORT_BYTES];
        if length != LONG {
            return scratch.get(..usize::from(length));
        }
        let [piece, start, length] = place_of(packed);
        self.arena.get(piece)?.get(start..start.checked_add(length)?)
    }

    /// Asks for the bytes of a long key.
    #[inline]
    fn prefetch_long(&self, slot: u32) {
        if let Some(packed) = self.by_slot.get(slot) {
            let [piece, start, _] = place_of(*packed);
            self.arena.get(piece).into_iter().for_each(|piece| prefetch(piece, start));
        }
    }

    /// Keeps the bytes; answers where: LONG (8 bits), .. , piece (24 bits), start (32), length (32).
    fn keep(&mut self, key: &[u8]) -> Result<u128, StateError> {
        let full = self.arena.last().is_none_or(|piece| piece.capacity() - piece.len() < key.len());
        if full {
            self.arena.push(Arc::new(Vec::with_capacity(key.len().max(ARENA_BYTES))));
        }
        let (piece, Some(last)) = (self.arena.len() - 1, self.arena.last_mut()) else {
            return Err(StateError::TooManyKeys);
        };
        if Arc::get_mut(last).is_none() {
            // not `make_mut`: room for more would be gone
            let mut copy = Vec::with_capacity(last.capacity());
            copy.extend_from_slice(last);
            *last = Arc::new(copy);
        }
        let Some(last) = Arc::get_mut(last) else { return Err(StateError::TooManyKeys) };
        let start = last.len();
        let (Ok(length), Ok(start), true) = (u32::try_from(key.len()), u32::try_from(start), piece <= 0xff_ffff) else {
            return Err(StateError::TooManyKeys);
        };
        last.extend_from_slice(key);
        Ok(u128::from(LONG) << 120 | (piece as u128) << 64 | u128::from(start) << 32 | u128::from(length))
    }
}

/// Piece, start and length of a long key, as `keep` wrote them.
#[inline]
fn place_of(packed: u128) -> [usize; 3] {
    let [piece, start, length] = [packed >> 64, packed >> 32, packed].map(|part| (part as u32) as usize);
    [piece & 0xff_ffff, start, length]
}

/// The key packed, if it is short: its bytes, zeros, its length.
#[inline(always)]
fn pack(bytes: &[u8], start: usize, end: usize) -> Option<u128> {
    let length = end.wrapping_sub(start);
    if length > SHORT_BYTES {
        return None;
    }
    let value = match bytes.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
        // a load and a mask: a copy of a length that varies costs more
        Some(chunk) => u128::from_le_bytes(*chunk) & !(u128::MAX << (8 * length)),
        None => {
            let mut padded = [0; 16];
            padded.get_mut(..length)?.copy_from_slice(bytes.get(start..end)?);
            u128::from_le_bytes(padded)
        }
    };
    Some(value | (length as u128) << 120)
}
