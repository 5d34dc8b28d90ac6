//! The logic of the guests `bench-*` as a native author would write it over Arrow columns.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use millstream::record::{Field, Kind, Schema};
use millstream::wasm::Expansion;

use super::rows::int64;
use crate::measure::Failed;

static EUROS: LazyLock<Schema> = LazyLock::new(|| Schema::new([Field::new("euros", Kind::Float64)]));
static LINE: LazyLock<Schema> = LazyLock::new(|| Schema::new([Field::new("value", Kind::Text)]));
static PRICED: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new([
        Field::new("euros", Kind::Float64),
        Field::new("flagged", Kind::Boolean),
        Field::new("channel", Kind::Text),
    ])
});
static WORDS: LazyLock<Schema> = LazyLock::new(|| Schema::new([Field::new("word", Kind::Text)]));

fn failed(error: impl std::fmt::Display) -> Failed {
    error.to_string()
}

/// `bench-map`
pub(super) fn map(batch: &RecordBatch) -> Result<RecordBatch, Failed> {
    let amounts = batch.column(0).as_primitive::<Int64Type>().values();
    let euros: Vec<f64> = amounts.iter().map(|amount| *amount as f64 * 0.01).collect();
    let euros = Float64Array::new(ScalarBuffer::from(euros), None);
    RecordBatch::try_new(Arc::clone(EUROS.arrow()), vec![Arc::new(euros)]).map_err(failed)
}

/// `uppercase`
pub(super) fn uppercase(batch: &RecordBatch) -> Result<RecordBatch, Failed> {
    let lines = batch.column(0).as_string::<i32>();
    let lines: StringArray = if lines.value_data().is_ascii() {
        let upper = lines.value_data().to_ascii_uppercase();
        StringArray::try_new(lines.offsets().clone(), Buffer::from_vec(upper), None).map_err(failed)?
    } else {
        lines.iter().map(|line| line.map(str::to_uppercase)).collect()
    };
    RecordBatch::try_new(Arc::clone(LINE.arrow()), vec![Arc::new(lines)]).map_err(failed)
}

/// `bench-bids`. The channel is put out as it came, so its buffers are shared.
pub(super) fn bids(batch: &RecordBatch) -> Result<RecordBatch, Failed> {
    let [auctions, prices] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>().values());
    let euros: Vec<f64> = prices.iter().map(|price| *price as f64 * 0.01).collect();
    let flagged = BooleanBuffer::collect_bool(prices.len(), |row| {
        prices.get(row).is_some_and(|price| *price >= 900) && auctions.get(row).is_some_and(|auction| auction & 3 == 0)
    });
    let flagged = Arc::new(BooleanArray::new(flagged, None));
    let euros = Float64Array::new(ScalarBuffer::from(euros), None);
    let columns: Vec<ArrayRef> = vec![Arc::new(euros), flagged, Arc::clone(batch.column(2))];
    RecordBatch::try_new(Arc::clone(PRICED.arrow()), columns).map_err(failed)
}

/// `bench-filter`
pub(super) fn select(batch: &RecordBatch) -> Result<BooleanArray, Failed> {
    let amounts = batch.column(0).as_primitive::<Int64Type>().values();
    let mask = BooleanBuffer::collect_bool(amounts.len(), |row| amounts.get(row).is_some_and(|amount| *amount >= 900));
    Ok(BooleanArray::new(mask, None))
}

/// `bench-words`
pub(super) fn expand(batch: &RecordBatch) -> Result<Expansion, Failed> {
    let lines = batch.column(0).as_string::<i32>();
    let mut bytes = Vec::with_capacity(lines.value_data().len());
    let mut offsets = Vec::with_capacity(lines.value_data().len() / 4);
    let mut origin = Vec::with_capacity(lines.value_data().len() / 4);
    offsets.push(0);
    for (row, line) in (0..).zip(lines.iter().flatten()) {
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            bytes.extend_from_slice(word.as_bytes());
            offsets.push(i32::try_from(bytes.len()).map_err(failed)?);
            origin.push(row);
        }
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let words = StringArray::try_new(offsets, Buffer::from_vec(bytes), None).map_err(failed)?;
    let output = RecordBatch::try_new(Arc::clone(WORDS.arrow()), vec![Arc::new(words)]).map_err(failed)?;
    Ok(Expansion { origin, output })
}

/// `bench-totals`
pub(super) fn accumulate(
    groups: &[u32],
    accumulators: &RecordBatch,
    input: &RecordBatch,
) -> Result<RecordBatch, Failed> {
    let [mut counts, mut sums] =
        [0, 1].map(|column| accumulators.column(column).as_primitive::<Int64Type>().values().to_vec());
    let amounts = input.column(0).as_primitive::<Int64Type>().values();
    for (group, amount) in groups.iter().zip(amounts) {
        let group = *group as usize;
        let (Some(count), Some(sum)) = (counts.get_mut(group), sums.get_mut(group)) else {
            return Err(format!("group {group} has no accumulator"));
        };
        *sum = sum.checked_add(*amount).ok_or("the sum leaves the range of int64")?;
        *count += 1;
    }
    RecordBatch::try_new(accumulators.schema(), vec![int64(counts), int64(sums)]).map_err(failed)
}
