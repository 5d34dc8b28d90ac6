//! Batches that wait together, small ones joined as they come: many small batches would make every look at them slow.

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

use super::arrow;
use crate::limits::BATCH_ROWS;
use crate::operator::OperatorError;
use crate::operator::spilled_runs::bytes_of;
use crate::state::next_freezing;

/// Rows in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// each with a number that no other batch of this process has
    batches: Vec<(u64, RecordBatch)>,
}

impl Held {
    /// Adds rows. Each row is copied a logarithmic number of times at most.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<(), OperatorError> {
        let mut last = batch;
        while let Some((_, before)) = self.batches.last() {
            let rows = before.num_rows() + last.num_rows();
            if before.num_rows() > 2 * last.num_rows() || rows > BATCH_ROWS {
                break;
            }
            match concat_batches(&before.schema(), [before, &last]) {
                Ok(joined) => last = joined,
                // more text than one column can hold: they stay apart
                Err(arrow_schema::ArrowError::OffsetOverflowError(_)) => break,
                Err(error) => return Err(arrow(&error)),
            }
            self.batches.pop();
        }
        self.batches.push((next_freezing(), last));
        Ok(())
    }

    /// All rows.
    pub(super) fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter().map(|(_, batch)| batch)
    }

    /// All rows.
    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.batches.into_iter().map(|(_, batch)| batch).collect()
    }

    /// Bytes of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.batches().map(bytes_of).sum()
    }

    /// All rows, in batches of which the same number is the same rows.
    pub(super) fn numbered(&self) -> &[(u64, RecordBatch)] {
        &self.batches
    }
}
