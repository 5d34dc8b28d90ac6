//! Slices that do not fit into memory.
//!
//! When state takes more than its share of memory, the accumulators of all slices are written as a run (see `spilled_runs.rs`) and
//! leave memory, the key table with them. Accumulators can be merged, so nothing has to be read until a window fires: then its
//! slices are merged, runs in the order in which they were written and what is in memory last, some partitions at a time.
//!
//! - Results of a window that has spilled come partition by partition, keys of one in the order in which they came back.
//! - A slice whose rows are all in the store stays in [`WindowAggregate::states`], without slots.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::Schema as ArrowSchema;

use super::running::{NOWHERE, SLICES_MIN, merge_all};
use super::snapshot::row_fields;
use super::{Bounds, Emission, Groups, OperatorError, Output, Parts, SliceState, WindowAggregate, internal};
use crate::limits::BATCH_ROWS;
use crate::operator::spilled_keys::Stored;
use crate::operator::spilled_runs::{FrozenRuns, Left, Sorted, Span, SpilledRuns, partitions_of};
use crate::operator::sweep::MadeRuns;
use crate::operator::window_aggregate_slice::Aggregate;
use crate::record::EventTime;
use crate::spill::Spill;
use crate::state::{KeyTable, NO_SLOT};
use crate::window::{Slice, Window, Windows};

/// What the operator has in the store.
pub(super) struct SpilledSlices {
    runs: SpilledRuns,
    /// columns of its rows
    table: Arc<Stored>,
    firing: Option<Firing>,
    /// rows taken in since memory was last measured
    unmeasured: usize,
}

/// A window on its way out.
struct Firing {
    window: Window,
    left: Left,
    memory: InMemory,
}

/// Slots in memory by slice, sorted by partition.
type InMemory = BTreeMap<EventTime, Vec<(u32, u32)>>;

/// Slices by start.
type Slices = BTreeMap<EventTime, SliceState>;

fn span(slice: Slice) -> Span {
    (slice.start, slice.end)
}

impl SpilledSlices {
    pub(super) fn new(spill: Spill, parts: &Parts) -> Result<Self, OperatorError> {
        let schema = Arc::new(ArrowSchema::new(row_fields(parts)));
        let table = Arc::new(Stored::of("windows", schema, parts.keys.len()).map_err(|error| internal(&error))?);
        let runs = SpilledRuns::new(spill, vec![table.codec.clone()]);
        Ok(Self { runs, table, firing: None, unmeasured: 0 })
    }

    /// What is to be migrated while the operator goes on.
    pub(super) fn sweeping(&mut self) -> (&mut SpilledRuns, &Arc<Stored>) {
        (&mut self.runs, &self.table)
    }

    /// What is in the store is that of another version from now on.
    pub(super) fn adopt(&mut self, made: MadeRuns) {
        self.runs.adopt(&made);
        self.table = made.table;
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> crate::metrics::NodeCounts {
        self.runs.counts()
    }

    /// How much the store has.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.runs.entries()
    }

    /// Drops a slice.
    pub(super) fn forget(&mut self, slice: Slice) -> Result<(), OperatorError> {
        self.runs.forget(span(slice))
    }

    /// What is in the store as of now.
    pub(super) fn freeze(&self) -> Option<FrozenRuns> {
        self.runs.freeze()
    }

    /// Rows of state in the store.
    pub(super) fn rows(&self) -> u64 {
        self.runs.rows()
    }

    /// Whether any slice of the window is in the store.
    fn has(&self, window: Window) -> bool {
        self.runs.first_from(window.bounds().start).is_some_and(|(start, _)| window.contains(start))
    }

    /// Writes a slice as a run.
    fn write(&mut self, state: &SliceState, table: &KeyTable, aggregates: &[Aggregate]) -> Result<(), OperatorError> {
        let mut slots = partitioned(table, state.slots())?;
        slots.sort_unstable();
        let rows = slots.chunks(BATCH_ROWS).map(|slots| {
            let (partitions, numbers): (Vec<u32>, Vec<u32>) = slots.iter().copied().unzip();
            let mut columns = table.keys(&numbers).map_err(|error| internal(&error))?;
            columns.extend(state.save(aggregates, &numbers)?);
            Ok::<Sorted, OperatorError>((partitions, columns))
        });
        self.runs.write(span(state.slice), 0, state.bytes(), rows)
    }

    /// Runs of a slice in these partitions, each as columns, the earliest first.
    fn runs(&self, slice: Slice, partitions: &Range<u32>) -> Result<Vec<Vec<ArrayRef>>, OperatorError> {
        let runs = self.runs.read(span(slice), partitions)?;
        runs.iter().map(|run| self.runs.columns(0, [run])).collect()
    }
}

/// Slots with the partitions of their keys.
fn partitioned(table: &KeyTable, slots: impl Iterator<Item = u32>) -> Result<Vec<(u32, u32)>, OperatorError> {
    let slots: Vec<u32> = slots.collect();
    let mut all = Vec::with_capacity(slots.len());
    for slots in slots.chunks(BATCH_ROWS) {
        let columns = table.keys(slots).map_err(|error| internal(&error))?;
        let columns: Vec<&ArrayRef> = columns.iter().collect();
        all.extend(partitions_of(table.fields(), &columns, slots.len())?.into_iter().zip(slots.iter().copied()));
    }
    Ok(all)
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
        for run in self.spilled.runs(state.slice, &self.partitions)? {
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
        let (keys, accumulators) = columns.split_at_checked(self.spilled.table.keys).unwrap_or((columns, &[]));
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
        if !spilled.runs.is_over(bytes) {
            spilled.runs.report(bytes);
            return Ok(());
        }
        for state in self.states.values_mut() {
            // whatever has been handed over of it is gone
            let mut swept = state.swept.take();
            swept.iter_mut().for_each(|swept| swept.renumber(&[]));
            if state.touched > 0 {
                spilled.write(state, &self.parts.table, &self.parts.aggregates)?;
                *state = SliceState::new(state.slice, &self.parts.aggregates);
            }
            state.swept = swept;
        }
        self.parts.table = KeyTable::new(self.parts.table.fields());
        self.groups = Groups::new();
        self.running.iter_mut().for_each(|running| running.reset(&self.parts.aggregates));
        spilled.runs.report(0);
        Ok(())
    }

    /// Puts out some partitions of a window; true if they were the last.
    pub(super) fn fire_part(&mut self, window: Window, out: &mut Output) -> Result<bool, OperatorError> {
        let firing = self.spilled.as_mut().and_then(|spilled| spilled.firing.take());
        let firing = match firing.filter(|firing| firing.window == window) {
            Some(firing) => Some(firing),
            None => self.begin(window)?,
        };
        let Some(mut firing) = firing else { return Ok(true) };
        let (Some(spilled), Some(partitions)) = (&self.spilled, firing.left.next()) else { return Ok(true) };
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

    fn begin(&self, window: Window) -> Result<Option<Firing>, OperatorError> {
        let Some(SpilledSlices { runs, .. }) = self.spilled.as_deref() else { return Ok(None) };
        let slices = self.states.range(window.bounds().start..);
        let (mut memory, mut bytes, mut partitions) = (InMemory::new(), 0, BTreeSet::new());
        for (start, state) in slices.take_while(|(start, _)| window.contains(**start)) {
            let mut slots = partitioned(&self.parts.table, state.slots())?;
            slots.sort_unstable();
            partitions.extend(slots.iter().map(|(partition, _)| *partition));
            memory.insert(*start, slots);
            bytes += if state.touched > 0 { state.bytes() as u64 } else { 0 };
            runs.partitions(span(state.slice), &mut partitions);
            bytes += runs.bytes_of(span(state.slice));
        }
        Ok(Some(Firing { window, left: runs.left(partitions, bytes), memory }))
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
}
