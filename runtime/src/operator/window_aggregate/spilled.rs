//! Slices that do not fit into memory.
//!
//! When state takes more than its share of memory, the accumulators of all slices are written as a run and leave memory,
//! the key table with them. Accumulators can be merged, so nothing has to be read until a window fires: then its slices are
//! merged, runs in the order in which they were written and what is in memory last. Keys are cut in partitions by a hash,
//! and a run lies in the store partition by partition, so that a window is merged and put out some partitions at a time,
//! in a fraction of the memory that it would take as a whole.
//!
//! ```text
//! key     slice start, sign flipped: 8 bytes · partition: 2 bytes · run: 4 bytes · part of it: 4 bytes; all big-endian
//! value   rows (see `spill/rows.rs`): key columns, then accumulators as in snapshots
//! ```
//!
//! - Results of a window that has spilled come partition by partition, keys of one in the order in which they came back.
//! - A slice whose rows are all in the store stays in [`WindowAggregate::states`], without slots.
//! - One partition, a 1,024th of what a window holds, must fit into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Range;

use arrow_array::ArrayRef;

use super::running::{NOWHERE, SLICES_MIN, merge_all};
use super::snapshot::row_fields;
use super::{Bounds, Emission, Groups, OperatorError, Output, Parts, SliceState, WindowAggregate, internal};
use crate::limits::BATCH_ROWS;
use crate::operator::window_aggregate_slice::Aggregate;
use crate::record::EventTime;
use crate::spill::{RowCodec, Spill};
use crate::state::{KeyRows, KeyTable, NO_SLOT};
use crate::window::{Window, Windows};

/// Partitions that keys are cut in.
const PARTITIONS: u32 = 1 << 10;

/// Bytes of one value: more rows of a run and partition make another.
const VALUE_BYTES: usize = 64 << 10;

/// The part of its memory that an operator fills with rows read back at once. As columns with a key table they take
/// three times as much.
const READ_SHARE: u64 = 8;

/// What the operator has in the store.
pub(super) struct SpilledSlices {
    spill: Spill,
    codec: RowCodec,
    keys: usize,
    /// by start
    slices: BTreeMap<EventTime, OnDisk>,
    firing: Option<Firing>,
    /// rows taken in since memory was last measured
    unmeasured: usize,
}

/// What the store has of a slice.
#[derive(Clone, Copy, Debug, Default)]
struct OnDisk {
    runs: u32,
    /// a key of several runs as often
    rows: u64,
    bytes: u64,
    /// a bit for each partition that has rows
    partitions: [u64; PARTITIONS as usize / 64],
}

/// A window on its way out.
struct Firing {
    window: Window,
    /// partitions that have rows and are not out yet, the last first
    left: Vec<u32>,
    /// how many are merged at once
    step: usize,
    memory: InMemory,
}

/// Slots in memory by slice, sorted by partition.
type InMemory = BTreeMap<EventTime, Vec<(u32, u32)>>;

/// Slices by start.
type Slices = BTreeMap<EventTime, SliceState>;

impl SpilledSlices {
    pub(super) fn new(spill: Spill, parts: &Parts) -> Result<Self, OperatorError> {
        let fields = row_fields(parts);
        let codec = RowCodec::new(fields.iter()).map_err(|error| internal(&error))?;
        Ok(Self { spill, codec, keys: parts.keys.len(), slices: BTreeMap::new(), firing: None, unmeasured: 0 })
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> crate::metrics::NodeCounts {
        self.spill.counters.read()
    }

    /// How much the store has.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.spill.area.range(&[], &[255; 20]).count()
    }

    /// Drops a slice.
    pub(super) fn forget(&mut self, start: EventTime) -> Result<(), OperatorError> {
        let Some(on_disk) = self.slices.remove(&start) else { return Ok(()) };
        let (from, to) = (place(start, 0), place(start, PARTITIONS));
        let mut keys = Vec::new();
        for entry in self.spill.area.range(&from, &to) {
            keys.push(entry?.0);
        }
        let about_bytes = if on_disk.bytes > 0 { keys.len() * 32 } else { 0 };
        self.spill.area.write(about_bytes, |put| keys.iter().try_for_each(|key| put(key, None)))
    }

    /// Whether any slice of the window is in the store.
    fn has(&self, window: Window) -> bool {
        self.slices.range(window.bounds().start..).next().is_some_and(|(start, _)| window.contains(*start))
    }

    /// Rows of state in the store.
    pub(super) fn rows(&self) -> u64 {
        self.slices.values().map(|slice| slice.rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.slices.values().map(|slice| slice.bytes).sum()
    }

    /// Writes a slice as a run.
    fn write(&mut self, state: &SliceState, table: &KeyTable, aggregates: &[Aggregate]) -> Result<(), OperatorError> {
        let start = state.slice.start;
        let mut slots = partitioned(table, state.slots())?;
        slots.sort_unstable();
        let run = self.slices.get(&start).map_or(0, |slice| slice.runs);
        let (codec, mut bytes) = (&self.codec, 0_u64);
        self.spill.area.write::<OperatorError>(state.bytes(), |put| {
            let (mut value, mut part) = (Vec::new(), 0_u32);
            let mut last = slots.first().map_or(0, |(partition, _)| *partition);
            let mut write = |partition: u32, part: u32, value: &mut Vec<u8>| {
                let mut key = place(start, partition);
                key.extend_from_slice(&run.to_be_bytes());
                key.extend_from_slice(&part.to_be_bytes());
                bytes += (key.len() + value.len()) as u64;
                let written = put(&key, Some(value));
                value.clear();
                written
            };
            for slots in slots.chunks(BATCH_ROWS) {
                let numbers: Vec<u32> = slots.iter().map(|(_, slot)| *slot).collect();
                let mut columns = table.keys(&numbers).map_err(|error| internal(&error))?;
                columns.extend(state.save(aggregates, &numbers)?);
                let rows = codec.writer(&columns).map_err(|error| internal(&error))?;
                for (row, (partition, _)) in slots.iter().enumerate() {
                    if *partition != last || value.len() >= VALUE_BYTES {
                        write(last, part, &mut value)?;
                        part = if *partition == last { part + 1 } else { 0 };
                        last = *partition;
                    }
                    rows.push(row, &mut value);
                }
            }
            if value.is_empty() { Ok(()) } else { write(last, part, &mut value) }
        })?;
        let on_disk = self.slices.entry(start).or_default();
        on_disk.rows += slots.len() as u64;
        for (partition, _) in slots {
            let word = on_disk.partitions.get_mut(partition as usize / 64);
            word.into_iter().for_each(|word| *word |= 1 << (partition % 64));
        }
        on_disk.runs += 1;
        on_disk.bytes += bytes;
        Ok(())
    }

    /// Runs of a slice in these partitions, each as columns, the earliest first.
    fn runs(&self, start: EventTime, partitions: &Range<u32>) -> Result<Vec<Vec<ArrayRef>>, OperatorError> {
        if !self.slices.contains_key(&start) {
            return Ok(Vec::new());
        }
        let area = &self.spill.area;
        let mut values: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for entry in area.range(&place(start, partitions.start), &place(start, partitions.end)) {
            let (key, value) = entry?;
            let run = key.get(10..14).and_then(|run| run.first_chunk()).map(|run| u32::from_be_bytes(*run));
            values.entry(run.unwrap_or_default()).or_default().push(value);
        }
        let mut runs = Vec::with_capacity(values.len());
        for values in values.into_values() {
            let mut rows = self.codec.reader(0);
            for value in values {
                let read = rows.read(&value).ok_or_else(|| area.damaged("a row ends too early"))?;
                read.map_err(|error| area.damaged(error.to_string()))?;
            }
            runs.push(rows.finish().map_err(|error| area.damaged(error.to_string()))?);
        }
        Ok(runs)
    }
}

/// Where partition `partition` of a slice begins.
fn place(start: EventTime, partition: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&(start as u64 ^ 1 << 63).to_be_bytes());
    key.extend_from_slice(&(partition as u16).to_be_bytes());
    key
}

/// Slots with the partitions of their keys.
fn partitioned(table: &KeyTable, slots: impl Iterator<Item = u32>) -> Result<Vec<(u32, u32)>, OperatorError> {
    let slots: Vec<u32> = slots.collect();
    let mut all = Vec::with_capacity(slots.len());
    let mut rows = KeyRows::default();
    for slots in slots.chunks(BATCH_ROWS) {
        let columns = table.keys(slots).map_err(|error| internal(&error))?;
        let columns: Vec<&ArrayRef> = columns.iter().collect();
        rows.encode(table.fields(), &columns, slots.len()).map_err(|error| internal(&error))?;
        all.extend(slots.iter().enumerate().map(|(row, slot)| (partition_of(rows.row(row)), *slot)));
    }
    Ok(all)
}

fn partition_of(key: &[u8]) -> u32 {
    let hash = foldhash::quality::FixedState::with_seed(0).hash_one(key);
    (hash >> (u64::BITS - PARTITIONS.trailing_zeros())) as u32
}

/// Slots of those that lie in the partitions.
fn within<'a>(slots: &'a [(u32, u32)], partitions: &Range<u32>) -> &'a [(u32, u32)] {
    let from = slots.partition_point(|(partition, _)| *partition < partitions.start);
    let to = slots.partition_point(|(partition, _)| *partition < partitions.end);
    slots.get(from..to).unwrap_or_default()
}

/// Slices merged for the keys of some partitions.
struct Merging<'a> {
    windows: Windows,
    spilled: &'a SpilledSlices,
    states: &'a Slices,
    memory: &'a InMemory,
    partitions: Range<u32>,
    /// of what is in memory
    held: &'a KeyTable,
    aggregates: &'a mut [Aggregate],
    /// of what is being merged
    table: KeyTable,
    slots: Vec<u32>,
}

impl Merging<'_> {
    /// All of one slice.
    fn slice(&mut self, state: &SliceState) -> Result<SliceState, OperatorError> {
        let mut sum = SliceState::new(state.slice, self.aggregates);
        for run in self.spilled.runs(state.slice.start, &self.partitions)? {
            self.add(&mut sum, &run)?;
        }
        let memory = self.memory.get(&state.slice.start).map(Vec::as_slice).unwrap_or_default();
        for slots in within(memory, &self.partitions).chunks(BATCH_ROWS) {
            let slots: Vec<u32> = slots.iter().map(|(_, slot)| *slot).collect();
            let mut columns = self.held.keys(&slots).map_err(|error| internal(&error))?;
            columns.extend(state.save(self.aggregates, &slots)?);
            self.add(&mut sum, &columns)?;
        }
        Ok(sum)
    }

    /// Merges rows of different keys, which are later than what is in `sum`.
    fn add(&mut self, sum: &mut SliceState, columns: &[ArrayRef]) -> Result<(), OperatorError> {
        let (keys, accumulators) = columns.split_at_checked(self.spilled.keys).unwrap_or((columns, &[]));
        let rows = columns.first().map_or(0, |column| column.len());
        let keys: Vec<&ArrayRef> = keys.iter().collect();
        self.table.slots(&keys, rows, &mut self.slots).map_err(|error| internal(&error))?;
        if sum.touched == 0 {
            return sum.load(self.aggregates, &self.slots, accumulators);
        }
        let mut part = SliceState::new(sum.slice, self.aggregates);
        part.load(self.aggregates, &self.slots, accumulators)?;
        merge_all(sum, &part, self.aggregates)
    }

    /// All slices of a window, merged in the order in which they would be in memory. `again`: for some keys only.
    fn window(&mut self, window: Window, again: bool) -> Result<SliceState, OperatorError> {
        let states = self.states;
        let slices = states.range(window.bounds().start..).map(|(_, state)| state);
        let slices: Vec<&SliceState> = slices.take_while(|state| window.contains(state.slice.start)).collect();
        if self.windows.are_slices() {
            return match slices.first() {
                Some(state) => self.slice(state),
                None => Ok(SliceState::new(window.bounds(), self.aggregates)),
            };
        }
        let mut sum = SliceState::new(window.bounds(), self.aggregates);
        if again || self.windows.slices_a_window() < SLICES_MIN {
            for state in slices {
                let slice = self.slice(state)?;
                merge_all(&mut sum, &slice, self.aggregates)?;
            }
            return Ok(sum);
        }
        // as `Running` does it
        let middle = self.windows.middle_of(window);
        let (front, back) = slices.split_at(slices.partition_point(|state| i128::from(state.slice.start) < middle));
        let mut after: Option<SliceState> = None;
        for state in front.iter().rev() {
            let mut merged = SliceState::new(state.slice, self.aggregates);
            merge_all(&mut merged, &self.slice(state)?, self.aggregates)?;
            if let Some(after) = &after {
                merge_all(&mut merged, after, self.aggregates)?;
            }
            after = Some(merged);
        }
        let mut rest = SliceState::new(NOWHERE, self.aggregates);
        for state in back {
            let slice = self.slice(state)?;
            merge_all(&mut rest, &slice, self.aggregates)?;
        }
        if let Some(front) = &after {
            merge_all(&mut sum, front, self.aggregates)?;
        }
        merge_all(&mut sum, &rest, self.aggregates)?;
        Ok(sum)
    }
}

/// What [`WindowAggregate::merging`] needs of it.
fn merging<'a>(
    spilled: &'a SpilledSlices,
    (states, windows): (&'a Slices, Windows),
    parts: (&'a KeyTable, &'a mut [Aggregate]),
    memory: &'a InMemory,
    partitions: Range<u32>,
) -> Merging<'a> {
    let (held, aggregates) = parts;
    let table = KeyTable::new(held.fields());
    Merging { windows, spilled, states, memory, partitions, held, aggregates, table, slots: Vec::new() }
}

impl WindowAggregate {
    /// Whether a window cannot be put out from memory alone.
    pub(super) fn needs_store(&self, window: Window) -> bool {
        self.spilled.as_ref().is_some_and(|spilled| spilled.has(window))
    }

    /// Starts of slices that are in the store.
    pub(super) fn spilled_slices(&self) -> BTreeSet<EventTime> {
        self.spilled.iter().flat_map(|spilled| spilled.slices.keys().copied()).collect()
    }

    /// Measures what is in memory, now and then, and writes it to the store if it is too much. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.unmeasured += rows;
        // looking at all values takes time by their number
        if spilled.unmeasured * 16 < self.parts.table.len() {
            return Ok(());
        }
        spilled.unmeasured = 0;
        let states: usize = self.states.values().map(SliceState::bytes).sum();
        let running = self.running.as_ref().map_or(0, super::Running::bytes);
        let bytes = states + running + self.parts.table.bytes() + self.groups.bytes();
        if bytes <= spilled.spill.memory_bytes {
            spilled.spill.counters.state(bytes, spilled.bytes());
            return Ok(());
        }
        for state in self.states.values_mut().filter(|state| state.touched > 0) {
            spilled.write(state, &self.parts.table, &self.parts.aggregates)?;
            *state = SliceState::new(state.slice, &self.parts.aggregates);
        }
        self.parts.table = KeyTable::new(self.parts.table.fields());
        self.groups = Groups::new();
        self.running.iter_mut().for_each(|running| running.reset(&self.parts.aggregates));
        spilled.spill.counters.state(0, spilled.bytes());
        Ok(())
    }

    /// Puts out some partitions of a window; true if they were the last.
    pub(super) fn fire_part(&mut self, window: Window, out: &mut Output) -> Result<bool, OperatorError> {
        let firing = self.spilled.as_mut().and_then(|spilled| spilled.firing.take());
        let mut firing = match firing.filter(|firing| firing.window == window) {
            Some(firing) => firing,
            None => self.begin(window)?,
        };
        let Some(spilled) = &self.spilled else { return Ok(true) };
        let now = firing.left.split_off(firing.left.len().saturating_sub(firing.step));
        let partitions = now.last().copied().unwrap_or(0)..now.first().map_or(0, |last| last + 1);
        let parts = (&self.parts.table, self.parts.aggregates.as_mut_slice());
        let mut merging = merging(spilled, (&self.states, self.windows), parts, &firing.memory, partitions);
        let state = merging.window(window, false)?;
        let table = merging.table;
        let mut emission = Emission {
            head: &self.parts.head,
            output: &self.parts.output,
            table: &table,
            aggregates: &mut self.parts.aggregates,
            state: &state,
            bounds: Bounds::One(window.bounds()),
            out,
        };
        emission.put_out_all(state.slots())?;
        let done = firing.left.is_empty();
        if let Some(spilled) = self.spilled.as_mut().filter(|_| !done) {
            spilled.firing = Some(firing);
        }
        Ok(done)
    }

    fn begin(&self, window: Window) -> Result<Firing, OperatorError> {
        let slices = self.states.range(window.bounds().start..);
        let slices = slices.take_while(|(start, _)| window.contains(**start));
        let (mut memory, mut bytes) = (InMemory::new(), 0);
        for (start, state) in slices {
            memory.insert(*start, self.in_memory(state)?);
            bytes += self.bytes_of(*start, state);
        }
        let left = self.partitions(&memory);
        Ok(Firing { window, step: self.step(bytes, left.len()), left, memory })
    }

    /// Partitions with rows of these slices, the last first.
    fn partitions(&self, slices: &InMemory) -> Vec<u32> {
        let mut found: BTreeSet<u32> = slices.values().flatten().map(|(partition, _)| *partition).collect();
        let on_disk =
            self.spilled.iter().flat_map(|spilled| slices.keys().filter_map(|start| spilled.slices.get(start)));
        for slice in on_disk {
            let has = |partition: &u32| {
                slice.partitions.get(*partition as usize / 64).is_some_and(|word| word >> (partition % 64) & 1 == 1)
            };
            found.extend((0..PARTITIONS).filter(has));
        }
        found.into_iter().rev().collect()
    }

    fn in_memory(&self, state: &SliceState) -> Result<Vec<(u32, u32)>, OperatorError> {
        let mut slots = partitioned(&self.parts.table, state.slots())?;
        slots.sort_unstable();
        Ok(slots)
    }

    /// Bytes of a slice, wherever they are.
    fn bytes_of(&self, start: EventTime, state: &SliceState) -> u64 {
        let on_disk = self.spilled.as_ref().and_then(|spilled| spilled.slices.get(&start));
        on_disk.map_or(0, |slice| slice.bytes) + if state.touched > 0 { state.bytes() as u64 } else { 0 }
    }

    /// How many of these partitions, which have so many bytes in all, are merged at once.
    fn step(&self, bytes: u64, partitions: usize) -> usize {
        let memory = self.spilled.as_ref().map_or(0, |spilled| spilled.spill.memory_bytes as u64);
        let step = (memory / READ_SHARE).saturating_mul(partitions as u64) / bytes.max(1);
        usize::try_from(step).unwrap_or(partitions).clamp(1, partitions.max(1))
    }

    /// Puts out a window again for these keys.
    pub(super) fn fire_keys(&mut self, window: Window, only: &[u32], out: &mut Output) -> Result<(), OperatorError> {
        let mut keys = partitioned(&self.parts.table, only.iter().copied())?;
        keys.sort_unstable();
        for keys in keys.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((partition, _)) = keys.first() else { continue };
            let slices = self.states.range(window.bounds().start..);
            let of = |state: &SliceState| keys.iter().copied().filter(|(_, slot)| state.has(*slot)).collect();
            let memory: InMemory = slices
                .take_while(|(start, _)| window.contains(**start))
                .map(|(start, state)| (*start, of(state)))
                .collect();
            let Some(spilled) = &self.spilled else { return Ok(()) };
            let parts = (&self.parts.table, self.parts.aggregates.as_mut_slice());
            let range = *partition..*partition + 1;
            let mut merging = merging(spilled, (&self.states, self.windows), parts, &memory, range);
            let state = merging.window(window, true)?;
            let mut table = merging.table;
            let slots: Vec<u32> = keys.iter().map(|(_, slot)| *slot).collect();
            let columns = self.parts.table.keys(&slots).map_err(|error| internal(&error))?;
            let (columns, mut found) = (columns.iter().collect::<Vec<_>>(), Vec::new());
            table.find(&columns, slots.len(), &mut found).map_err(|error| internal(&error))?;
            let mut emission = Emission {
                head: &self.parts.head,
                output: &self.parts.output,
                table: &table,
                aggregates: &mut self.parts.aggregates,
                state: &state,
                bounds: Bounds::One(window.bounds()),
                out: &mut *out,
            };
            emission.put_out_all(found.into_iter().filter(|slot| *slot != NO_SLOT))?;
        }
        Ok(())
    }

    /// Hands over a slice of the store, some of its keys at a time.
    pub(super) fn merged_slice(
        &mut self,
        start: EventTime,
        mut take: impl FnMut(&KeyTable, &SliceState, &[Aggregate]) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let Some(state) = self.states.get(&start) else { return Ok(()) };
        let memory = InMemory::from([(start, self.in_memory(state)?)]);
        let occupied = self.partitions(&memory);
        let step = self.step(self.bytes_of(start, state), occupied.len());
        let Some(spilled) = &self.spilled else { return Ok(()) };
        for some in occupied.rchunks(step) {
            let partitions = some.last().copied().unwrap_or(0)..some.first().map_or(0, |last| last + 1);
            let parts = (&self.parts.table, self.parts.aggregates.as_mut_slice());
            let mut merging = merging(spilled, (&self.states, self.windows), parts, &memory, partitions);
            let merged = merging.slice(state)?;
            take(&merging.table, &merged, merging.aggregates)?;
        }
        Ok(())
    }
}
