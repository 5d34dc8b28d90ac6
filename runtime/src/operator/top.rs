//! The first rows of every window and key by some columns: top-N.
//!
//! Rows are kept as they came, in columns, by window. When a window has gathered more than twice what it may keep it is
//! sorted and cut, so memory is bounded by twice the rows that are put out and one batch a window, and a row costs a sort of
//! its batch now and then. A window is put out when the watermark reaches its last time.
//!
//! - What is put out depends on the rows of the window alone, not on their order: rows that are equal in all columns that
//!   they are ordered by are ordered by all others, from the first to the last.
//! - Nulls come last, whichever way a column is ordered; floats are in the total order, NaN above all.
//! - Results carry the last time of their window. They come by window end, then start, then key, then rank.
//!
//! Refused: taking results back when a window's rows change after it has been put out. A row that comes then is late.

mod order;
mod snapshot;
mod spilled;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::aggregate_fold::internal;
use super::late_rows::{picked, put_out_late};
use super::window_aggregate::times;
use super::{DeadRow, OnError, Operator, OperatorError, Output};
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, EventTime, Field, Kind, NO_EVENT_TIME, Schema, Watermark};
use crate::state::{KeyTable, Snapshot, StateError, check_rows, next_freezing};
use crate::window::{Slice, WindowSpec, Windows};
use order::Order;
use spilled::SpilledWindows;

pub use snapshot::partition_keys;

/// What a top-N step is made of.
#[derive(Clone, Debug)]
pub struct TopSpec {
    /// columns of the rows that come
    pub input: Schema,
    /// positions of the key columns; none: a window has one list
    pub keys: Vec<usize>,
    /// the window of a row
    pub windows: TopWindows,
    /// how many rows a window and key have
    pub rows: usize,
    /// what they are ordered by
    pub by: Vec<OrderBy>,
    /// rows equal to the last one that is in
    pub ties: Ties,
    /// columns that come out, see [`top_schema`]
    pub output: Schema,
    /// whether late rows are put out, as side output 0, beside being counted
    pub late: bool,
    /// rows without an event time
    pub on_error: OnError,
}

/// How a row gets its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopWindows {
    /// it has the bounds as columns: a result of a windowed aggregate
    Columns {
        /// position of `window_start`
        start: usize,
        /// position of `window_end`
        end: usize,
    },
    /// by its event time, in windows that lie alike for all keys
    Assigned(WindowSpec),
}

/// A column that rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// its position
    pub column: usize,
    /// largest first
    pub descending: bool,
}

/// `ties = ".."`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// exactly so many rows, ranks are 1, 2, 3, ..
    #[default]
    Cut,
    /// equal rows have one rank, and all of the last rank are in: 1, 2, 2, 4, ..
    Keep,
}

/// Columns of a top-N step: those of its input, the bounds of the window if it assigns them, the rank.
pub fn top_schema(input: &Schema, windows: TopWindows, rank: &str) -> Schema {
    let mut fields = input.fields().to_vec();
    if let TopWindows::Assigned(_) = windows {
        fields.extend(["window_start", "window_end"].map(|name| Field::new(name, Kind::TimestampMs)));
    }
    fields.push(Field::new(rank, Kind::Int64));
    Schema::new(fields)
}

/// The operator.
pub struct Top {
    spec: TopSpec,
    windows: Option<Windows>,
    watermark: Watermark,
    /// by end, then start
    kept: BTreeMap<(EventTime, EventTime), Kept>,
    /// what does not fit into memory, where that is bounded
    spilled: Option<Box<SpilledWindows>>,
}

/// Rows of a window that may come out.
#[derive(Default)]
struct Kept {
    batches: Vec<RecordBatch>,
    rows: usize,
    /// how many were left when it was last cut
    least: usize,
    /// changes with the rows
    number: u64,
}

impl Top {
    /// An operator without state. An error is a mistake in the plan.
    pub fn new(spec: TopSpec) -> Result<Self, OperatorError> {
        let windows = match spec.windows {
            TopWindows::Columns { .. } => None,
            TopWindows::Assigned(window) => Some(Windows::new(window, Duration::ZERO)),
        };
        let refused = |error: crate::window::WindowError| OperatorError::Internal { reason: error.to_string() };
        Ok(Self {
            spec,
            windows: windows.transpose().map_err(refused)?,
            watermark: Watermark::MIN,
            kept: BTreeMap::new(),
            spilled: None,
        })
    }

    /// Columns of the results.
    pub fn output(&self) -> &Schema {
        &self.spec.output
    }

    /// Rows that are held at the moment.
    pub fn rows_held(&self) -> usize {
        self.kept.values().map(|kept| kept.rows).sum()
    }

    /// Rows by window, and those that are late. Rows without a window are dead.
    fn sort_out(&self, batch: &Batch, out: &mut Output) -> Result<(ByWindow, Vec<u32>), OperatorError> {
        let mut sorted = ByWindow::new();
        let mut late = Vec::new();
        let Some(windows) = &self.windows else {
            let TopWindows::Columns { start, end } = self.spec.windows else { return Ok((sorted, late)) };
            let columns = batch.columns().columns();
            let (starts, ends) = (times(columns.get(start))?, times(columns.get(end))?);
            for ((row, start), end) in (0u32..).zip(starts).zip(ends) {
                let bounds = Slice { start, end };
                if bounds.is_complete(self.watermark) {
                    late.push(row);
                } else {
                    sorted.entry((end, start)).or_default().push(row);
                }
            }
            return Ok((sorted, late));
        };
        for (row, time) in (0u32..).zip(batch.times().iter().copied()) {
            if time == NO_EVENT_TIME {
                let row = batch.columns().slice(row as usize, 1);
                let reason = "the row has no event time, so no window takes it: set event_time on the source".into();
                out.dead.push(DeadRow { row, time, reason, slot: None });
                continue;
            }
            let Some(mut window) = windows.first_open_of(time, self.watermark) else {
                late.push(row);
                continue;
            };
            while window.contains(time) {
                let Slice { start, end } = window.bounds();
                sorted.entry((end, start)).or_default().push(row);
                window = windows.after(window);
            }
        }
        Ok((sorted, late))
    }

    /// Adds rows to a window, and cuts it if it has far too many.
    fn keep(&mut self, window: (EventTime, EventTime), rows: RecordBatch) -> Result<(), OperatorError> {
        keep_in(&self.spec, self.kept.entry(window).or_default(), rows)
    }

    fn put_out(&self, (end, start): (EventTime, EventTime), kept: Kept, out: &mut Output) -> Result<(), OperatorError> {
        let rows = joined(&self.spec.input, &kept.batches)?;
        let (best, ranks) = best(&self.spec, &rows)?;
        let rows = taken(&rows, best)?;
        let mut columns = rows.columns().to_vec();
        if self.windows.is_some() {
            for bound in [start, end] {
                columns.push(Arc::new(TimestampMillisecondArray::from_value(bound, ranks.len())));
            }
        }
        let time = Slice { start, end }.result_time();
        let times = vec![time; ranks.len()];
        columns.push(Arc::new(Int64Array::from(ranks)));
        let rows = RecordBatch::try_new(self.spec.output.arrow().clone(), columns);
        let rows = rows.map_err(|error| internal(&StateError::Arrow(error)))?;
        let Some(batch) = Batch::new(rows, times.into()) else { return Ok(()) };
        out.batches.extend((0..batch.rows()).step_by(BATCH_ROWS).map(|from| batch.slice(from, BATCH_ROWS)));
        Ok(())
    }
}

/// As [`Top::keep`], where the window is known.
fn keep_in(spec: &TopSpec, kept: &mut Kept, rows: RecordBatch) -> Result<(), OperatorError> {
    kept.number = next_freezing();
    kept.rows += rows.num_rows();
    kept.batches.push(rows);
    if kept.rows > 2 * kept.least + BATCH_ROWS { cut(spec, kept) } else { Ok(()) }
}

/// Rows of a batch by end and start of their windows.
type ByWindow = BTreeMap<(EventTime, EventTime), Vec<u32>>;

/// All rows in one batch.
fn joined(schema: &Schema, batches: &[RecordBatch]) -> Result<RecordBatch, OperatorError> {
    if let [batch] = batches {
        return Ok(batch.clone());
    }
    let joined = concat_batches(schema.arrow(), batches.iter());
    joined.map_err(|error| internal(&StateError::Arrow(error)))
}

fn taken(rows: &RecordBatch, which: Vec<u32>) -> Result<RecordBatch, OperatorError> {
    let taken = take_record_batch(rows, &UInt32Array::from(which));
    taken.map_err(|error| internal(&StateError::Arrow(error)))
}

/// Drops the rows that cannot come out any more.
fn cut(spec: &TopSpec, kept: &mut Kept) -> Result<(), OperatorError> {
    let rows = joined(&spec.input, &kept.batches)?;
    let (best, _) = best(spec, &rows)?;
    let rows = taken(&rows, best)?;
    (kept.rows, kept.least) = (rows.num_rows(), rows.num_rows());
    kept.batches = vec![rows];
    Ok(())
}

/// The rows that come out of these, by key in the order of first appearance and then by rank, and their ranks.
fn best(spec: &TopSpec, rows: &RecordBatch) -> Result<(Vec<u32>, Vec<i64>), OperatorError> {
    let fields: Vec<Field> = spec.keys.iter().filter_map(|key| spec.input.fields().get(*key).cloned()).collect();
    let keys: Vec<&ArrayRef> = spec.keys.iter().filter_map(|key| rows.columns().get(*key)).collect();
    let mut slots = Vec::new();
    let mut table = KeyTable::new(&fields);
    table.slots(&keys, rows.num_rows(), &mut slots).map_err(|error| internal(&error))?;
    let order = Order::new(spec, rows).map_err(|error| internal(&error))?;
    let slot = |row: u32| slots.get(row as usize).copied().unwrap_or_default();
    let mut sorted: Vec<u32> = (0u32..).take(rows.num_rows()).collect();
    sorted.sort_unstable_by(|a, b| slot(*a).cmp(&slot(*b)).then_with(|| order.compare(*a, *b)));
    let (mut best, mut ranks) = (Vec::new(), Vec::new());
    let (mut position, mut rank) = (0, 0);
    let mut before: Option<u32> = None;
    for row in sorted {
        let same_list = before.is_some_and(|before| slot(before) == slot(row));
        position = if same_list { position + 1 } else { 1 };
        let tied = same_list && spec.ties == Ties::Keep && before.is_some_and(|before| order.tied(before, row));
        rank = if tied { rank } else { position };
        before = Some(row);
        if rank <= i64::try_from(spec.rows).unwrap_or(i64::MAX) {
            best.push(row);
            ranks.push(rank);
        }
    }
    Ok((best, ranks))
}

impl Operator for Top {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        check_rows(&self.spec.input, batch.rows(), batch.columns()).map_err(|error| internal(&error))?;
        let before = out.dead.len();
        let (sorted, late) = self.sort_out(&batch, out)?;
        put_out_late(&batch, late, self.spec.late, out)?;
        for (window, rows) in sorted {
            let all = rows.len() == batch.rows();
            let rows = if all { batch.columns().clone() } else { picked(&batch, rows)?.columns().clone() };
            self.keep(window, rows)?;
        }
        self.spec.on_error.judge(before, out)?;
        self.spill_if_over(batch.rows())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        while let Some((end, start)) = self.kept.first_key_value().map(|(window, _)| *window) {
            if !(Slice { start, end }).is_complete(self.watermark) {
                break;
            }
            if self.spilled.as_ref().is_some_and(|spilled| spilled.has((end, start))) {
                if self.put_out_part((end, start), out)? {
                    self.kept.pop_first();
                }
                // memory is bounded: one part at a time
                break;
            }
            let kept = self.kept.pop_first().map(|(_, kept)| kept).unwrap_or_default();
            self.put_out((end, start), kept, out)?;
            if out.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let first = self.kept.first_key_value().map(|((end, start), _)| Slice { start: *start, end: *end });
        let left = first.is_some_and(|window| window.is_complete(self.watermark));
        if left {
            self.on_watermark(self.watermark, out)?;
        }
        Ok(left)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        Ok(self.save())
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load(state, watermark)
    }
}

#[cfg(test)]
mod tests;
