//! Keys that do not fit into memory, with all that an operator keeps for them.
//!
//! A key is in memory or in the store, never in both, and moves as a whole: what is written of it are its rows of the
//! operator's own snapshot, and what comes back is restored. The keys of a batch are looked up before it is handled. A key
//! that waits for a time, of a watermark or of the clock, has a mark by which it comes back when the time does. When state
//! takes more than its share of memory, the half of the keys that has gone unused for longest leaves.
//!
//! ```text
//! `e` `p` `x` · time, sign flipped: 8 bytes · key bytes   no value: the key waits for this time, see `Wake`
//! `k` · generation: 2 bytes · partition: 2 bytes, both big-endian · key bytes       the key (see `state/key_rows.rs`) and what is kept of it:
//!     bits: which times it waits for · these, 8 bytes each · for each table: bytes of its rows: 4, rows (see `spill/rows.rs`)
//! ```
//!
//! A snapshot shares what is in the store as of now, partition by partition; rows are read of it when it is written.
//! Refused: parts of a key. What is kept of one key fits into memory.

mod stored;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use sha2::{Digest, Sha256};

use stored::{KEY, key_of, mark_of, partition_of, place_of, read_block, read_mark};
pub(super) use stored::{Parts, Stored, generation_end, generation_place, note_place, notes_end, without_generation};

use super::OperatorError;
use super::aggregate_fold::internal;
use super::saved_table::SavedTable;
use super::sweep::{MadeRows, PieceOfStore, StoreRows, SweptStore};
use crate::limits::BATCH_ROWS;
use crate::spill::{Spill, SpillError, Value};
use crate::state::{Chunked, KeyRows, KeyTable, Later, next_freezing};

/// Partitions of keys, the least that a snapshot writes as a whole.
const PARTITIONS: usize = 1 << 12;

/// Most keys of neighbouring partitions that are one block of a snapshot.
const BLOCK_KEYS: u64 = 4_096;

/// Most bytes of these, however few keys that are: a block is in memory as a whole while it is written.
const BLOCK_BYTES: u64 = 16 << 20;

/// Keys that are due and come back at once.
const DUE_AT_ONCE: usize = 1_024;

/// Keys whose rows are made at once when they leave.
const LEAVING_AT_ONCE: usize = 1_024;

/// The part of its memory that an operator fills with notes of what has changed in the store, where that is migrated.
const NOTES_SHARE: usize = 16;

/// What a key in the store may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// a watermark
    Event,
    /// the host's clock, which the task has to be told of
    Processing,
    /// the host's clock, with the next rows
    Expiry,
}

/// The times that a key waits for, by [`Wake`].
pub(super) type Wakes = [Option<i64>; 3];

impl Wake {
    const ALL: [Self; 3] = [Self::Event, Self::Processing, Self::Expiry];

    fn mark(self) -> u8 {
        match self {
            Self::Event => b'e',
            Self::Processing => b'p',
            Self::Expiry => b'x',
        }
    }
}

/// An operator whose keys can leave memory one by one.
pub(super) trait ByKey {
    /// The keys that are in memory.
    fn key_table(&self) -> &KeyTable;
    /// These are about to leave: [`ByKey::saved`] asks for some of them at a time.
    fn leaving(&mut self, _slots: &[u32]) {}
    /// What is kept of keys: rows of each table of a snapshot. A key without any is forgotten.
    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError>;
    /// What each of the keys waits for.
    fn wakes(&self, slots: &[u32]) -> Vec<Wakes>;
    /// Forgets all keys but these; old and new slots of those.
    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError>;
    /// Takes back what [`ByKey::saved`] gave, some rows of each table, of keys without any in memory.
    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError>;
    /// Bytes of all that is kept in memory.
    fn state_bytes(&self) -> usize;
}

/// An operator that is its own [`ByKey`], and has its keys in a store where memory is bounded.
pub(super) trait Spilling: ByKey + Sized {
    /// Where they are.
    fn spilled(&mut self) -> &mut Option<Box<SpilledKeys>>;

    /// What is done with the operator and its store; nothing where it has none.
    fn lent<T>(
        &mut self,
        with: impl FnOnce(&mut Self, &mut SpilledKeys) -> Result<T, OperatorError>,
    ) -> Result<Option<T>, OperatorError> {
        let Some(mut spilled) = self.spilled().take() else { return Ok(None) };
        let done = with(self, &mut spilled);
        *self.spilled() = Some(spilled);
        done.map(Some)
    }

    /// As [`SpilledKeys::bring_due`].
    fn bring_due(&mut self, wake: Wake, until: i64) -> Result<Option<i64>, OperatorError> {
        Ok(self.lent(|of, spilled| spilled.bring_due(of, wake, until))?.flatten())
    }

    /// As [`SpilledKeys::spill_if_over`].
    fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        self.lent(|of, spilled| spilled.spill_if_over(of, rows)).map(drop)
    }
}

/// What the operator has in the store.
pub(super) struct SpilledKeys {
    spill: Spill,
    tables: Arc<Vec<Stored>>,
    partitions: Vec<Partition>,
    /// keys in the store
    held: u64,
    bytes: u64,
    /// the first time that a key waits for by the host's clock
    processing: Option<i64>,
    /// by [`Wake`]: there are no marks before these. Reading begins here: what has been removed takes the store time, too
    floors: [Vec<u8>; 3],
    /// by slot: the batch that used it last
    used: Chunked<u32>,
    batch: u32,
    /// rows taken in since memory was last measured
    unmeasured: usize,
    encoded: KeyRows,
    /// of the places of keys; another one where other versions keep other rows
    generation: u16,
    /// the last that was given out
    generations: u16,
    /// how far rows have been handed over, where they are migrated
    swept: Option<SweptStore>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    keys: u64,
    bytes: u64,
    /// of its last write
    number: u64,
}

impl SpilledKeys {
    /// Nothing yet; `tables` are those of the operator's snapshot.
    pub(super) fn new(spill: Spill, tables: &[&SavedTable]) -> Result<Self, OperatorError> {
        let tables: Result<Vec<Stored>, OperatorError> = tables.iter().map(|table| Stored::new(table)).collect();
        Ok(Self {
            spill,
            tables: Arc::new(tables?),
            partitions: vec![Partition::default(); PARTITIONS],
            held: 0,
            bytes: 0,
            processing: None,
            floors: Wake::ALL.map(|wake| vec![wake.mark()]),
            used: Chunked::new(0),
            batch: 0,
            unmeasured: 0,
            encoded: KeyRows::default(),
            generation: 0,
            generations: 0,
            swept: None,
        })
    }

    /// What has changed in the store since the last time, at most so many keys; the first time nothing, but all is to be
    /// looked at.
    pub(super) fn piece(&mut self, most: usize) -> PieceOfStore {
        let tables = Arc::clone(&self.tables);
        let rows = StoreRows { area: self.spill.area.clone(), tables, generation: self.generation };
        let swept = self.swept.get_or_insert_with(|| {
            self.generations = self.generations.wrapping_add(1);
            if self.generations == self.generation {
                self.generations = self.generations.wrapping_add(1);
            }
            SweptStore::new(self.generations, self.spill.memory_bytes / NOTES_SHARE)
        });
        swept.piece(rows, most)
    }

    /// All has been migrated but what changes in a moment, or not. If so, keys stay in memory until they take half as much
    /// again as they may: those that leave it together would have to be migrated together at the cut.
    pub(super) fn caught_up(&mut self, is: bool) {
        self.swept.iter_mut().for_each(|swept| swept.caught_up = is);
    }

    /// Nothing more is handed over.
    pub(super) fn end_sweep(&mut self) {
        self.swept = None;
    }

    /// What is in the store is that of another version from now on.
    pub(super) fn adopt(&mut self, made: MadeRows) {
        (self.tables, self.generation, self.swept) = (made.tables, made.generation, None);
        self.bytes = 0;
        for partition in self.partitions.iter_mut().filter(|partition| partition.keys > 0) {
            partition.number = next_freezing();
            // about: what is in memory when it is written has its measure
            partition.bytes = partition.bytes.saturating_mul(made.bytes_of_1000) / 1_000;
            self.bytes += partition.bytes;
        }
    }

    /// Keys in the store.
    pub(super) fn keys_spilled(&self) -> u64 {
        self.held
    }

    /// Whether there is nothing to look up.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The first time of the host's clock that a key in the store waits for.
    pub(super) fn next_processing_time(&self) -> Option<i64> {
        self.processing
    }

    /// Keys are in use, those from slot `known` on too.
    pub(super) fn note_used(&mut self, slots: &[u32], known: Range<u32>) {
        self.batch = self.batch.saturating_add(1);
        for slot in slots.iter().copied().chain(known) {
            self.used.set(slot, self.batch);
        }
    }

    /// Keys have other slots.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        self.used.renumber(moves);
    }

    fn encode(&mut self, table: &KeyTable, columns: &[ArrayRef], rows: usize) -> Result<(), OperatorError> {
        let columns: Vec<&ArrayRef> = columns.iter().collect();
        self.encoded.encode(table.fields(), &columns, rows).map_err(|error| internal(&error))
    }

    /// Brings back what is kept of the keys from slot `known` on, which are new in memory.
    pub(super) fn look_up(&mut self, of: &mut impl ByKey, known: usize) -> Result<(), OperatorError> {
        if self.is_empty() {
            return Ok(());
        }
        let new: Vec<u32> = (known as u32..of.key_table().len() as u32).collect();
        for slots in new.chunks(BATCH_ROWS) {
            let columns = of.key_table().keys(slots).map_err(|error| internal(&error))?;
            self.encode(of.key_table(), &columns, slots.len())?;
            // neighbours in the store one after the other
            let mut keys: Vec<Vec<u8>> =
                (0..slots.len()).map(|row| place_of(self.generation, self.encoded.row(row))).collect();
            keys.sort_unstable();
            let mut found = Vec::new();
            for key in keys {
                if let Some(value) = self.spill.area.get(&key)? {
                    found.push((key, value));
                }
            }
            self.bring_back(of, &found)?;
        }
        Ok(())
    }

    /// Brings keys back that wait for a time up to `until`, the earliest first. `Some`: not all, but all that wait for an
    /// earlier time than this.
    pub(super) fn bring_due(
        &mut self,
        of: &mut impl ByKey,
        wake: Wake,
        until: i64,
    ) -> Result<Option<i64>, OperatorError> {
        if self.is_empty() {
            return Ok(None);
        }
        let to = until.checked_add(1).map_or_else(|| vec![wake.mark() + 1], |end| mark_of(wake, end, &[]));
        let from = self.floors[wake as usize].clone();
        if from >= to {
            return Ok(None);
        }
        let (mut found, mut more, mut last, mut floor) = (Vec::new(), false, None, to.clone());
        for mark in self.spill.area.range(&from, &to) {
            let (mark, _) = mark?;
            let damaged = || self.spill.area.damaged("a key waits for a time and is not there");
            let (time, key) = read_mark(&mark).ok_or_else(damaged)?;
            more = found.len() == DUE_AT_ONCE;
            if more {
                floor = mark;
                break;
            }
            last = Some(time);
            let key = place_of(self.generation, key);
            let value = self.spill.area.get(&key)?.ok_or_else(damaged)?;
            found.push((key, value));
        }
        let known = of.key_table().len() as u32;
        self.bring_back(of, &found)?;
        self.floors[wake as usize] = floor;
        self.note_used(&[], known..of.key_table().len() as u32);
        Ok(last.filter(|_| more))
    }

    fn bring_back(&mut self, of: &mut impl ByKey, found: &[(Vec<u8>, Value)]) -> Result<(), OperatorError> {
        if found.is_empty() {
            return Ok(());
        }
        let area = self.spill.area.clone();
        let count = self.tables.len();
        let mut gone: Vec<Vec<u8>> = Vec::with_capacity(found.len());
        let mut processing = false;
        for (place, value) in found {
            let parts = Parts::read(value, count);
            let parts = parts.ok_or_else(|| area.damaged("what is kept of a key ends too early"))?;
            for (wake, time) in Wake::ALL.into_iter().zip(parts.wakes) {
                gone.extend(time.map(|time| mark_of(wake, time, key_of(place))));
                processing |= wake == Wake::Processing && time.is_some();
            }
            gone.push(place.clone());
            self.count(place, value.len(), false);
        }
        gone.sort_unstable();
        area.write::<SpillError>(0, |put| gone.iter().try_for_each(|key| put(key, None)))?;
        self.note_changes(found.iter().map(|(place, _)| without_generation(place)))?;
        if processing {
            let end = vec![Wake::Processing.mark() + 1];
            let floor = &mut self.floors[Wake::Processing as usize];
            let first = if *floor < end { area.range(floor, &end).next().transpose()? } else { None };
            self.processing = first.as_ref().and_then(|(mark, _)| Some(read_mark(mark)?.0));
            *floor = first.map_or(end, |(mark, _)| mark);
        }
        let mut tables = Vec::with_capacity(count);
        for (number, table) in self.tables.iter().enumerate() {
            let rows = table.read(found.iter().map(|(_, value)| value), number, count);
            tables.push(rows.map_err(|reason| area.damaged(reason))?);
        }
        of.load(&tables)
    }

    /// Rows of these keys have come to the store or left it, where they are migrated.
    fn note_changes<'a>(&mut self, places: impl Iterator<Item = &'a [u8]>) -> Result<(), OperatorError> {
        let Some(swept) = &mut self.swept else { return Ok(()) };
        Ok(swept.note(places, &self.spill.area)?)
    }

    /// Bytes of memory that notes take of what has changed in the store.
    pub(super) fn notes_bytes(&self) -> usize {
        self.swept.as_ref().map_or(0, SweptStore::bytes)
    }

    /// Counts a key that comes to the store, or leaves it.
    fn count(&mut self, place: &[u8], value_bytes: usize, comes: bool) {
        let bytes = (place.len() + value_bytes) as u64;
        let partition = partition_of(place).and_then(|partition| self.partitions.get_mut(usize::from(partition)));
        let Some(partition) = partition else { return };
        partition.number = next_freezing();
        let change = |of: &mut u64, by: u64| *of = if comes { *of + by } else { of.saturating_sub(by) };
        change(&mut partition.keys, 1);
        change(&mut partition.bytes, bytes);
        if partition.keys == 0 {
            partition.bytes = 0;
        }
        change(&mut self.held, 1);
        change(&mut self.bytes, bytes);
    }

    /// Measures what is in memory, now and then, and writes half of it to the store if it is too much. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, of: &mut impl ByKey, rows: usize) -> Result<(), OperatorError> {
        self.unmeasured = self.unmeasured.saturating_add(rows);
        // looking at all values takes time by their number
        if self.unmeasured.saturating_mul(16) < of.key_table().len() {
            return Ok(());
        }
        self.unmeasured = 0;
        let bytes = of.state_bytes() + self.used.bytes() + self.notes_bytes();
        let most = self.spill.memory_bytes;
        let holds = self.swept.as_ref().is_some_and(|swept| swept.caught_up);
        let over = bytes > if holds { most.saturating_add(most / 2) } else { most };
        if over {
            self.write_unused(of)?;
        }
        self.spill.counters.state(if over { bytes / 2 } else { bytes }, self.bytes);
        Ok(())
    }

    fn write_unused(&mut self, of: &mut impl ByKey) -> Result<(), OperatorError> {
        let slots = 0..of.key_table().len() as u32;
        let mut by_use: Vec<(u32, u32)> =
            slots.map(|slot| (self.used.get(slot).copied().unwrap_or_default(), slot)).collect();
        if by_use.is_empty() {
            return Ok(());
        }
        let half = by_use.len() / 2;
        by_use.select_nth_unstable(half);
        let (unused, kept) = by_use.split_at(by_use.len().min(half + 1));
        let sorted = |slots: &[(u32, u32)]| {
            let mut slots: Vec<u32> = slots.iter().map(|(_, slot)| *slot).collect();
            slots.sort_unstable();
            slots
        };
        let (unused, kept) = (sorted(unused), sorted(kept));
        self.write(of, &unused)?;
        let moves = of.keep(&kept)?;
        self.renumber(&moves);
        Ok(())
    }

    fn write(&mut self, of: &mut impl ByKey, slots: &[u32]) -> Result<(), OperatorError> {
        of.leaving(slots);
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(slots.len());
        let mut about_bytes = 0;
        for slots in slots.chunks(LEAVING_AT_ONCE) {
            let columns = of.key_table().keys(slots).map_err(|error| internal(&error))?;
            self.encode(of.key_table(), &columns, slots.len())?;
            let keys: Vec<Vec<u8>> = (0..slots.len()).map(|row| self.encoded.row(row).to_vec()).collect();
            let rows = self.rows_by_key(of, slots, &keys)?;
            for ((key, wakes), tables) in keys.iter().zip(of.wakes(slots)).zip(&rows) {
                if tables.iter().all(Vec::is_empty) {
                    continue;
                }
                let parts = Parts { wakes, tables: tables.iter().map(Vec::as_slice).collect() };
                let large = || self.spill.area.damaged("what is kept of a key is more than 4 GiB");
                let (place, value) = (place_of(self.generation, key), parts.write().ok_or_else(large)?);
                for (wake, time) in Wake::ALL.into_iter().zip(wakes) {
                    if let Some(mark) = time.map(|time| mark_of(wake, time, key)) {
                        let floor = &mut self.floors[wake as usize];
                        if mark < *floor {
                            floor.clone_from(&mark);
                        }
                        entries.push((mark, Vec::new()));
                    }
                    if let (Wake::Processing, Some(time)) = (wake, time) {
                        self.processing = Some(self.processing.map_or(time, |first| first.min(time)));
                    }
                }
                about_bytes += place.len() + value.len();
                self.count(&place, value.len(), true);
                entries.push((place, value));
            }
        }
        entries.sort_unstable();
        let write = |put: &mut crate::spill::Put<'_, SpillError>| {
            entries.iter().try_for_each(|(key, value)| put(key, Some(value)))
        };
        self.spill.area.write(about_bytes, write)?;
        let places = entries.iter().filter(|(place, _)| place.first() == Some(&KEY));
        self.note_changes(places.map(|(place, _)| without_generation(place)))
    }

    /// Rows of keys as bytes: by key, then by table.
    fn rows_by_key(
        &mut self,
        of: &mut impl ByKey,
        slots: &[u32],
        keys: &[Vec<u8>],
    ) -> Result<Vec<Vec<Vec<u8>>>, OperatorError> {
        let numbers: HashMap<&[u8], usize> = keys.iter().enumerate().map(|(at, key)| (key.as_slice(), at)).collect();
        let mut rows = vec![vec![Vec::new(); self.tables.len()]; keys.len()];
        let (tables, saved) = (Arc::clone(&self.tables), of.saved(slots)?);
        for (number, (table, batches)) in tables.iter().zip(saved).enumerate() {
            for batch in batches {
                let columns = batch.columns().get(..table.keys).unwrap_or_default();
                self.encode(of.key_table(), columns, batch.num_rows())?;
                let writer = table.codec.writer(batch.columns()).map_err(|error| internal(&error))?;
                for row in 0..batch.num_rows() {
                    let key = numbers.get(self.encoded.row(row)).and_then(|key| rows.get_mut(*key));
                    let to = key.and_then(|tables| tables.get_mut(number));
                    let unknown = || OperatorError::Internal { reason: "a row of a key that does not leave".into() };
                    writer.push(row, to.ok_or_else(unknown)?);
                }
            }
        }
        Ok(rows)
    }

    /// What is in the store as it is now, by table of the snapshot.
    pub(super) fn freeze(&self) -> Vec<Vec<Later>> {
        if self.is_empty() {
            return vec![Vec::new(); self.tables.len()];
        }
        let area = Arc::new(self.spill.area.freeze());
        let mut blocks: Vec<(Range<usize>, u128)> = Vec::new();
        cut(&self.partitions, 0, &mut blocks);
        let later = |number: usize, (partitions, id): &(Range<usize>, u128)| {
            let (area, tables) = (Arc::clone(&area), Arc::clone(&self.tables));
            let (partitions, id) = (partitions.clone(), id ^ (number as u128 + 1) << 64);
            let generation = self.generation;
            Later::new(move || id, move || read_block(&area, &tables, number, (generation, &partitions)))
        };
        (0..self.tables.len()).map(|number| blocks.iter().map(|block| later(number, block)).collect()).collect()
    }
}

/// Cuts partitions, the first of which has the number `from`, in blocks with their ids. In halves, so that where keys come and go
/// other blocks stay as they were.
fn cut(partitions: &[Partition], from: usize, blocks: &mut Vec<(Range<usize>, u128)>) {
    let keys: u64 = partitions.iter().map(|partition| partition.keys).sum();
    let bytes: u64 = partitions.iter().map(|partition| partition.bytes).sum();
    if keys == 0 {
        return;
    }
    if partitions.len() > 1 && (keys > BLOCK_KEYS || bytes > BLOCK_BYTES) {
        let (front, back) = partitions.split_at(partitions.len() / 2);
        cut(front, from, blocks);
        cut(back, from + front.len(), blocks);
        return;
    }
    let mut digest = Sha256::new();
    digest.update((from as u64).to_le_bytes());
    partitions.iter().for_each(|partition| digest.update(partition.number.to_le_bytes()));
    let id = digest.finalize().first_chunk().map_or(0, |bytes: &[u8; 16]| u128::from_le_bytes(*bytes));
    blocks.push((from..from + partitions.len(), id));
}

#[cfg(test)]
mod tests;
