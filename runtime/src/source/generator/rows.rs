//! The generator's rows as columns. Pure: row `i` depends on the series and `i` alone.
//!
//! Random draws are a counter hash (SplitMix64 of Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
//! 2014), brought into a range by multiply-and-shift (Lemire, "Fast random integer generation in an interval", 2019,
//! without its rejection step: the bias is below 2⁻⁴⁰ for the ranges here).

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::nexmark;
use crate::record::{EventTime, Field, Kind, Schema};
use crate::rng;
use crate::source::{GeneratorKind, NexmarkStream};

/// What all rows have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    pub(super) seed: u64,
    /// event time of row 0
    pub(super) start_ms: i64,
    /// between two rows
    pub(super) interval_ns: u64,
}

/// Rows `first`, `first + stride`, .. `count` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) first: u64,
    pub(super) stride: u64,
    pub(super) count: usize,
}

impl Rows {
    fn indices(self) -> impl ExactSizeIterator<Item = u64> {
        (0..self.count).map(move |i| self.first.wrapping_add((i as u64).wrapping_mul(self.stride)))
    }
}

/// A column that some kind of generator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Key,
    Amount,
    Sequence,
    At,
    Customer,
    Event,
    Page,
    Spent,
    Nexmark(NexmarkStream, nexmark::Column),
}

/// The columns of a kind, in order.
fn columns_of(kind: GeneratorKind) -> Vec<(&'static str, Kind, Column)> {
    let columns: &[_] = match kind {
        GeneratorKind::Sequence { .. } => &[
            ("key", Kind::Int64, Column::Key),
            ("amount", Kind::Int64, Column::Amount),
            ("sequence", Kind::Int64, Column::Sequence),
            ("at", Kind::TimestampMs, Column::At),
        ],
        GeneratorKind::Customers { .. } => &[
            ("customer", Kind::Text, Column::Customer),
            ("event", Kind::Text, Column::Event),
            ("page", Kind::Text, Column::Page),
            ("amount", Kind::Float64, Column::Spent),
            ("at", Kind::TimestampMs, Column::At),
        ],
        GeneratorKind::Nexmark(stream) => {
            let column = |(name, kind, column): &(_, _, _)| (*name, *kind, Column::Nexmark(stream, *column));
            return nexmark::columns_of(stream).iter().map(column).collect();
        }
    };
    columns.to_vec()
}

/// Between the event times of two rows (of two events of all Nexmark streams) at so many rows a second.
pub(super) fn interval_ns(kind: GeneratorKind, rate: u64) -> u64 {
    match kind {
        GeneratorKind::Nexmark(stream) => 1_000_000_000 * stream.share() / nexmark::ROUND / rate,
        GeneratorKind::Sequence { .. } | GeneratorKind::Customers { .. } => 1_000_000_000 / rate,
    }
}

pub(super) fn schema_of(kind: GeneratorKind) -> Schema {
    let fields = columns_of(kind).into_iter().map(|(name, kind, _)| Field::new(name, kind));
    Schema::new(fields.collect::<Vec<_>>())
}

/// Makes the wanted columns of rows.
pub(super) struct Maker {
    series: Series,
    keys: u64,
    /// digits of a customer's number
    digits: usize,
    wanted: Schema,
    columns: Vec<Column>,
    nexmark: Option<NexmarkStream>,
}

impl Maker {
    /// Fails with the first of `wanted` that the kind does not make.
    pub(super) fn new(kind: GeneratorKind, series: Series, wanted: &Schema) -> Result<Self, String> {
        let known = columns_of(kind);
        let find = |field: &Field| {
            let found = known.iter().find(|(name, kind, _)| *name == field.name && *kind == field.kind);
            found.map(|(_, _, column)| *column).ok_or_else(|| field.to_string())
        };
        let columns = wanted.fields().iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let (keys, nexmark) = match kind {
            GeneratorKind::Sequence { keys } | GeneratorKind::Customers { keys } => (keys, None),
            GeneratorKind::Nexmark(stream) => (1, Some(stream)),
        };
        let keys = keys.clamp(1, i64::MAX as u64);
        let digits = (keys - 1).checked_ilog10().map_or(1, |log| log as usize + 1).max(4);
        Ok(Self { series, keys, digits, wanted: wanted.clone(), columns, nexmark })
    }

    /// The rows and their event times.
    pub(super) fn make(&self, rows: Rows) -> Result<(RecordBatch, ScalarBuffer<EventTime>), ArrowError> {
        let times = match self.nexmark {
            None => self.series.times(rows),
            Some(stream) => rows.indices().map(|row| nexmark::time(self.series, stream.event(row))).collect(),
        };
        let times = ScalarBuffer::from(times);
        let columns = self
            .columns
            .iter()
            .map(|column| self.column(*column, rows, &times))
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(self.wanted.arrow()), columns, &options)?;
        Ok((batch, times))
    }

    fn column(&self, column: Column, rows: Rows, times: &ScalarBuffer<EventTime>) -> Result<ArrayRef, ArrowError> {
        let series = self.series;
        Ok(match column {
            Column::Key => int64(rows, |index| within(series.draw(index), self.keys) as i64),
            Column::Amount => int64(rows, |index| within(series.draw(index).rotate_left(32), 1_000) as i64),
            Column::Sequence => int64(rows, |index| index as i64),
            Column::Nexmark(_, nexmark::Column::DateTime) => {
                Arc::new(TimestampMillisecondArray::new(times.clone(), None))
            }
            Column::Nexmark(stream, column @ nexmark::Column::Expires) => {
                let times = rows.indices().map(|row| nexmark::number(column, stream, series, row));
                Arc::new(TimestampMillisecondArray::from_iter_values(times))
            }
            Column::Nexmark(stream, column) if is_number(stream, column) => {
                int64(rows, |row| nexmark::number(column, stream, series, row))
            }
            Column::Nexmark(stream, column) => {
                text(rows, 24, |row, out| nexmark::text(column, stream, series, row, out))?
            }
            Column::At => Arc::new(TimestampMillisecondArray::new(times.clone(), None)),
            Column::Customer => self.customers(rows)?,
            Column::Event => text(rows, 12, |index, out| out.push_str(series.visit(index).name()))?,
            Column::Page => text(rows, 14, |index, out| series.page(index, out))?,
            Column::Spent => {
                let amounts: Vec<f64> = rows.indices().map(|index| series.spent(index)).collect();
                Arc::new(Float64Array::new(ScalarBuffer::from(amounts), None))
            }
        })
    }

    /// `customer-0042`, with as many digits as the largest number needs, four at least.
    fn customers(&self, rows: Rows) -> Result<ArrayRef, ArrowError> {
        let mut number = itoa::Buffer::new();
        text(rows, 9 + self.digits, |index, out| {
            let digits = number.format(within(self.series.draw(index), self.keys));
            out.push_str("customer-");
            out.extend(std::iter::repeat_n('0', self.digits.saturating_sub(digits.len())));
            out.push_str(digits);
        })
    }
}

fn is_number(stream: NexmarkStream, column: nexmark::Column) -> bool {
    nexmark::columns_of(stream).iter().any(|(_, kind, known)| *known == column && *kind == Kind::Int64)
}

/// What a customer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    PageView,
    AddToCart,
    Order,
}

impl Visit {
    const fn name(self) -> &'static str {
        match self {
            Self::PageView => "page_view",
            Self::AddToCart => "add_to_cart",
            Self::Order => "order",
        }
    }
}

impl Series {
    /// 64 random bits that belong to row `index`.
    #[inline]
    pub(super) fn draw(self, index: u64) -> u64 {
        rng::mix(self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(rng::STEP)))
    }

    /// Another 64 bits of the same row, independent of the first.
    fn second_draw(self, index: u64) -> u64 {
        rng::mix(self.draw(index) ^ 0xD6E8_FEB8_6659_FD93)
    }

    /// Event time of each row: `start_ms + floor(index * interval_ns / 10⁶)`, saturating.
    fn times(self, rows: Rows) -> Vec<EventTime> {
        const NS_PER_MS: u128 = 1_000_000;
        let split = |count: u64| {
            let ns = u128::from(count) * u128::from(self.interval_ns);
            (i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX), (ns % NS_PER_MS) as u32)
        };
        let (first_ms, mut ns) = split(rows.first);
        let (step_ms, step_ns) = split(rows.stride);
        let mut time_ms = self.start_ms.saturating_add(first_ms);
        let next = |_| {
            let now_ms = time_ms;
            ns += step_ns;
            let carry = u32::from(ns >= NS_PER_MS as u32);
            ns -= carry * NS_PER_MS as u32;
            time_ms = time_ms.saturating_add(step_ms).saturating_add(i64::from(carry));
            now_ms
        };
        (0..rows.count).map(next).collect()
    }

    /// Of ten visits, seven look at a page, two fill the cart and one orders.
    fn visit(self, index: u64) -> Visit {
        match within(self.draw(index).rotate_left(32), 10) {
            0..=6 => Visit::PageView,
            7..=8 => Visit::AddToCart,
            _ => Visit::Order,
        }
    }

    fn page(self, index: u64, out: &mut String) {
        let draw = self.second_draw(index);
        match (self.visit(index), within(draw, 10)) {
            (Visit::Order, _) => out.push_str("/checkout"),
            (Visit::PageView, 0..=2) => out.push('/'),
            (Visit::PageView, 3..=4) => out.push_str("/search"),
            _ => {
                out.push_str("/products/");
                out.push_str(itoa::Buffer::new().format(within(draw.rotate_left(32), 1_000)));
            }
        }
    }

    /// 1.00 to 499.99 for an order, otherwise 0.
    fn spent(self, index: u64) -> f64 {
        match self.visit(index) {
            Visit::Order => (100 + within(self.second_draw(index), 49_900)) as f64 / 100.0,
            Visit::PageView | Visit::AddToCart => 0.0,
        }
    }
}

/// Random bits as a number in `0..bound`.
#[inline]
pub(super) fn within(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

fn int64(rows: Rows, value: impl Fn(u64) -> i64) -> ArrayRef {
    let values: Vec<i64> = rows.indices().map(value).collect();
    Arc::new(Int64Array::new(ScalarBuffer::from(values), None))
}

/// A text column of about `bytes_each` bytes a row.
fn text(rows: Rows, bytes_each: usize, mut write: impl FnMut(u64, &mut String)) -> Result<ArrayRef, ArrowError> {
    let mut values = String::with_capacity(rows.count * bytes_each);
    let mut ends = Vec::with_capacity(rows.count + 1);
    ends.push(0);
    for index in rows.indices() {
        write(index, &mut values);
        ends.push(i32::try_from(values.len()).unwrap_or(i32::MAX));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok(Arc::new(StringArray::try_new(offsets, values.into_bytes().into(), None)?))
}
