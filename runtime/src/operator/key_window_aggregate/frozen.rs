//! Windows of keys, and their rows, as they were at a barrier: what rows of a snapshot are made of off the task's thread.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow_schema::SchemaRef;

use super::{NOWHERE, OpenWindow, Places};
use crate::limits::BATCH_ROWS;
use crate::operator::aggregate_built_in::BuiltIn;
use crate::operator::process_state::digest;
use crate::operator::window_aggregate_slice::SliceState;
use crate::operator::window_rows::{Gathered, Kept};
use crate::state::{CHUNK_ROWS, Chunked, FrozenKeys, Later, StateError};

/// Chunks of places whose windows are one block of a snapshot.
const BLOCK_CHUNKS: usize = 128;

/// Windows, and their rows, as they were.
pub(super) struct FrozenWindows {
    pub(super) windows_schema: SchemaRef,
    pub(super) rows_schema: SchemaRef,
    pub(super) numbering: u64,
    pub(super) keys: FrozenKeys,
    pub(super) windows: Places,
    pub(super) state: SliceState,
    /// by aggregate; none of components
    pub(super) aggregates: Vec<Option<BuiltIn>>,
    pub(super) emptied: BTreeSet<u32>,
    pub(super) keeps_pending: bool,
    pub(super) rows: Option<Kept>,
}

impl FrozenWindows {
    pub(super) fn blocks(self: &Arc<Self>, places: u32) -> Vec<Later> {
        let ends = (0..places).step_by(BLOCK_CHUNKS * CHUNK_ROWS);
        let later = |from: u32| {
            let places = from..from.saturating_add((BLOCK_CHUNKS * CHUNK_ROWS) as u32).min(places);
            let (for_id, for_rows, of) = (Arc::clone(self), Arc::clone(self), places.clone());
            Later::new(move || for_id.id(&of), move || for_rows.windows(&places))
        };
        ends.map(later).collect()
    }

    /// Rows of windows, in blocks of about a batch; those of one window are not told apart.
    pub(super) fn blocks_of_rows(self: &Arc<Self>, places: u32, rows_of: impl Fn(usize) -> usize) -> Vec<Later> {
        let mut blocks: Vec<Range<u32>> = Vec::new();
        let (mut from, mut rows) = (0, 0);
        let chunks = (places as usize).div_ceil(CHUNK_ROWS);
        for chunk in 0..chunks {
            let first = Chunked::<u32>::first_slot(chunk);
            let end = Chunked::<u32>::first_slot(chunk + 1).min(places);
            rows += rows_of(chunk);
            if rows >= 2 * BATCH_ROWS && rows_of(chunk) > 4 * BATCH_ROWS {
                // large windows: each is a block of its own
                blocks.extend((from < first).then_some(from..first));
                blocks.extend((first..end).map(|place| place..place + 1));
                (from, rows) = (end, 0);
            } else if rows >= 2 * BATCH_ROWS {
                blocks.push(from..end);
                (from, rows) = (end, 0);
            }
        }
        blocks.extend((rows > 0).then_some(from..places));
        let later = |places: Range<u32>| {
            let (for_id, for_rows, of) = (Arc::clone(self), Arc::clone(self), places.clone());
            Later::new(move || for_id.id_of_rows(&of), move || for_rows.rows(&places))
        };
        blocks.into_iter().map(later).collect()
    }

    fn marks(&self, places: &Range<u32>) -> (Range<usize>, Vec<u64>) {
        let chunks = Chunked::<u32>::chunk_of(places.start)..Chunked::<u32>::chunk_of(places.end.saturating_sub(1)) + 1;
        let mut marks = vec![self.numbering, u64::from(places.start), u64::from(places.end)];
        self.windows.marks(chunks.clone(), &mut marks);
        (chunks, marks)
    }

    fn id(&self, places: &Range<u32>) -> u128 {
        let (chunks, mut marks) = self.marks(places);
        self.state.marks(chunks, &mut marks);
        marks.extend(self.emptied.range(places.clone()).map(|place| u64::from(*place)));
        let failed = self.state.failed.range(places.clone());
        let failed: String = failed.map(|(place, reason)| format!("{place} {reason} ")).collect();
        marks.extend(failed.bytes().map(u64::from));
        digest(&marks)
    }

    fn id_of_rows(&self, places: &Range<u32>) -> u128 {
        let (chunks, mut marks) = self.marks(places);
        marks.push(u64::MAX);
        self.rows.iter().for_each(|rows| rows.marks(chunks.clone(), &mut marks));
        digest(&marks)
    }

    fn windows(&self, places: &Range<u32>) -> Result<RecordBatch, StateError> {
        let is_open = |place: &u32| {
            self.windows.get(*place as usize).is_some_and(|window| window.key != u32::MAX)
                && (!self.emptied.contains(place) || self.state.has(*place))
        };
        let places: Vec<u32> = places.clone().filter(is_open).collect();
        let keys = self.keys.keys(&self.windows.keys(&places))?;
        let accumulators = self.state.save_by(self.aggregates.iter().map(Option::as_ref), &places)?;
        window_rows(&self.windows_schema, keys, (&self.windows, &places), self.keeps_pending, accumulators)
    }

    fn rows(&self, places: &Range<u32>) -> Result<RecordBatch, StateError> {
        let Some(rows) = &self.rows else { return Ok(RecordBatch::new_empty(self.rows_schema.clone())) };
        let places: Vec<u32> = places.clone().collect();
        let gathered = rows.gather(&places)?;
        let places = places_by_row(&gathered, &places);
        let keys = self.keys.keys(&self.windows.keys(&places))?;
        kept_rows(&self.rows_schema, keys, (&self.windows, &places), gathered)
    }
}

/// By row, the place of its window.
pub(super) fn places_by_row(gathered: &Gathered, places: &[u32]) -> Vec<u32> {
    let place = |group: &u32| places.get(*group as usize).copied().unwrap_or(u32::MAX);
    gathered.groups.iter().map(place).collect()
}

/// First and last times of windows.
fn bounds_of(windows: &Places, places: &[u32]) -> [ArrayRef; 2] {
    let bounds = |place: &u32| windows.get(*place as usize).map_or(NOWHERE, |window| window.bounds);
    let starts = TimestampMillisecondArray::from_iter_values(places.iter().map(|place| bounds(place).start));
    let ends = TimestampMillisecondArray::from_iter_values(places.iter().map(|place| bounds(place).end));
    [Arc::new(starts), Arc::new(ends)]
}

/// Rows of the table `windows`.
pub(super) fn window_rows(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    (windows, places): (&Places, &[u32]),
    keeps_pending: bool,
    accumulators: Vec<ArrayRef>,
) -> Result<RecordBatch, StateError> {
    let of = || places.iter().map(|place| windows.get(*place as usize).copied().unwrap_or(OpenWindow::NONE));
    columns.extend(bounds_of(windows, places));
    columns.push(Arc::new(BooleanArray::from_iter(of().map(|window| Some(window.fired)))));
    if keeps_pending {
        let pending = of().map(|window| i64::try_from(window.pending).unwrap_or(i64::MAX));
        columns.push(Arc::new(Int64Array::from_iter_values(pending)));
        columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(of().map(|window| window.early))));
    }
    columns.extend(accumulators);
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Rows of the table `rows`; `places` by row.
pub(super) fn kept_rows(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    (windows, places): (&Places, &[u32]),
    gathered: Gathered,
) -> Result<RecordBatch, StateError> {
    columns.extend(bounds_of(windows, places));
    columns.push(Arc::new(TimestampMillisecondArray::from(gathered.times)));
    columns.extend(gathered.rows.columns().iter().cloned());
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
