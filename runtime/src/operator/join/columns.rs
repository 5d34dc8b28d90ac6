//! What a join puts out, and how rows of both sides become rows of it.

use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray, new_null_array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use std::ops::Range;
use std::sync::Arc;

use super::{LEFT, RIGHT, arrow, wrong};
use crate::limits::BATCH_ROWS;
use crate::operator::late_rows::put_out_late_by;
use crate::operator::{OperatorError, Output};
use crate::record::{Batch, EventTime, Schema};
use crate::window::Slice;

/// Which rows without partner come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinKind {
    /// none
    #[default]
    Inner,
    /// those of `from`
    Left,
    /// those of `with`
    Right,
    /// those of both
    Full,
}

impl JoinKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inner, Self::Left, Self::Right, Self::Full];

    /// As pipelines write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Left => "left",
            Self::Right => "right",
            Self::Full => "full",
        }
    }

    /// Whether rows of side `side` (0 is `from`, 1 is `with`) come out without a partner too.
    pub fn keeps(self, side: usize) -> bool {
        match self {
            Self::Inner => false,
            Self::Left => side == LEFT,
            Self::Right => side == RIGHT,
            Self::Full => true,
        }
    }
}

/// Where a column of the result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinColumn {
    /// this column of `from`
    Left(usize),
    /// this column of `with`
    Right(usize),
    /// key columns that have one name on both sides and come once: of the left row, where there is none of the right one
    Key {
        /// its position in `from`
        left: usize,
        /// its position in `with`
        right: usize,
    },
    /// first time of the window, ms
    WindowStart,
    /// one past the last time of the window, ms
    WindowEnd,
}

/// The columns that go into a join and come out of it.
#[derive(Clone, Debug)]
pub struct JoinColumns {
    /// columns of `from` and of `with`
    pub inputs: [Schema; 2],
    /// key columns of both, in the same order and of the same kinds
    pub keys: [Vec<usize>; 2],
    /// which rows come out without a partner
    pub kind: JoinKind,
    /// where each column of the result comes from
    pub columns: Vec<JoinColumn>,
    /// the result
    pub output: Schema,
    /// by which of the step's further outputs late rows of `from` and of `with` leave
    pub late: [Option<usize>; 2],
}

impl JoinColumns {
    /// Counts late rows of a side, and puts them out as they came if there is an output for them.
    pub(super) fn put_out_late(
        &self,
        side: usize,
        batch: &Batch,
        rows: Vec<u32>,
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        put_out_late_by(batch, rows, self.late.get(side).copied().flatten(), out)
    }
}

/// A row of one side: batch and row in it.
pub(super) type Place = (usize, usize);

/// Results on their way out.
pub(super) struct Joined<'a> {
    output: &'a Schema,
    columns: Vec<Source<'a>>,
    /// number of batches of each side, which is also the number of the nulls that stand behind them
    batches: [usize; 2],
    places: [Vec<Place>; 2],
    times: Vec<EventTime>,
    windows: Vec<Slice>,
}

/// Arrays that a column's values are taken from.
enum Source<'a> {
    Left(Vec<&'a dyn Array>),
    Right(Vec<&'a dyn Array>),
    Key(Vec<&'a dyn Array>),
    WindowStart,
    WindowEnd,
}

/// What stands in for a side that a row has no partner on: by column of the result one null.
pub(super) fn nulls(columns: &JoinColumns) -> Vec<ArrayRef> {
    let fields = columns.output.fields().iter();
    fields.map(|field| new_null_array(&field.kind.data_type(), 1)).collect()
}

impl<'a> Joined<'a> {
    /// Results from rows of these batches. `nulls` are those of [`nulls`].
    pub(super) fn new(
        columns: &'a JoinColumns,
        nulls: &'a [ArrayRef],
        batches: [&[&'a RecordBatch]; 2],
    ) -> Result<Self, OperatorError> {
        let arrays = |side: usize, column: usize| -> Result<Vec<&'a dyn Array>, OperatorError> {
            let array = |batch: &&'a RecordBatch| batch.columns().get(column).map(|array| array.as_ref());
            let found: Option<Vec<_>> = batches.get(side).into_iter().copied().flatten().map(array).collect();
            found.ok_or_else(|| wrong("a batch lacks a column that the join puts out"))
        };
        let mut sources = Vec::with_capacity(columns.columns.len());
        for (column, null) in columns.columns.iter().zip(nulls) {
            let null: [&dyn Array; 1] = [null.as_ref()];
            sources.push(match *column {
                JoinColumn::Left(index) => Source::Left(arrays(LEFT, index)?.into_iter().chain(null).collect()),
                JoinColumn::Right(index) => Source::Right(arrays(RIGHT, index)?.into_iter().chain(null).collect()),
                JoinColumn::Key { left, right } => {
                    Source::Key(arrays(LEFT, left)?.into_iter().chain(arrays(RIGHT, right)?).collect())
                }
                JoinColumn::WindowStart => Source::WindowStart,
                JoinColumn::WindowEnd => Source::WindowEnd,
            });
        }
        Ok(Self {
            output: &columns.output,
            columns: sources,
            batches: [batches[LEFT].len(), batches[RIGHT].len()],
            places: [Vec::new(), Vec::new()],
            times: Vec::new(),
            windows: Vec::new(),
        })
    }

    /// Adds the result of two rows, or of one without a partner.
    #[inline]
    pub(super) fn push(
        &mut self,
        left: Option<Place>,
        right: Option<Place>,
        time: EventTime,
        window: Slice,
        out: &mut Output,
    ) -> Result<(), OperatorError> {
        self.places[LEFT].push(left.unwrap_or((self.batches[LEFT], 0)));
        self.places[RIGHT].push(right.unwrap_or((self.batches[RIGHT], 0)));
        self.times.push(time);
        self.windows.push(window);
        if self.times.len() >= BATCH_ROWS { self.finish(out) } else { Ok(()) }
    }

    /// Puts out what has been added.
    pub(super) fn finish(&mut self, out: &mut Output) -> Result<(), OperatorError> {
        self.put_out(0..self.times.len(), out)?;
        self.places.iter_mut().for_each(Vec::clear);
        self.times.clear();
        self.windows.clear();
        Ok(())
    }

    /// Rows whose text is more than one column can hold come in several batches.
    fn put_out(&self, rows: Range<usize>, out: &mut Output) -> Result<(), OperatorError> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.batch(rows.clone()) {
            Ok(batch) => {
                out.batches.push(batch);
                Ok(())
            }
            Err(ArrowError::OffsetOverflowError(_)) if rows.len() > 1 => {
                let middle = rows.start + rows.len() / 2;
                self.put_out(rows.start..middle, out)?;
                self.put_out(middle..rows.end, out)
            }
            Err(error) => Err(arrow(&error)),
        }
    }

    fn batch(&self, rows: Range<usize>) -> Result<Batch, ArrowError> {
        let left = self.places[LEFT].get(rows.clone()).unwrap_or_default();
        let right = self.places[RIGHT].get(rows.clone()).unwrap_or_default();
        let windows = self.windows.get(rows.clone()).unwrap_or_default();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for source in &self.columns {
            columns.push(match source {
                Source::Left(arrays) => interleave(arrays, left)?,
                Source::Right(arrays) => interleave(arrays, right)?,
                Source::Key(arrays) => {
                    let of_right = |place: &Place| (place.0 + self.batches[LEFT], place.1);
                    let either = |(left, right): (&Place, &Place)| {
                        if left.0 < self.batches[LEFT] { *left } else { of_right(right) }
                    };
                    interleave(arrays, &left.iter().zip(right).map(either).collect::<Vec<_>>())?
                }
                Source::WindowStart => {
                    Arc::new(windows.iter().map(|window| Some(window.start)).collect::<TimestampMillisecondArray>())
                }
                Source::WindowEnd => {
                    Arc::new(windows.iter().map(|window| Some(window.end)).collect::<TimestampMillisecondArray>())
                }
            });
        }
        let times: ScalarBuffer<i64> = self.times.get(rows).unwrap_or_default().iter().copied().collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(times.len()));
        let columns = RecordBatch::try_new_with_options(self.output.arrow().clone(), columns, &options)?;
        Batch::new(columns, times).ok_or_else(|| ArrowError::ComputeError("rows and times differ".to_owned()))
    }
}

/// The window of results that have none.
pub(super) const NO_WINDOW: Slice = Slice { start: 0, end: 0 };
