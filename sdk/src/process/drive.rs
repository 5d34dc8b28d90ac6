//! What stands between a [`Process`] over rows and the host's columns.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::contract::{Call, Outcome, ProcessSignature, Timers};
use super::{Clock, Context, Process, ProcessOperator, Timer};
use crate::aggregate::Verdict;
use crate::contract::{Batch, Failure, RowFailure, Signature, StateSchema, offset};
use crate::row::{ReadRow, Row};

/// What all operators say of themselves.
pub fn signature<P: ProcessOperator>() -> Signature {
    let ProcessSignature { inputs, outputs, state, .. } = process_signature::<P>();
    Signature { inputs, outputs, state: Some(state) }
}

/// All that a processor says of itself.
pub fn process_signature<P: ProcessOperator>() -> ProcessSignature {
    ProcessSignature {
        inputs: <P::Input<'_> as Row>::fields(),
        second_inputs: P::SECOND.then(<P::Second<'_> as Row>::fields),
        keys: P::Key::fields(),
        outputs: P::Output::fields(),
        sides: P::sides().iter().map(super::SideWriter::declared).collect(),
        state: StateSchema { version: P::VERSION, fields: P::State::fields() },
    }
}

/// Handles the rows or timers of a call.
pub fn process<P: ProcessOperator>(instance: &P, call: &Call) -> Result<Outcome, Failure> {
    let keys = read_all::<P::Key>(&call.keys, "keys")?;
    let mut states = read_states::<P::State>(call, keys.len())?;
    let mut context = Context {
        now: call.now,
        watermark: call.watermark,
        keys,
        group: 0,
        from: 0,
        time: 0,
        writer: P::Output::writer(0, call.input.varlen_bytes()),
        origin: Vec::with_capacity(call.groups.len()),
        sides: P::sides(),
        timers: BTreeMap::new(),
        mistake: None,
    };
    let mut failures = Vec::new();
    if call.groups.is_empty() {
        timers(instance, &call.fired, &mut states, &mut context, &mut failures)?;
    } else if call.port == 0 {
        let reader = P::Input::open(&call.input).map_err(Failure::Batch)?;
        rows(call, &mut states, &mut context, &mut failures, |row, state, context| {
            let row = P::Input::read(&reader, row)?;
            instance.on_row(row, state, context).verdict().map_err(|error| error.to_string())
        })?;
    } else {
        let reader = P::Second::open(&call.input).map_err(Failure::Batch)?;
        rows(call, &mut states, &mut context, &mut failures, |row, state, context| {
            let row = P::Second::read(&reader, row)?;
            instance.on_second(row, state, context).verdict().map_err(|error| error.to_string())
        })?;
    }
    match context.mistake.take() {
        Some(mistake) => Err(Failure::Batch(mistake)),
        None if !failures.is_empty() => Err(Failure::Rows(failures)),
        None => Ok(outcome(context, states)),
    }
}

/// Calls `handle` for every row with the state of its key, also after rows that fail.
fn rows<P: Process>(
    call: &Call,
    states: &mut [Option<P::State>],
    context: &mut Context<P>,
    failures: &mut Vec<RowFailure>,
    mut handle: impl FnMut(usize, &mut Option<P::State>, &mut Context<P>) -> Result<(), String>,
) -> Result<(), Failure> {
    let rows = call.input.rows as usize;
    if call.groups.len() != rows || call.times.len() != rows {
        let lengths = format!("{} groups and {} times", call.groups.len(), call.times.len());
        return Err(Failure::Batch(format!("expected {lengths} for {rows} rows")));
    }
    for (row, (&group, &time)) in call.groups.iter().zip(&call.times).enumerate() {
        let state = at(states, group, context, row, time)?;
        if let Err(reason) = handle(row, state, context) {
            failures.push(RowFailure { row: offset(row), reason });
        }
    }
    Ok(())
}

/// As [`rows`], for timers.
fn timers<P: Process>(
    instance: &P,
    fired: &Timers,
    states: &mut [Option<P::State>],
    context: &mut Context<P>,
    failures: &mut Vec<RowFailure>,
) -> Result<(), Failure> {
    for (number, ((&group, &time), &clock)) in fired.groups.iter().zip(&fired.times).zip(&fired.clocks).enumerate() {
        let state = at(states, group, context, number, time)?;
        let clock = if clock == 0 { Clock::Event } else { Clock::Processing };
        let verdict = instance.on_timer(Timer { time, clock }, state, context).verdict();
        let refused = |error: &dyn Display| RowFailure { row: offset(number), reason: error.to_string() };
        failures.extend(verdict.err().map(|error| refused(&error)));
    }
    Ok(())
}

/// The state of a row's key; the context speaks of the row from now on.
fn at<'s, P: Process>(
    states: &'s mut [Option<P::State>],
    group: u32,
    context: &mut Context<P>,
    from: usize,
    time: i64,
) -> Result<&'s mut Option<P::State>, Failure> {
    let keys = states.len();
    let state = states.get_mut(group as usize);
    (context.group, context.from, context.time) = (group, offset(from), time);
    state.ok_or_else(|| Failure::Batch(format!("row {from} is of key {group} of {keys}")))
}

fn outcome<P: Process>(context: Context<P>, states: Vec<Option<P::State>>) -> Outcome {
    let present = states.iter().map(|state| u8::from(state.is_some())).collect();
    let mut writer = P::State::writer(0, 0);
    let mut held = 0;
    for state in states.into_iter().flatten() {
        state.push(&mut writer);
        held += 1;
    }
    let (mut set, mut deleted) = (Timers::default(), Timers::default());
    for ((group, clock, time), is_set) in context.timers {
        let timers = if is_set { &mut set } else { &mut deleted };
        timers.groups.push(group);
        timers.times.push(time);
        timers.clocks.push(clock as u8);
    }
    let output = Batch { rows: offset(context.origin.len()), columns: P::Output::finish(context.writer) };
    let sides = context.sides.into_iter().zip(0..).filter_map(|(side, number)| side.finish(number));
    Outcome {
        present,
        state: Batch { rows: held, columns: P::State::finish(writer) },
        origin: context.origin,
        output,
        sides: sides.collect(),
        deleted,
        set,
    }
}

/// The state of each key of the call.
fn read_states<'b, S: ReadRow<'b>>(call: &'b Call, keys: usize) -> Result<Vec<Option<S>>, Failure> {
    let mut held = read_all::<S>(&call.state, "state")?.into_iter();
    if call.present.len() != keys {
        return Err(Failure::Batch(format!("expected state of {keys} keys, got that of {}", call.present.len())));
    }
    Ok(call.present.iter().map(|present| if *present == 1 { held.next() } else { None }).collect())
}

fn read_all<'b, R: ReadRow<'b>>(batch: &'b Batch, what: &str) -> Result<Vec<R>, Failure> {
    let unreadable = |reason| Failure::Batch(format!("{what} cannot be read: {reason}"));
    let reader = R::open(batch).map_err(unreadable)?;
    (0..batch.rows as usize).map(|row| R::read(&reader, row).map_err(unreadable)).collect()
}
