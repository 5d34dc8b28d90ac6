//! Joins rows in one session: rows of a key, of both sides, with no more than the gap from one to the next.
//!
//! Rows of a key wait in the order of their times. When the watermark reaches the end of the earliest session, what has
//! come is cut into sessions; those that are complete go. A row that comes late but touches a session that is still open
//! is in it, as in a windowed aggregate.

mod spilled;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use std::sync::Arc;
use std::time::Duration;

use arrow_array::ArrayRef;

use super::columns::{Joined, nulls};
use super::rows::Rows;
use super::{JoinColumns, LEFT, RIGHT, internal, keys, saved, with_event_time, wrong};
use crate::limits::BATCH_ROWS;
use crate::operator::join::spilled::SpillingJoin;
use crate::operator::spilled_keys::{SpilledKeys, Spilling, Wake};
use crate::operator::{Operator, OperatorError, Output};
use crate::record::{Batch, EventTime, Watermark};
use crate::state::{Chunked, KeyTable, Later, Snapshot};
use crate::window::{Gap, KeyWindow, Slice, WindowSpec};

/// Below this many keys the table is not made anew.
const COMPACT_FROM_KEYS: usize = 1_024;

/// Time, side and number of a row.
type Waiting = (EventTime, usize, u32);

/// The operator.
pub struct SessionJoin {
    columns: JoinColumns,
    nulls: Vec<ArrayRef>,
    gap_ms: i64,
    watermark: Watermark,
    table: KeyTable,
    sides: [Rows; 2],
    by_key: Vec<KeyRows>,
    /// when to look at a key
    timers: BTreeSet<(EventTime, u32)>,
    /// rows with a null in their key, each a session of its own, by its last time
    loners: BTreeMap<EventTime, Vec<Waiting>>,
    slots: Vec<u32>,
    /// by side and number of a row
    times: [Chunked<EventTime>; 2],
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
}

/// Rows of a key.
#[derive(Debug, Default)]
struct KeyRows {
    /// by time, of one time in the order in which they came
    rows: VecDeque<Waiting>,
    timer: Option<EventTime>,
}

/// A session that is complete.
struct Session {
    window: Slice,
    key: u32,
    rows: Vec<Waiting>,
}

impl SessionJoin {
    /// An operator without state. An error is a mistake in the plan.
    pub fn new(columns: JoinColumns, window: WindowSpec) -> Result<Self, OperatorError> {
        let window = KeyWindow::new(window, None, Duration::ZERO).map_err(|error| wrong(&error.to_string()))?;
        let KeyWindow::Session { gap: Gap::Ms(gap_ms) } = window else {
            return Err(wrong("a join has windows that end by event time"));
        };
        Ok(Self {
            nulls: nulls(&columns),
            table: keys::table(&columns),
            columns,
            gap_ms,
            watermark: Watermark::MIN,
            sides: [Rows::default(), Rows::default()],
            by_key: Vec::new(),
            timers: BTreeSet::new(),
            loners: BTreeMap::new(),
            slots: Vec::new(),
            times: [Chunked::new(0), Chunked::new(0)],
            spilled: None,
        })
    }

    /// Rows that are held at the moment, of both sides.
    pub fn rows_held(&self) -> usize {
        self.sides.iter().map(Rows::len).sum()
    }

    /// The window of a session of one row.
    fn window_of(&self, time: EventTime) -> Slice {
        Slice { start: time, end: time.saturating_add(self.gap_ms) }
    }

    /// Whether a row of this time is in no session that is still open.
    fn is_late(&self, key: u32, time: EventTime) -> bool {
        if !self.window_of(time).is_complete(self.watermark) {
            return false;
        }
        let Some(rows) = self.by_key.get(key as usize).map(|key| &key.rows) else { return true };
        let (first, last) = (time.saturating_sub(self.gap_ms), time.saturating_add(self.gap_ms));
        let next = rows.partition_point(|row| row.0 < first);
        rows.get(next).is_none_or(|row| row.0 > last)
    }

    fn put_in(&mut self, side: usize, batch: &Batch, out: &mut Output) -> Result<(), OperatorError> {
        let key_columns = self.columns.keys.get(side).map(Vec::as_slice).unwrap_or_default();
        keys::slots(&mut self.table, batch.columns().columns(), key_columns, batch.rows(), &mut self.slots)?;
        self.by_key.resize_with(self.table.len(), KeyRows::default);
        let mut numbers = Vec::with_capacity(batch.rows());
        self.sides.get_mut(side).map_or(Ok(()), |rows| rows.add(batch.columns(), &mut numbers))?;
        let slots = std::mem::take(&mut self.slots);
        let (mut late, mut late_rows) = (Vec::new(), Vec::new());
        for (row, ((key, time), number)) in (0u32..).zip(slots.iter().zip(batch.times()).zip(&numbers)) {
            if self.is_late(*key, *time) {
                late.push(*number);
                late_rows.push(row);
                continue;
            }
            let end = self.window_of(*time).result_time();
            let Some(waiting) = self.by_key.get_mut(*key as usize) else { continue };
            self.times.get_mut(side).into_iter().for_each(|times| times.set(*number, *time));
            let at = waiting.rows.partition_point(|row| row.0 <= *time);
            waiting.rows.insert(at, (*time, side, *number));
            if waiting.timer.is_none_or(|timer| end < timer) {
                if let Some(timer) = waiting.timer.replace(end) {
                    self.timers.remove(&(timer, *key));
                }
                self.timers.insert((end, *key));
            }
        }
        self.slots = slots;
        self.columns.put_out_late(side, batch, late_rows, out)?;
        self.sides.get_mut(side).map_or(Ok(()), |rows| rows.remove(&late))
    }

    fn put_in_loners(&mut self, side: usize, batch: &Batch, out: &mut Output) -> Result<(), OperatorError> {
        let window = |time: &EventTime| Slice { start: *time, end: time.saturating_add(self.gap_ms) };
        let is_late = |time: &EventTime| window(time).is_complete(self.watermark);
        let late_rows = (0u32..).zip(batch.times()).filter_map(|(row, time)| is_late(time).then_some(row)).collect();
        let in_time = batch.times().iter().map(|time| !is_late(time)).collect();
        let in_time = keys::picked(batch, &in_time)?;
        self.columns.put_out_late(side, batch, late_rows, out)?;
        if !self.columns.kind.keeps(side) {
            return Ok(());
        }
        let mut numbers = Vec::new();
        self.sides.get_mut(side).map_or(Ok(()), |rows| rows.add(in_time.columns(), &mut numbers))?;
        for (time, number) in in_time.times().iter().zip(numbers) {
            self.times.get_mut(side).into_iter().for_each(|times| times.set(number, *time));
            self.loners.entry(window(time).result_time()).or_default().push((*time, side, number));
        }
        Ok(())
    }

    /// Takes out the sessions of a key that are complete, and says when to look again.
    fn take_complete(&mut self, key: u32, complete: &mut Vec<Session>) {
        let (gap_ms, watermark) = (self.gap_ms, self.watermark);
        let Some(waiting) = self.by_key.get_mut(key as usize) else { return };
        waiting.timer = None;
        while let Some(first) = waiting.rows.front() {
            let mut window = Slice { start: first.0, end: first.0.saturating_add(gap_ms) };
            let mut rows = 0;
            for row in &waiting.rows {
                if row.0 > window.end {
                    break;
                }
                window.end = row.0.saturating_add(gap_ms);
                rows += 1;
            }
            if !window.is_complete(watermark) {
                waiting.timer = Some(window.result_time());
                self.timers.insert((window.result_time(), key));
                return;
            }
            complete.push(Session { window, key, rows: waiting.rows.drain(..rows).collect() });
        }
        waiting.rows = VecDeque::new();
    }

    fn put_out(&mut self, sessions: &[Session], out: &mut Output) -> Result<(), OperatorError> {
        if sessions.is_empty() {
            return Ok(());
        }
        let [left, right] = &self.sides;
        let (left_batches, right_batches) = (left.batches(), right.batches());
        let mut joined = Joined::new(&self.columns, &self.nulls, [&left_batches, &right_batches])?;
        for Session { window, rows, .. } in sessions {
            let time = window.result_time();
            let (lefts, rights): (Vec<&Waiting>, Vec<&Waiting>) = rows.iter().partition(|row| row.1 == LEFT);
            for (.., number) in &lefts {
                if rights.is_empty() && self.columns.kind.keeps(LEFT) {
                    joined.push(left.place(*number), None, time, *window, out)?;
                }
                for (.., partner) in &rights {
                    joined.push(left.place(*number), right.place(*partner), time, *window, out)?;
                }
            }
            if lefts.is_empty() && self.columns.kind.keeps(RIGHT) {
                for (.., number) in rights {
                    joined.push(None, right.place(*number), time, *window, out)?;
                }
            }
        }
        joined.finish(out)?;
        for side in [LEFT, RIGHT] {
            let rows = sessions.iter().flat_map(|session| &session.rows).filter(|row| row.1 == side);
            let gone: Vec<u32> = rows.map(|row| row.2).collect();
            self.sides.get_mut(side).map_or(Ok(()), |rows| rows.remove(&gone))?;
        }
        Ok(())
    }

    /// Puts out sessions of which a timer up to `until` says that they may be complete.
    fn fire(&mut self, until: EventTime, out: &mut Output) -> Result<(), OperatorError> {
        let mut complete = Vec::new();
        while let Some((_, key)) = self.timers.first().copied().filter(|(time, _)| *time <= until) {
            self.timers.pop_first();
            self.take_complete(key, &mut complete);
        }
        while let Some(first) = self.loners.first_entry().filter(|first| *first.key() <= until) {
            for row in first.remove() {
                complete.push(Session { window: self.window_of(row.0), key: u32::MAX, rows: vec![row] });
            }
        }
        complete.sort_by_key(|session| (session.window.end, session.window.start, session.key));
        self.put_out(&complete, out)
    }

    /// Makes the key table anew if fewer than half of its keys can have rows.
    fn forget_keys(&mut self) -> Result<(), OperatorError> {
        let (held, rows) = (self.table.len(), self.rows_held());
        if rows * 2 >= held || (rows > 0 && held < COMPACT_FROM_KEYS) {
            return Ok(());
        }
        let live = (0u32..).zip(&self.by_key).filter(|(_, key)| !key.rows.is_empty());
        let live: Vec<u32> = live.map(|(key, _)| key).collect();
        let moves = self.table.retain(&live).map_err(|error| internal(&error))?;
        self.spilled.iter_mut().for_each(|spilled| spilled.renumber(&moves));
        self.renumber(&moves);
        Ok(())
    }

    /// Keys have other numbers, those that are left.
    fn renumber(&mut self, moves: &[(u32, u32)]) {
        self.timers.clear();
        let mut by_key = Vec::with_capacity(moves.len());
        for (old, new) in moves {
            let key = self.by_key.get_mut(*old as usize).map(std::mem::take).unwrap_or_default();
            self.timers.extend(key.timer.map(|timer| (timer, *new)));
            by_key.push(key);
        }
        self.by_key = by_key;
    }

    fn take(&mut self, side: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let key_columns = self.columns.keys.get(side).ok_or_else(|| wrong("a join has two inputs"))?;
        let split = keys::split(batch, key_columns)?;
        self.put_in(side, &split.keyed, out)?;
        split.loners.map_or(Ok(()), |loners| self.put_in_loners(side, &loners, out))
    }
}

impl Operator for SessionJoin {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(LEFT, batch, out)
    }

    fn on_input(&mut self, side: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let batch = with_event_time(batch, out)?;
        let rows = batch.rows();
        self.bring_in(side, &batch)?;
        self.take(side, batch, out)?;
        self.spill_if_over(rows)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = watermark;
        loop {
            let more = self.bring_due(Wake::Event, watermark.0)?;
            self.fire(more.unwrap_or(watermark.0), out)?;
            if more.is_none() {
                return self.forget_keys();
            }
            self.spill_if_over(BATCH_ROWS)?;
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let mut spilled = self.spilled.as_ref().map(|spilled| spilled.freeze()).unwrap_or_default().into_iter();
        let mut snapshot = Snapshot::default();
        for ((side, times), keys) in self.sides.iter().zip(&mut self.times).zip(&self.columns.keys) {
            let times = Arc::new(times.freeze());
            let later = |part| {
                let times = Arc::clone(&times);
                let own = move |number| (times.get(number).copied().unwrap_or_default(), false);
                saved::later(part, keys, own, |_| Vec::new())
            };
            let mut rows: Vec<Later> = side.freeze().into_iter().map(later).collect();
            rows.extend(spilled.next().unwrap_or_default());
            let name = saved::NAMES.get(snapshot.tables.len()).copied().unwrap_or_default();
            snapshot = snapshot.with(name, Some(keys.len()), Vec::new()).with_later(rows);
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        // a late row that touched an open session is in it: rows come back before lateness counts
        let mut out = Output::default();
        let tables = saved::of_sides(state, &self.columns)?;
        for (side, tables) in tables.into_iter().enumerate() {
            for table in tables {
                let rows = saved::restored(table, &self.columns.inputs[side], self.columns.keys[side].len())?;
                self.bring_in(side, &rows.batch)?;
                self.take(side, rows.batch, &mut out)?;
                self.spill_if_over(table.num_rows())?;
            }
        }
        self.watermark = watermark;
        Ok(())
    }
}
