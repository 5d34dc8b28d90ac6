//! The row loops: what stands between a function over rows and the host's columns. Called by the macros.
//!
//! A function that fails for some rows is still asked for the others, so that the host learns of all of them at once.
//!
//! Failures are handled outside of the loop that handles rows: a loop without a call in it is unrolled, and turned into
//! vector instructions where there are some, so that the host's check for the deadline at every turn of a loop costs little.

use std::fmt::{self, Display};

use crate::aggregate::Verdict;
use crate::columns::Columns;
use crate::contract::{Batch, Expansion, Failure, RowFailure, Signature, StateSchema, offset};
use crate::operator::AggregateOperator;
use crate::row::{ReadRow, Row};

pub use crate::process::SideWriter;
pub use crate::process::drive::{process, process_signature, signature as processor_signature};
pub use crate::window_process::{process as window_process, signature as window_process_signature};

/// Rows that failed in this call.
#[derive(Default)]
struct Failures(Vec<RowFailure>);

impl Failures {
    #[cold]
    fn add(&mut self, row: usize, reason: &dyn Display) {
        self.0.push(RowFailure { row: offset(row), reason: reason.to_string() });
    }

    fn unless_any<T>(self, result: T) -> Result<T, Failure> {
        if self.0.is_empty() { Ok(result) } else { Err(Failure::Rows(self.0)) }
    }
}

/// Calls `each` for all `rows` of `state`, which it reads and changes, also after rows that fail.
#[inline(always)]
fn for_rows<S, E: Display>(
    mut state: S,
    rows: impl Fn(&S) -> usize,
    failures: &mut Failures,
    mut each: impl FnMut(&mut S, usize) -> Result<(), RowFault<E>>,
) -> S {
    let mut next = 0;
    loop {
        let stopped;
        (state, stopped) = until_failure(next, state, &rows, &mut each);
        let Some((row, fault)) = stopped else { return state };
        failures.add(row, &fault);
        next = row + 1;
    }
}

/// The loop itself, alone in a function and with all it changes by value, so that the compiler of the host has a register
/// for everything in it; and with the number of rows where the columns are, so that the guest's needs no checks.
#[inline(never)]
fn until_failure<S, E>(
    first: usize,
    mut state: S,
    rows: &impl Fn(&S) -> usize,
    each: &mut impl FnMut(&mut S, usize) -> Result<(), RowFault<E>>,
) -> (S, Option<(usize, RowFault<E>)>) {
    let rows = rows(&state);
    for row in first..rows {
        if let Err(fault) = each(&mut state, row) {
            return (state, Some((row, fault)));
        }
    }
    (state, None)
}

/// Why a row failed: its columns, or the author's function.
enum RowFault<E> {
    Unreadable(String),
    Refused(E),
    /// of an accumulator that does not exist
    Group {
        group: u32,
        groups: usize,
    },
    /// to a task that does not exist
    Target {
        target: u32,
        targets: u32,
    },
}

impl<E: Display> Display for RowFault<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowFault::Unreadable(reason) => f.write_str(reason),
            RowFault::Refused(error) => error.fmt(f),
            RowFault::Target { target, targets } => {
                write!(f, "the row is routed to task {target}, expected 0 to {}", targets.saturating_sub(1))
            }
            RowFault::Group { group, groups } => write!(f, "the row is of group {group} of {groups}"),
        }
    }
}

fn stateless(inputs: Vec<crate::Field>, outputs: Vec<crate::Field>) -> Signature {
    Signature { inputs, outputs, state: None }
}

/// The signature of a map over rows. The function is only asked for its types.
pub fn map_signature<'b, I, O, E, C, F>(_: F) -> Signature
where
    I: ReadRow<'b>,
    O: Row,
    C: 'b,
    F: Fn(I, &'b C) -> Result<O, E>,
{
    stateless(I::fields(), O::fields())
}

/// A map over rows.
#[inline]
pub fn map<'b, I, O, E, C, F>(input: &'b Batch, instance: &'b C, f: F) -> Result<Batch, Failure>
where
    I: ReadRow<'b>,
    O: Row,
    E: Display,
    F: Fn(I, &'b C) -> Result<O, E>,
{
    let reader = I::open(input).map_err(Failure::Batch)?;
    let mut failures = Failures::default();
    let state = (reader, O::writer(input.rows as usize, input.varlen_bytes()));
    let rows = |(reader, writer): &(_, _)| I::rows(reader).min(O::room(writer));
    let (_, writer) = for_rows(state, rows, &mut failures, |(reader, writer), row| {
        let value = I::read(reader, row).map_err(RowFault::Unreadable)?;
        f(value, instance).map_err(RowFault::Refused)?.set(writer, row);
        Ok(())
    });
    failures.unless_any(Batch { rows: input.rows, columns: O::finish(writer) })
}

/// The signature of a map over columns.
pub fn map_columns_signature<'b, I, O, E, C, F>(_: F) -> Signature
where
    I: Row,
    O: Row,
    C: 'b,
    F: Fn(Columns<I>, &'b C) -> Result<Columns<O>, E>,
{
    stateless(I::fields(), O::fields())
}

/// A map over columns.
pub fn map_columns<'b, I, O, E, C, F>(input: Batch, instance: &'b C, f: F) -> Result<Batch, Failure>
where
    I: Row,
    O: Row,
    E: Display,
    F: Fn(Columns<I>, &'b C) -> Result<Columns<O>, E>,
{
    let rows = input.rows;
    let columns = Columns::from_batch(input).map_err(Failure::Batch)?;
    let output = f(columns, instance).map_err(|error| Failure::Batch(error.to_string()))?.into_batch();
    if output.rows != rows {
        return Err(Failure::Batch(format!(
            "a map answers as many rows as it got: expected {rows}, got {}",
            output.rows
        )));
    }
    Ok(output)
}

/// The signature of a filter over rows.
pub fn filter_signature<'b, I, E, C, F>(_: F) -> Signature
where
    I: ReadRow<'b>,
    C: 'b,
    F: Fn(I, &'b C) -> Result<bool, E>,
{
    stateless(I::fields(), Vec::new())
}

/// A filter over rows.
#[inline]
pub fn filter<'b, I, E, C, F>(input: &'b Batch, instance: &'b C, f: F) -> Result<Vec<u8>, Failure>
where
    I: ReadRow<'b>,
    E: Display,
    F: Fn(I, &'b C) -> Result<bool, E>,
{
    let reader = I::open(input).map_err(Failure::Batch)?;
    let mut failures = Failures::default();
    let state = (reader, vec![0_u8; input.rows as usize]);
    let rows = |(reader, mask): &(_, Vec<u8>)| I::rows(reader).min(mask.len());
    let (_, mask) = for_rows(state, rows, &mut failures, |(reader, mask), row| {
        let value = I::read(reader, row).map_err(RowFault::Unreadable)?;
        let keep = f(value, instance).map_err(RowFault::Refused)?;
        if let Some(kept) = mask.get_mut(row) {
            *kept = u8::from(keep);
        }
        Ok(())
    });
    failures.unless_any(mask)
}

/// The signature of a filter over columns.
pub fn filter_columns_signature<'b, I, E, C, F>(_: F) -> Signature
where
    I: Row,
    C: 'b,
    F: Fn(Columns<I>, &'b C) -> Result<Vec<bool>, E>,
{
    stateless(I::fields(), Vec::new())
}

/// A filter over columns.
pub fn filter_columns<'b, I, E, C, F>(input: Batch, instance: &'b C, f: F) -> Result<Vec<u8>, Failure>
where
    I: Row,
    E: Display,
    F: Fn(Columns<I>, &'b C) -> Result<Vec<bool>, E>,
{
    let rows = input.rows as usize;
    let columns = Columns::from_batch(input).map_err(Failure::Batch)?;
    let keep = f(columns, instance).map_err(|error| Failure::Batch(error.to_string()))?;
    if keep.len() != rows {
        return Err(Failure::Batch(format!("a filter answers for each row: expected {rows}, got {}", keep.len())));
    }
    Ok(keep.into_iter().map(u8::from).collect())
}

/// The signature of a partitioner.
pub fn partition_signature<'b, I, E, C, F>(_: F) -> Signature
where
    I: ReadRow<'b>,
    C: 'b,
    F: Fn(I, u32, &'b C) -> Result<u32, E>,
{
    stateless(I::fields(), Vec::new())
}

/// A partitioner. A row that is sent where no task is fails alone.
#[inline]
pub fn partition<'b, I, E, C, F>(input: &'b Batch, targets: u32, instance: &'b C, f: F) -> Result<Vec<u32>, Failure>
where
    I: ReadRow<'b>,
    E: Display,
    F: Fn(I, u32, &'b C) -> Result<u32, E>,
{
    let reader = I::open(input).map_err(Failure::Batch)?;
    let mut failures = Failures::default();
    let state = (reader, vec![0_u32; input.rows as usize]);
    let rows = |(reader, routes): &(_, Vec<u32>)| I::rows(reader).min(routes.len());
    let (_, routes) = for_rows(state, rows, &mut failures, |(reader, routes), row| {
        let value = I::read(reader, row).map_err(RowFault::Unreadable)?;
        let target = f(value, targets, instance).map_err(RowFault::Refused)?;
        if target >= targets {
            return Err(RowFault::Target { target, targets });
        }
        if let Some(route) = routes.get_mut(row) {
            *route = target;
        }
        Ok(())
    });
    failures.unless_any(routes)
}

/// The signature of a flat_map.
pub fn flat_map_signature<'b, I, R, O, E, C, F>(_: F) -> Signature
where
    I: ReadRow<'b>,
    R: IntoIterator<Item = O>,
    O: Row,
    C: 'b,
    F: Fn(I, &'b C) -> Result<R, E>,
{
    stateless(I::fields(), O::fields())
}

/// A flat_map.
#[inline]
pub fn flat_map<'b, I, R, O, E, C, F>(input: &'b Batch, instance: &'b C, f: F) -> Result<Expansion, Failure>
where
    I: ReadRow<'b>,
    R: IntoIterator<Item = O>,
    O: Row,
    E: Display,
    F: Fn(I, &'b C) -> Result<R, E>,
{
    let reader = I::open(input).map_err(Failure::Batch)?;
    let count = input.rows as usize;
    let mut failures = Failures::default();
    let state = (reader, O::writer(0, input.varlen_bytes()), Vec::with_capacity(count));
    let rows = |(reader, _, _): &(_, _, _)| I::rows(reader).min(count);
    let (_, writer, origin) = for_rows(state, rows, &mut failures, |(reader, writer, origin), row| {
        let value = I::read(reader, row).map_err(RowFault::Unreadable)?;
        for output in f(value, instance).map_err(RowFault::Refused)? {
            output.push(writer);
            origin.push(offset(row));
        }
        Ok(())
    });
    let output = Batch { rows: offset(origin.len()), columns: O::finish(writer) };
    failures.unless_any(Expansion { origin, output })
}

/// The signature of an aggregate.
pub fn aggregate_signature<A: AggregateOperator>() -> Signature {
    Signature {
        inputs: A::Input::fields(),
        outputs: A::Output::fields(),
        state: Some(StateSchema { version: A::VERSION, fields: A::Accumulator::fields() }),
    }
}

/// The empty accumulator, one row.
pub fn create<A: AggregateOperator>(instance: &A) -> Batch {
    let mut writer = A::Accumulator::writer(1, 0);
    instance.create().set(&mut writer, 0);
    Batch { rows: 1, columns: A::Accumulator::finish(writer) }
}

/// Folds row i of `input` into accumulator `groups[i]`.
#[inline]
pub fn accumulate<A: AggregateOperator>(
    instance: &A,
    groups: &[u32],
    accumulators: &Batch,
    input: &Batch,
) -> Result<Batch, Failure> {
    let rows = input.rows as usize;
    if groups.len() != rows {
        return Err(Failure::Batch(format!("expected {rows} groups, got {}", groups.len())));
    }
    let folded = read_all::<A::Accumulator>(accumulators)?;
    let reader = A::Input::open(input).map_err(Failure::Batch)?;
    let mut failures = Failures::default();
    let state = (reader, groups, folded);
    let rows = |(reader, groups, _): &(_, &[u32], _)| A::Input::rows(reader).min(groups.len());
    let (_, _, folded) = for_rows(state, rows, &mut failures, |(reader, groups, folded), row| {
        let group = groups.get(row).copied().unwrap_or(u32::MAX);
        let groups = folded.len();
        let accumulator = folded.get_mut(group as usize).ok_or(RowFault::Group { group, groups })?;
        let value = A::Input::read(reader, row).map_err(RowFault::Unreadable)?;
        instance.fold(accumulator, value).verdict().map_err(RowFault::Refused)
    });
    failures.unless_any(write_all(folded, accumulators))
}

/// Row i of `left` and row i of `right` in one.
pub fn merge<A: AggregateOperator>(instance: &A, left: &Batch, right: &Batch) -> Result<Batch, Failure> {
    if left.rows != right.rows {
        return Err(Failure::Batch(format!("{} accumulators cannot be merged with {}", left.rows, right.rows)));
    }
    let mut merged = read_all::<A::Accumulator>(left)?;
    for (one, other) in merged.iter_mut().zip(read_all::<A::Accumulator>(right)?) {
        instance.merge(one, other);
    }
    Ok(write_all(merged, left))
}

/// Row i of the answer is the result of accumulator row i.
pub fn finish<A: AggregateOperator>(instance: &A, accumulators: &Batch) -> Result<Batch, Failure> {
    let rows = accumulators.rows as usize;
    let mut writer = A::Output::writer(rows, accumulators.varlen_bytes());
    for (row, accumulator) in read_all::<A::Accumulator>(accumulators)?.iter().enumerate() {
        instance.finish(accumulator).set(&mut writer, row);
    }
    Ok(Batch { rows: accumulators.rows, columns: A::Output::finish(writer) })
}

/// Accumulators as structs: a fold jumps between them, so they are better kept together than by column.
#[inline]
fn read_all<'b, R: ReadRow<'b>>(batch: &'b Batch) -> Result<Vec<R>, Failure> {
    let unreadable = |reason| Failure::Batch(format!("accumulators cannot be read: {reason}"));
    let reader = R::open(batch).map_err(unreadable)?;
    let rows = R::rows(&reader).min(batch.rows as usize);
    let mut all = Vec::with_capacity(rows);
    for row in 0..rows {
        all.push(R::read(&reader, row).map_err(unreadable)?);
    }
    Ok(all)
}

#[inline]
fn write_all<R: Row>(values: Vec<R>, like: &Batch) -> Batch {
    let mut writer = R::writer(values.len(), like.varlen_bytes());
    for (row, value) in values.into_iter().enumerate() {
        value.set(&mut writer, row);
    }
    Batch { rows: like.rows, columns: R::finish(writer) }
}
