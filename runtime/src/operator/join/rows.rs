//! Rows that are found by number and go one by one.
//!
//! A row keeps its number while batches are joined and cleared of rows that have gone; numbers of rows that have gone are
//! given out anew. Rows are copied a logarithmic number of times while small batches are joined, and at most once more for
//! every so many rows that go.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use super::columns::Place;
use super::{arrow, wrong};
use crate::limits::BATCH_ROWS;
use crate::operator::OperatorError;
use crate::state::next_freezing;

/// The number of no row.
pub(super) const NO_ROW: u32 = u32::MAX;

/// Batches with more rows than this are not joined any more.
const LARGE_ROWS: usize = BATCH_ROWS / 2;

/// The rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    batches: Vec<Part>,
    free_batches: Vec<usize>,
    /// batches that may yet be joined, the latest last
    small: Vec<usize>,
    /// by number of the row
    places: Vec<(u32, u32)>,
    free: Vec<u32>,
    held: usize,
}

/// Some rows. A copy shares them.
#[derive(Clone, Debug)]
pub(super) struct Part {
    rows: RecordBatch,
    /// number of each row; [`NO_ROW`] of those that have gone
    numbers: Arc<Vec<u32>>,
    held: usize,
    /// tells it from all parts of this process, and from itself with more rows
    id: u64,
}

impl Rows {
    /// Adds the rows of a batch; their numbers are put behind `numbers`.
    pub(super) fn add(&mut self, batch: &RecordBatch, numbers: &mut Vec<u32>) -> Result<(), OperatorError> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let first = numbers.len();
        for _ in 0..rows {
            let number = match self.free.pop() {
                Some(number) => number,
                None => {
                    let next = u32::try_from(self.places.len()).ok().filter(|next| *next < NO_ROW);
                    let next = next.ok_or_else(|| wrong("a task of a join cannot hold more than 4294967295 rows"))?;
                    self.places.push((0, 0));
                    next
                }
            };
            numbers.push(number);
        }
        self.held += rows;
        let added = numbers.get(first..).unwrap_or_default().to_vec();
        let at = self.put(Part::new(batch.clone(), added));
        if rows <= LARGE_ROWS {
            self.small.push(at);
            self.join_small()?;
        }
        Ok(())
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// One more than the largest number of a row.
    pub(super) fn numbers(&self) -> usize {
        self.places.len()
    }

    /// Where a row is: in which of [`Rows::batches`], and where in it.
    pub(super) fn place(&self, number: u32) -> Option<Place> {
        self.places.get(number as usize).map(|(batch, row)| (*batch as usize, *row as usize))
    }

    /// The batches by position; some may be empty.
    pub(super) fn batches(&self) -> Vec<&RecordBatch> {
        self.batches.iter().map(|part| &part.rows).collect()
    }

    /// All rows as of now.
    pub(super) fn freeze(&self) -> Vec<Part> {
        self.batches.iter().filter(|part| part.held > 0).cloned().collect()
    }

    /// The rows with these numbers.
    pub(super) fn gather(&self, schema: &SchemaRef, numbers: &[u32]) -> Result<RecordBatch, OperatorError> {
        let places: Vec<Place> = numbers.iter().filter_map(|number| self.place(*number)).collect();
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(schema.clone()));
        }
        interleave_record_batch(&self.batches(), &places).map_err(|error| arrow(&error))
    }

    /// Bytes that are held, about.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.batches.iter().flat_map(|part| part.rows.columns());
        let columns: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum();
        columns + self.places.capacity() * 12 + self.free.capacity() * 4
    }

    /// Lets rows go.
    pub(super) fn remove(&mut self, numbers: &[u32]) -> Result<(), OperatorError> {
        let mut thin = Vec::new();
        for number in numbers {
            let Some((batch, row)) = self.place(*number) else { continue };
            let Some(part) = self.batches.get_mut(batch) else { continue };
            if part.numbers.get(row) != Some(number) {
                continue;
            }
            part.forget(row);
            part.held -= 1;
            self.held -= 1;
            self.free.push(*number);
            if part.held * 2 <= part.numbers.len() {
                thin.push(batch);
            }
        }
        thin.sort_unstable();
        thin.dedup();
        for at in thin {
            self.clear(at)?;
        }
        if self.held == 0 {
            *self = Self::default();
        }
        Ok(())
    }

    /// Takes what has gone out of a batch.
    fn clear(&mut self, at: usize) -> Result<(), OperatorError> {
        let Some(part) = self.batches.get(at) else { return Ok(()) };
        if part.held == 0 {
            self.drop_batch(at);
            return Ok(());
        }
        let (rows, numbers) = part.held()?;
        self.give_places(at, &numbers);
        let cleared = Part::new(rows, numbers);
        self.batches.get_mut(at).into_iter().for_each(|part| *part = cleared.clone());
        Ok(())
    }

    fn put(&mut self, part: Part) -> usize {
        let at = self.free_batches.pop().unwrap_or(self.batches.len());
        self.give_places(at, &Arc::clone(&part.numbers));
        match self.batches.get_mut(at) {
            Some(free) => *free = part,
            None => self.batches.push(part),
        }
        at
    }

    fn give_places(&mut self, batch: usize, numbers: &[u32]) {
        for (row, number) in (0u32..).zip(numbers) {
            let place = self.places.get_mut(*number as usize);
            place.into_iter().for_each(|place| *place = (batch as u32, row));
        }
    }

    fn drop_batch(&mut self, at: usize) {
        if let Some(part) = self.batches.get_mut(at) {
            *part = Part::new(RecordBatch::new_empty(part.rows.schema()), Vec::new());
            self.free_batches.push(at);
            self.small.retain(|small| *small != at);
        }
    }

    /// Joins the latest small batches while they are of like size.
    fn join_small(&mut self) -> Result<(), OperatorError> {
        while let &[.., before, last] = self.small.as_slice() {
            let (Some(one), Some(other)) = (self.batches.get(before), self.batches.get(last)) else { return Ok(()) };
            if one.held > 2 * other.held || one.held + other.held > BATCH_ROWS {
                return Ok(());
            }
            let (first, mut numbers) = one.held()?;
            let (second, more) = other.held()?;
            let rows = match concat_batches(&first.schema(), [&first, &second]) {
                Ok(rows) => rows,
                // more text than one column can hold: they stay apart
                Err(arrow_schema::ArrowError::OffsetOverflowError(_)) => return Ok(()),
                Err(error) => return Err(arrow(&error)),
            };
            numbers.extend(more);
            self.drop_batch(before);
            self.drop_batch(last);
            let held = numbers.len();
            let at = self.put(Part::new(rows, numbers));
            if held > LARGE_ROWS {
                return Ok(());
            }
            self.small.push(at);
        }
        Ok(())
    }
}

impl Part {
    fn new(rows: RecordBatch, numbers: Vec<u32>) -> Self {
        Self { rows, held: numbers.len(), numbers: Arc::new(numbers), id: next_freezing() }
    }

    /// A row has gone.
    fn forget(&mut self, row: usize) {
        self.id = next_freezing();
        Arc::make_mut(&mut self.numbers).get_mut(row).into_iter().for_each(|number| *number = NO_ROW);
    }

    /// The same number, the same rows.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The numbers of the rows that are there.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.iter().copied().filter(|number| *number != NO_ROW)
    }

    /// The rows that are there, and their numbers.
    pub(super) fn held(&self) -> Result<(RecordBatch, Vec<u32>), OperatorError> {
        if self.held == self.numbers.len() {
            return Ok((self.rows.clone(), self.numbers.to_vec()));
        }
        let held = (0u32..).zip(self.numbers.iter()).filter(|(_, number)| **number != NO_ROW);
        let (rows, numbers): (Vec<u32>, Vec<u32>) = held.map(|(row, number)| (row, *number)).unzip();
        let rows = take_record_batch(&self.rows, &UInt32Array::from(rows)).map_err(|error| arrow(&error))?;
        Ok((rows, numbers))
    }
}
