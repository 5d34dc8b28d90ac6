//! Runs operators natively as the host does: rows to columns, the call, columns to rows.
//!
//! ```
//! use millstream_sdk::{Row, testing};
//!
//! #[derive(Clone, Debug, PartialEq, Row)]
//! struct Number {
//!     n: i64,
//! }
//!
//! #[millstream_sdk::map]
//! fn double(number: Number) -> Result<Number, String> {
//!     let n = number.n.checked_mul(2).ok_or("too large")?;
//!     Ok(Number { n })
//! }
//!
//! let doubled: Vec<Number> = testing::map::<double, _, _>(&[], [Number { n: 2 }, Number { n: 3 }]).unwrap().to_rows().unwrap();
//! assert_eq!(doubled, [Number { n: 4 }, Number { n: 6 }]);
//! ```

mod process;

pub use process::Processing;

use crate::columns::Columns;
use crate::contract::{Batch, Failure, Field, Signature};
use crate::drive;
use crate::operator::{AggregateOperator, FilterOperator, FlatMapOperator, MapOperator, Operator};
use crate::row::Row;
use crate::settings::{Setting, Settings};

/// A configuration: `[("rate", 0.9.into())]`.
pub type Config<'a> = &'a [(&'a str, Setting)];

/// What `describe` answers under `config`.
pub fn describe<O: Operator>(config: Config<'_>) -> Result<Signature, String> {
    configure::<O>(config).map(|_| O::signature())
}

/// Runs a map over `rows`.
pub fn map<O: MapOperator, I: Row, R: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Columns<R>, Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let input = input::<O, I>(rows)?;
    Columns::from_batch(O::transform(&instance, input)?).map_err(Failure::Batch)
}

/// Runs a filter over `rows`: whether each is kept.
pub fn filter<O: FilterOperator, I: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Vec<bool>, Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let mask = O::select(&instance, input::<O, I>(rows)?)?;
    Ok(mask.into_iter().map(|keep| keep != 0).collect())
}

/// Runs a flat_map over `rows`: for each output row the input row it came from, and the output rows.
pub fn flat_map<O: FlatMapOperator, I: Row, R: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<(Vec<u32>, Columns<R>), Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let expansion = O::expand(&instance, input::<O, I>(rows)?)?;
    let output = Columns::from_batch(expansion.output).map_err(Failure::Batch)?;
    Ok((expansion.origin, output))
}

/// Folds `rows`, all of one key, and finishes: one row.
///
/// The rows are also folded in two halves that are merged; the two results must be equal.
pub fn aggregate<A: AggregateOperator, I: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Columns<A::Output>, Failure> {
    let instance = configure::<A>(config).map_err(Failure::Batch)?;
    let rows: Vec<I> = rows.into_iter().collect();
    let half = rows.len() / 2;
    let count = rows.len();
    let input = input::<A, I>(rows)?;
    let empty = drive::create(&instance);
    let whole = drive::accumulate(&instance, &vec![0; count], &empty, &input)?;

    let both = twice(&instance)?;
    let groups: Vec<u32> = (0..count).map(|row| u32::from(row >= half)).collect();
    let halves = drive::accumulate(&instance, &groups, &both, &input)?;
    let merged = drive::merge(&instance, &row_of::<A>(&halves, 0)?, &row_of::<A>(&halves, 1)?)?;

    let finished = drive::finish(&instance, &whole)?;
    if drive::finish(&instance, &merged)? != finished {
        return Err(Failure::Batch("two halves merged give another result than all rows folded in one".to_owned()));
    }
    Columns::from_batch(finished).map_err(Failure::Batch)
}

/// What operators on this thread told the host: see [`recorded`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// log lines, in order
    pub lines: Vec<(crate::Level, String)>,
    /// counters
    pub counters: std::collections::BTreeMap<String, u64>,
    /// gauges
    pub gauges: std::collections::BTreeMap<String, f64>,
}

/// Takes what operators on this thread have told the host since the last call.
#[cfg(not(target_arch = "wasm32"))]
pub fn recorded() -> Recorded {
    recorder::with(std::mem::take)
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod recorder {
    use std::cell::RefCell;

    use super::Recorded;

    thread_local! {
        static RECORDED: RefCell<Recorded> = RefCell::default();
    }

    pub(crate) fn with<T>(f: impl FnOnce(&mut Recorded) -> T) -> T {
        RECORDED.with_borrow_mut(f)
    }
}

fn configure<O: Operator>(config: Config<'_>) -> Result<O::Instance, String> {
    let mut settings = Settings::default();
    for (name, value) in config {
        settings.set(name, value.clone());
    }
    O::configure(&settings)
}

/// The columns that the operator declares, by name, from rows that may have more.
fn input<O: Operator, I: Row>(rows: impl IntoIterator<Item = I>) -> Result<Batch, Failure> {
    let given = I::fields();
    let Batch { rows, mut columns } = Columns::from_rows(rows).into_batch();
    let mut picked = Vec::new();
    for field in O::signature().inputs {
        let column = position(&given, &field).and_then(|index| columns.get_mut(index));
        let column = column.ok_or_else(|| Failure::Batch(format!("the rows have no column \"{}\"", field.name)))?;
        picked.push(column.clone());
    }
    Ok(Batch { rows, columns: picked })
}

fn position(given: &[Field], wanted: &Field) -> Option<usize> {
    given.iter().position(|field| field.name == wanted.name)
}

/// Two empty accumulators.
fn twice<A: AggregateOperator>(instance: &A) -> Result<Batch, Failure> {
    let mut writer = A::Accumulator::writer(2, 0);
    instance.create().set(&mut writer, 0);
    instance.create().set(&mut writer, 1);
    Ok(Batch { rows: 2, columns: A::Accumulator::finish(writer) })
}

fn row_of<A: AggregateOperator>(batch: &Batch, row: usize) -> Result<Batch, Failure> {
    use crate::row::ReadRow;
    let reader = A::Accumulator::open(batch).map_err(Failure::Batch)?;
    let mut writer = A::Accumulator::writer(1, 0);
    A::Accumulator::read(&reader, row).map_err(Failure::Batch)?.set(&mut writer, 0);
    Ok(Batch { rows: 1, columns: A::Accumulator::finish(writer) })
}
