//! Which windows the rows of a batch go to, one row after the other.

use arrow_array::Array;

use super::{KeyWindowAggregate, NOWHERE};
use crate::operator::aggregate_fold::internal;
use crate::operator::{DeadRow, OperatorError, Output};
use crate::record::{Batch, EventTime, Field, Kind, NO_EVENT_TIME};
use crate::state::words;
use crate::window::{Gap, KeyWindow, Slice, Trigger, Windows, next_multiple};

/// Where rows of a batch go.
#[derive(Default)]
pub(super) struct Assignment {
    /// one for each window that a row can be in at once; a window has its rows in one of them
    pub(super) layers: Vec<Layer>,
    /// rows that no window takes any more
    pub(super) late: Vec<u32>,
    /// (to, from) of sessions that became one, in order
    pub(super) merges: Vec<(u32, u32)>,
    /// counted windows that have all their rows, and windows that took rows after their end, in order
    pub(super) complete: Vec<u32>,
    /// of counted windows that slide: by row, the layer of the latest window that has it
    pub(super) newest: Vec<usize>,
    /// windows that have as many rows as the trigger waits for, in the order of the rows that made it so
    pub(super) counted: Vec<u32>,
}

/// Rows with a place.
#[derive(Default)]
pub(super) struct Layer {
    /// by row; of rows without one, any
    pub(super) places: Vec<u32>,
    /// rows with one
    pub(super) picked: Vec<u32>,
}

/// Gaps of the rows of a batch, in ms.
pub(super) enum Gaps {
    Same(i64),
    /// null, zero and negative as 0
    Each(Vec<i64>),
}

impl Assignment {
    pub(super) fn new(layers: usize, rows: usize) -> Self {
        let layer = || Layer { places: vec![0; rows], picked: Vec::new() };
        let newest = if layers > 1 { vec![0; rows] } else { Vec::new() };
        Self { newest, layers: (0..layers).map(|_| layer()).collect(), ..Self::default() }
    }

    pub(super) fn put(&mut self, layer: usize, row: u32, place: u32) {
        let Some(layer) = self.layers.get_mut(layer) else { return };
        layer.places.get_mut(row as usize).into_iter().for_each(|to| *to = place);
        layer.picked.push(row);
    }
}

impl Gaps {
    fn of(&self, row: u32) -> i64 {
        match self {
            Self::Same(gap_ms) => *gap_ms,
            Self::Each(gaps) => gaps.get(row as usize).copied().unwrap_or_default(),
        }
    }
}

impl KeyWindowAggregate {
    /// The gaps of sessions, row by row.
    pub(super) fn gaps(&self, batch: &Batch) -> Result<Gaps, OperatorError> {
        let column = match self.window {
            KeyWindow::Session { gap: Gap::Column(column) } => column,
            KeyWindow::Session { gap: Gap::Ms(gap_ms) } => return Ok(Gaps::Same(gap_ms)),
            _ => return Ok(Gaps::Same(1)),
        };
        let Some(array) = batch.columns().columns().get(column) else {
            return Err(OperatorError::Internal { reason: format!("no column {column} with the gaps of sessions") });
        };
        let gaps = words(&Field::new("gap", Kind::Int64).nullable(), array).map_err(|error| internal(&error))?;
        let of = |(row, gap): (usize, &u64)| if array.is_null(row) { 0 } else { (*gap as i64).max(0) };
        Ok(Gaps::Each(gaps.iter().enumerate().map(of).collect()))
    }

    /// Sorts rows from `first` on into windows, up to the first row of a key for which a window has to fire before.
    /// Answers where it stopped.
    pub(super) fn assign(
        &mut self,
        batch: &Batch,
        first: usize,
        gaps: &Gaps,
        to: &mut Assignment,
        out: &mut Output,
    ) -> usize {
        let slots = std::mem::take(&mut self.slots);
        self.by_key.resize_with(self.parts.table.len(), Vec::new);
        let rows = slots.iter().zip(batch.times().iter()).enumerate().skip(first);
        let mut stopped = slots.len();
        let timeless = !self.window.ends();
        for (row, (key, time)) in rows {
            if !to.counted.is_empty() && self.must_fire(*key) {
                stopped = row;
                break;
            }
            let row = row as u32;
            let gap_ms = gaps.of(row);
            // windows that do not go by event time take rows without one as of the epoch
            let time = if timeless && *time == NO_EVENT_TIME { 0 } else { *time };
            if time == NO_EVENT_TIME || gap_ms == 0 {
                let reason = if time == NO_EVENT_TIME {
                    "the row has no event time, so no window takes it: set event_time on the source"
                } else {
                    "the row has no session gap: expected 1 ms or more, found null, 0 or a negative number in the gap column"
                };
                let columns = batch.columns().slice(row as usize, 1);
                out.dead.push(DeadRow { row: columns, time, reason: reason.into(), slot: None });
                continue;
            }
            let taken = match self.window {
                KeyWindow::Aligned(windows) => self.assign_aligned(*key, time, windows, row, to),
                KeyWindow::Session { .. } => {
                    let place = self.assign_session(*key, time, gap_ms, to);
                    place.into_iter().for_each(|place| to.put(0, row, place));
                    place.is_some()
                }
                KeyWindow::Count { rows } => {
                    let place = self.assign_counted(*key, time, rows, to);
                    to.put(0, row, place);
                    true
                }
                KeyWindow::SlidingCount { rows, every } => {
                    self.assign_sliding(*key, time, (rows, every), row, to);
                    true
                }
                KeyWindow::Global => {
                    let place = self.assign_counted(*key, time, u64::MAX, to);
                    to.put(0, row, place);
                    true
                }
            };
            to.late.extend((!taken).then_some(row));
        }
        self.slots = slots;
        stopped
    }

    /// Whether a window of the key has the rows that the trigger waits for and has not fired.
    fn must_fire(&self, key: u32) -> bool {
        let Trigger::Count { rows, .. } = self.trigger else { return false };
        let windows = self.by_key.get(key as usize).into_iter().flatten();
        windows.filter_map(|place| self.windows.get(*place as usize)).any(|window| window.pending >= rows)
    }

    /// A row has entered the window at `place`: notes when that has to fire.
    fn entered(&mut self, place: u32, time: EventTime, to: &mut Assignment) {
        let Some(window) = self.windows.get_mut(place as usize) else { return };
        window.pending += 1;
        if let Trigger::Count { rows, .. } = self.trigger
            && window.pending >= rows
        {
            to.counted.push(place);
        }
        if self.window.ends() && window.bounds.is_complete(self.watermark) {
            if self.trigger.fires_at_end() {
                to.complete.push(place);
            }
        } else if let Trigger::Every { interval } = self.trigger {
            let now = self.watermark.0;
            let due = if window.early <= now { next_multiple(now, interval) } else { window.early };
            let early = due.min(next_multiple(time.max(now), interval));
            window.early = early;
            if early < window.timer {
                self.set_timer(place, early);
            }
        }
    }

    /// Puts the row into every window of its time that takes it; false if there is none.
    fn assign_aligned(&mut self, key: u32, time: EventTime, windows: Windows, row: u32, to: &mut Assignment) -> bool {
        let last = windows.last_of(time);
        if windows.is_late(last, self.watermark) {
            return false;
        }
        let mut window = windows.first_of(time);
        while window <= last {
            if !windows.is_late(window, self.watermark) {
                let place = self.place_of(key, window.bounds());
                to.put(windows.layer_of(window), row, place);
                self.entered(place, time, to);
            }
            window = windows.after(window);
        }
        true
    }

    /// The place of the key's window with these bounds, which is opened if need be.
    fn place_of(&mut self, key: u32, bounds: Slice) -> u32 {
        let Some(mut list) = self.by_key.get_mut(key as usize).map(std::mem::take) else { return 0 };
        let start = |place: &u32| self.windows.get(*place as usize).map_or(NOWHERE, |window| window.bounds);
        let at = list.partition_point(|place| start(place) < bounds);
        let place = match list.get(at).copied().filter(|place| start(place) == bounds) {
            Some(place) => place,
            None => {
                let place = self.open(key, bounds);
                list.insert(at, place);
                place
            }
        };
        self.by_key.get_mut(key as usize).into_iter().for_each(|windows| *windows = std::mem::take(&mut list));
        place
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
                    self.join(place, other);
                }
                Some(place)
            }
            None if joined.result_time().saturating_add(self.allowed_lateness_ms) <= self.watermark.0 => None,
            None => {
                let place = self.open(key, row);
                sessions.insert(first, place);
                Some(place)
            }
        };
        if let Some(list) = self.by_key.get_mut(key as usize) {
            *list = sessions;
        }
        let place = place?;
        let complete = joined.is_complete(self.watermark);
        if let Some(window) = self.windows.get_mut(place as usize) {
            window.bounds = joined;
            let again = window.fired && !complete;
            window.fired &= complete;
            if again {
                self.set_timer(place, joined.result_time());
            }
        }
        self.entered(place, time, to);
        Some(place)
    }

    /// What the session at `other` waits for, the one at `place` waits for now: the row that joins them sets the timer.
    fn join(&mut self, place: u32, other: u32) {
        let Some(gone) = self.windows.get(other as usize).copied() else { return };
        self.timers.remove(&(gone.timer, other));
        if let Some(window) = self.windows.get_mut(place as usize) {
            window.pending += gone.pending;
            window.early = window.early.min(gone.early);
        }
    }

    /// The place of the key's only window, which is complete with `most` rows.
    fn assign_counted(&mut self, key: u32, time: EventTime, most: u64, to: &mut Assignment) -> u32 {
        let row = Slice { start: time, end: time.saturating_add(1) };
        let last = self.by_key.get(key as usize).and_then(|windows| windows.last()).copied();
        let place = match last {
            Some(place) => place,
            None => {
                let place = self.open(key, row);
                self.by_key.get_mut(key as usize).into_iter().for_each(|windows| windows.push(place));
                place
            }
        };
        let Some(window) = self.windows.get_mut(place as usize) else { return place };
        let Slice { start, end } = window.bounds;
        window.bounds = Slice { start: start.min(row.start), end: end.max(row.end) };
        window.rows += 1;
        if window.rows == most {
            to.complete.push(place);
            self.by_key.get_mut(key as usize).into_iter().for_each(Vec::clear);
        }
        self.entered(place, time, to);
        place
    }
}
