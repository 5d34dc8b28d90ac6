//! Windows that lie differently for every key, put away and taken up again.
//!
//! One table `windows`, a row an open window: the keys, `window_start`, `window_end`, `fired`, `rows`, then the
//! accumulators. Timers follow from bounds and watermark.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, TimestampMillisecondArray};

use super::{KeyWindowAggregate, NOWHERE, OpenWindow};
use crate::limits::BATCH_ROWS;
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::saved_table::SavedTable;
use crate::operator::window_aggregate::{times, windows_table};
use crate::record::{Field, Kind, Watermark};
use crate::state::{Snapshot, words};
use crate::window::Slice;

impl KeyWindowAggregate {
    fn saved_table(&self) -> SavedTable {
        let time = Kind::TimestampMs;
        windows_table(&self.parts, &[("window_start", time), ("window_end", time), ("fired", Kind::Boolean)])
    }

    pub(super) fn save(&self) -> Result<Snapshot, OperatorError> {
        let table = self.saved_table();
        let mut writer = table.writer();
        // by key, the earliest window of a key first: restored so, lists of windows need no sorting
        let places: Vec<u32> = self.by_key.iter().flatten().copied().collect();
        for places in places.chunks(BATCH_ROWS) {
            let window = |place: &u32| self.windows.get(*place as usize).copied().unwrap_or(OpenWindow::NONE);
            let windows: Vec<OpenWindow> = places.iter().map(window).collect();
            let keys: Vec<u32> = windows.iter().map(|window| window.key).collect();
            let mut columns = self.parts.table.keys(&keys).map_err(|error| internal(&error))?;
            for bound in [|window: &OpenWindow| window.bounds.start, |window: &OpenWindow| window.bounds.end] {
                columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(windows.iter().map(bound))));
            }
            columns.push(Arc::new(BooleanArray::from_iter(windows.iter().map(|window| Some(window.fired)))));
            columns.extend(self.state.save(&self.parts.aggregates, places)?);
            writer.push(places.len(), columns)?;
        }
        writer.finish(Snapshot::default())
    }

    pub(super) fn load(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.groups = Groups::new();
        let table = self.saved_table();
        for batch in table.rows(state)? {
            let (keys, rest) = batch.columns().split_at_checked(table.keys()).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            let slots = &mut self.slots;
            self.parts.table.slots(&keys, batch.num_rows(), slots).map_err(|error| internal(&error))?;
            self.by_key.resize_with(self.parts.table.len(), Vec::new);
            self.load_windows(rest)?;
        }
        Ok(())
    }

    /// Rows of `self.slots`, by bounds, `fired`, `rows` and accumulators.
    fn load_windows(&mut self, columns: &[ArrayRef]) -> Result<(), OperatorError> {
        let [starts, ends, fired, rest @ ..] = columns else { return Ok(()) };
        let bits = |name, kind, column| words(&Field::new(name, kind), column).map_err(|error| internal(&error));
        let fired = bits("fired", Kind::Boolean, fired)?;
        let counts = rest.first().map(|rows| bits("rows", Kind::Int64, rows)).transpose()?.unwrap_or_default();
        let (starts, ends) = (times(Some(starts))?, times(Some(ends))?);
        let bounds = starts.iter().zip(&ends).map(|(start, end)| Slice { start: *start, end: *end });
        let slots = std::mem::take(&mut self.slots);
        let mut places = Vec::with_capacity(slots.len());
        for (((key, bounds), fired), rows) in slots.iter().zip(bounds).zip(fired.iter()).zip(counts.iter()) {
            places.push(self.reopen(*key, bounds, *fired != 0, *rows)?);
        }
        self.slots = slots;
        self.state.load(&self.parts.aggregates, &places, rest)
    }

    /// Opens a window again as it was, and sets its timer.
    fn reopen(&mut self, key: u32, bounds: Slice, fired: bool, rows: u64) -> Result<u32, OperatorError> {
        let place = self.open(key, bounds.start, bounds.end);
        if let Some(window) = self.windows.get_mut(place as usize) {
            window.fired = fired;
            window.rows = if self.window.is_session() { 0 } else { rows };
        }
        if self.window.is_session() && bounds.is_complete(self.watermark) {
            self.set_timer(place, bounds.result_time().saturating_add(self.allowed_lateness_ms));
        }
        let Some(list) = self.by_key.get_mut(key as usize) else { return Ok(place) };
        let last = list.last().and_then(|last| self.windows.get(*last as usize));
        let apart = last.is_none_or(|last| self.window.is_session() && last.bounds.end < bounds.start);
        if bounds.start >= bounds.end && bounds.start != i64::MAX || !apart {
            let reason = format!("a window of {}..{} ms cannot be after another of its key", bounds.start, bounds.end);
            return Err(OperatorError::State { reason });
        }
        list.push(place);
        Ok(place)
    }
}

impl OpenWindow {
    /// What is in no place.
    const NONE: Self = Self { key: u32::MAX, bounds: NOWHERE, rows: 0, fired: false, timer: 0 };
}
