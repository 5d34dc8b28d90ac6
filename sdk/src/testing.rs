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

mod pieces;
mod process;
mod windows;

pub use process::Processing;
pub use windows::{Fired, Window, Windows};

use crate::columns::Columns;
use crate::contract::{Batch, Expansion, Failure, Field, Signature};
use crate::drive;
use crate::migrate::MigrateOperator;
use crate::operator::{
    AggregateOperator, FilterOperator, FlatMapOperator, MapOperator, Operator, PartitionOperator, WindowProcessOperator,
};
use crate::row::{ReadRow, Row};
use crate::settings::{Setting, Settings};
use crate::window_process::{WindowCall, WindowRows};

/// A configuration: `[("rate", 0.9.into())]`.
pub type Config<'a> = &'a [(&'a str, Setting)];

/// What `describe` answers under `config`.
pub fn describe<O: Operator>(config: Config<'_>) -> Result<Signature, String> {
    configure::<O>(config).map(|_| O::signature())
}

/// Runs a map over `rows`; also in batches cut at random places, which must come to the same.
pub fn map<O: MapOperator, I: Row, R: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Columns<R>, Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let input = input::<O, I>(rows)?;
    let output = O::transform(&instance, input.clone())?;
    in_pieces(&input, |piece, rows| Ok(pieces::same(&O::transform(&instance, piece)?, &pieces::take(&output, rows))))?;
    Columns::from_batch(output).map_err(Failure::Batch)
}

/// What rows of state of version `from` become; also in batches cut at random places, which must come to the same.
pub fn migrate<O, Old, New>(from: u32, rows: impl IntoIterator<Item = Old>) -> Result<Vec<New>, Failure>
where
    O: Operator + MigrateOperator,
    Old: Row,
    New: Row + for<'b> ReadRow<'b>,
{
    let rows: Vec<Old> = rows.into_iter().collect();
    let mut writer = Old::writer(0, 0);
    let count = rows.len();
    rows.into_iter().for_each(|row| row.push(&mut writer));
    let state = Batch { rows: crate::contract::offset(count), columns: Old::finish(writer) };
    let migrated = O::migrate(from, &state)?;
    in_pieces(&state, |piece, rows| Ok(pieces::same(&O::migrate(from, &piece)?, &pieces::take(&migrated, rows))))?;
    Columns::<New>::from_batch(migrated).and_then(|rows| rows.to_rows()).map_err(Failure::Batch)
}

/// Runs a filter over `rows`: whether each is kept. Also in batches cut at random places, which must come to the same.
pub fn filter<O: FilterOperator, I: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Vec<bool>, Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let input = input::<O, I>(rows)?;
    let mask = O::select(&instance, input.clone())?;
    in_pieces(&input, |piece, rows| Ok(mask.get(rows) == Some(&O::select(&instance, piece)?[..])))?;
    Ok(mask.into_iter().map(|keep| keep != 0).collect())
}

/// Runs a flat_map over `rows`: for each output row the input row it came from, and the output rows. Also in batches cut
/// at random places, which must come to the same.
pub fn flat_map<O: FlatMapOperator, I: Row, R: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<(Vec<u32>, Columns<R>), Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let input = input::<O, I>(rows)?;
    let expansion = O::expand(&instance, input.clone())?;
    in_pieces(&input, |piece, rows| {
        let part = O::expand(&instance, piece)?;
        let from = expansion.origin.partition_point(|&origin| (origin as usize) < rows.start);
        let to = expansion.origin.partition_point(|&origin| (origin as usize) < rows.end);
        let origin = part.origin.iter().map(|&origin| origin as usize + rows.start);
        let same_origin = expansion.origin.get(from..to).unwrap_or_default().iter().map(|&o| o as usize).eq(origin);
        Ok(same_origin && pieces::same(&part.output, &pieces::take(&expansion.output, from..to)))
    })?;
    let output = Columns::from_batch(expansion.output).map_err(Failure::Batch)?;
    Ok((expansion.origin, output))
}

/// Runs a window-processor over windows: for each row that comes out the number of its window, and the row. Also in calls of
/// one window each, which must come to the same.
pub fn window_process<O: WindowProcessOperator, I: Row, R>(
    config: Config<'_>,
    windows: impl IntoIterator<Item = WindowRows<I>>,
) -> Result<Vec<(usize, R)>, Failure>
where
    R: Row + for<'b> ReadRow<'b> + PartialEq,
{
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let windows: Vec<WindowRows<I>> = windows.into_iter().collect();
    let call = |windows: Vec<WindowRows<I>>| {
        let (starts, ends) = windows.iter().map(|window| (window.start, window.end)).unzip();
        let times = windows.iter().flat_map(|window| window.times.clone()).collect();
        let numbered = (0_u32..).zip(windows);
        let (groups, rows): (Vec<u32>, Vec<I>) =
            numbered.flat_map(|(group, window)| window.rows.into_iter().map(move |row| (group, row))).unzip();
        Ok::<_, Failure>(WindowCall { starts, ends, groups, times, input: input::<O, I>(rows)? })
    };
    let run = |call: &WindowCall| {
        let Expansion { origin, output } = O::process(&instance, call)?;
        let rows = Columns::<R>::from_batch(output).and_then(|rows| rows.to_rows()).map_err(Failure::Batch)?;
        Ok::<_, Failure>(origin.into_iter().map(|origin| origin as usize).zip(rows).collect::<Vec<_>>())
    };
    let all = call(windows)?;
    let made = run(&all)?;
    let recorded = keep_recorded();
    for window in 0..all.starts.len() {
        let from = all.groups.partition_point(|group| (*group as usize) < window);
        let to = all.groups.partition_point(|group| (*group as usize) <= window);
        let alone = WindowCall {
            starts: vec![all.starts[window]],
            ends: vec![all.ends[window]],
            groups: vec![0; to - from],
            times: all.times[from..to].to_vec(),
            input: pieces::take(&all.input, from..to),
        };
        let alone = run(&alone)?;
        let of_window = made.iter().filter(|(origin, _)| *origin == window).map(|(_, row)| row);
        if !alone.iter().map(|(_, row)| row).eq(of_window) {
            return Err(Failure::Batch(format!("window {window} alone gives other rows than with the others")));
        }
    }
    give_back(recorded);
    Ok(made)
}

/// Routes `rows` to one of `targets` tasks each: their numbers. Also in batches cut at random places, which must come to
/// the same.
pub fn partition<O: PartitionOperator, I: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
    targets: u32,
) -> Result<Vec<u32>, Failure> {
    let instance = configure::<O>(config).map_err(Failure::Batch)?;
    let input = input::<O, I>(rows)?;
    let routes = O::route(&instance, input.clone(), targets)?;
    in_pieces(&input, |piece, rows| Ok(routes.get(rows) == Some(&O::route(&instance, piece, targets)?[..])))?;
    Ok(routes)
}

/// Folds `rows`, all of one key, and finishes: one row.
///
/// The rows are also folded in pieces cut at random places, one after the other and in accumulators of their own that are
/// merged: all must come to the same. [`Windows`] does so with rows that have times.
pub fn aggregate<A: AggregateOperator, I: Row>(
    config: Config<'_>,
    rows: impl IntoIterator<Item = I>,
) -> Result<Columns<A::Output>, Failure> {
    let instance = configure::<A>(config).map_err(Failure::Batch)?;
    Columns::from_batch(folded(&instance, &input::<A, I>(rows)?)?).map_err(Failure::Batch)
}

/// The finished accumulator of all rows, however they are folded.
fn folded<A: AggregateOperator>(instance: &A, input: &Batch) -> Result<Batch, Failure> {
    let fold = |accumulator: &Batch, rows: &Batch| {
        drive::accumulate(instance, &vec![0; rows.rows as usize], accumulator, rows)
    };
    let differs = |how: &str| Failure::Batch(format!("{how} another result than all rows folded in one"));
    let empty = drive::create(instance);
    let finished = drive::finish(instance, &fold(&empty, input)?)?;
    if input.rows == 0 {
        return Ok(finished);
    }
    let recorded = keep_recorded();
    for round in 0..pieces::ROUNDS {
        let cut = pieces::cut(input.rows as usize, round);
        let mut one = empty.clone();
        for rows in cut.clone() {
            one = fold(&one, &pieces::take(input, rows))?;
        }
        if !pieces::same(&drive::finish(instance, &one)?, &finished) {
            return Err(differs("rows folded batch by batch give"));
        }
        let groups: Vec<u32> = (0..).zip(&cut).flat_map(|(group, rows)| rows.clone().map(move |_| group)).collect();
        let parts = drive::accumulate(instance, &groups, &pieces::joined(&vec![empty.clone(); cut.len()]), input)?;
        let mut merged = empty.clone();
        for part in 0..cut.len() {
            merged = drive::merge(instance, &merged, &pieces::take(&parts, part..part + 1))?;
        }
        if !pieces::same(&drive::finish(instance, &merged)?, &finished) {
            return Err(differs("parts merged give"));
        }
    }
    give_back(recorded);
    Ok(finished)
}

/// Calls `holds` with pieces of `input` and the rows that they are.
fn in_pieces(
    input: &Batch,
    mut holds: impl FnMut(Batch, std::ops::Range<usize>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let recorded = keep_recorded();
    for round in 0..pieces::ROUNDS {
        for rows in pieces::cut(input.rows as usize, round) {
            if !holds(pieces::take(input, rows.clone()), rows.clone())? {
                let reason =
                    format!("rows {} to {} in a batch of their own give another result", rows.start, rows.end - 1);
                return Err(Failure::Batch(reason));
            }
        }
    }
    give_back(recorded);
    Ok(())
}

/// What has been told to the host so far: trying again must not tell it twice.
fn keep_recorded() -> Recorded {
    #[cfg(not(target_arch = "wasm32"))]
    return recorder::with(|recorded| recorded.clone());
    #[cfg(target_arch = "wasm32")]
    Recorded::default()
}

#[cfg_attr(target_arch = "wasm32", allow(unused_variables))]
fn give_back(kept: Recorded) {
    #[cfg(not(target_arch = "wasm32"))]
    recorder::with(|recorded| *recorded = kept);
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
