//! Rows of open windows, by place.
//!
//! Batches are kept as they come, joined to segments of the usual size; a window has the numbers of its rows. A row that is in
//! several windows is kept once. When most of what is kept is in no window any more, the rest is moved together, so that
//! memory is bounded by twice the rows of open windows and a few batches.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use super::OperatorError;
use super::aggregate_fold::internal;
use crate::limits::{BATCH_ROWS, WINDOW_ROWS_MAX};
use crate::record::{Batch, EventTime, Schema};
use crate::state::{Chunked, StateError};

/// Pieces of a segment before they are joined: reading a row looks for its piece.
const PIECES_MAX: usize = 64;

/// Segments that may hold rows of no window before the others are moved together.
const SPARE_SEGMENTS: usize = 4;

/// A row: its segment, and its number in it.
type RowId = (u32, u32);

/// Rows of windows.
pub(super) struct WindowRows {
    kept: Kept,
    /// by segment: how many windows have its rows
    used: Vec<usize>,
    /// rows by chunk of places, one that is in two counted twice
    by_chunk: Vec<usize>,
    /// rows of windows, one that is in two counted twice
    held: usize,
    /// rows of segments
    stored: usize,
    /// where the batch begins whose rows are being given out
    current: Option<RowId>,
}

/// Rows and whose they are. A copy shares all of it until it is next written.
#[derive(Clone)]
pub(super) struct Kept {
    schema: SchemaRef,
    segments: Vec<Option<Arc<Segment>>>,
    /// by place, in the order in which they came
    places: Chunked<Arc<Vec<RowId>>>,
}

/// Rows one after the other.
#[derive(Clone)]
struct Segment {
    pieces: Vec<RecordBatch>,
    /// number of the first row of each
    starts: Vec<u32>,
    times: Vec<EventTime>,
}

/// Rows of some windows, window by window and by time.
pub(super) struct Gathered {
    /// number of the window by row
    pub(super) groups: Vec<u32>,
    pub(super) times: Vec<EventTime>,
    pub(super) rows: RecordBatch,
}

fn arrow(error: arrow_schema::ArrowError) -> OperatorError {
    internal(&StateError::Arrow(error))
}

impl Kept {
    fn new(schema: SchemaRef) -> Self {
        Self { schema, segments: Vec::new(), places: Chunked::new(Arc::default()) }
    }

    fn of(&self, place: u32) -> &[RowId] {
        self.places.get(place).map(|rows| rows.as_slice()).unwrap_or_default()
    }

    fn of_mut(&mut self, place: u32) -> Option<&mut Vec<RowId>> {
        self.places.allocate(Chunked::<RowId>::chunk_of(place));
        self.places.get_mut(place).map(Arc::make_mut)
    }

    /// Takes the rows of a place away.
    fn take(&mut self, place: u32) -> Vec<RowId> {
        if self.of(place).is_empty() {
            return Vec::new();
        }
        let rows = self.places.get_mut(place).map(std::mem::take).unwrap_or_default();
        Arc::try_unwrap(rows).unwrap_or_else(|shared| shared.as_ref().clone())
    }

    /// How many rows are kept of the window at `place`.
    pub(super) fn kept(&self, place: u32) -> usize {
        self.of(place).len()
    }

    /// Of a frozen copy, see [`Chunked::marks`].
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        self.places.marks(chunks, to);
    }

    /// Rows of these windows; equal times stay in the order in which they came.
    pub(super) fn gather(&self, places: &[u32]) -> Result<Gathered, StateError> {
        let mut first_piece: HashMap<u32, usize> = HashMap::new();
        let mut pieces: Vec<&RecordBatch> = Vec::new();
        let (mut groups, mut times, mut from) = (Vec::new(), Vec::new(), Vec::new());
        for (group, place) in (0u32..).zip(places) {
            let mut rows: Vec<(EventTime, RowId)> = self.of(*place).iter().map(|id| (self.time(*id), *id)).collect();
            rows.sort_by_key(|(time, _)| *time);
            for (time, (number, row)) in rows {
                let Some(segment) = self.segment(number) else { continue };
                let first = *first_piece.entry(number).or_insert_with(|| {
                    pieces.extend(&segment.pieces);
                    pieces.len() - segment.pieces.len()
                });
                let piece = segment.starts.partition_point(|start| *start <= row).saturating_sub(1);
                let start = segment.starts.get(piece).copied().unwrap_or_default();
                from.push((first + piece, (row - start) as usize));
                groups.push(group);
                times.push(time);
            }
        }
        let rows = if self.schema.fields().is_empty() || from.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(from.len()));
            let nothing = RecordBatch::new_empty(self.schema.clone()).columns().to_vec();
            RecordBatch::try_new_with_options(self.schema.clone(), nothing, &options)?
        } else {
            interleave_record_batch(&pieces, &from)?
        };
        Ok(Gathered { groups, times, rows })
    }

    fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number as usize)?.as_deref()
    }

    fn time(&self, (segment, row): RowId) -> EventTime {
        self.segment(segment).and_then(|segment| segment.times.get(row as usize)).copied().unwrap_or_default()
    }
}

impl WindowRows {
    pub(super) fn new(schema: &Schema) -> Self {
        Self::of(schema.arrow().clone())
    }

    fn of(schema: SchemaRef) -> Self {
        let (used, by_chunk) = (Vec::new(), Vec::new());
        Self { kept: Kept::new(schema), used, by_chunk, held: 0, stored: 0, current: None }
    }

    /// Takes in the columns of a batch; [`WindowRows::put`] says which of its rows are in windows, [`WindowRows::settle`]
    /// that all have been.
    pub(super) fn begin(&mut self, batch: &Batch) -> Result<(), OperatorError> {
        let Kept { schema, segments, .. } = &mut self.kept;
        let open = |segment: &Arc<Segment>| segment.times.len() < BATCH_ROWS;
        if !segments.last().is_some_and(|last| last.as_ref().is_some_and(open)) {
            segments.push(Some(Arc::new(Segment::new())));
            self.used.push(0);
        }
        let number = (segments.len() - 1) as u32;
        let Some(Some(segment)) = segments.last_mut() else { return Ok(()) };
        self.current = Some((number, segment.times.len() as u32));
        Arc::make_mut(segment).push(batch.columns(), batch.times(), schema)?;
        self.stored += batch.rows();
        Ok(())
    }

    /// Row `row` of the batch at hand is in the window at `place`. Rows beyond the most that a window may have are not kept.
    pub(super) fn put(&mut self, row: usize, place: u32) {
        let Some((segment, first)) = self.current else { return };
        let Some(rows) = self.kept.of_mut(place).filter(|rows| rows.len() < WINDOW_ROWS_MAX) else { return };
        rows.push((segment, first + row as u32));
        self.count(place, 1, 0);
        self.hold(segment, 1);
    }

    /// The batch at hand has been handled.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        if let Some((segment, _)) = self.current.take() {
            self.drop_if_unused(segment);
        }
        let spare = self.held + SPARE_SEGMENTS * BATCH_ROWS;
        if self.stored > self.held + spare { self.move_together() } else { Ok(()) }
    }

    /// How many rows are kept of the window at `place`.
    pub(super) fn kept(&self, place: u32) -> usize {
        self.kept.kept(place)
    }

    /// The window at `to` has the rows of that at `of`, too, which has none.
    pub(super) fn join(&mut self, to: u32, of: u32) {
        let mut moved = self.kept.take(of);
        let (came, Some(rows)) = (moved.len(), self.kept.of_mut(to)) else { return };
        let excess = moved.split_off(moved.len().min(WINDOW_ROWS_MAX.saturating_sub(rows.len())));
        let joined = moved.len();
        rows.append(&mut moved);
        self.count(of, 0, came);
        self.count(to, joined, 0);
        self.release(excess);
    }

    /// The windows have no rows any more.
    pub(super) fn forget(&mut self, places: &[u32]) {
        for place in places {
            let rows = self.kept.take(*place);
            self.count(*place, 0, rows.len());
            self.release(rows);
        }
    }

    /// As [`Kept::gather`].
    pub(super) fn gather(&self, places: &[u32]) -> Result<Gathered, OperatorError> {
        self.kept.gather(places).map_err(|error| internal(&error))
    }

    /// All of it as of now.
    pub(super) fn freeze(&mut self) -> Kept {
        let Kept { schema, segments, places } = &mut self.kept;
        Kept { schema: schema.clone(), segments: segments.clone(), places: places.freeze() }
    }

    /// How many rows windows at the places of a chunk have.
    pub(super) fn kept_in_chunk(&self, chunk: usize) -> usize {
        self.by_chunk.get(chunk).copied().unwrap_or_default()
    }

    /// Windows are at other places, and rows of none are given back.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) -> Result<(), OperatorError> {
        self.kept.places.renumber(moves);
        self.by_chunk.clear();
        for (_, place) in moves {
            self.count(*place, self.kept(*place), 0);
        }
        if self.stored > self.held { self.move_together() } else { Ok(()) }
    }

    /// Bytes that are held, about.
    pub(super) fn bytes(&self) -> usize {
        let pieces = self.kept.segments.iter().flatten().flat_map(|segment| &segment.pieces);
        let columns = pieces.flat_map(|piece| piece.columns());
        let columns: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum();
        columns + self.stored * size_of::<EventTime>() + self.held * size_of::<RowId>() + self.kept.places.bytes()
    }

    fn count(&mut self, place: u32, more: usize, less: usize) {
        let chunk = Chunked::<RowId>::chunk_of(place);
        if self.by_chunk.len() <= chunk {
            self.by_chunk.resize(chunk + 1, 0);
        }
        self.by_chunk.get_mut(chunk).into_iter().for_each(|rows| *rows = (*rows + more).saturating_sub(less));
    }

    fn hold(&mut self, segment: u32, rows: usize) {
        self.held += rows;
        self.used.get_mut(segment as usize).into_iter().for_each(|used| *used += rows);
    }

    fn release(&mut self, rows: Vec<RowId>) {
        self.held -= rows.len();
        for (number, _) in rows {
            if let Some(used) = self.used.get_mut(number as usize) {
                *used -= 1;
                if *used == 0 {
                    self.drop_if_unused(number);
                }
            }
        }
        if self.held == 0 && self.current.is_none() {
            *self = Self::of(self.kept.schema.clone());
        }
    }

    /// The segment goes, unless it has rows of windows or may yet get some.
    fn drop_if_unused(&mut self, number: u32) {
        if self.current.is_some_and(|(current, _)| current == number)
            || self.used.get(number as usize).is_none_or(|used| *used > 0)
        {
            return;
        }
        let unused = self.kept.segments.get_mut(number as usize).and_then(Option::take);
        self.stored -= unused.map_or(0, |unused| unused.times.len());
    }

    /// Copies the rows of windows to new segments, in the order in which they came.
    fn move_together(&mut self) -> Result<(), OperatorError> {
        let size = |segment: &Option<Arc<Segment>>| segment.as_ref().map_or(0, |segment| segment.times.len());
        let mut wanted: Vec<Vec<bool>> = self.kept.segments.iter().map(|segment| vec![false; size(segment)]).collect();
        for (segment, row) in self.kept.places.chunks().flat_map(|(_, places)| places).flat_map(|rows| rows.iter()) {
            let row = wanted.get_mut(*segment as usize).and_then(|rows| rows.get_mut(*row as usize));
            row.into_iter().for_each(|wanted| *wanted = true);
        }
        let mut moved = Self::of(self.kept.schema.clone());
        // by segment and row, where the row is now
        let mut now: Vec<Vec<RowId>> = Vec::with_capacity(wanted.len());
        for (segment, wanted) in self.kept.segments.iter_mut().zip(wanted) {
            let rows: Vec<u32> = (0..).zip(&wanted).filter_map(|(row, wanted)| wanted.then_some(row)).collect();
            let mut to = vec![(u32::MAX, u32::MAX); wanted.len()];
            if let Some(segment) = segment.take().filter(|_| !rows.is_empty()) {
                moved.begin(&segment.picked(&rows, &self.kept.schema)?)?;
                if let Some((number, first)) = moved.current {
                    for (row, at) in rows.iter().zip(first..) {
                        to.get_mut(*row as usize).into_iter().for_each(|to| *to = (number, at));
                    }
                }
            }
            now.push(to);
        }
        moved.kept.places = std::mem::replace(&mut self.kept.places, Chunked::new(Arc::default()));
        for rows in moved.kept.places.all_mut().filter(|rows| !rows.is_empty()) {
            for id in Arc::make_mut(rows) {
                *id = now.get(id.0 as usize).and_then(|rows| rows.get(id.1 as usize)).copied().unwrap_or(*id);
                moved.used.get_mut(id.0 as usize).into_iter().for_each(|used| *used += 1);
            }
        }
        (moved.held, moved.current) = (self.held, None);
        moved.by_chunk = std::mem::take(&mut self.by_chunk);
        *self = moved;
        Ok(())
    }
}

impl Segment {
    fn new() -> Self {
        Self { pieces: Vec::new(), starts: Vec::new(), times: Vec::new() }
    }

    fn push(&mut self, rows: &RecordBatch, times: &[EventTime], schema: &SchemaRef) -> Result<(), OperatorError> {
        self.starts.push(self.times.len() as u32);
        self.pieces.push(rows.clone());
        self.times.extend_from_slice(times);
        if self.pieces.len() == PIECES_MAX || self.pieces.len() > 1 && self.times.len() >= BATCH_ROWS {
            self.pieces = vec![self.joined(schema)?];
            self.starts = vec![0];
        }
        Ok(())
    }

    fn joined(&self, schema: &SchemaRef) -> Result<RecordBatch, OperatorError> {
        match self.pieces.as_slice() {
            [piece] => Ok(piece.clone()),
            pieces => concat_batches(schema, pieces).map_err(arrow),
        }
    }

    fn picked(&self, rows: &[u32], schema: &SchemaRef) -> Result<Batch, OperatorError> {
        let columns = take_record_batch(&self.joined(schema)?, &UInt32Array::from(rows.to_vec())).map_err(arrow)?;
        let times = rows.iter().filter_map(|row| self.times.get(*row as usize).copied()).collect();
        Batch::new(columns, times).ok_or_else(|| OperatorError::Internal { reason: "times and rows differ".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Field, Kind};
    use crate::state::cells::{Cell, batch, rows};

    fn schema() -> Schema {
        Schema::new([Field::new("n", Kind::Int64)])
    }

    fn numbers(values: std::ops::Range<i64>, time: i64) -> Batch {
        let cells: Vec<_> = values.clone().map(|n| vec![Cell::Int(n)]).collect();
        Batch::new(batch(&schema(), &cells), values.map(|_| time).collect()).unwrap()
    }

    fn values(kept: &WindowRows, place: u32) -> Vec<Cell> {
        rows(kept.gather(&[place]).unwrap().rows.columns()).into_iter().flatten().collect()
    }

    fn ints(values: impl IntoIterator<Item = i64>) -> Vec<Cell> {
        values.into_iter().map(Cell::Int).collect()
    }

    #[test]
    fn a_window_has_its_rows_by_time_and_those_of_one_time_as_they_came() {
        let mut kept = WindowRows::new(&schema());
        for (values, time) in [(0..3, 7), (3..5, 2), (5..7, 7)] {
            kept.begin(&numbers(values.clone(), time)).unwrap();
            values.enumerate().for_each(|(row, _)| kept.put(row, 4));
            kept.settle().unwrap();
        }
        assert_eq!(values(&kept, 4), ints([3, 4, 0, 1, 2, 5, 6]));
        assert_eq!((kept.kept(4), kept.kept(0)), (7, 0));
    }

    #[test]
    fn a_row_of_two_windows_is_kept_once_and_until_both_are_gone() {
        let mut kept = WindowRows::new(&schema());
        kept.begin(&numbers(0..2, 0)).unwrap();
        kept.put(0, 0);
        kept.put(0, 1);
        kept.put(1, 1);
        kept.settle().unwrap();
        assert_eq!((kept.stored, kept.held), (2, 3));
        kept.forget(&[1]);
        assert_eq!(values(&kept, 0), ints([0]));
        kept.forget(&[0]);
        assert_eq!((kept.stored, kept.held, kept.kept.segments.len()), (0, 0, 0));
    }

    #[test]
    fn windows_that_become_one_have_the_rows_of_both() {
        let mut kept = WindowRows::new(&schema());
        kept.begin(&numbers(0..4, 0)).unwrap();
        (0..4).for_each(|row| kept.put(row, row as u32 % 2));
        kept.settle().unwrap();
        kept.join(1, 0);
        assert_eq!((values(&kept, 1), kept.kept(0)), (ints([1, 3, 0, 2]), 0));
    }

    #[test]
    fn a_frozen_copy_shares_the_columns_and_stays_as_it_was() {
        let mut kept = WindowRows::new(&schema());
        let batch = numbers(0..1_000, 0);
        kept.begin(&batch).unwrap();
        (0..1_000).for_each(|row| kept.put(row, row as u32 % 2));
        kept.settle().unwrap();
        let frozen = kept.freeze();
        let first = frozen.segments[0].as_ref().unwrap();
        assert!(Arc::ptr_eq(first.pieces[0].column(0), batch.column(0)));
        assert!(Arc::ptr_eq(first, kept.kept.segments[0].as_ref().unwrap()));
        assert_eq!(frozen.of(1).as_ptr(), kept.kept.of(1).as_ptr());
        kept.begin(&numbers(1_000..1_010, 0)).unwrap();
        (0..10).for_each(|row| kept.put(row, 1));
        kept.settle().unwrap();
        kept.forget(&[0]);
        let of = |place| rows(frozen.gather(&[place]).unwrap().rows.columns()).len();
        assert_eq!((of(0), of(1), kept.kept(0), kept.kept(1)), (500, 500, 0, 510));
    }

    #[test]
    fn few_rows_that_stay_do_not_keep_the_batches_that_they_came_in() {
        let mut kept = WindowRows::new(&schema());
        let step = 1_000;
        for round in 0..200 {
            kept.begin(&numbers(round * step..(round + 1) * step, round)).unwrap();
            kept.put(3, 0);
            (0..step as usize).for_each(|row| kept.put(row, 1));
            kept.forget(&[1]);
            kept.settle().unwrap();
        }
        assert_eq!(values(&kept, 0), ints((0..200).map(|round| round * step + 3)));
        assert!(kept.stored <= 2 * kept.held + (SPARE_SEGMENTS + 1) * BATCH_ROWS, "{} rows", kept.stored);
    }
}
