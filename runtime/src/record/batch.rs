//! A batch of rows as columns.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::ScalarBuffer;

/// Milliseconds since the Unix epoch, as rows carry it.
pub type EventTime = i64;

/// The event time of a row that has none (yet). Never advances a watermark.
pub const NO_EVENT_TIME: EventTime = i64::MIN;

/// Rows as columns, with one event time a row. Cheap to clone: columns are shared.
///
/// Invariant: `times` has as many entries as the columns have rows.
#[derive(Clone, Debug)]
pub struct Batch {
    columns: RecordBatch,
    times: ScalarBuffer<EventTime>,
}

impl Batch {
    /// Joins columns and times; `None` where their lengths differ.
    pub fn new(columns: RecordBatch, times: ScalarBuffer<EventTime>) -> Option<Self> {
        (columns.num_rows() == times.len()).then_some(Self { columns, times })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The columns.
    pub fn columns(&self) -> &RecordBatch {
        &self.columns
    }

    /// One column by position.
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.columns.column(index)
    }

    /// Event time of each row, in ms.
    pub fn times(&self) -> &ScalarBuffer<EventTime> {
        &self.times
    }

    /// Rows `offset .. offset + length`, shared with this batch. The range is cut to what is there.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let offset = offset.min(self.rows());
        let length = length.min(self.rows() - offset);
        Self { columns: self.columns.slice(offset, length), times: self.times.slice(offset, length) }
    }

    /// Bytes that the columns and times hold in memory, shared parents counted whole.
    pub fn memory_bytes(&self) -> usize {
        self.columns.get_array_memory_size() + self.times.inner().capacity()
    }
}
