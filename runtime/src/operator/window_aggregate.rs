//! Aggregates rows by key and window.
//!
//! Rows → key slots ([`crate::state::KeyTable`]) → slices of event time ([`Slices`]) → accumulators by slot, changed in place. A
//! window that the watermark completes is put out, keys in slot order; accumulators are dropped with the last window of
//! their slice. Keys stay until fewer than half of them are in any open window; then the table is made anew, so that
//! keys that come once do not stay for ever.
//!
//! - A row goes into one slice, however many windows overlap there. A window of several slices is merged from two
//!   merges that are kept as windows move on ([`running`]): for each window two merges for each of its keys.
//! - Late rows are counted and dropped. A row that comes after its window has fired but within the allowed lateness
//!   makes the window fire again for its key, with all its rows, at the end of the batch.
//! - A row without an event time belongs to no window: it is a dead row.
//! - Windows come by start, keys by slot, which is the order in which they were first seen. How the input was cut into
//!   batches changes neither.
//! - A result that cannot be put out (an int64 sum out of range) is a dead row of keys and window bounds.

mod running;
mod snapshot;
mod spilled;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow_array::ArrayRef;

pub(super) use snapshot::{times, windows_table};

use running::Running;
use spilled::SpilledSlices;

use super::aggregate_fold::{Groups, internal};
use super::late_rows::{picked, put_out_late};
use super::sweep::{Left, MadeColumns, Sweeping};
use super::window_aggregate_emission::{Bounds, Emission};
use super::window_aggregate_parts::{COMPACT_FROM_KEYS, Parts, accumulate};
use super::window_aggregate_slice::{Rows, SliceState};
use super::{DeadRow, Fold, Operator, OperatorError, Output, WindowAggregateSpec};
use crate::record::{Batch, EventTime, NO_EVENT_TIME, Schema, Watermark};
use crate::state::{Snapshot, check_rows};
use crate::window::{Slice, Slices, Window, Windows};

/// The operator. Its state is bounded by keys × open slices.
pub struct WindowAggregate {
    parts: Parts,
    windows: Windows,
    watermark: Watermark,
    /// the earliest that has rows and has not fired
    next: Option<Window>,
    /// by start
    states: BTreeMap<EventTime, SliceState>,
    /// the window that is being put out
    firing: Option<Firing>,
    /// what windows of several slices are merged from
    running: Option<Running>,
    /// what does not fit into memory, where that is bounded
    spilled: Option<Box<SpilledSlices>>,
    slots: Vec<u32>,
    groups: Groups,
    cuts: Cuts,
}

/// A window of which not all results have been put out.
struct Firing {
    window: Window,
    /// its accumulators, unless it is one slice
    merged: Option<SliceState>,
    /// keys below this are done
    from: u32,
}

/// Rows of one batch by slice, in order of first appearance.
#[derive(Default)]
struct Cuts {
    numbers: BTreeMap<EventTime, usize>,
    slices: Vec<Slice>,
    /// longer than `slices` if an earlier batch had more
    rows: Vec<Vec<u32>>,
}

impl WindowAggregate {
    /// An operator without state. An error is a mistake in the plan, or a component that breaks its contract.
    pub fn new(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let windows = Windows::new(spec.window, spec.allowed_lateness)
            .map_err(|error| OperatorError::Internal { reason: error.to_string() })?;
        let spill = spec.spill.clone();
        let parts = Parts::new(spec)?;
        Ok(Self {
            spilled: spill.map(|spill| SpilledSlices::new(spill, &parts)).transpose()?.map(Box::new),
            running: Running::new(windows, &parts.aggregates),
            parts,
            windows,
            watermark: Watermark::MIN,
            next: None,
            states: BTreeMap::new(),
            firing: None,
            slots: Vec::new(),
            groups: Groups::new(),
            cuts: Cuts::default(),
        })
    }

    /// Columns of the results: keys, `window_start`, `window_end`, then the aggregates.
    pub fn output(&self) -> &Schema {
        &self.parts.output
    }

    /// Keys that are held at the moment.
    pub fn keys_held(&self) -> usize {
        self.parts.table.len()
    }

    /// Slices of time that have state at the moment.
    pub fn slices_held(&self) -> usize {
        self.states.len()
    }

    /// Puts another implementation in the place of aggregate `index` between two elements; accumulators stay. Its state
    /// and output columns must be the same. On an error the old one goes on.
    pub fn replace_fold(&mut self, index: usize, fold: Box<dyn Fold>) -> Result<(), OperatorError> {
        self.parts.replace_fold(index, fold, self.states.values_mut())?;
        self.running.iter_mut().for_each(|running| running.reset(&self.parts.aggregates));
        Ok(())
    }

    /// As [`WindowAggregate::replace_fold`] with other state, which was made of all that [`WindowAggregate::sweeping`] gave.
    pub(super) fn adopt_fold(
        &mut self,
        index: usize,
        fold: Box<dyn Fold>,
        mut made: MadeColumns,
    ) -> Result<Left, OperatorError> {
        let runs = made.runs.take();
        let left = self.parts.adopt_fold(index, fold, self.states.values_mut(), made)?;
        if let (Some(spilled), Some(runs)) = (&mut self.spilled, runs) {
            spilled.adopt(runs);
        }
        self.running.iter_mut().for_each(|running| running.reset(&self.parts.aggregates));
        Ok(left)
    }

    /// Rows of its state, in memory and in the store; a key of several runs counts as often.
    pub(super) fn state_rows(&self) -> u64 {
        let in_memory: usize = self.states.values().map(|state| state.touched).sum();
        in_memory as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.rows())
    }

    /// Its accumulators, to be migrated while it goes on.
    pub(super) fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        let in_memory = Sweeping::new(&self.parts, self.states.values_mut());
        Some(in_memory.and_runs(self.spilled.as_deref_mut().map(SpilledSlices::sweeping)))
    }

    /// The rows of a batch that some window takes, and the slice of the earliest. Counts late rows and puts out dead
    /// ones.
    fn admit(&mut self, batch: Batch, out: &mut Output) -> Result<Option<(Batch, Slice)>, OperatorError> {
        let Some(earliest) = batch.times().iter().min().copied() else { return Ok(None) };
        let slices = self.windows.slices();
        // windows end in the order in which they start: if the earliest row is in time, all are
        if earliest != NO_EVENT_TIME && !self.is_late(earliest) {
            return Ok(Some((batch, slices.slice_of(earliest))));
        }
        let (mut admitted, mut late): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut first: Option<Slice> = None;
        for (row, time) in batch.times().iter().enumerate() {
            if *time == NO_EVENT_TIME {
                out.dead.push(DeadRow {
                    row: batch.columns().slice(row, 1),
                    time: *time,
                    reason: "the row has no event time, so no window takes it: set event_time on the source".into(),
                    slot: None,
                });
                continue;
            }
            if self.is_late(*time) {
                late.push(row as u32);
                continue;
            }
            let slice = slices.slice_of(*time);
            admitted.push(row as u32);
            first = Some(first.map_or(slice, |first| first.min(slice)));
        }
        put_out_late(&batch, late, self.parts.late, out)?;
        let Some(first) = first else { return Ok(None) };
        Ok(Some((picked(&batch, admitted)?, first)))
    }

    /// Whether no window takes a row of this time any more.
    fn is_late(&self, time: EventTime) -> bool {
        self.windows.is_late(self.windows.last_of(time), self.watermark)
    }

    /// Takes rows into the slice.
    fn take_in(
        &mut self,
        slice: Slice,
        batch: &Batch,
        cut: Option<usize>,
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        let picked = cut.and_then(|cut| self.cuts.rows.get(cut)).map(Vec::as_slice);
        let rows = Rows::new(&self.slots, picked, self.parts.table.len());
        if let Some(running) = &mut self.running {
            running.touch(slice.start, rows);
        }
        let state = match self.states.entry(slice.start) {
            Entry::Occupied(state) => state.into_mut(),
            Entry::Vacant(place) => {
                let first = self.windows.first_open_of(slice.start, self.watermark);
                self.next = self.next.into_iter().chain(first).min();
                place.insert(SliceState::new(slice, &self.parts.aggregates))
            }
        };
        accumulate(&mut self.parts.aggregates, state, batch, rows, &mut self.groups, out)
    }

    /// Notes the windows that have fired over this slice and take rows yet, with the keys of rows that came.
    fn note_late(&self, slice: Slice, cut: Option<usize>, again: &mut BTreeMap<Window, Vec<u32>>) {
        if !self.windows.allow_lateness() {
            return;
        }
        let picked = cut.and_then(|cut| self.cuts.rows.get(cut)).map(Vec::as_slice);
        let mut window = self.windows.first_of(slice.start);
        while window.contains(slice.start) && window.has_fired(self.watermark) {
            if !self.windows.is_late(window, self.watermark) {
                let slots = again.entry(window).or_default();
                Rows::new(&self.slots, picked, self.parts.table.len()).each(|_, slot| slots.push(slot));
            }
            window = self.windows.after(window);
        }
    }

    /// The accumulators of a window, of all its keys or of `only` these; none where they are those of its slice.
    fn merged(&mut self, window: Window, only: Option<&[u32]>) -> Result<Option<SliceState>, OperatorError> {
        if self.windows.are_slices() {
            return Ok(None);
        }
        if let (Some(running), None) = (&mut self.running, only) {
            return running.merged(window, &self.states, &mut self.parts.aggregates).map(Some);
        }
        let bounds = window.bounds();
        let mut sum = SliceState::new(bounds, &self.parts.aggregates);
        let slices = self.states.range(bounds.start..).map(|(_, state)| state);
        for slice in slices.take_while(|state| window.contains(state.slice.start)) {
            let pairs: Vec<_> = match only {
                None => slice.slots().map(|slot| (slot, slot)).collect(),
                Some(only) => only.iter().filter(|slot| slice.has(**slot)).map(|slot| (*slot, *slot)).collect(),
            };
            sum.merge(slice, &pairs, &mut self.parts.aggregates)?;
        }
        Ok(Some(sum))
    }

    /// Puts out results of a window, as many as may be at once. What is left to do, if anything.
    fn put_out(&mut self, firing: Firing, out: &mut Output) -> Result<Option<Firing>, OperatorError> {
        let bounds = firing.window.bounds();
        let slice = || self.states.range(bounds.start..).next().map(|(_, state)| state);
        let Some(state) = firing.merged.as_ref().or_else(slice) else { return Ok(None) };
        let mut emission = Emission {
            head: &self.parts.head,
            output: &self.parts.output,
            table: &self.parts.table,
            aggregates: &mut self.parts.aggregates,
            state,
            bounds: Bounds::One(bounds),
            out,
        };
        let done = emission.put_out_part(state.slots_from(firing.from))?;
        let from = done.and_then(|last| last.checked_add(1));
        Ok(from.map(|from| Firing { from, ..firing }))
    }

    /// Puts out the results of a window that has fired for the keys of rows that came since.
    fn fire_for(&mut self, window: Window, slots: &[u32], out: &mut Output) -> Result<(), OperatorError> {
        if self.needs_store(window) {
            return self.fire_keys(window, slots, out);
        }
        let merged = self.merged(window, Some(slots))?;
        let bounds = window.bounds();
        let slice = || self.states.range(bounds.start..).next().map(|(_, state)| state);
        let Some(state) = merged.as_ref().or_else(slice) else { return Ok(()) };
        let mut emission = Emission {
            head: &self.parts.head,
            output: &self.parts.output,
            table: &self.parts.table,
            aggregates: &mut self.parts.aggregates,
            state,
            bounds: Bounds::One(bounds),
            out,
        };
        emission.put_out_all(slots.iter().copied())
    }

    /// Fires the windows that the watermark makes complete, until as much has been put out as may be at once.
    fn fire_complete(&mut self, out: &mut Output) -> Result<(), OperatorError> {
        loop {
            if let Some(firing) = self.firing.take() {
                self.firing = self.put_out(firing, out)?;
                if out.is_full() && self.is_firing() {
                    return Ok(());
                }
            } else if let Some(window) = self.next.filter(|window| window.has_fired(self.watermark)) {
                if self.needs_store(window) {
                    if self.fire_part(window, out)? {
                        self.next = self.next_after(window);
                    }
                    // memory is bounded: one part at a time
                    if self.is_firing() {
                        return Ok(());
                    }
                    continue;
                }
                self.firing = Some(Firing { window, merged: self.merged(window, None)?, from: 0 });
                self.next = self.next_after(window);
            } else {
                break;
            }
        }
        if self.forget_slices()? { self.forget_keys() } else { Ok(()) }
    }

    /// Whether windows that the watermark makes complete have yet to be put out.
    fn is_firing(&self) -> bool {
        self.firing.is_some() || self.next.is_some_and(|window| window.has_fired(self.watermark))
    }

    fn fire_again(&mut self, windows: BTreeMap<Window, Vec<u32>>, out: &mut Output) -> Result<(), OperatorError> {
        for (window, mut slots) in windows {
            slots.sort_unstable();
            slots.dedup();
            self.fire_for(window, &slots, out)?;
        }
        Ok(())
    }

    /// The earliest window after this one that has rows.
    fn next_after(&self, window: Window) -> Option<Window> {
        let next = self.windows.after(window);
        let (start, _) = self.states.range(next.bounds().start..).next()?;
        let first = self.windows.first_of(*start).max(next);
        first.contains(*start).then_some(first)
    }

    /// Drops slices of which no window is open, and says whether there were any.
    fn forget_slices(&mut self) -> Result<bool, OperatorError> {
        let mut forgot = false;
        while let Some((start, _)) = self.states.first_key_value() {
            let start = *start;
            if !self.is_late(start) {
                break;
            }
            let gone = self.states.remove(&start);
            if let (Some(spilled), Some(state)) = (&mut self.spilled, gone) {
                spilled.forget(state.slice)?;
            }
            forgot = true;
        }
        Ok(forgot)
    }

    /// Makes the key table anew if fewer than half of its keys are in an open slice.
    fn forget_keys(&mut self) -> Result<(), OperatorError> {
        let held = self.parts.table.len();
        let most = self.states.values().map(|state| state.touched).max().unwrap_or(0);
        // what has been handed over goes by the slots that there were
        let is_swept = self.states.values().any(|state| state.swept.is_some());
        if is_swept || most * 2 >= held || (most > 0 && held < COMPACT_FROM_KEYS) {
            return Ok(());
        }
        let mut live = vec![false; held];
        for slot in self.states.values().flat_map(SliceState::slots) {
            live.get_mut(slot as usize).into_iter().for_each(|live| *live = true);
        }
        let live: Vec<u32> = (0..).zip(live).filter_map(|(slot, live)| live.then_some(slot)).collect();
        if live.len() * 2 >= held {
            return Ok(());
        }
        let moves = self.parts.table.retain(&live).map_err(|error| internal(&error))?;
        self.states.values_mut().for_each(|state| state.renumber(&moves));
        self.running.iter_mut().for_each(|running| running.reset(&self.parts.aggregates));
        self.groups = Groups::new();
        Ok(())
    }
}

impl Operator for WindowAggregate {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        check_rows(&self.parts.input, batch.rows(), batch.columns()).map_err(|error| internal(&error))?;
        let Some((batch, first)) = self.admit(batch, out)? else { return Ok(()) };
        let columns = batch.columns().columns();
        let keys: Vec<&ArrayRef> = self.parts.keys.iter().filter_map(|key| columns.get(*key)).collect();
        self.parts.table.slots(&keys, batch.rows(), &mut self.slots).map_err(|error| internal(&error))?;
        let latest = batch.times().iter().max().copied().unwrap_or(NO_EVENT_TIME);
        let mut again = BTreeMap::new();
        if first.contains(latest) {
            self.take_in(first, &batch, None, out)?;
            self.note_late(first, None, &mut again);
            self.fire_again(again, out)?;
            return self.spill_if_over(batch.rows());
        }
        self.cuts.assign(self.windows.slices(), batch.times());
        for cut in 0..self.cuts.slices.len() {
            let Some(slice) = self.cuts.slices.get(cut).copied() else { continue };
            self.take_in(slice, &batch, Some(cut), out)?;
            self.note_late(slice, Some(cut), &mut again);
        }
        self.fire_again(again, out)?;
        self.spill_if_over(batch.rows())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.fire_complete(out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let left = self.is_firing();
        if left {
            self.fire_complete(out)?;
        }
        Ok(left)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.save()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load(state, watermark)
    }
}

impl Cuts {
    /// Sorts rows by slice.
    fn assign(&mut self, slices: Slices, times: &[EventTime]) {
        self.numbers.clear();
        self.slices.clear();
        self.rows.iter_mut().for_each(Vec::clear);
        let mut last = Slice { start: EventTime::MAX, end: EventTime::MIN };
        let mut number = 0;
        for (row, time) in (0u32..).zip(times) {
            if !last.contains(*time) {
                last = slices.slice_of(*time);
                number = *self.numbers.entry(last.start).or_insert(self.slices.len());
                if number == self.slices.len() {
                    self.slices.push(last);
                }
                if number == self.rows.len() {
                    self.rows.push(Vec::new());
                }
            }
            self.rows.get_mut(number).into_iter().for_each(|rows| rows.push(row));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
