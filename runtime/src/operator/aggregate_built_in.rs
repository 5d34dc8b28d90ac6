//! Built-in aggregates: accumulators by slot, changed in place.
//!
//! - int64 sums are exact: they are kept in 128 bits, and only a final sum outside int64 is an error.
//! - float64 sums are compensated (Neumaier 1974): the error is within 2 ε |sum| + O(n ε²) Σ|x|, so the order of rows
//!   changes at most the last bits. A sum that leaves the range of float64 on its way stays infinite.
//! - min and max of float64 use the total order: -0.0 < 0.0, and NaN above all.
//! - first and last go by event time, ties by the order in which rows come; different floats are counted as keys are.
//! - nulls are skipped; a key with nulls only has a null result, and count(column) 0.

mod state;

use std::ops::Range;

use arrow_array::{Array, ArrayRef};

pub(super) use state::save_counts;

use super::AggregateFunction;
use super::aggregate_values::{Distinct, Timed};
use super::window_aggregate_slice::Rows;
use crate::record::{Batch, Field, Kind, Schema};
use crate::state::{Chunked, ColumnBuilder, StateError, heap_bytes, is_word, varlen, words};

/// A built-in aggregate of a step.
#[derive(Clone, Debug)]
pub(super) struct BuiltIn {
    function: AggregateFunction,
    /// what it reads
    column: Option<(usize, Field)>,
    /// what it produces
    result: Field,
}

/// Its accumulators in one slice.
#[derive(Clone, Debug)]
pub(super) enum Accumulators {
    /// the slice's row counts serve
    Rows,
    /// rows that are not null
    Count(Chunked<i64>),
    Int {
        sums: Chunked<i128>,
        seen: Seen,
    },
    Float {
        sums: Chunked<FloatSum>,
        seen: Seen,
    },
    /// of a kind kept as a word, as [`ordered`]
    Extreme {
        best: Chunked<i64>,
        seen: Seen,
    },
    ExtremeText(Chunked<Option<Vec<u8>>>),
    /// first and last
    Timed(Timed),
    Distinct(Distinct),
}

/// How many values a slot has; `None` where the column has no nulls, so every row is one.
type Seen = Option<Chunked<i64>>;

/// A sum and what rounding took from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FloatSum {
    sum: f64,
    lost: f64,
}

impl FloatSum {
    #[inline(always)]
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    /// What was lost is meaningless once the sum is infinite or NaN.
    fn total(self) -> f64 {
        if self.lost.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

impl BuiltIn {
    pub(super) fn new(input: &Schema, function: AggregateFunction, column: Option<usize>, result: Field) -> Self {
        let column = column.and_then(|column| Some((column, input.fields().get(column)?.clone())));
        Self { function, column, result }
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self) -> Accumulators {
        let Some((_, field)) = &self.column else { return Accumulators::Rows };
        let seen = field.nullable.then(|| Chunked::new(0));
        match (self.function, field.kind) {
            (AggregateFunction::First | AggregateFunction::Last, kind) => Accumulators::Timed(Timed::new(kind)),
            (AggregateFunction::CountDistinct, kind) => Accumulators::Distinct(Distinct::new(kind)),
            (AggregateFunction::Count, _) => seen.map_or(Accumulators::Rows, Accumulators::Count),
            (AggregateFunction::Sum | AggregateFunction::Avg, Kind::Float64) => {
                Accumulators::Float { sums: Chunked::new(FloatSum::default()), seen }
            }
            (AggregateFunction::Sum | AggregateFunction::Avg, _) => Accumulators::Int { sums: Chunked::new(0), seen },
            (_, kind) if !is_word(kind) => Accumulators::ExtremeText(Chunked::new(None)),
            (AggregateFunction::Min, _) => Accumulators::Extreme { best: Chunked::new(i64::MAX), seen },
            (AggregateFunction::Max, _) => Accumulators::Extreme { best: Chunked::new(i64::MIN), seen },
        }
    }

    /// Takes in rows of a batch. All chunks of their slots exist.
    pub(super) fn accumulate(&self, into: &mut Accumulators, batch: &Batch, rows: Rows<'_>) -> Result<(), StateError> {
        let Some((column, field)) = &self.column else { return Ok(()) };
        let Some(array) = batch.columns().columns().get(*column) else { return Ok(()) };
        match into {
            Accumulators::Rows => {}
            Accumulators::Count(counts) => rows.each_valid(array.nulls(), |_, slot| add_one(counts, slot)),
            Accumulators::Int { sums, seen } => {
                fold_words(field, array, rows, (sums, seen), |sum, word| *sum += i128::from(word as i64))?;
            }
            Accumulators::Float { sums, seen } => {
                fold_words(field, array, rows, (sums, seen), |sum, word| sum.add(f64::from_bits(word)))?;
            }
            Accumulators::Extreme { best, seen } => self.fold_extremes(field, array, rows, (best, seen))?,
            Accumulators::Timed(values) => values.accumulate(self.is_last(), field, array, batch.times(), rows)?,
            Accumulators::Distinct(values) => values.accumulate(field, array, rows)?,
            Accumulators::ExtremeText(best) => {
                let min = self.function == AggregateFunction::Min;
                let (offsets, bytes) = varlen(field, array)?;
                rows.each_valid(array.nulls(), |row, slot| {
                    let range = offsets.get(row).zip(offsets.get(row + 1));
                    let value = range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize));
                    if let (Some(best), Some(value)) = (best.get_mut(slot), value) {
                        keep_extreme(best, value, min);
                    }
                });
            }
        }
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.function == AggregateFunction::Last
    }

    fn fold_extremes(
        &self,
        field: &Field,
        array: &ArrayRef,
        rows: Rows<'_>,
        into: (&mut Chunked<i64>, &mut Seen),
    ) -> Result<(), StateError> {
        let float = field.kind == Kind::Float64;
        if self.function == AggregateFunction::Min {
            fold_words(field, array, rows, into, |best, word| *best = (*best).min(ordered(float, word)))
        } else {
            fold_words(field, array, rows, into, |best, word| *best = (*best).max(ordered(float, word)))
        }
    }

    /// Slots of `from` are folded into those of `into`; `pairs` are (to, from). All chunks exist.
    pub(super) fn merge(&self, into: &mut Accumulators, from: &Accumulators, pairs: &[(u32, u32)]) {
        let min = self.function == AggregateFunction::Min;
        match (into, from) {
            (Accumulators::Count(into), Accumulators::Count(from)) => merge_cells(into, from, pairs, |a, b| *a += b),
            (Accumulators::Int { sums, seen }, Accumulators::Int { sums: from, seen: from_seen }) => {
                merge_cells(sums, from, pairs, |a, b| *a += b);
                merge_seen(seen, from_seen, pairs);
            }
            (Accumulators::Float { sums, seen }, Accumulators::Float { sums: from, seen: from_seen }) => {
                merge_cells(sums, from, pairs, |a, b| a.merge(*b));
                merge_seen(seen, from_seen, pairs);
            }
            (Accumulators::Extreme { best, seen }, Accumulators::Extreme { best: from, seen: from_seen }) => {
                merge_cells(best, from, pairs, |a, b| *a = if min { (*a).min(*b) } else { (*a).max(*b) });
                merge_seen(seen, from_seen, pairs);
            }
            (Accumulators::ExtremeText(into), Accumulators::ExtremeText(from)) => {
                merge_cells(into, from, pairs, |best, other| {
                    other.iter().for_each(|other| keep_extreme(best, other, min));
                });
            }
            (Accumulators::Timed(into), Accumulators::Timed(from)) => into.merge(self.is_last(), from, pairs),
            (Accumulators::Distinct(into), Accumulators::Distinct(from)) => into.merge(from, pairs),
            // the slice's row counts serve; others do not meet
            _ => {}
        }
    }

    /// Why the result of a slot cannot be put out, if it cannot.
    pub(super) fn failure(&self, of: &Accumulators, slot: u32) -> Option<String> {
        let (Accumulators::Int { sums, .. }, AggregateFunction::Sum) = (of, self.function) else { return None };
        let sum = sums.get(slot)?;
        i64::try_from(*sum).is_err().then(|| {
            let column = self.column.as_ref().map_or("", |(_, field)| &field.name);
            let function = self.function.name();
            format!(
                "`{}` = {function}({column}) is {sum}, outside int64: use a float64 column or shorter windows",
                self.result.name
            )
        })
    }

    /// Whether [`BuiltIn::failure`] is worth asking.
    pub(super) fn may_fail(&self) -> bool {
        self.function == AggregateFunction::Sum && self.result.kind == Kind::Int64
    }

    /// The result column of `slots`; `rows` are the slice's row counts.
    pub(super) fn finish(&self, of: &Accumulators, rows: &Chunked<i64>, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let mut column = ColumnBuilder::new(&self.result, slots.len());
        self.finish_into(&mut column, of, rows, slots)?;
        column.finish()
    }

    /// As [`BuiltIn::finish`], added to a column of [`BuiltIn::result`].
    pub(super) fn finish_into(
        &self,
        column: &mut ColumnBuilder,
        of: &Accumulators,
        rows: &Chunked<i64>,
        slots: &[u32],
    ) -> Result<(), StateError> {
        for slot in slots {
            match self.value(of, rows, *slot) {
                Value::Word(word) => column.push_word(word),
                Value::Bytes(bytes) => column.push_bytes(bytes)?,
                Value::Null => column.push_null()?,
            }
        }
        Ok(())
    }

    /// The column that it makes.
    pub(super) fn result(&self) -> &Field {
        &self.result
    }

    fn value<'a>(&self, of: &'a Accumulators, rows: &Chunked<i64>, slot: u32) -> Value<'a> {
        let count = |seen: &Seen| seen.as_ref().unwrap_or(rows).get(slot).copied().unwrap_or_default();
        let value = match of {
            Accumulators::Rows => rows.get(slot).map(|count| *count as u64),
            Accumulators::Count(counts) => counts.get(slot).map(|count| *count as u64),
            Accumulators::Int { seen, .. } | Accumulators::Float { seen, .. } | Accumulators::Extreme { seen, .. }
                if count(seen) == 0 =>
            {
                None
            }
            Accumulators::Int { sums, seen } if self.function == AggregateFunction::Avg => {
                sums.get(slot).map(|sum| (*sum as f64 / count(seen) as f64).to_bits())
            }
            // one that does not fit is a failure, and not asked for
            Accumulators::Int { sums, .. } => sums.get(slot).map(|sum| *sum as u64),
            Accumulators::Float { sums, seen } => sums.get(slot).map(|sum| {
                let average = self.function == AggregateFunction::Avg;
                (if average { sum.total() / count(seen) as f64 } else { sum.total() }).to_bits()
            }),
            Accumulators::Extreme { best, .. } => {
                best.get(slot).map(|best| from_ordered(self.result.kind == Kind::Float64, *best))
            }
            Accumulators::Timed(values) => return values.value(slot),
            Accumulators::Distinct(values) => values.count(slot),
            Accumulators::ExtremeText(best) => {
                return best.get(slot).and_then(Option::as_deref).map_or(Value::Null, Value::Bytes);
            }
        };
        value.map_or(Value::Null, Value::Word)
    }
}

/// A result.
pub(super) enum Value<'a> {
    Word(u64),
    Bytes(&'a [u8]),
    Null,
}

impl Accumulators {
    pub(super) fn allocate(&mut self, chunk: usize) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => counts.allocate(chunk),
            Self::Int { sums, seen } => {
                sums.allocate(chunk);
                seen.iter_mut().for_each(|seen| seen.allocate(chunk));
            }
            Self::Float { sums, seen } => {
                sums.allocate(chunk);
                seen.iter_mut().for_each(|seen| seen.allocate(chunk));
            }
            Self::Extreme { best, seen } => {
                best.allocate(chunk);
                seen.iter_mut().for_each(|seen| seen.allocate(chunk));
            }
            Self::ExtremeText(best) => best.allocate(chunk),
            Self::Timed(values) => values.allocate(chunk),
            Self::Distinct(values) => values.allocate(chunk),
        }
    }

    /// As [`Chunked::split_off`].
    pub(super) fn split_off(&mut self, slots: &[u32]) -> Self {
        let seen = |seen: &mut Seen| seen.as_mut().map(|seen| seen.split_off(slots));
        match self {
            Self::Rows => Self::Rows,
            Self::Count(counts) => Self::Count(counts.split_off(slots)),
            Self::Int { sums, seen: s } => Self::Int { sums: sums.split_off(slots), seen: seen(s) },
            Self::Float { sums, seen: s } => Self::Float { sums: sums.split_off(slots), seen: seen(s) },
            Self::Extreme { best, seen: s } => Self::Extreme { best: best.split_off(slots), seen: seen(s) },
            Self::ExtremeText(best) => Self::ExtremeText(best.split_off(slots)),
            Self::Timed(values) => Self::Timed(values.split_off(slots)),
            Self::Distinct(values) => Self::Distinct(values.split_off(slots)),
        }
    }

    /// As [`Chunked::freeze`].
    pub(super) fn freeze(&mut self) -> Self {
        let seen = |seen: &mut Seen| seen.as_mut().map(Chunked::freeze);
        match self {
            Self::Rows => Self::Rows,
            Self::Count(counts) => Self::Count(counts.freeze()),
            Self::Int { sums, seen: s } => Self::Int { sums: sums.freeze(), seen: seen(s) },
            Self::Float { sums, seen: s } => Self::Float { sums: sums.freeze(), seen: seen(s) },
            Self::Extreme { best, seen: s } => Self::Extreme { best: best.freeze(), seen: seen(s) },
            Self::ExtremeText(best) => Self::ExtremeText(best.freeze()),
            Self::Timed(values) => Self::Timed(values.freeze()),
            Self::Distinct(values) => Self::Distinct(values.freeze()),
        }
    }

    /// As [`Chunked::marks`].
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        let seen = match self {
            Self::Int { seen, .. } | Self::Float { seen, .. } | Self::Extreme { seen, .. } => seen.as_ref(),
            _ => None,
        };
        seen.into_iter().for_each(|seen| seen.marks(chunks.clone(), to));
        match self {
            Self::Rows => {}
            Self::Count(counts) => counts.marks(chunks, to),
            Self::Int { sums, .. } => sums.marks(chunks, to),
            Self::Float { sums, .. } => sums.marks(chunks, to),
            Self::Extreme { best, .. } => best.marks(chunks, to),
            Self::ExtremeText(best) => best.marks(chunks, to),
            Self::Timed(values) => values.marks(chunks, to),
            Self::Distinct(values) => values.marks(chunks, to),
        }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        let seen = |seen: &Seen| seen.as_ref().map_or(0, Chunked::bytes);
        match self {
            Self::Rows => 0,
            Self::Count(counts) => counts.bytes(),
            Self::Int { sums, seen: s } => sums.bytes() + seen(s),
            Self::Float { sums, seen: s } => sums.bytes() + seen(s),
            Self::Extreme { best, seen: s } => best.bytes() + seen(s),
            Self::ExtremeText(best) => {
                let values = best.chunks().flat_map(|(_, values)| values).flatten();
                best.bytes() + values.map(|bytes| heap_bytes(bytes.capacity())).sum::<usize>()
            }
            Self::Timed(values) => values.bytes(),
            Self::Distinct(values) => values.bytes(),
        }
    }

    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => counts.renumber(moves),
            Self::Int { sums, seen } => {
                sums.renumber(moves);
                seen.iter_mut().for_each(|seen| seen.renumber(moves));
            }
            Self::Float { sums, seen } => {
                sums.renumber(moves);
                seen.iter_mut().for_each(|seen| seen.renumber(moves));
            }
            Self::Extreme { best, seen } => {
                best.renumber(moves);
                seen.iter_mut().for_each(|seen| seen.renumber(moves));
            }
            Self::ExtremeText(best) => best.renumber(moves),
            Self::Timed(values) => values.renumber(moves),
            Self::Distinct(values) => values.renumber(moves),
        }
    }
}

#[inline(always)]
fn add_one(counts: &mut Chunked<i64>, slot: u32) {
    counts.get_mut(slot).into_iter().for_each(|count| *count += 1);
}

pub(super) fn merge_cells<T: Clone>(
    into: &mut Chunked<T>,
    from: &Chunked<T>,
    pairs: &[(u32, u32)],
    mut merge: impl FnMut(&mut T, &T),
) {
    for (to, of) in pairs {
        if let (Some(into), Some(from)) = (into.get_mut(*to), from.get(*of)) {
            merge(into, from);
        }
    }
}

fn merge_seen(into: &mut Seen, from: &Seen, pairs: &[(u32, u32)]) {
    if let (Some(into), Some(from)) = (into, from) {
        merge_cells(into, from, pairs, |a, b| *a += b);
    }
}

/// Folds every value of a column of fixed width, as a word, into its slot's accumulator, and counts it in `seen`.
#[inline(always)]
fn fold_words<T: Clone>(
    field: &Field,
    array: &ArrayRef,
    rows: Rows<'_>,
    (into, seen): (&mut Chunked<T>, &mut Seen),
    mut fold: impl FnMut(&mut T, u64),
) -> Result<(), StateError> {
    let words = words(field, array)?;
    if array.null_count() == 0 {
        rows.update(into, &words, fold);
    } else {
        rows.each_valid(array.nulls(), |row, slot| {
            if let (Some(accumulator), Some(word)) = (into.get_mut(slot), words.get(row)) {
                fold(accumulator, *word);
            }
        });
    }
    if let Some(seen) = seen {
        rows.each_valid(array.nulls(), |_, slot| add_one(seen, slot));
    }
    Ok(())
}

/// A word as a number with the same order.
#[inline(always)]
pub(super) fn ordered(float: bool, word: u64) -> i64 {
    if !float {
        return word as i64;
    }
    let value = f64::from_bits(word);
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { word } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

fn from_ordered(float: bool, number: i64) -> u64 {
    if float { (number ^ ((number >> 63) as u64 >> 1) as i64) as u64 } else { number as u64 }
}

fn keep_extreme(best: &mut Option<Vec<u8>>, value: &[u8], min: bool) {
    match best {
        Some(best) if (min && value < best.as_slice()) || (!min && value > best.as_slice()) => {
            best.clear();
            best.extend_from_slice(value);
        }
        Some(_) => {}
        None => *best = Some(value.to_vec()),
    }
}
