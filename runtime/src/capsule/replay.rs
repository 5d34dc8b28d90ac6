//! Makes the call of a capsule again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{RecordBatch, RecordBatchOptions};

use super::facts::{self, Failure};
use super::file::{Capsule, CapsuleError};
use crate::record::{Kind, Schema};
use crate::wasm::{
    Answer, Call, CallError, Component, Digest, GuestError, GuestOptions, LoadError, ProcessArguments, ProcessWork,
    Sandbox, SecretError, Signature, with_secrets,
};

/// What came of a call that was made again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// of the component that was called
    pub digest: Digest,
    /// what it made of the call
    pub outcome: Result<Answer, CallError>,
    /// the failure of the capsule, to the letter; the same stack only where it is the same component
    pub same: bool,
}

/// The call cannot be made again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// the capsule itself
    #[error(transparent)]
    Capsule(#[from] CapsuleError),
    /// no component
    #[error(transparent)]
    Load(#[from] LoadError),
    /// the file has been built anew since
    #[error(
        "{} is not the component that failed any more: it has the digest {}, the capsule is of {}; give a copy of that \
         one, or this one knowingly, with --component", file.display(), found.short(), expected.get(..12).unwrap_or(expected)
    )]
    OtherComponent {
        /// where it was
        file: PathBuf,
        /// what is there now
        found: Digest,
        /// what failed
        expected: String,
    },
    /// a secret is not set
    #[error("{0}; set it in the environment, or give it with --secret")]
    Secret(#[from] SecretError),
    /// the component has no such operator, or does not take the configuration
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// the component reads what the capsule does not hold
    #[error("the component reads {part} `{column}: {kind}`, which the capsule does not hold; it holds {found}")]
    Column {
        /// which of its tables
        part: &'static str,
        /// the column
        column: String,
        /// what it is to hold
        kind: Kind,
        /// what there is
        found: String,
    },
    /// a bug of the host
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

/// Makes the call of `capsule` in a fresh instance of the component that failed, or of `other`, under the configuration,
/// limits, clock and random numbers of then. `secret` knows the values of environment variables.
pub fn replay(
    capsule: &Capsule,
    sandbox: &Sandbox,
    other: Option<&Path>,
    secret: &dyn Fn(&str) -> Option<String>,
) -> Result<Replay, ReplayError> {
    let facts = &capsule.facts;
    let file = other.unwrap_or_else(|| Path::new(&facts.component.file));
    let component = sandbox.load(file)?;
    let found = *component.digest();
    if other.is_none() && found.to_string() != facts.component.digest {
        let expected = facts.component.digest.clone();
        return Err(ReplayError::OtherComponent { file: file.to_owned(), found, expected });
    }
    replay_with(capsule, &component, secret)
}

/// The same in an instance of `component`, whichever it is.
pub fn replay_with(
    capsule: &Capsule,
    component: &Component,
    secret: &dyn Fn(&str) -> Option<String>,
) -> Result<Replay, ReplayError> {
    let facts = &capsule.facts;
    let settings = facts::settings(&facts.config).map_err(CapsuleError::Damaged)?;
    let settings = with_secrets(&settings, secret)?;
    let digest = *component.digest();
    let is_it = digest.to_string() == facts.component.digest;
    let options = GuestOptions {
        settings,
        memory_bytes: usize::try_from(facts.limits.memory_bytes).unwrap_or(usize::MAX),
        deadline: Duration::from_nanos(facts.limits.deadline_ns),
        task: facts.task,
        world: Some(facts.world.into()),
        version: facts.component.version.unwrap_or_default(),
        ..GuestOptions::new(facts.step.clone())
    };
    let mut guest = component.guest(capsule.kind()?, options)?;
    let call = fitted(&capsule.call, guest.signature())?;
    let outcome = guest.make(&call);
    if let Err(CallError::Internal { reason }) = outcome {
        return Err(ReplayError::Internal(reason));
    }
    let failure = outcome.as_ref().err().and_then(Failure::of);
    let same = failure.is_some_and(|failure| alike(&failure, &facts.failure, is_it));
    Ok(Replay { digest, outcome, same })
}

/// Whether two failures are one; of another component the stack differs.
fn alike(now: &Failure, then: &Failure, with_stack: bool) -> bool {
    match (now, then) {
        (Failure::Trap { reason: now, .. }, Failure::Trap { reason: then, .. }) if !with_stack => now == then,
        _ => now == then,
    }
}

/// The call with the columns that a component reads, in its order.
fn fitted(call: &Call, signature: &Signature) -> Result<Call, ReplayError> {
    let rows = |input: &RecordBatch| columns("input column", input, &signature.inputs);
    let state = |rows: &RecordBatch| match &signature.state {
        Some(state) => columns("state column", rows, &state.fields),
        None => Ok(rows.clone()),
    };
    Ok(match call {
        Call::Transform { input } => Call::Transform { input: rows(input)? },
        Call::Select { input } => Call::Select { input: rows(input)? },
        Call::Expand { input } => Call::Expand { input: rows(input)? },
        Call::Route { input, targets } => Call::Route { input: rows(input)?, targets: *targets },
        Call::Create => Call::Create,
        Call::Accumulate { groups, accumulators, input } => {
            Call::Accumulate { groups: groups.clone(), accumulators: state(accumulators)?, input: rows(input)? }
        }
        Call::Merge { left, right } => Call::Merge { left: state(left)?, right: state(right)? },
        Call::Finish { accumulators } => Call::Finish { accumulators: state(accumulators)? },
        Call::Process(arguments) => Call::Process(fitted_process(arguments, signature, state(&arguments.state)?)?),
        Call::ProcessWindows { starts, ends, groups, times, input } => Call::ProcessWindows {
            starts: starts.clone(),
            ends: ends.clone(),
            groups: groups.clone(),
            times: times.clone(),
            input: rows(input)?,
        },
    })
}

fn fitted_process(
    arguments: &ProcessArguments,
    signature: &Signature,
    state: RecordBatch,
) -> Result<ProcessArguments, ReplayError> {
    let process = signature.process.as_ref();
    let work = match &arguments.work {
        ProcessWork::Rows { port, input } => {
            let second = process.and_then(|process| process.second.as_ref()).filter(|_| *port == 1);
            let input = columns("input column", input, second.unwrap_or(&signature.inputs))?;
            ProcessWork::Rows { port: *port, input }
        }
        timers @ ProcessWork::Timers { .. } => timers.clone(),
    };
    let keys = match process {
        Some(process) => columns("key column", &arguments.keys, &process.keys)?,
        None => arguments.keys.clone(),
    };
    Ok(ProcessArguments { state, keys, work, ..arguments.clone() })
}

/// The columns of `schema` among those of `rows`, by name and kind.
fn columns(part: &'static str, rows: &RecordBatch, schema: &Schema) -> Result<RecordBatch, ReplayError> {
    let mut taken = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = rows.column_by_name(&field.name).filter(|column| {
            Kind::from_data_type(column.data_type()) == Some(field.kind) && (field.nullable || column.null_count() == 0)
        });
        let missing = || ReplayError::Column { part, column: field.name.clone(), kind: field.kind, found: shown(rows) };
        taken.push(Arc::clone(column.ok_or_else(missing)?));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), taken, &options)
        .map_err(|error| ReplayError::Internal(error.to_string()))
}

fn shown(rows: &RecordBatch) -> String {
    let schema = rows.schema();
    let name = |field: &Arc<arrow_schema::Field>| {
        let kind = Kind::from_data_type(field.data_type()).map_or("?", Kind::name);
        format!("`{}: {kind}`", field.name())
    };
    let names: Vec<String> = schema.fields().iter().map(name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
