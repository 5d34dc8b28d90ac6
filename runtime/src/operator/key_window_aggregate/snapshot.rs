//! Windows that lie differently for every key, put away and taken up again.
//!
//! One table `windows`, a row an open window: the keys, `window_start`, `window_end`, `fired`, with a trigger or counts that slide
//! `pending` (rows since it last fired, or that it waits for) and `early` (when it fires before its end), `rows`, then the
//! accumulators, which mean nothing in a window without rows. A second table `rows` where rows are kept: keys and bounds of the
//! window, `row_time`, then the columns of the row, each under `row.` and its name. Timers follow from bounds,
//! `early` and watermark.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::Field as ArrowField;
use arrow_select::take::take;

use super::frozen::{FrozenWindows, kept_rows, places_by_row, window_rows};
use super::{KeyWindowAggregate, OpenWindow};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::frozen_slices::built_in;
use crate::operator::saved_table::SavedTable;
use crate::operator::spilled_keys::Spilling;
use crate::operator::window_aggregate::{times, windows_table};
use crate::record::{Batch, Field, Kind, Watermark};
use crate::state::{Snapshot, StateError, words};
use crate::window::{KeyWindow, Slice, Trigger, next_multiple};

impl KeyWindowAggregate {
    /// Whether windows know for how many rows they wait, or how many have come since they fired.
    fn keeps_pending(&self) -> bool {
        self.trigger != Trigger::End || matches!(self.window, KeyWindow::SlidingCount { .. })
    }

    pub(super) fn saved_table(&self) -> SavedTable {
        let time = Kind::TimestampMs;
        let mut head = vec![("window_start", time), ("window_end", time), ("fired", Kind::Boolean)];
        if self.keeps_pending() {
            head.extend([("pending", Kind::Int64), ("early", time)]);
        }
        windows_table(&self.parts, &head)
    }

    pub(super) fn save(&mut self) -> Snapshot {
        let places = self.windows.len() as u32;
        let frozen = Arc::new(FrozenWindows {
            windows_schema: self.saved_table().schema().clone(),
            rows_schema: self.rows_table().schema().clone(),
            numbering: self.numbering,
            keys: self.parts.table.freeze(),
            windows: self.windows.freeze(),
            state: self.state.freeze(),
            aggregates: built_in(&self.parts.aggregates),
            emptied: self.emptied.clone(),
            keeps_pending: self.keeps_pending(),
            rows: self.whole.as_mut().map(|whole| whole.rows.freeze()),
        });
        let mut tables = vec![frozen.blocks(places)];
        if let Some(whole) = &self.whole {
            tables.push(frozen.blocks_of_rows(places, |chunk| whole.rows.kept_in_chunk(chunk)));
        }
        if let Some(spilled) = &self.spilled {
            tables.iter_mut().zip(spilled.freeze()).for_each(|(table, spilled)| table.extend(spilled));
        }
        let keys = Some(self.parts.keys.len());
        let named = ["windows", "rows"].into_iter().zip(tables);
        named.fold(Snapshot::default(), |to, (name, rows)| to.with(name, keys, Vec::new()).with_later(rows))
    }

    /// Rows of the table `windows`.
    pub(super) fn windows_of(&self, places: &[u32]) -> Result<RecordBatch, OperatorError> {
        let schema = self.saved_table().schema().clone();
        let keys = self.parts.table.keys(&self.windows.keys(places)).map_err(|error| internal(&error))?;
        let accumulators = self.state.save(&self.parts.aggregates, places)?;
        let rows = window_rows(&schema, keys, (&self.windows, places), self.keeps_pending(), accumulators);
        rows.map_err(|error| internal(&error))
    }

    /// Rows of the table `rows`, of windows that have any.
    pub(super) fn rows_of(&self, places: &[u32]) -> Result<Option<RecordBatch>, OperatorError> {
        let Some(whole) = &self.whole else { return Ok(None) };
        let gathered = whole.rows.gather(places)?;
        let places = places_by_row(&gathered, places);
        let keys = self.parts.table.keys(&self.windows.keys(&places)).map_err(|error| internal(&error))?;
        let schema = self.rows_table().schema().clone();
        kept_rows(&schema, keys, (&self.windows, &places), gathered).map(Some).map_err(|error| internal(&error))
    }

    pub(super) fn rows_table(&self) -> SavedTable {
        let time = |name: &str| ArrowField::new(name, Kind::TimestampMs.data_type(), false);
        let own =
            |field: &Field| ArrowField::new(format!("row.{}", field.name), field.kind.data_type(), field.nullable);
        let times = ["window_start", "window_end", "row_time"].map(time);
        let keys = self.parts.head.fields().get(..self.parts.keys.len()).unwrap_or_default();
        SavedTable::new("rows", keys, times.into_iter().chain(self.parts.input.fields().iter().map(own)))
    }

    /// Keys of saved rows, those of the store brought back.
    fn number(&mut self, keys: &[ArrayRef], rows: usize) -> Result<(), OperatorError> {
        let keys: Vec<&ArrayRef> = keys.iter().collect();
        self.parts.table.slots(&keys, rows, &mut self.slots).map_err(|error| internal(&error))?;
        self.by_key.resize_with(self.parts.table.len(), Vec::new);
        Ok(())
    }

    /// Rows of windows that are open.
    pub(super) fn load_rows(&mut self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let (keys, rest) = batch.columns().split_at_checked(self.parts.keys.len()).unwrap_or_default();
        let [starts, ends, row_times, columns @ ..] = rest else { return Ok(()) };
        self.number(keys, batch.num_rows())?;
        let (starts, ends) = (times(Some(starts))?, times(Some(ends))?);
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.parts.input.arrow().clone(), columns.to_vec(), &options);
        let rows = rows.map_err(|error| internal(&StateError::Arrow(error)))?;
        let rows = Batch::new(rows, times(Some(row_times))?.into());
        let Some(whole) = &mut self.whole else { return Ok(()) };
        whole.rows.begin(&rows.ok_or_else(|| OperatorError::Internal { reason: "rows and times".into() })?)?;
        for (row, ((slot, start), end)) in self.slots.iter().zip(starts).zip(ends).enumerate() {
            let bounds = Slice { start, end };
            let of_key = self.by_key.get(*slot as usize).into_iter().flatten();
            let is = |place: &&u32| self.windows.get(**place as usize).is_some_and(|open| open.bounds == bounds);
            let Some(place) = of_key.into_iter().find(is) else {
                let reason = format!("a row is of a window of {start}..{end} ms that its key does not have");
                return Err(OperatorError::State { reason });
            };
            whole.rows.put(row, *place);
        }
        whole.rows.settle()
    }

    pub(super) fn load_all(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.as_of = self.watermark;
        self.groups = Groups::new();
        let table = self.saved_table();
        let rows = self.whole.as_ref().map(|_| self.rows_table());
        for batch in table.rows_beside(state, rows.as_ref().as_slice())? {
            self.bring_in(batch)?;
            self.load_windows(batch)?;
            self.spill_if_over(batch.num_rows())?;
        }
        let Some(rows) = rows else { return Ok(()) };
        for batch in rows.rows_beside(state, &[&table])? {
            self.bring_in(batch)?;
            self.load_rows(batch)?;
            self.spill_if_over(batch.num_rows())?;
        }
        Ok(())
    }

    /// Brings the keys of saved rows into memory, as far as they are in the store.
    fn bring_in(&mut self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let known = self.parts.table.len();
        self.number(batch.columns().get(..self.parts.keys.len()).unwrap_or_default(), batch.num_rows())?;
        self.look_up(known)
    }

    /// Windows of keys, in any order.
    pub(super) fn load_windows(&mut self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let (keys, rest) = batch.columns().split_at_checked(self.parts.keys.len()).unwrap_or_default();
        self.number(keys, batch.num_rows())?;
        self.open_all(rest)
    }

    /// Rows of `self.slots`, by bounds, `fired`, what triggers wait for, `rows` and accumulators.
    fn open_all(&mut self, columns: &[ArrayRef]) -> Result<(), OperatorError> {
        let [starts, ends, fired, rest @ ..] = columns else { return Ok(()) };
        let bits = |name, kind, column| words(&Field::new(name, kind), column).map_err(|error| internal(&error));
        let fired = bits("fired", Kind::Boolean, fired)?;
        let (pending, early, rest) = match rest {
            [pending, early, rest @ ..] if self.keeps_pending() => {
                (bits("pending", Kind::Int64, pending)?.to_vec(), times(Some(early))?, rest)
            }
            rest => (Vec::new(), Vec::new(), rest),
        };
        let counts = rest.first().map(|rows| bits("rows", Kind::Int64, rows)).transpose()?.unwrap_or_default();
        let (starts, ends) = (times(Some(starts))?, times(Some(ends))?);
        let slots = std::mem::take(&mut self.slots);
        let mut places = Vec::with_capacity(slots.len());
        for (row, key) in slots.iter().enumerate() {
            let at = |times: &[i64], missing| times.get(row).copied().unwrap_or(missing);
            let saved = OpenWindow {
                bounds: Slice { start: at(&starts, 0), end: at(&ends, 0) },
                fired: fired.get(row).is_some_and(|fired| *fired != 0),
                rows: counts.get(row).copied().unwrap_or_default(),
                pending: pending.get(row).copied().unwrap_or_default(),
                early: at(&early, i64::MAX),
                ..OpenWindow::NONE
            };
            places.push(self.reopen(*key, saved)?);
        }
        self.slots = slots;
        if let Trigger::ProcessingTime { interval } = self.trigger
            && self.rings.is_none()
            && pending.iter().any(|rows| *rows > 0)
        {
            self.rings = Some(next_multiple(self.clock.now_ms(), interval));
        }
        self.load_accumulators(&places, &counts, rest)
    }

    /// Those of windows with rows: what a window whose rows are gone has in their place is as new.
    fn load_accumulators(&mut self, places: &[u32], rows: &[u64], columns: &[ArrayRef]) -> Result<(), OperatorError> {
        if rows.iter().all(|rows| *rows > 0) {
            return self.state.load(&self.parts.aggregates, places, columns);
        }
        self.state.make_room(places);
        let some: Vec<u32> = (0..).zip(rows).filter_map(|(row, rows)| (*rows > 0).then_some(row)).collect();
        let places: Vec<u32> = some.iter().filter_map(|row| places.get(*row as usize).copied()).collect();
        let some = UInt32Array::from(some);
        let taken: Result<Vec<ArrayRef>, _> = columns.iter().map(|column| take(column.as_ref(), &some, None)).collect();
        let columns = taken.map_err(|error| internal(&StateError::Arrow(error)))?;
        self.state.load(&self.parts.aggregates, &places, &columns)
    }

    /// Opens a window again as it was, and sets its timer.
    fn reopen(&mut self, key: u32, saved: OpenWindow) -> Result<u32, OperatorError> {
        let bounds = saved.bounds;
        let place = self.open(key, bounds);
        if let Some(window) = self.windows.get_mut(place as usize) {
            window.fired = saved.fired;
            window.rows = if self.window.ends() { 0 } else { saved.rows };
            (window.pending, window.early) = (saved.pending, saved.early);
        }
        if self.window.ends() && bounds.is_complete(self.watermark) {
            self.set_timer(place, bounds.result_time().saturating_add(self.allowed_lateness_ms));
        } else if saved.pending > 0
            && (saved.early < bounds.result_time() || !self.window.ends() && saved.early < i64::MAX)
        {
            self.set_timer(place, saved.early);
        }
        self.insert(key, place)?;
        Ok(place)
    }

    /// Puts a window among those of its key, where it must fit.
    fn insert(&mut self, key: u32, place: u32) -> Result<(), OperatorError> {
        let Some(mut list) = self.by_key.get_mut(key as usize).map(std::mem::take) else { return Ok(()) };
        let window = |place: &u32| self.windows.get(*place as usize).copied().unwrap_or(OpenWindow::NONE);
        let new = window(&place);
        let sliding = matches!(self.window, KeyWindow::SlidingCount { .. });
        let order = |window: OpenWindow| {
            let bounds = if sliding { (0, 0) } else { (window.bounds.start, window.bounds.end) };
            (if sliding { window.pending } else { 0 }, bounds)
        };
        let at = list.partition_point(|place| order(window(place)) < order(new));
        let before = at.checked_sub(1).and_then(|at| list.get(at)).map(window);
        let after = list.get(at).map(window);
        let fits = before.is_none_or(|before| self.are_apart(&before, &new))
            && after.is_none_or(|after| self.are_apart(&new, &after))
            && self.lies_right(&new);
        if !fits {
            let Slice { start, end } = new.bounds;
            let reason = format!("a window of {start}..{end} ms cannot be beside another of its key");
            return Err(OperatorError::State { reason });
        }
        list.insert(at, place);
        self.by_key.get_mut(key as usize).into_iter().for_each(|of_key| *of_key = std::mem::take(&mut list));
        if let KeyWindow::SlidingCount { every, .. } = self.window {
            // windows of a key wait for numbers of rows that are multiples of `every` apart
            let layer = (new.pending / every.max(1)) % self.window.overlap().max(1) as u64;
            self.windows.get_mut(place as usize).into_iter().for_each(|window| window.layer = layer as usize);
        }
        Ok(())
    }

    /// Whether a key can have both windows, the earlier first.
    fn are_apart(&self, before: &OpenWindow, after: &OpenWindow) -> bool {
        match self.window {
            KeyWindow::Session { .. } => before.bounds.end < after.bounds.start,
            KeyWindow::Aligned(_) => before.bounds < after.bounds,
            KeyWindow::SlidingCount { every, .. } => {
                before.pending < after.pending && (after.pending - before.pending).is_multiple_of(every.max(1))
            }
            KeyWindow::Count { .. } | KeyWindow::Global => false,
        }
    }

    fn lies_right(&self, window: &OpenWindow) -> bool {
        let bounds = window.bounds;
        match self.window {
            KeyWindow::Aligned(windows) if bounds.start > i64::MIN => windows.last_of(bounds.start).bounds() == bounds,
            KeyWindow::SlidingCount { rows, .. } if window.pending == 0 || window.pending > rows => false,
            _ => bounds.start < bounds.end || bounds.start == i64::MAX,
        }
    }
}
