//! Aggregates rows in windows that every key has for itself: sessions, windows of so many rows, one window for all, and
//! tumbling and sliding windows that fire otherwise than once at their end.
//!
//! Every open window has a place of its own, a dense number that is given out anew when the window is gone, and
//! accumulators by place. Rows of a batch are first assigned to places one by one, so that how the input was cut into
//! batches changes nothing; sessions that a row joins become one place, accumulators are merged, and then all rows are
//! folded at once. Where a trigger counts rows, a batch is folded in pieces: a window fires before the next row of its key.
//!
//! A window-processor ([`super::WindowProcess`]) has rows in the place of accumulators: [`WholeWindows`] keeps them by place.
//!
//! - A row is folded once for every window that holds it.
//! - Results of a watermark come by window end, then start, then key in the order in which keys were first seen.
//! - State is bounded by the open windows.

mod assign;
mod counted;
mod frozen;
mod places;
mod snapshot;
mod spilled;

use std::collections::{BTreeSet, HashMap};

use arrow_array::ArrayRef;
use arrow_select::concat::concat_batches;

use assign::Assignment;
pub(super) use places::Places;

use super::aggregate_fold::{Groups, internal};
use super::late_rows::put_out_late;
use super::spilled_keys::{SpilledKeys, Spilling};
use super::sweep::{Left, MadeColumns, Sweeping};
use super::window_aggregate_emission::{Bounds, Emission};
use super::window_aggregate_parts::{COMPACT_FROM_KEYS, Parts, accumulate};
use super::window_aggregate_slice::{Rows, SliceState};
use super::window_process::{Heads, WholeWindows};
use super::{Fold, Operator, OperatorError, Output, WindowAggregateSpec};
use crate::clock::Clock;
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, EventTime, Schema, Watermark};
use crate::state::{Snapshot, StateError, check_rows, next_freezing};
use crate::window::{Firing, KeyWindow, Slice, Trigger, WindowError, next_multiple};

/// The operator.
pub struct KeyWindowAggregate {
    parts: Parts,
    window: KeyWindow,
    trigger: Trigger,
    firing: Firing,
    allowed_lateness_ms: i64,
    watermark: Watermark,
    clock: Clock,
    /// when windows with new rows fire by the clock, ms
    rings: Option<i64>,
    /// accumulators by place
    state: SliceState,
    /// rows by place, and the guest that takes them all
    whole: Option<WholeWindows>,
    windows: Places,
    /// places of a key's windows by key slot, the earliest first
    by_key: Vec<Vec<u32>>,
    /// when to look at a window, and its place; one for each window that ends or fires early by event time
    timers: BTreeSet<(EventTime, u32)>,
    /// places of windows of all rows whose rows are gone
    emptied: BTreeSet<u32>,
    /// what a watermark or the clock has made due and has not been put out
    due: Option<Due>,
    slots: Vec<u32>,
    groups: Groups,
    /// changes when keys get other slots
    numbering: u64,
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
    /// the watermark of which all that it makes due has fired
    as_of: Watermark,
}

/// Windows on their way out.
struct Due {
    /// to fire
    places: std::vec::IntoIter<u32>,
    /// to forget when these have fired; none by the clock, which completes no window
    gone: Option<Vec<u32>>,
    /// there may be more in the store
    more: bool,
}

/// A window with its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenWindow {
    pub(super) key: u32,
    pub(super) bounds: Slice,
    rows: u64,
    /// at its end
    fired: bool,
    /// when to look at it
    timer: EventTime,
    /// rows since it last fired; of counted windows that slide, rows that it still waits for
    pending: u64,
    /// of counted windows that slide: the layer that its rows are assigned in
    layer: usize,
    /// When to fire before its end, if rows have come by then. The end of time: there were none yet. Once it has fired so, the
    /// next multiple, however far ahead of the watermark the rows are that come.
    early: EventTime,
}

impl KeyWindowAggregate {
    /// An operator without state. An error is a mistake in the plan, or a component that breaks its contract.
    pub fn new(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let spill = spec.spill.clone();
        Self::in_memory(spec)?.with_spill(spill)
    }

    fn in_memory(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let refused = |error: WindowError| OperatorError::Internal { reason: error.to_string() };
        let window = KeyWindow::new(spec.window, spec.gap, spec.allowed_lateness).map_err(refused)?;
        let (trigger, firing, clock) = (spec.trigger, spec.firing, spec.clock.clone());
        let allowed_lateness_ms = i64::try_from(spec.allowed_lateness.as_millis()).unwrap_or(i64::MAX);
        let parts = Parts::new(spec)?;
        Ok(Self {
            state: SliceState::new(NOWHERE, &parts.aggregates),
            parts,
            whole: None,
            window,
            trigger,
            firing,
            allowed_lateness_ms,
            watermark: Watermark::MIN,
            clock,
            rings: None,
            windows: Places::new(),
            by_key: Vec::new(),
            timers: BTreeSet::new(),
            emptied: BTreeSet::new(),
            due: None,
            slots: Vec::new(),
            groups: Groups::new(),
            numbering: next_freezing(),
            spilled: None,
            as_of: Watermark::MIN,
        })
    }

    /// As [`KeyWindowAggregate::new`], for a guest that takes all rows of a window.
    pub(super) fn of_rows(spec: WindowAggregateSpec, whole: WholeWindows) -> Result<Self, OperatorError> {
        let spill = spec.spill.clone();
        Self { whole: Some(whole), ..Self::in_memory(spec)? }.with_spill(spill)
    }

    /// The guest that takes all rows of a window, and these.
    pub(super) fn whole(&mut self) -> Option<&mut WholeWindows> {
        self.whole.as_mut()
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
        self.windows.open()
    }

    pub(super) fn state_rows(&self) -> u64 {
        // of keys in the store it is not known how many windows they have: one at least
        self.windows_open() as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled())
    }

    /// As [`super::WindowAggregate::replace_fold`].
    pub fn replace_fold(&mut self, index: usize, fold: Box<dyn Fold>) -> Result<(), OperatorError> {
        self.parts.replace_fold(index, fold, std::iter::once(&mut self.state))
    }

    /// As [`super::WindowAggregate::adopt_fold`].
    pub(super) fn adopt_fold(
        &mut self,
        index: usize,
        fold: Box<dyn Fold>,
        mut made: MadeColumns,
    ) -> Result<Left, OperatorError> {
        let rows = made.store.take();
        let left = self.parts.adopt_fold(index, fold, std::iter::once(&mut self.state), made)?;
        if let (Some(spilled), Some(rows)) = (&mut self.spilled, rows) {
            spilled.adopt(rows);
        }
        Ok(left)
    }

    /// As [`super::WindowAggregate::sweeping`].
    pub(super) fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        let in_memory = Sweeping::of_windows(&self.parts, &self.windows, &mut self.state);
        Some(in_memory.and_spilled(self.spilled.as_deref_mut()))
    }

    fn open(&mut self, key: u32, bounds: Slice) -> u32 {
        let timer = if self.window.ends() { bounds.result_time() } else { EventTime::MAX };
        let window =
            OpenWindow { key, bounds, rows: 0, fired: false, timer, pending: 0, layer: 0, early: EventTime::MAX };
        let place = self.windows.put(window);
        if self.window.ends() {
            self.timers.insert((timer, place));
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

    /// Merges accumulators of sessions that have become one, and the places of rows that were assigned before.
    fn merge(&mut self, assignment: &mut Assignment) -> Result<(), OperatorError> {
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let merges = std::mem::take(&mut assignment.merges);
        let mut rest = merges.as_slice();
        while !rest.is_empty() {
            // pairs up to the first that needs what one of them makes
            let mut seen = BTreeSet::new();
            let independent = rest.iter().take_while(|(to, of)| seen.insert(*to) & seen.insert(*of)).count();
            let (pairs, others) = rest.split_at(independent.max(1));
            let with_rows: Vec<_> = pairs.iter().copied().filter(|(_, of)| self.state.has(*of)).collect();
            let from: Vec<_> = with_rows.iter().map(|(_, of)| *of).collect();
            let taken = self.state.split_off(&from, &self.parts.aggregates);
            self.state.merge(&taken, &with_rows, &mut self.parts.aggregates)?;
            if let Some(whole) = &mut self.whole {
                with_rows.iter().for_each(|(to, of)| whole.rows.join(*to, *of));
            }
            moved.extend(pairs.iter().map(|(to, of)| (*of, *to)));
            rest = others;
        }
        if moved.is_empty() {
            return Ok(());
        }
        let places = assignment.layers.iter_mut().flat_map(|layer| &mut layer.places);
        for place in places.chain(&mut assignment.complete) {
            while let Some(to) = moved.get(place) {
                *place = *to;
            }
        }
        self.windows.give_back(moved.into_keys().collect::<BTreeSet<_>>());
        Ok(())
    }

    /// Folds the rows that have a place, and gives out places anew.
    fn fold(&mut self, batch: &Batch, to: &mut Assignment, out: &mut Output) -> Result<(), OperatorError> {
        for (number, layer) in to.layers.iter_mut().enumerate() {
            let picked = std::mem::take(&mut layer.picked);
            if picked.is_empty() {
                continue;
            }
            let all_picked = picked.as_slice();
            let picked = (picked.len() < layer.places.len()).then_some(picked.as_slice());
            let rows = Rows::new(&layer.places, picked, self.windows.len());
            if let Some(whole) = &mut self.whole {
                rows.each(|row, place| whole.rows.put(row, place));
            }
            let before = out.dead.len();
            accumulate(&mut self.parts.aggregates, &mut self.state, batch, rows, &mut self.groups, out)?;
            if matches!(self.window, KeyWindow::SlidingCount { .. }) {
                let refused = out.dead.split_off(before);
                out.dead.extend(counted::refused_once(refused, batch, all_picked, &to.newest, number));
            }
            // a row that is refused is so in each of its windows: it is dead once, in that of its last
            if let KeyWindow::Aligned(windows) = self.window {
                let refused = out.dead.split_off(before);
                out.dead
                    .extend(refused.into_iter().filter(|dead| windows.layer_of(windows.last_of(dead.time)) == number));
            }
        }
        Ok(())
    }

    /// Puts out results of windows with rows; none comes twice.
    fn fire(&mut self, mut places: Vec<u32>, out: &mut Output) -> Result<(), OperatorError> {
        places.retain(|place| self.state.has(*place));
        for place in &places {
            let Some(window) = self.windows.get_mut(*place as usize) else { continue };
            window.fired |= self.window.ends() && window.bounds.is_complete(self.watermark);
            window.pending = 0;
        }
        let mut emission = Emission {
            head: &self.parts.head,
            output: &self.parts.output,
            table: &self.parts.table,
            aggregates: &mut self.parts.aggregates,
            state: &self.state,
            bounds: Bounds::Each { windows: &self.windows, at_end: self.window == KeyWindow::Global },
            out,
        };
        match &mut self.whole {
            None => emission.put_out_all(places.iter().copied())?,
            Some(whole) => {
                let (columns, times) = emission.heads(&places)?;
                let rows = places.iter().map(|place| self.state.rows.get(*place).copied().unwrap_or_default());
                let (rows, schema) = (rows.collect(), self.parts.head.clone());
                whole.fire(&Heads { places: places.clone(), rows, schema, columns, times }, out)?;
            }
        }
        if self.firing == Firing::Discarding {
            self.empty(&places);
            if !self.window.ends() {
                for place in &places {
                    self.windows.get_mut(*place as usize).into_iter().for_each(|window| window.bounds = NOWHERE);
                }
                self.emptied.extend(places);
            }
        }
        Ok(())
    }

    /// Takes what windows have away.
    fn empty(&mut self, places: &[u32]) {
        drop(self.state.split_off(places, &self.parts.aggregates));
        self.whole.iter_mut().for_each(|whole| whole.rows.forget(places));
    }

    /// Forgets windows and what they had.
    fn release(&mut self, places: &[u32]) -> Result<(), OperatorError> {
        self.empty(places);
        for place in places {
            let Some(window) = self.windows.get(*place as usize) else { continue };
            self.timers.remove(&(window.timer, *place));
            let windows = self.by_key.get_mut(window.key as usize);
            windows.into_iter().for_each(|windows| windows.retain(|open| open != place));
        }
        self.windows.give_back(places.iter().copied());
        // what has been handed over goes by the places that there were
        if self.windows_open() == 0 && self.state.swept.is_none() {
            self.windows = Places::new();
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
        self.numbering = next_freezing();
        self.spilled.iter_mut().for_each(|spilled| spilled.renumber(&moves));
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

    /// What a batch has made complete: counted windows go, others stay while lateness is allowed.
    fn fire_complete(&mut self, mut places: Vec<u32>, out: &mut Output) -> Result<(), OperatorError> {
        if places.is_empty() {
            return Ok(());
        }
        if !self.window.ends() {
            self.fire(places.clone(), out)?;
            return self.release(&places);
        }
        // one that was complete may have been extended since, or have fired because of its number of rows
        let complete = |place: &u32| {
            let window = self.windows.get(*place as usize);
            window.is_some_and(|window| window.pending > 0 && window.bounds.is_complete(self.watermark))
        };
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

    /// Windows with timers up to `until` that the watermark makes complete or that fire early, and those that take no rows
    /// any more.
    fn due(&mut self, until: EventTime) -> (Vec<u32>, Vec<u32>) {
        let (mut fire, mut gone, mut later) = (Vec::new(), Vec::new(), Vec::new());
        while let Some((time, place)) = self.timers.first().copied().filter(|(time, _)| *time <= until) {
            self.timers.remove(&(time, place));
            let Some(window) = self.windows.get_mut(place as usize) else { continue };
            let end = if self.window.ends() { window.bounds.result_time() } else { EventTime::MAX };
            let complete = end <= self.watermark.0;
            let early = window.early <= self.watermark.0;
            if let Trigger::Every { interval } = self.trigger
                && early
            {
                window.early = next_multiple(self.watermark.0, interval);
            }
            if complete && !window.fired && self.trigger.fires_at_end() || !complete && early && window.pending > 0 {
                fire.push(place);
            }
            let last = end.saturating_add(self.allowed_lateness_ms);
            if !complete {
                // one that fires now waits for rows before it looks at the time again
                let waits = if early || window.pending == 0 { EventTime::MAX } else { window.early };
                later.push((end.min(waits), place));
            } else if last <= self.watermark.0 {
                gone.push(place);
            } else {
                later.push((last, place));
            }
        }
        for (time, place) in later {
            if time < EventTime::MAX || self.window.ends() {
                self.set_timer(place, time);
            } else if let Some(window) = self.windows.get_mut(place as usize) {
                window.timer = time;
            }
        }
        self.order(&mut fire);
        gone.sort_unstable();
        (fire, gone)
    }

    /// Fires windows until as much has been put out as may be at once, then forgets those that are over.
    fn fire_due(&mut self, out: &mut Output) -> Result<(), OperatorError> {
        let at_once = out.rows_at_once.clamp(1, BATCH_ROWS);
        while let Some(mut due) = self.due.take() {
            let mut fired = 0;
            loop {
                let part = self.part(&mut due.places, at_once);
                if part.is_empty() {
                    break;
                }
                fired += part.len();
                self.fire(part, out)?;
                if out.is_full() {
                    self.due = Some(due);
                    return Ok(());
                }
            }
            let by_clock = due.gone.is_none();
            if let Some(mut gone) = due.gone {
                if self.watermark < Watermark::MAX {
                    gone.extend(self.emptied());
                }
                // now and not sooner, even for keys of late rows: numbers of keys must not hang on how batches are cut
                self.release(&gone)?;
            }
            if due.more {
                self.spill_if_over(fired)?;
                self.due = Some(if by_clock { self.due_by_clock()? } else { self.due_by_watermark()? });
            }
        }
        self.as_of = self.watermark;
        Ok(())
    }

    /// The next windows to fire: so many, or those that have so many rows if they are handed over with these.
    fn part(&self, due: &mut std::vec::IntoIter<u32>, most: usize) -> Vec<u32> {
        let Some(whole) = &self.whole else { return due.take(most).collect() };
        let (mut part, mut rows) = (Vec::new(), 0);
        while rows < most
            && let Some(place) = due.next()
        {
            rows += whole.rows.kept(place).max(1);
            part.push(place);
        }
        part
    }

    /// Windows of all rows that have none, now that a watermark has come.
    fn emptied(&mut self) -> Vec<u32> {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|place| !self.state.has(*place));
        emptied.into_iter().collect()
    }

    /// All windows of all keys, by key.
    fn all_open(&self) -> Vec<u32> {
        self.by_key.iter().flatten().copied().collect()
    }
}

/// Makes one batch of the small ones from `first` on, as far as they fit.
fn join_batches(batches: &mut Vec<Batch>, first: usize) -> Result<(), OperatorError> {
    let mut small = batches.split_off(first).into_iter().peekable();
    while let Some(batch) = small.next() {
        let (mut rows, mut run) = (batch.rows(), vec![batch]);
        while let Some(next) = small.next_if(|next| rows + next.rows() <= BATCH_ROWS) {
            rows += next.rows();
            run.push(next);
        }
        if let [_] = run.as_slice() {
            batches.extend(run);
            continue;
        }
        let Some(schema) = run.first().map(|batch| batch.columns().schema()) else { continue };
        let columns = concat_batches(&schema, run.iter().map(Batch::columns));
        let columns = columns.map_err(|error| internal(&StateError::Arrow(error)))?;
        batches.extend(Batch::new(columns, run.iter().flat_map(|batch| batch.times().iter().copied()).collect()));
    }
    Ok(())
}

/// The bounds of nothing.
const NOWHERE: Slice = Slice { start: EventTime::MAX, end: EventTime::MIN };

impl Operator for KeyWindowAggregate {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        check_rows(&self.parts.input, batch.rows(), batch.columns()).map_err(|error| internal(&error))?;
        let columns = batch.columns().columns();
        let keys: Vec<&ArrayRef> = self.parts.keys.iter().filter_map(|key| columns.get(*key)).collect();
        let known = self.parts.table.len();
        self.parts.table.slots(&keys, batch.rows(), &mut self.slots).map_err(|error| internal(&error))?;
        self.look_up(known)?;
        let gaps = self.gaps(&batch)?;
        let mut to = Assignment::new(self.window.overlap(), batch.rows());
        let (mut row, put_out) = (0, out.batches.len());
        self.whole.iter_mut().try_for_each(|whole| whole.rows.begin(&batch))?;
        while row < batch.rows() {
            row = self.assign(&batch, row, &gaps, &mut to, out);
            self.merge(&mut to)?;
            self.fold(&batch, &mut to, out)?;
            if !to.counted.is_empty() {
                self.fire(std::mem::take(&mut to.counted), out)?;
            }
        }
        put_out_late(&batch, to.late, self.parts.late, out)?;
        self.fire_complete(to.complete, out)?;
        self.whole.iter_mut().try_for_each(|whole| whole.rows.settle())?;
        if let Trigger::ProcessingTime { interval } = self.trigger
            && self.rings.is_none()
        {
            self.rings = Some(next_multiple(self.clock.now_ms(), interval));
        }
        self.spill_if_over(batch.rows())?;
        join_batches(&mut out.batches, put_out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        if matches!(self.window, KeyWindow::Count { .. } | KeyWindow::SlidingCount { .. })
            && self.watermark < Watermark::MAX
        {
            self.as_of = self.watermark;
            return Ok(());
        }
        self.due = Some(self.due_by_watermark()?);
        self.fire_due(out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let left = self.due.is_some();
        self.fire_due(out)?;
        Ok(left)
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.rings
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        if self.rings.is_none_or(|rings| now_ms < rings) {
            return Ok(());
        }
        self.rings = None;
        self.due = Some(self.due_by_clock()?);
        self.fire_due(out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        Ok(self.save())
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load_all(state, watermark)
    }
}
