//! Windows that lie differently for every key, put away and taken up again.
//!
//! One table `windows`, a row an open window: the keys, `window_start`, `window_end`, `fired`, with a trigger or counts that slide
//! `pending` (rows since it last fired, or that it waits for) and `early` (when it fires before its end), `rows`, then the
//! accumulators, which mean nothing in a window without rows. A second table `rows` where rows are kept: keys and bounds of the
//! window, `row_time`, then the columns of the row, each under `row.` and its name. Timers follow from bounds,
//! `early` and watermark.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow_schema::Field as ArrowField;
use arrow_select::take::take;

use super::{KeyWindowAggregate, NOWHERE, OpenWindow};
use crate::limits::BATCH_ROWS;
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::saved_table::SavedTable;
use crate::operator::window_aggregate::{times, windows_table};
use crate::record::{Batch, Field, Kind, Watermark};
use crate::state::{Snapshot, StateError, words};
use crate::window::{KeyWindow, Slice, Trigger, next_multiple};

impl KeyWindowAggregate {
    /// Whether windows know for how many rows they wait, or how many have come since they fired.
    fn keeps_pending(&self) -> bool {
        self.trigger != Trigger::End || matches!(self.window, KeyWindow::SlidingCount { .. })
    }

    fn saved_table(&self) -> SavedTable {
        let time = Kind::TimestampMs;
        let mut head = vec![("window_start", time), ("window_end", time), ("fired", Kind::Boolean)];
        if self.keeps_pending() {
            head.extend([("pending", Kind::Int64), ("early", time)]);
        }
        windows_table(&self.parts, &head)
    }

    pub(super) fn save(&self) -> Result<Snapshot, OperatorError> {
        let table = self.saved_table();
        let mut writer = table.writer();
        // by key, the earliest window of a key first: restored so, lists of windows need no sorting
        let mut places = self.all_open();
        places.retain(|place| !self.emptied.contains(place) || self.state.has(*place));
        for places in places.chunks(BATCH_ROWS) {
            let window = |place: &u32| self.windows.get(*place as usize).copied().unwrap_or(OpenWindow::NONE);
            let windows: Vec<OpenWindow> = places.iter().map(window).collect();
            let keys: Vec<u32> = windows.iter().map(|window| window.key).collect();
            let mut columns = self.parts.table.keys(&keys).map_err(|error| internal(&error))?;
            for bound in [|window: &OpenWindow| window.bounds.start, |window: &OpenWindow| window.bounds.end] {
                columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(windows.iter().map(bound))));
            }
            columns.push(Arc::new(BooleanArray::from_iter(windows.iter().map(|window| Some(window.fired)))));
            if self.keeps_pending() {
                let pending = windows.iter().map(|window| i64::try_from(window.pending).unwrap_or(i64::MAX));
                columns.push(Arc::new(Int64Array::from_iter_values(pending)));
                let early = windows.iter().map(|window| window.early);
                columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(early)));
            }
            columns.extend(self.state.save(&self.parts.aggregates, places)?);
            writer.push(places.len(), columns)?;
        }
        let snapshot = writer.finish(Snapshot::default())?;
        if self.whole.is_some() { self.save_rows(snapshot) } else { Ok(snapshot) }
    }

    fn rows_table(&self) -> SavedTable {
        let time = |name: &str| ArrowField::new(name, Kind::TimestampMs.data_type(), false);
        let own =
            |field: &Field| ArrowField::new(format!("row.{}", field.name), field.kind.data_type(), field.nullable);
        let times = ["window_start", "window_end", "row_time"].map(time);
        let keys = self.parts.head.fields().get(..self.parts.keys.len()).unwrap_or_default();
        SavedTable::new("rows", keys, times.into_iter().chain(self.parts.input.fields().iter().map(own)))
    }

    /// Rows of windows, window by window as in the other table.
    fn save_rows(&self, to: Snapshot) -> Result<Snapshot, OperatorError> {
        let Some(whole) = &self.whole else { return Ok(to) };
        let table = self.rows_table();
        let mut writer = table.writer();
        let mut places = self.all_open().into_iter().filter(|place| whole.rows.kept(*place) > 0).peekable();
        while places.peek().is_some() {
            let (mut some, mut rows) = (Vec::new(), 0);
            while rows < BATCH_ROWS
                && let Some(place) = places.next()
            {
                rows += whole.rows.kept(place);
                some.push(place);
            }
            let gathered = whole.rows.gather(&some)?;
            let of = |group: &u32| some.get(*group as usize).and_then(|place| self.windows.get(*place as usize));
            let windows: Vec<OpenWindow> =
                gathered.groups.iter().map(|group| of(group).copied().unwrap_or(OpenWindow::NONE)).collect();
            let keys: Vec<u32> = windows.iter().map(|window| window.key).collect();
            let mut columns = self.parts.table.keys(&keys).map_err(|error| internal(&error))?;
            for bound in [|window: &OpenWindow| window.bounds.start, |window: &OpenWindow| window.bounds.end] {
                columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(windows.iter().map(bound))));
            }
            columns.push(Arc::new(TimestampMillisecondArray::from(gathered.times)));
            columns.extend(gathered.rows.columns().iter().cloned());
            writer.push(windows.len(), columns)?;
        }
        writer.finish(to)
    }

    /// Rows of windows that have been opened again.
    fn load_rows(&mut self, state: &Snapshot) -> Result<(), OperatorError> {
        let table = self.rows_table();
        let input = self.parts.input.arrow().clone();
        for batch in table.rows_beside(state, &[&self.saved_table()])? {
            let (keys, rest) = batch.columns().split_at_checked(table.keys()).unwrap_or_default();
            let [starts, ends, row_times, columns @ ..] = rest else { continue };
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let slots = &mut self.slots;
            self.parts.table.slots(&keys, batch.num_rows(), slots).map_err(|error| internal(&error))?;
            let (starts, ends) = (times(Some(starts))?, times(Some(ends))?);
            let rows = RecordBatch::try_new(input.clone(), columns.to_vec());
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
            whole.rows.settle()?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.groups = Groups::new();
        let table = self.saved_table();
        let rows = self.whole.as_ref().map(|_| self.rows_table());
        for batch in table.rows_beside(state, rows.as_ref().as_slice())? {
            let (keys, rest) = batch.columns().split_at_checked(table.keys()).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let slots = &mut self.slots;
            self.parts.table.slots(&keys, batch.num_rows(), slots).map_err(|error| internal(&error))?;
            self.by_key.resize_with(self.parts.table.len(), Vec::new);
            self.load_windows(rest)?;
        }
        if self.whole.is_some() { self.load_rows(state) } else { Ok(()) }
    }

    /// Rows of `self.slots`, by bounds, `fired`, what triggers wait for, `rows` and accumulators.
    fn load_windows(&mut self, columns: &[ArrayRef]) -> Result<(), OperatorError> {
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
        let last = self.by_key.get(key as usize).and_then(|list| self.windows.get(*list.last()? as usize));
        let layer = match self.window {
            KeyWindow::SlidingCount { every, .. } => self.next_layer(&saved, last, every),
            _ => Some(0),
        };
        let apart = last.is_none_or(|last| match self.window {
            KeyWindow::Session { .. } => last.bounds.end < bounds.start,
            KeyWindow::Aligned(_) => last.bounds < bounds,
            KeyWindow::SlidingCount { .. } => true,
            KeyWindow::Count { .. } | KeyWindow::Global => false,
        });
        let lies_right = match self.window {
            KeyWindow::Aligned(windows) if bounds.start > i64::MIN => windows.last_of(bounds.start).bounds() == bounds,
            _ => bounds.start < bounds.end || bounds.start == i64::MAX,
        };
        if !apart || !lies_right || layer.is_none() {
            let reason = format!("a window of {}..{} ms cannot be after another of its key", bounds.start, bounds.end);
            return Err(OperatorError::State { reason });
        }
        if let Some((window, layer)) = self.windows.get_mut(place as usize).zip(layer) {
            window.layer = layer;
        }
        self.by_key.get_mut(key as usize).into_iter().for_each(|list| list.push(place));
        Ok(place)
    }
}

impl OpenWindow {
    /// What is in no place.
    const NONE: Self =
        Self { key: u32::MAX, bounds: NOWHERE, rows: 0, fired: false, timer: 0, pending: 0, layer: 0, early: i64::MAX };
}
