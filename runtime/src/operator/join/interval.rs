//! Joins rows of one key whose times are not further apart than bounds say; without bounds, all rows of one key.
//!
//! A row meets its partners when the later of the two comes, and the result carries the later of their times. A row is
//! held until the watermark has reached the last time that a partner could have. A row of a side that is kept and has met
//! no partner by then comes out alone, with that time or its own, whichever is later.
//!
//! What is found does not depend on the order in which the two inputs come, as long as no row is late: a partner that may
//! still come holds a row, whichever side it is on.

mod spilled;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::BooleanBuffer;

use super::columns::{Joined, NO_WINDOW, nulls};
use super::interval_side::{Known, NO_KEY, Side};
use super::rows::Part;
use super::{JoinColumns, LEFT, RIGHT, keys, saved, with_event_time, wrong};
use crate::limits::BATCH_ROWS;
use crate::operator::join::spilled::SpillingJoin;
use crate::operator::spilled_keys::{SpilledKeys, Spilling, Wake};
use crate::operator::{Operator, OperatorError, Output};
use crate::record::{Batch, EventTime, Watermark};
use crate::state::{Chunked, KeyTable, Later, Snapshot};

/// Below this many keys the table is not made anew.
const COMPACT_FROM_KEYS: usize = 1_024;

/// One end of the times that partners on the right have, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// none
    None,
    /// the left row's time and so many ms
    Offset(i64),
    /// a time in the left row and so many ms; a lower bound before the row's own time begins there, and with a null there
    /// are no partners
    Column {
        /// the column of `from`, int64 or timestamp
        index: usize,
        /// ms
        shift_ms: i64,
    },
}

/// Which rows of one key are partners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinBounds {
    /// earliest time on the right
    pub lower: Bound,
    /// latest time on the right
    pub upper: Bound,
    /// whether a row that is behind the watermark is late, or one that has no use any more
    pub strict: bool,
}

/// The operator.
pub struct IntervalJoin {
    columns: JoinColumns,
    nulls: Vec<ArrayRef>,
    bounds: JoinBounds,
    watermark: Watermark,
    table: KeyTable,
    sides: [Side; 2],
    /// last time of a partner, side and number of rows that are held
    timers: BinaryHeap<Reverse<(EventTime, usize, u32)>>,
    pub(super) slots: Vec<u32>,
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
}

/// What tells what is known of the rows of a part from what was known of them before.
fn marks(known: &Chunked<Known>, part: &Part) -> Vec<u64> {
    let mut chunks: Vec<usize> = part.numbers().map(Chunked::<Known>::chunk_of).collect();
    chunks.sort_unstable();
    chunks.dedup();
    let mut marks = Vec::with_capacity(chunks.len() + 1);
    chunks.into_iter().for_each(|chunk| known.marks(chunk..chunk + 1, &mut marks));
    marks
}

impl IntervalJoin {
    /// An operator without state.
    pub fn new(columns: JoinColumns, bounds: JoinBounds) -> Self {
        let any_order = matches!(bounds.upper, Bound::Column { .. });
        Self {
            nulls: nulls(&columns),
            table: keys::table(&columns),
            columns,
            bounds,
            watermark: Watermark::MIN,
            sides: [Side::new(any_order), Side::new(false)],
            timers: BinaryHeap::new(),
            slots: Vec::new(),
            spilled: None,
        }
    }

    /// Rows that are held at the moment, of both sides.
    pub fn rows_held(&self) -> usize {
        self.sides.iter().map(|side| side.rows.len()).sum()
    }

    /// Keys that are held at the moment.
    pub fn keys_held(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(super) fn held_batches(&self, side: usize) -> Vec<RecordBatch> {
        self.sides[side].rows.batches().into_iter().cloned().collect()
    }

    fn is_bounded(&self) -> bool {
        self.bounds.lower != Bound::None || self.bounds.upper != Bound::None
    }

    /// First and last time of the partners of each row.
    fn ranges(&self, side: usize, batch: &Batch) -> Result<Vec<(EventTime, EventTime)>, OperatorError> {
        let JoinBounds { lower, upper, .. } = self.bounds;
        if side == RIGHT {
            let low = |time: EventTime| match upper {
                Bound::Offset(ms) => time.saturating_sub(ms),
                Bound::None | Bound::Column { .. } => EventTime::MIN,
            };
            let high = |time: EventTime| match lower {
                Bound::None => EventTime::MAX,
                Bound::Offset(ms) => time.saturating_sub(ms),
                Bound::Column { .. } => time,
            };
            return Ok(batch.times().iter().map(|time| (low(*time), high(*time))).collect());
        }
        let low = end_of(lower, batch, EventTime::MIN)?;
        let high = end_of(upper, batch, EventTime::MAX)?;
        let own =
            |low: EventTime, time: EventTime| if matches!(lower, Bound::Column { .. }) { low.max(time) } else { low };
        let ranges = low.into_iter().zip(high).zip(batch.times());
        let range = |((low, high), time): ((Option<i64>, Option<i64>), &i64)| match (low, high) {
            (Some(low), Some(high)) => (own(low, *time), high),
            _ => (EventTime::MAX, EventTime::MIN),
        };
        Ok(ranges.map(range).collect())
    }

    /// Whether a row is dropped and counted.
    fn is_late(&self, time: EventTime, high: EventTime) -> bool {
        if self.bounds.strict { time <= self.watermark.0 } else { high <= self.watermark.0 && high < EventTime::MAX }
    }

    /// The rows that are in time and what is known of them, their keys not yet.
    fn in_time(&self, side: usize, batch: Batch, out: &mut Output) -> Result<(Batch, Vec<Known>), OperatorError> {
        let ranges = self.ranges(side, &batch)?;
        let known = |((low, high), time): ((i64, i64), &i64)| Known {
            key: NO_KEY,
            time: *time,
            low,
            high,
            met: false,
            gone: false,
        };
        let mut known: Vec<Known> = ranges.into_iter().zip(batch.times()).map(known).collect();
        let in_time: BooleanBuffer = known.iter().map(|row| !self.is_late(row.time, row.high)).collect();
        let late = in_time.len() - in_time.count_set_bits();
        if late == 0 {
            return Ok((batch, known));
        }
        let rows = (0u32..).zip(&in_time).filter_map(|(row, in_time)| (!in_time).then_some(row));
        self.columns.put_out_late(side, &batch, rows.collect(), out)?;
        known.retain(|row| !self.is_late(row.time, row.high));
        Ok((keys::picked(&batch, &in_time)?, known))
    }

    /// Takes rows over and gives them their keys: numbers of the rows, those with keys first.
    fn hold(&mut self, side: usize, batch: &Batch, known: Vec<Known>) -> Result<(Vec<u32>, usize), OperatorError> {
        let key_columns = self.columns.keys.get(side).ok_or_else(|| wrong("a join has two inputs"))?;
        let Some(keyed) = keys::without_nulls(batch, key_columns) else {
            return self.hold_keyed(side, batch, known).map(|numbers| {
                let keyed = numbers.len();
                (numbers, keyed)
            });
        };
        let (mut with, mut loners) = (known.clone(), known);
        let mut bits = keyed.iter();
        with.retain(|_| bits.next().unwrap_or_default());
        let mut bits = keyed.iter();
        loners.retain(|_| !bits.next().unwrap_or_default());
        let rest = keys::picked(batch, &!&keyed)?;
        let mut numbers = self.hold_keyed(side, &keys::picked(batch, &keyed)?, with)?;
        let keyed = numbers.len();
        if self.columns.kind.keeps(side) {
            numbers.extend(self.add(side, &rest, &loners)?);
        }
        Ok((numbers, keyed))
    }

    fn hold_keyed(&mut self, side: usize, batch: &Batch, mut known: Vec<Known>) -> Result<Vec<u32>, OperatorError> {
        let key_columns = self.columns.keys.get(side).map(Vec::as_slice).unwrap_or_default();
        keys::slots(&mut self.table, batch.columns().columns(), key_columns, batch.rows(), &mut self.slots)?;
        known.iter_mut().zip(&self.slots).for_each(|(known, slot)| known.key = *slot);
        self.add(side, batch, &known)
    }

    fn add(&mut self, side: usize, batch: &Batch, known: &[Known]) -> Result<Vec<u32>, OperatorError> {
        let keeps = self.columns.kind.keeps(side);
        let Some(to) = self.sides.get_mut(side) else { return Ok(Vec::new()) };
        let numbers = to.add(batch.columns(), known)?;
        for (number, known) in numbers.iter().zip(known) {
            if known.high < EventTime::MAX || keeps {
                self.timers.push(Reverse((known.high, side, *number)));
            }
        }
        Ok(numbers)
    }

    /// Puts out the new rows of a side with the partners that are there.
    fn meet(&mut self, side: usize, numbers: &[u32], out: &mut Output) -> Result<(), OperatorError> {
        let [left, right] = &self.sides;
        let (left_batches, right_batches) = (left.rows.batches(), right.rows.batches());
        let mut joined = Joined::new(&self.columns, &self.nulls, [&left_batches, &right_batches])?;
        let (own, other) = if side == LEFT { (left, right) } else { (right, left) };
        let mut met: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        for number in numbers {
            let Some(row) = own.known(*number) else { continue };
            let before = met[RIGHT].len();
            for (time, partner) in other.of_key(row.key, row.low, row.high) {
                if !other.known(partner).is_some_and(|other| other.low <= row.time && row.time <= other.high) {
                    continue;
                }
                let (left_row, right_row) = if side == LEFT { (*number, partner) } else { (partner, *number) };
                let places = (left.rows.place(left_row), right.rows.place(right_row));
                joined.push(places.0, places.1, row.time.max(time), NO_WINDOW, out)?;
                met[RIGHT].push(partner);
            }
            met[LEFT].extend((met[RIGHT].len() > before).then_some(*number));
        }
        joined.finish(out)?;
        for (of, numbers) in [side, 1 - side].into_iter().zip(met) {
            if let Some(side) = self.sides.get_mut(of).filter(|_| self.columns.kind.keeps(of)) {
                numbers.into_iter().for_each(|number| side.set_met(number));
            }
        }
        Ok(())
    }

    /// Lets rows go that no partner can come for any more.
    fn expire(&mut self, until: EventTime, out: &mut Output) -> Result<(), OperatorError> {
        let mut gone: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        let mut alone = Vec::new();
        while let Some(Reverse((high, side, number))) = self.timers.peek().copied() {
            if high > until {
                break;
            }
            self.timers.pop();
            gone.get_mut(side).into_iter().for_each(|gone| gone.push(number));
            let known = self.sides.get(side).and_then(|side| side.known(number));
            if let Some(known) = known.filter(|known| self.columns.kind.keeps(side) && !known.met) {
                alone.push((side, number, high.max(known.time)));
            }
        }
        if !alone.is_empty() {
            let [left, right] = &self.sides;
            let (left_batches, right_batches) = (left.rows.batches(), right.rows.batches());
            let mut joined = Joined::new(&self.columns, &self.nulls, [&left_batches, &right_batches])?;
            for (side, number, time) in alone {
                let (left, right) = match side {
                    LEFT => (left.rows.place(number), None),
                    _ => (None, right.rows.place(number)),
                };
                joined.push(left, right, time, NO_WINDOW, out)?;
            }
            joined.finish(out)?;
        }
        for (side, numbers) in self.sides.iter_mut().zip(gone).filter(|(_, numbers)| !numbers.is_empty()) {
            side.remove(&numbers)?;
        }
        self.forget_keys()
    }

    /// Rows of a side as a snapshot has them.
    pub(super) fn load_side(&mut self, side: usize, table: &RecordBatch) -> Result<(), OperatorError> {
        let (Some(input), Some(keys)) = (self.columns.inputs.get(side), self.columns.keys.get(side)) else {
            return Err(wrong("a join has two inputs"));
        };
        let rows = saved::restored(table, input, keys.len())?;
        let ranges = self.ranges(side, &rows.batch)?;
        let rest = rows.batch.times().iter().zip(rows.met.iter());
        let known = ranges.into_iter().zip(rest).map(|((low, high), (time, met))| Known {
            key: NO_KEY,
            time: *time,
            low,
            high,
            met,
            gone: false,
        });
        self.hold(side, &rows.batch, known.collect())?;
        Ok(())
    }

    /// Makes the key table anew if fewer than half of its keys can have rows.
    fn forget_keys(&mut self) -> Result<(), OperatorError> {
        let (keys, rows) = (self.table.len(), self.rows_held());
        if rows * 2 >= keys || (rows > 0 && keys < COMPACT_FROM_KEYS) {
            return Ok(());
        }
        let has_rows = |key: &u32| self.sides.iter().any(|side| side.has_key(*key));
        let live: Vec<u32> = (0..u32::try_from(keys).unwrap_or(u32::MAX)).filter(has_rows).collect();
        let moves = self.table.retain(&live).map_err(|error| super::internal(&error))?;
        self.spilled.iter_mut().for_each(|spilled| spilled.renumber(&moves));
        self.sides.iter_mut().for_each(|side| side.renumber(&moves));
        Ok(())
    }
}

/// An end of the interval by row; none where the column is null.
fn end_of(bound: Bound, batch: &Batch, none: EventTime) -> Result<Vec<Option<EventTime>>, OperatorError> {
    match bound {
        Bound::None => Ok(vec![Some(none); batch.rows()]),
        Bound::Offset(ms) => Ok(batch.times().iter().map(|time| Some(time.saturating_add(ms))).collect()),
        Bound::Column { index, shift_ms } => {
            let array = batch.columns().columns().get(index).ok_or_else(|| wrong("no column for a bound of a join"))?;
            let integers = array.as_primitive_opt::<Int64Type>().map(|array| array.values());
            let times = || array.as_primitive_opt::<TimestampMillisecondType>().map(|array| array.values());
            let values = integers.or_else(times).ok_or_else(|| wrong("a bound of a join is no time"))?;
            let value = |(row, value): (usize, &i64)| array.is_valid(row).then(|| value.saturating_add(shift_ms));
            Ok(values.iter().enumerate().map(value).collect())
        }
    }
}

impl Operator for IntervalJoin {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(LEFT, batch, out)
    }

    fn on_input(&mut self, side: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let batch = if self.is_bounded() { with_event_time(batch, out)? } else { batch };
        let (batch, known) = self.in_time(side, batch, out)?;
        self.bring_in(side, &batch)?;
        let past = known.iter().any(|row| row.high <= self.watermark.0);
        let (numbers, keyed) = self.hold(side, &batch, known)?;
        self.meet(side, numbers.get(..keyed).unwrap_or_default(), out)?;
        if past {
            self.expire(self.watermark.0, out)?;
        }
        self.spill_if_over(batch.rows())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = watermark;
        loop {
            let more = self.bring_due(Wake::Event, watermark.0)?;
            self.expire(more.unwrap_or(watermark.0), out)?;
            if more.is_none() {
                return Ok(());
            }
            self.spill_if_over(BATCH_ROWS)?;
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let mut tables = Vec::new();
        for (side, keys) in self.sides.iter_mut().zip(&self.columns.keys) {
            let known = Arc::new(side.freeze_known());
            let later = |part| {
                let (of, marked) = (Arc::clone(&known), Arc::clone(&known));
                let own = move |number| of.get(number).map_or((0, false), |known| (known.time, known.met));
                saved::later(part, keys, own, move |part| marks(&marked, part))
            };
            tables.push(side.rows.freeze().into_iter().map(later).collect::<Vec<_>>());
        }
        if let Some(spilled) = &self.spilled {
            tables.iter_mut().zip(spilled.freeze()).for_each(|(table, spilled)| table.extend(spilled));
        }
        let named = saved::NAMES.into_iter().zip(&self.columns.keys).zip(tables);
        let with = |to: Snapshot, ((name, keys), rows): ((&str, &Vec<usize>), Vec<Later>)| {
            to.with(name, Some(keys.len()), Vec::new()).with_later(rows)
        };
        Ok(named.fold(Snapshot::default(), with))
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = watermark;
        let tables = saved::of_sides(state, &self.columns)?;
        for (side, tables) in tables.into_iter().enumerate() {
            for table in tables {
                let batch = saved::restored(table, &self.columns.inputs[side], self.columns.keys[side].len())?.batch;
                self.bring_in(side, &batch)?;
                self.load_side(side, table)?;
                self.spill_if_over(batch.rows())?;
            }
        }
        Ok(())
    }
}
