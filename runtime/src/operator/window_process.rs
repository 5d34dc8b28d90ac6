//! `window_process`: a guest that makes rows of all rows of a window.
//!
//! Windows are those of [`KeyWindowAggregate`], with their triggers, lateness and merging; in the place of accumulators it
//! keeps rows. When windows fire the guest gets all rows of as many of them as make a batch, at least one.
//!
//! - What comes out has the window's keys and bounds before the guest's columns, and the times that an aggregate would
//!   have.
//! - The unit of a failure is the window: one that the guest cannot handle is a dead row of its keys, its bounds and the
//!   number of its rows, and its reason says that so many rows are lost with it.
//! - A window with more rows than a call may have does not reach the guest: it fails, and says how many it had. Those
//!   beyond are not kept, so a window's memory is bounded.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;

use super::aggregate_fold::internal;
use super::isolate::{Failed, Isolation};
use super::window_rows::WindowRows;
use super::{DeadRow, KeyWindowAggregate, OnError, Operator, OperatorError, Output, Replacement, WindowAggregateSpec};
use crate::limits::{BATCH_ROWS, WINDOW_ROWS_MAX};
use crate::record::{Batch, EventTime, Field, Kind, Schema, Watermark};
use crate::state::{Snapshot, StateError};
use crate::wasm::{Expansion, Guest, WindowCall};

/// The operator.
pub struct WindowProcess {
    windows: KeyWindowAggregate,
    on_error: OnError,
}

/// The guest, and the rows of open windows.
pub(super) struct WholeWindows {
    guest: Guest,
    /// columns that the guest reads
    reads: Vec<usize>,
    output: Schema,
    on_error: OnError,
    pub(super) rows: WindowRows,
}

/// Windows that fire: where their rows are, and a row of keys and bounds for each.
pub(super) struct Heads {
    pub(super) places: Vec<u32>,
    /// rows that each has had
    pub(super) rows: Vec<i64>,
    pub(super) schema: Schema,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) times: Vec<EventTime>,
}

fn bug(reason: impl Into<String>) -> OperatorError {
    OperatorError::Internal { reason: reason.into() }
}

fn arrow(error: arrow_schema::ArrowError) -> OperatorError {
    internal(&StateError::Arrow(error))
}

impl WindowProcess {
    /// An operator without rows; `reads` are the columns of the guest's signature, `output` key columns, bounds and the
    /// guest's columns. `spec` has no aggregates.
    pub fn new(
        spec: WindowAggregateSpec,
        guest: Guest,
        reads: Vec<usize>,
        output: Schema,
        on_error: OnError,
    ) -> Result<Self, OperatorError> {
        if !spec.aggregates.is_empty() || !spec.window.has_bounds() {
            return Err(bug("a window-processor with aggregates, or without windows"));
        }
        let rows = WindowRows::new(&spec.input);
        let whole = WholeWindows { guest, reads, output, on_error, rows };
        Ok(Self { windows: KeyWindowAggregate::of_rows(spec, whole)?, on_error })
    }
}

impl WholeWindows {
    /// Puts out what the guest makes of the windows, in their order.
    pub(super) fn fire(&mut self, heads: &Heads, out: &mut Output) -> Result<(), OperatorError> {
        let all = heads.as_batch()?;
        let mut results = Output { rows_at_once: out.rows_at_once, ..Output::default() };
        let mut first = 0;
        while first < heads.places.len() {
            if self.is_too_large(heads, first) {
                results.dead.push(too_large(&all, first));
                first += 1;
                continue;
            }
            let count = self.fitting(heads, first);
            let mut made = Vec::new();
            let mut pass = |piece: &Batch| self.call(piece, &mut made);
            let mut isolation = Isolation { on_error: OnError::DeadLetter, out: &mut results };
            isolation.run(&all.slice(first, count), &mut pass)?;
            results.batches.append(&mut made);
            first += count;
        }
        out.batches.append(&mut results.batches);
        results.dead.into_iter().try_for_each(|dead| self.lose(dead, out))
    }

    /// Puts another guest in the place of this one, which reads other columns, maybe. All columns are kept.
    fn replace(&mut self, replacement: Replacement) {
        (self.guest, self.reads) = (replacement.guest, replacement.inputs);
    }

    fn is_too_large(&self, heads: &Heads, at: usize) -> bool {
        let had = heads.rows.get(at).copied().unwrap_or_default();
        heads.places.get(at).is_some_and(|place| usize::try_from(had).unwrap_or(usize::MAX) > self.rows.kept(*place))
    }

    /// How many windows from `first` on go into one call: such as have no more rows than a batch, but at least one.
    fn fitting(&self, heads: &Heads, first: usize) -> usize {
        let mut rows = 0;
        let fits = |at: &usize| {
            rows += heads.places.get(*at).map_or(0, |place| self.rows.kept(*place));
            *at == first || rows <= BATCH_ROWS && !self.is_too_large(heads, *at)
        };
        (first..heads.places.len()).take_while(fits).count()
    }

    /// One call for the windows of `piece`, heads as [`Heads::as_batch`] makes them.
    fn call(&mut self, piece: &Batch, made: &mut Vec<Batch>) -> Result<(), Failed> {
        let bounds = self.output.fields().len().saturating_sub(self.guest.signature().outputs.fields().len());
        let times = |at: usize| {
            let column = piece.columns().columns().get(at);
            let times = column.and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
            times.map(|times| times.values().to_vec()).ok_or_else(|| bug("windows without bounds"))
        };
        let (starts, ends) = (times(bounds.wrapping_sub(2))?, times(bounds.wrapping_sub(1))?);
        let last = piece.columns().columns().last();
        let places = last.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let places: Vec<u32> = places
            .map(|places| places.values().iter().map(|place| *place as u32).collect())
            .ok_or_else(|| bug("windows without places"))?;
        let gathered = self.rows.gather(&places)?;
        let input = gathered.rows.project(&self.reads).map_err(arrow)?;
        let (groups, times) = (&gathered.groups, &gathered.times);
        let call = WindowCall { starts: &starts, ends: &ends, groups, times, input: &input };
        let answer = self.guest.process_windows(&call)?;
        Ok(self.beside(piece, bounds, answer, made)?)
    }

    /// The guest's rows beside the keys and bounds of their windows, in batches of the usual size.
    fn beside(
        &self,
        piece: &Batch,
        bounds: usize,
        answer: Expansion,
        made: &mut Vec<Batch>,
    ) -> Result<(), OperatorError> {
        if answer.output.num_rows() == 0 {
            return Ok(());
        }
        let times = answer.origin.iter().map(|window| piece.times().get(*window as usize).copied().unwrap_or_default());
        let times = times.collect();
        let heads: Vec<usize> = (0..bounds).collect();
        let heads = piece.columns().project(&heads).map_err(arrow)?;
        let heads = take_record_batch(&heads, &UInt32Array::from(answer.origin)).map_err(arrow)?;
        let columns: Vec<ArrayRef> = heads.columns().iter().chain(answer.output.columns()).cloned().collect();
        let columns = RecordBatch::try_new(self.output.arrow().clone(), columns).map_err(arrow)?;
        let batch = Batch::new(columns, times).ok_or_else(|| bug("rows and origins differ"))?;
        let starts = (0..batch.rows()).step_by(BATCH_ROWS);
        made.extend(starts.map(|from| batch.slice(from, BATCH_ROWS.min(batch.rows() - from))));
        Ok(())
    }

    /// Applies the step's policy to a window that failed, and all its rows with it.
    fn lose(&self, dead: DeadRow, out: &mut Output) -> Result<(), OperatorError> {
        let columns = dead.row.num_columns().saturating_sub(1);
        let row = dead.row.project(&(0..columns).collect::<Vec<_>>()).map_err(arrow)?;
        let rows = row.columns().last().and_then(|rows| rows.as_primitive_opt::<Int64Type>());
        let rows = rows.and_then(|rows| rows.values().first().copied()).unwrap_or_default();
        let reason = format!("the window is lost with its {rows} rows: {}", dead.reason);
        match self.on_error {
            OnError::Fail => return Err(OperatorError::Row { reason }),
            OnError::Skip => out.skipped_rows += u64::try_from(rows).unwrap_or_default(),
            OnError::DeadLetter => out.dead.push(DeadRow { row, time: dead.time, reason, slot: None }),
        }
        Ok(())
    }
}

fn too_large(all: &Batch, window: usize) -> DeadRow {
    DeadRow {
        row: all.columns().slice(window, 1),
        time: all.times().get(window).copied().unwrap_or_default(),
        reason: format!(
            "a window-processor is handed at most {WINDOW_ROWS_MAX} rows of a window and key: make windows shorter or keys \
             finer, add `trigger = {{ count = .. }}` with `firing = \"discarding\"`, or use an `aggregate`, which keeps no rows"
        ),
        slot: None,
    }
}

impl Heads {
    /// A row for each window: keys, bounds, `rows`, and the window's place, which leaves no step.
    fn as_batch(&self) -> Result<Batch, OperatorError> {
        let mut fields = self.schema.fields().to_vec();
        fields.extend([Field::new("rows", Kind::Int64), Field::new("place", Kind::Int64)]);
        let mut columns = self.columns.clone();
        columns.push(Arc::new(Int64Array::from(self.rows.clone())));
        columns.push(Arc::new(self.places.iter().map(|place| i64::from(*place)).collect::<Int64Array>()));
        let columns = RecordBatch::try_new(Schema::new(fields).arrow().clone(), columns).map_err(arrow)?;
        Batch::new(columns, self.times.clone().into()).ok_or_else(|| bug("windows and times differ"))
    }
}

impl Operator for WindowProcess {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let before = out.dead.len();
        self.windows.on_batch(batch, out)?;
        self.on_error.judge(before, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.windows.on_watermark(watermark, out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        self.windows.go_on(out)
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.windows.next_processing_time()
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        self.windows.on_processing_time(now_ms, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.windows.snapshot()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.windows.restore(state, watermark)
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        match self.windows.whole() {
            Some(whole) if slot == 0 => whole.replace(replacement),
            _ => return Err(bug(format!("component {slot} of a window-processor"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
