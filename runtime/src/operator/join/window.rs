//! Joins rows in one tumbling or sliding window.
//!
//! Rows wait in the slices of their windows, without an index: keys are looked at when a window fires, once a row and
//! window. A window fires when the watermark reaches its last time, and its results carry that time. Rows that came too
//! late for all of their windows are counted, and put out as late if the step names an output for them.

mod spilled;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take_record_batch;

use super::columns::{Joined, nulls};
use super::held::Held;
use super::{JoinColumns, LEFT, RIGHT, arrow, keys, saved, with_event_time, wrong};
use crate::operator::{Operator, OperatorError, Output};
use crate::record::{Batch, EventTime, Watermark};
use crate::state::{Later, Snapshot};
use crate::window::{Slice, Window, WindowSpec, Windows};
use spilled::SpilledSlices;

/// The operator.
pub struct WindowJoin {
    columns: JoinColumns,
    nulls: Vec<ArrayRef>,
    windows: Windows,
    watermark: Watermark,
    /// windows up to here have fired
    fired: Watermark,
    /// of those that the watermark makes complete, all before this one have fired
    next: Option<Window>,
    /// by start
    slices: BTreeMap<EventTime, SliceRows>,
    /// what does not fit into memory, where that is bounded
    spilled: Option<Box<SpilledSlices>>,
}

/// Rows of one slice, by side.
#[derive(Debug, Default)]
struct SliceRows {
    keyed: [Held; 2],
    /// rows with a null in their key, of sides that are kept
    loners: [Held; 2],
}

impl SliceRows {
    fn batches(&self) -> usize {
        self.keyed.iter().chain(&self.loners).map(|held| held.numbered().len()).sum()
    }

    fn bytes(&self) -> usize {
        self.keyed.iter().chain(&self.loners).map(Held::bytes).sum()
    }
}

/// Rows of a window, by side.
struct WindowRows<'a> {
    batches: [Vec<&'a RecordBatch>; 2],
    /// how many of the batches have keys; loners come behind them
    keyed: [usize; 2],
}

impl WindowJoin {
    /// An operator without state. An error is a mistake in the plan.
    pub fn new(columns: JoinColumns, window: WindowSpec) -> Result<Self, OperatorError> {
        let windows = Windows::new(window, Duration::ZERO).map_err(|error| wrong(&error.to_string()))?;
        let nulls = nulls(&columns);
        let (watermark, fired) = (Watermark::MIN, Watermark::MIN);
        let slices = BTreeMap::new();
        Ok(Self { columns, nulls, windows, watermark, fired, next: None, slices, spilled: None })
    }

    /// Slices that are held at the moment.
    pub fn slices_held(&self) -> usize {
        self.slices.len()
    }

    /// Puts rows of a side into their slices; those that all of their windows have left behind are late.
    fn put_in(&mut self, side: usize, batch: &Batch, loners: bool, out: &mut Output) -> Result<(), OperatorError> {
        for (start, rows) in self.by_slice(batch) {
            if self.windows.first_open_of(start, self.watermark).is_none() {
                let rows = rows.unwrap_or_else(|| (0u32..).take(batch.rows()).collect());
                self.columns.put_out_late(side, batch, rows, out)?;
                continue;
            }
            let columns = match rows {
                None => batch.columns().clone(),
                Some(rows) => {
                    let rows = UInt32Array::from(rows);
                    take_record_batch(batch.columns(), &rows).map_err(|error| arrow(&error))?
                }
            };
            if loners && !self.columns.kind.keeps(side) {
                continue;
            }
            let slice = self.slices.entry(start).or_default();
            let held = if loners { &mut slice.loners } else { &mut slice.keyed };
            held.get_mut(side).map_or(Ok(()), |held| held.add(columns))?;
        }
        Ok(())
    }

    /// Start of a slice and its rows; `None` for all rows of the batch.
    fn by_slice(&self, batch: &Batch) -> Vec<(EventTime, Option<Vec<u32>>)> {
        let slices = self.windows.slices();
        let Some(first) = batch.times().first() else { return Vec::new() };
        let mut last = slices.slice_of(*first);
        if batch.times().iter().all(|time| last.contains(*time)) {
            return vec![(last.start, None)];
        }
        let mut rows: BTreeMap<EventTime, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0u32..).zip(batch.times()) {
            if !last.contains(*time) {
                last = slices.slice_of(*time);
            }
            rows.entry(last.start).or_default().push(row);
        }
        rows.into_iter().map(|(start, rows)| (start, Some(rows))).collect()
    }

    /// Fires the windows that the watermark makes complete. One that has spilled leaves in parts.
    fn fire_complete(&mut self, out: &mut Output) -> Result<(), OperatorError> {
        while let Some(start) = self.slices.first_key_value().map(|(start, _)| *start) {
            let open = self.windows.first_open_of(start, self.fired);
            let next = open.map(|open| self.next.map_or(open, |next| open.max(next)));
            let Some(window) = next.filter(|window| window.contains(start)) else {
                self.slices.pop_first();
                self.spilled.as_mut().map_or(Ok(()), |spilled| spilled.forget(start))?;
                continue;
            };
            if !window.has_fired(self.watermark) {
                break;
            }
            if self.spilled.as_ref().is_some_and(|spilled| spilled.has(window)) {
                if self.fire_part(window, out)? {
                    self.next = Some(self.windows.after(window));
                }
                // memory is bounded: one part at a time
                return Ok(());
            }
            self.fire(window, out)?;
            self.next = Some(self.windows.after(window));
        }
        (self.fired, self.next) = (self.watermark, None);
        Ok(())
    }

    fn fire(&self, window: Window, out: &mut Output) -> Result<(), OperatorError> {
        let bounds = window.bounds();
        let mut rows = WindowRows { batches: [Vec::new(), Vec::new()], keyed: [0, 0] };
        let slices = || self.slices.range(bounds.start..).take_while(|(start, _)| window.contains(**start));
        for side in [LEFT, RIGHT] {
            let batches = &mut rows.batches[side];
            slices().for_each(|(_, slice)| batches.extend(slice.keyed[side].batches()));
            rows.keyed[side] = batches.len();
            slices().for_each(|(_, slice)| batches.extend(slice.loners[side].batches()));
        }
        let kind = self.columns.kind;
        let idle = |side: usize| rows.batches[side].is_empty() && !kind.keeps(1 - side);
        if idle(LEFT) || idle(RIGHT) {
            return Ok(());
        }
        self.join(&rows, bounds, out)
    }

    /// Every left row with every right row of its key, then rows without a partner.
    fn join(&self, rows: &WindowRows<'_>, window: Slice, out: &mut Output) -> Result<(), OperatorError> {
        let [left, right] = &rows.batches;
        let mut joined = Joined::new(&self.columns, &self.nulls, [left, right])?;
        let time = window.result_time();
        let mut table = keys::table(&self.columns);
        let right_slots = self.slots(rows, RIGHT, &mut table)?;
        let index = Index::new(&right_slots, table.len());
        let mut met = vec![false; table.len()];
        let mut slots = Vec::new();
        for (number, batch) in left.iter().enumerate() {
            slots.clear();
            if number < rows.keyed[LEFT] {
                keys::slots(&mut table, batch.columns(), &self.columns.keys[LEFT], batch.num_rows(), &mut slots)?;
            }
            for row in 0..batch.num_rows() {
                let partners = slots.get(row).map_or(&[][..], |slot| index.of(*slot));
                for partner in partners {
                    joined.push(Some((number, row)), Some(*partner), time, window, out)?;
                }
                if partners.is_empty() && self.columns.kind.keeps(LEFT) {
                    joined.push(Some((number, row)), None, time, window, out)?;
                }
                if let Some(met) = slots.get(row).and_then(|slot| met.get_mut(*slot as usize)) {
                    *met = true;
                }
            }
        }
        if self.columns.kind.keeps(RIGHT) {
            for (number, batch) in right.iter().enumerate() {
                let slots = right_slots.get(number);
                for row in 0..batch.num_rows() {
                    let slot = slots.and_then(|slots| slots.get(row));
                    if !slot.is_some_and(|slot| met.get(*slot as usize).is_some_and(|met| *met)) {
                        joined.push(None, Some((number, row)), time, window, out)?;
                    }
                }
            }
        }
        joined.finish(out)
    }

    /// The numbers of the keys of a side, by batch.
    fn slots(
        &self,
        rows: &WindowRows<'_>,
        side: usize,
        table: &mut crate::state::KeyTable,
    ) -> Result<Vec<Vec<u32>>, OperatorError> {
        let mut all = Vec::with_capacity(rows.keyed[side]);
        for batch in rows.batches[side].iter().take(rows.keyed[side]) {
            let mut slots = Vec::new();
            keys::slots(table, batch.columns(), &self.columns.keys[side], batch.num_rows(), &mut slots)?;
            all.push(slots);
        }
        Ok(all)
    }
}

/// Rows by the number of their key: those of key k are `places[starts[k] .. starts[k + 1]]`, in order.
struct Index {
    starts: Vec<usize>,
    places: Vec<(usize, usize)>,
}

impl Index {
    /// Rows of batches with these key numbers, all below `keys`.
    fn new(slots: &[Vec<u32>], keys: usize) -> Self {
        let mut starts = vec![0_usize; keys + 1];
        for slot in slots.iter().flatten() {
            starts.get_mut(*slot as usize + 1).into_iter().for_each(|count| *count += 1);
        }
        let mut rows = 0;
        for start in &mut starts {
            rows += *start;
            *start = rows;
        }
        let mut next = starts.clone();
        let mut places = vec![(0, 0); rows];
        for (batch, slots) in slots.iter().enumerate() {
            for (row, slot) in slots.iter().enumerate() {
                let Some(next) = next.get_mut(*slot as usize) else { continue };
                places.get_mut(*next).into_iter().for_each(|place| *place = (batch, row));
                *next += 1;
            }
        }
        Self { starts, places }
    }

    fn of(&self, slot: u32) -> &[(usize, usize)] {
        let slot = slot as usize;
        let range = self.starts.get(slot).zip(self.starts.get(slot + 1));
        range.and_then(|(start, end)| self.places.get(*start..*end)).unwrap_or_default()
    }
}

impl Operator for WindowJoin {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(LEFT, batch, out)
    }

    fn on_input(&mut self, side: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let keys = self.columns.keys.get(side).ok_or_else(|| wrong("a join has two inputs"))?;
        let batch = with_event_time(batch, out)?;
        let rows = batch.rows();
        let split = keys::split(batch, keys)?;
        self.put_in(side, &split.keyed, false, out)?;
        split.loners.map_or(Ok(()), |loners| self.put_in(side, &loners, true, out))?;
        self.spill_if_over(rows)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = watermark;
        self.fire_complete(out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let left = self.fired != self.watermark;
        if left {
            self.fire_complete(out)?;
        }
        Ok(left)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let mut snapshot = Snapshot::default();
        let spilled = self.spilled.as_ref().map(|spilled| spilled.later(&self.columns)).unwrap_or_default();
        for (side, mut rows) in spilled.into_iter().enumerate() {
            let keys = &self.columns.keys[side];
            for (start, slice) in &self.slices {
                let batches = slice.keyed[side].numbered().iter().chain(slice.loners[side].numbered());
                rows.extend(batches.map(|(number, batch)| {
                    let (number, batch, keys, start) = (*number, batch.clone(), keys.clone(), *start);
                    let times = move |rows: usize| ScalarBuffer::from(vec![start; rows]);
                    Later::new(
                        move || u128::from(number),
                        move || saved::saved(&batch, &keys, times(batch.num_rows()), None),
                    )
                }));
            }
            snapshot = snapshot.with(saved::NAMES[side], Some(keys.len()), Vec::new()).with_later(rows);
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        (self.watermark, self.fired) = (watermark, watermark);
        let mut out = Output::default();
        let tables = saved::of_sides(state, &self.columns)?;
        for (side, tables) in tables.into_iter().enumerate() {
            let keys = self.columns.keys[side].clone();
            for batch in tables {
                let rows = saved::restored(batch, &self.columns.inputs[side], keys.len())?;
                let split = keys::split(rows.batch, &keys)?;
                self.put_in(side, &split.keyed, false, &mut out)?;
                split.loners.map_or(Ok(()), |loners| self.put_in(side, &loners, true, &mut out))?;
                self.spill_if_over(batch.num_rows())?;
            }
        }
        Ok(())
    }
}
