//! Columns to work on: the same for each side, more than fit the first-level cache.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_buffer::ScalarBuffer;
use millstream::record::{Field, Kind, Schema};

use crate::measure::Failed;

/// Rows of all batches of a pool together.
const POOL_ROWS: usize = 131_072;

/// Keys that the rows of [`Fold`] belong to.
const KEYS: u64 = 10_000;

/// Batches that are worked on one after the other.
pub(super) struct Pool {
    batches: Vec<RecordBatch>,
}

impl Pool {
    /// Batches of one int64 column `amount`.
    pub(super) fn amounts(rows: usize) -> Self {
        Self::of(rows, amounts)
    }

    /// Batches of one text column `value`, six words or so a row.
    pub(super) fn lines(rows: usize) -> Self {
        Self::of(rows, lines)
    }

    /// Batches of bids: int64 `auction` and `price`, text `channel`.
    pub(super) fn bids(rows: usize) -> Self {
        Self::of(rows, bids)
    }

    fn of(rows: usize, make: fn(usize, usize) -> Result<RecordBatch, Failed>) -> Self {
        let firsts = (0..POOL_ROWS).step_by(rows);
        Self { batches: firsts.filter_map(|first| make(first, rows).ok()).collect() }
    }

    /// The batches as something else, so that making it is not measured.
    pub(super) fn as_each<T>(&self, make: impl FnMut(&RecordBatch) -> Result<T, Failed>) -> Result<Vec<T>, Failed> {
        self.batches.iter().map(make).collect()
    }

    /// Does the work for each batch; answers how many rows they have.
    pub(super) fn each<T>(&self, work: impl FnMut(&RecordBatch) -> Result<T, Failed>) -> Result<u64, Failed> {
        each(&self.batches, work)
    }
}

/// What has a number of rows.
pub(super) trait Rows {
    /// How many.
    fn rows(&self) -> usize;
}

impl Rows for RecordBatch {
    fn rows(&self) -> usize {
        self.num_rows()
    }
}

impl Rows for Fold {
    fn rows(&self) -> usize {
        self.groups.len()
    }
}

/// Does the work for each item; answers how many rows they have.
pub(super) fn each<I: Rows, T>(items: &[I], mut work: impl FnMut(&I) -> Result<T, Failed>) -> Result<u64, Failed> {
    let mut rows = 0;
    for item in items {
        std::hint::black_box(work(item)?);
        rows += item.rows() as u64;
    }
    Ok(rows)
}

/// A number that looks random and belongs to `index`.
fn draw(index: usize) -> u64 {
    let mut bits = (index as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ (bits >> 32)
}

/// Rows `first ..` of `amount`, uniform in 0..1000.
pub(super) fn amounts(first: usize, rows: usize) -> Result<RecordBatch, Failed> {
    let amounts: Vec<i64> = (first..first + rows).map(|row| (draw(row) % 1_000) as i64).collect();
    batch(&[Field::new("amount", Kind::Int64)], vec![Arc::new(Int64Array::from(amounts))])
}

/// Rows `first ..` of `value`.
pub(super) fn lines(first: usize, rows: usize) -> Result<RecordBatch, Failed> {
    const WORDS: [&str; 8] = ["to", "stream", "or", "not", "record", "that", "is", "question"];
    let line = |row: usize| {
        let word = |shift: usize| WORDS[(draw(row) >> (3 * shift)) as usize % WORDS.len()];
        let words: Vec<&str> = (0..4 + row % 5).map(word).collect();
        words.join(" ")
    };
    let lines: Vec<String> = (first..first + rows).map(line).collect();
    batch(&[Field::new("value", Kind::Text)], vec![Arc::new(StringArray::from(lines))])
}

/// Rows `first ..` of bids: prices uniform in 0..1000, channels of 3 to 9 bytes.
pub(super) fn bids(first: usize, rows: usize) -> Result<RecordBatch, Failed> {
    const CHANNELS: [&str; 4] = ["web", "phone", "terminal", "newspaper"];
    let rows = first..first + rows;
    let auctions: Vec<i64> = rows.clone().map(|row| (draw(row) >> 40) as i64).collect();
    let prices: Vec<i64> = rows.clone().map(|row| (draw(row) % 1_000) as i64).collect();
    let channels: Vec<&str> = rows.map(|row| CHANNELS[(draw(row) >> 20) as usize % CHANNELS.len()]).collect();
    let fields =
        [Field::new("auction", Kind::Int64), Field::new("price", Kind::Int64), Field::new("channel", Kind::Text)];
    batch(&fields, vec![int64(auctions), int64(prices), Arc::new(StringArray::from(channels))])
}

/// One call of an aggregate: rows of 10,000 keys, keys numbered as they come, their accumulators gathered.
pub(super) struct Fold {
    pub(super) groups: Vec<u32>,
    pub(super) accumulators: RecordBatch,
    pub(super) input: RecordBatch,
}

impl Fold {
    /// The calls that fold a pool's rows.
    pub(super) fn pool(rows: usize) -> Vec<Self> {
        (0..POOL_ROWS).step_by(rows).filter_map(|first| Self::new(first, rows).ok()).collect()
    }

    /// The call that folds rows `first ..`.
    pub(super) fn new(first: usize, rows: usize) -> Result<Self, Failed> {
        let mut numbers = std::collections::HashMap::new();
        let groups = (first..first + rows).map(|row| {
            let next = numbers.len() as u32;
            *numbers.entry((draw(row) >> 32) % KEYS).or_insert(next)
        });
        let groups: Vec<u32> = groups.collect();
        let counts: Vec<i64> = (0..numbers.len() as i64).collect();
        let sums: Vec<i64> = counts.iter().map(|count| count * 500).collect();
        let fields = [Field::new("count", Kind::Int64), Field::new("sum", Kind::Int64)];
        let accumulators = batch(&fields, vec![Arc::new(Int64Array::from(counts)), Arc::new(Int64Array::from(sums))])?;
        Ok(Self { groups, accumulators, input: amounts(first, rows)? })
    }
}

/// A batch of these columns.
pub(super) fn batch(fields: &[Field], columns: Vec<arrow_array::ArrayRef>) -> Result<RecordBatch, Failed> {
    let schema = Schema::new(fields);
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).map_err(|error| error.to_string())
}

/// Integers as Arrow keeps them.
pub(super) fn int64(values: Vec<i64>) -> Arc<Int64Array> {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), None))
}
