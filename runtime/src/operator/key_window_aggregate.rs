//! Aggregates rows in windows that lie differently for every key: sessions, windows of so many rows, one window for all.
//!
//! Every open window has a place of its own, a dense number that is given out anew when the window is gone, and
//! accumulators by place. Rows of a batch are first assigned to places one by one, so that how the input was cut into
//! batches changes nothing; sessions that a row joins become one place, accumulators are merged, and then all rows are
//! folded at once.
//!
//! - Results of a watermark come by window end, then start, then key in the order in which keys were first seen.
//! - State is bounded by the open windows.

mod snapshot;

use std::collections::{BTreeSet, HashMap};

use arrow_array::ArrayRef;

use super::aggregate_fold::{Groups, internal};
use super::late_rows::put_out_late;
use super::window_aggregate_emission::{Bounds, Emission};
use super::window_aggregate_parts::{COMPACT_FROM_KEYS, Parts, accumulate};
use super::window_aggregate_slice::{Rows, SliceState};
use super::{DeadRow, Fold, Operator, OperatorError, Output, WindowAggregateSpec};
use crate::record::{Batch, EventTime, NO_EVENT_TIME, Schema, Watermark};
use crate::state::{Snapshot, check_rows};
use crate::window::{KeyWindow, Slice, WindowError};

/// The operator.
pub struct KeyWindowAggregate {
    parts: Parts,
    window: KeyWindow,
    allowed_lateness_ms: i64,
    watermark: Watermark,
    /// accumulators by place
    state: SliceState,
    /// by place
    windows: Vec<OpenWindow>,
    free: Vec<u32>,
    /// places of a key's windows by key slot, the earliest first
    by_key: Vec<Vec<u32>>,
    /// when to look at a window, and its place; one for each open session
    timers: BTreeSet<(EventTime, u32)>,
    slots: Vec<u32>,
    groups: Groups,
}

/// A window with its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenWindow {
    pub(super) key: u32,
    pub(super) bounds: Slice,
    rows: u64,
    fired: bool,
    timer: EventTime,
}

/// Where the rows of a batch go.
#[derive(Default)]
struct Assignment {
    /// place by row; of rows without one, any
    places: Vec<u32>,
    /// rows with a place
    picked: Vec<u32>,
    /// rows that no window takes any more
    late: Vec<u32>,
    /// (to, from) of sessions that became one, in order
    merges: Vec<(u32, u32)>,
    /// windows that the batch made complete, in order
    complete: Vec<u32>,
}

impl KeyWindowAggregate {
    /// An operator without state. An error is a mistake in the plan, or a component that breaks its contract.
    pub fn new(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let refused = |error: WindowError| OperatorError::Internal { reason: error.to_string() };
        let window = KeyWindow::new(spec.window).map_err(refused)?;
        let allowed_lateness_ms = i64::try_from(spec.allowed_lateness.as_millis()).unwrap_or(i64::MAX);
        let parts = Parts::new(spec)?;
        Ok(Self {
            state: SliceState::new(NOWHERE, &parts.aggregates),
            parts,
            window,
            allowed_lateness_ms,
            watermark: Watermark::MIN,
            windows: Vec::new(),
            free: Vec::new(),
            by_key: Vec::new(),
            timers: BTreeSet::new(),
            slots: Vec::new(),
            groups: Groups::new(),
        })
    }

    /// Columns of the results, as those of [`super::WindowAggregate`].
    pub fn output(&self) -> &Schema {
        &self.parts.output
    }

    /// Keys that are held at the moment.
    pub fn keys_held(&self) -> usize {
        self.parts.table.len()
    }

    /// Windows that are open at the moment.
    pub fn windows_open(&self) -> usize {
        self.windows.len() - self.free.len()
    }

    /// As [`super::WindowAggregate::replace_fold`].
    pub fn replace_fold(&mut self, index: usize, fold: Box<dyn Fold>) -> Result<(), OperatorError> {
        self.parts.replace_fold(index, fold, std::iter::once(&mut self.state))
    }

    fn open(&mut self, key: u32, time: EventTime, end: EventTime) -> u32 {
        let bounds = Slice { start: time, end };
        let window = OpenWindow { key, bounds, rows: 0, fired: false, timer: bounds.result_time() };
        let place = match self.free.pop() {
            Some(place) => {
                self.windows.get_mut(place as usize).into_iter().for_each(|old| *old = window);
                place
            }
            None => {
                self.windows.push(window);
                (self.windows.len() - 1) as u32
            }
        };
        if self.window.is_session() {
            self.timers.insert((window.timer, place));
        }
        place
    }

    fn set_timer(&mut self, place: u32, time: EventTime) {
        if let Some(window) = self.windows.get_mut(place as usize) {
            self.timers.remove(&(window.timer, place));
            window.timer = time;
            self.timers.insert((time, place));
        }
    }

    /// Sorts rows into windows, one after the other.
    fn assign(&mut self, batch: &Batch, out: &mut Output) -> Assignment {
        let slots = std::mem::take(&mut self.slots);
        let mut assignment = Assignment { places: Vec::with_capacity(slots.len()), ..Assignment::default() };
        self.by_key.resize_with(self.parts.table.len(), Vec::new);
        for ((row, key), time) in (0u32..).zip(&slots).zip(batch.times()) {
            let place = if *time == NO_EVENT_TIME {
                out.dead.push(DeadRow {
                    row: batch.columns().slice(row as usize, 1),
                    time: *time,
                    reason: "the row has no event time, so no window takes it: set event_time on the source".into(),
                });
                None
            } else {
                match self.window {
                    KeyWindow::Session { gap_ms } => self.assign_session(*key, *time, gap_ms, &mut assignment),
                    KeyWindow::Count { rows } => Some(self.assign_counted(*key, *time, rows, &mut assignment)),
                    KeyWindow::Global => Some(self.assign_counted(*key, *time, u64::MAX, &mut assignment)),
                }
            };
            assignment.places.push(place.unwrap_or_default());
            match place {
                Some(_) => assignment.picked.push(row),
                None => assignment.late.extend((*time != NO_EVENT_TIME).then_some(row)),
            }
        }
        self.slots = slots;
        assignment
    }

    /// The place of the session that takes the row, after sessions that it joins have become one. None: the row is late.
    fn assign_session(&mut self, key: u32, time: EventTime, gap_ms: i64, to: &mut Assignment) -> Option<u32> {
        let row = Slice { start: time, end: time.saturating_add(gap_ms) };
        let mut sessions = std::mem::take(self.by_key.get_mut(key as usize)?);
        let bounds = |place: &u32| self.windows.get(*place as usize).map_or(NOWHERE, |window| window.bounds);
        let first = sessions.partition_point(|place| bounds(place).end < row.start);
        let touching = sessions.iter().skip(first).take_while(|place| bounds(place).start <= row.end).count();
        let mut joined = row;
        for session in sessions.iter().skip(first).take(touching).map(bounds) {
            joined = Slice { start: joined.start.min(session.start), end: joined.end.max(session.end) };
        }
        let place = match sessions.get(first).filter(|_| touching > 0).copied() {
            Some(place) => {
                for other in sessions.drain(first + 1..first + touching) {
                    to.merges.push((place, other));
                    let timer = self.windows.get(other as usize).map_or(0, |window| window.timer);
                    self.timers.remove(&(timer, other));
                }
                Some(place)
            }
            None if joined.result_time().saturating_add(self.allowed_lateness_ms) <= self.watermark.0 => None,
            None => {
                let place = self.open(key, row.start, row.end);
                sessions.insert(first, place);
                Some(place)
            }
        };
        if let Some(list) = self.by_key.get_mut(key as usize) {
            *list = sessions;
        }
        let complete = joined.is_complete(self.watermark);
        if let Some(window) = place.and_then(|place| self.windows.get_mut(place as usize)) {
            window.bounds = joined;
            let again = window.fired && !complete;
            window.fired &= complete;
            if let Some(place) = place.filter(|_| again) {
                self.set_timer(place, joined.result_time());
            }
        }
        if complete {
            to.complete.extend(place);
        }
        place
    }

    /// The place of the key's only window, which is complete with `most` rows.
    fn assign_counted(&mut self, key: u32, time: EventTime, most: u64, to: &mut Assignment) -> u32 {
        let last = self.by_key.get(key as usize).and_then(|windows| windows.last()).copied();
        let place = match last {
            Some(place) => place,
            None => {
                let place = self.open(key, time, time.saturating_add(1));
                self.by_key.get_mut(key as usize).into_iter().for_each(|windows| windows.push(place));
                place
            }
        };
        let Some(window) = self.windows.get_mut(place as usize) else { return place };
        let Slice { start, end } = window.bounds;
        window.bounds = Slice { start: start.min(time), end: end.max(time.saturating_add(1)) };
        window.rows += 1;
        if window.rows == most {
            to.complete.push(place);
            self.by_key.get_mut(key as usize).into_iter().for_each(Vec::clear);
        }
        place
    }

    /// Merges accumulators of sessions that have become one, and the places of rows that were assigned before.
    fn merge(&mut self, assignment: &mut Assignment) -> Result<(), OperatorError> {
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let mut rest = assignment.merges.as_slice();
        while !rest.is_empty() {
            // pairs up to the first that needs what one of them makes
            let mut seen = BTreeSet::new();
            let independent = rest.iter().take_while(|(to, of)| seen.insert(*to) & seen.insert(*of)).count();
            let (pairs, others) = rest.split_at(independent.max(1));
            let with_rows: Vec<_> = pairs.iter().copied().filter(|(_, of)| self.state.has(*of)).collect();
            let from: Vec<_> = with_rows.iter().map(|(_, of)| *of).collect();
            let taken = self.state.split_off(&from, &self.parts.aggregates);
            self.state.merge(&taken, &with_rows, &mut self.parts.aggregates)?;
            moved.extend(pairs.iter().map(|(to, of)| (*of, *to)));
            rest = others;
        }
        if moved.is_empty() {
            return Ok(());
        }
        for place in assignment.places.iter_mut().chain(&mut assignment.complete) {
            while let Some(to) = moved.get(place) {
                *place = *to;
            }
        }
        self.free.extend(moved.into_keys().collect::<BTreeSet<_>>());
        Ok(())
    }

    /// Puts out results; none comes twice.
    fn fire(&mut self, places: Vec<u32>, out: &mut Output) -> Result<(), OperatorError> {
        for place in &places {
            self.windows.get_mut(*place as usize).into_iter().for_each(|window| window.fired = true);
        }
        Emission {
            head: &self.parts.head,
            output: &self.parts.output,
            table: &self.parts.table,
            aggregates: &mut self.parts.aggregates,
            state: &self.state,
            bounds: Bounds::Each { windows: &self.windows, at_end: self.window == KeyWindow::Global },
            out,
        }
        .put_out_all(places.into_iter())
    }

    /// Forgets windows and what they had.
    fn release(&mut self, places: &[u32]) -> Result<(), OperatorError> {
        drop(self.state.split_off(places, &self.parts.aggregates));
        for place in places {
            let Some(window) = self.windows.get(*place as usize) else { continue };
            self.timers.remove(&(window.timer, *place));
            let windows = self.by_key.get_mut(window.key as usize);
            windows.into_iter().for_each(|windows| windows.retain(|open| open != place));
        }
        self.free.extend_from_slice(places);
        if self.windows_open() == 0 {
            self.windows.clear();
            self.free.clear();
            self.state = SliceState::new(NOWHERE, &self.parts.aggregates);
        }
        self.forget_keys()
    }

    /// Makes the key table anew if fewer than half of its keys have a window.
    fn forget_keys(&mut self) -> Result<(), OperatorError> {
        let (held, open) = (self.parts.table.len(), self.windows_open());
        if open * 2 >= held || (open > 0 && held < COMPACT_FROM_KEYS) {
            return Ok(());
        }
        let live = (0u32..).zip(&self.by_key).filter(|(_, windows)| !windows.is_empty());
        let live: Vec<u32> = live.map(|(key, _)| key).collect();
        let moves = self.parts.table.retain(&live).map_err(|error| internal(&error))?;
        let mut by_key = Vec::with_capacity(live.len());
        for (old, new) in moves {
            let places = self.by_key.get_mut(old as usize).map(std::mem::take).unwrap_or_default();
            for place in &places {
                self.windows.get_mut(*place as usize).into_iter().for_each(|window| window.key = new);
            }
            by_key.push(places);
        }
        self.by_key = by_key;
        Ok(())
    }

    /// What a batch has made complete: counted windows go, sessions stay while lateness is allowed.
    fn fire_complete(&mut self, mut places: Vec<u32>, out: &mut Output) -> Result<(), OperatorError> {
        if places.is_empty() {
            return Ok(());
        }
        if !self.window.is_session() {
            self.fire(places.clone(), out)?;
            return self.release(&places);
        }
        // one that was complete may have been extended since
        let complete =
            |place: &u32| self.windows.get(*place as usize).is_some_and(|w| w.bounds.is_complete(self.watermark));
        places.retain(complete);
        self.order(&mut places);
        places.dedup();
        for place in &places {
            let end = self.windows.get(*place as usize).map_or(0, |window| window.bounds.result_time());
            self.set_timer(*place, end.saturating_add(self.allowed_lateness_ms));
        }
        self.fire(places, out)
    }

    fn order(&self, places: &mut [u32]) {
        places.sort_unstable_by_key(|place| {
            self.windows.get(*place as usize).map(|window| (window.bounds.end, window.bounds.start, window.key))
        });
    }

    /// Sessions that the watermark makes complete, and those that take no rows any more.
    fn due(&mut self) -> (Vec<u32>, Vec<u32>) {
        let (mut fire, mut gone, mut later) = (Vec::new(), Vec::new(), Vec::new());
        while let Some((time, place)) = self.timers.first().copied().filter(|(time, _)| *time <= self.watermark.0) {
            self.timers.remove(&(time, place));
            let Some(window) = self.windows.get(place as usize) else { continue };
            let result_time = window.bounds.result_time();
            let complete = result_time <= self.watermark.0;
            if complete && !window.fired {
                fire.push(place);
            }
            let last = result_time.saturating_add(self.allowed_lateness_ms);
            if last <= self.watermark.0 {
                gone.push(place);
            } else {
                later.push((if complete { last } else { result_time }, place));
            }
        }
        for (time, place) in later {
            self.set_timer(place, time);
        }
        self.order(&mut fire);
        gone.sort_unstable();
        (fire, gone)
    }
}

/// The bounds of nothing.
const NOWHERE: Slice = Slice { start: EventTime::MAX, end: EventTime::MIN };

impl Operator for KeyWindowAggregate {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        check_rows(&self.parts.input, batch.rows(), batch.columns()).map_err(|error| internal(&error))?;
        let columns = batch.columns().columns();
        let keys: Vec<&ArrayRef> = self.parts.keys.iter().filter_map(|key| columns.get(*key)).collect();
        self.parts.table.slots(&keys, batch.rows(), &mut self.slots).map_err(|error| internal(&error))?;
        let mut assignment = self.assign(&batch, out);
        self.merge(&mut assignment)?;
        put_out_late(&batch, std::mem::take(&mut assignment.late), self.parts.late, out)?;
        let Assignment { places, picked, complete, .. } = assignment;
        let picked = (picked.len() < places.len()).then_some(picked.as_slice());
        let rows = Rows::new(&places, picked, self.windows.len());
        accumulate(&mut self.parts.aggregates, &mut self.state, &batch, rows, &mut self.groups, out)?;
        self.fire_complete(complete, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        let (fire, gone) = match self.window {
            KeyWindow::Session { .. } => self.due(),
            KeyWindow::Global | KeyWindow::Count { .. } if self.watermark == Watermark::MAX => {
                let open: Vec<u32> = self.by_key.iter().flatten().copied().collect();
                (if self.window == KeyWindow::Global { open.clone() } else { Vec::new() }, open)
            }
            _ => return Ok(()),
        };
        if !fire.is_empty() {
            self.fire(fire, out)?;
        }
        // now and not sooner, even for keys of late rows: numbers of keys must not hang on how batches are cut
        self.release(&gone)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.save()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load(state, watermark)
    }
}
