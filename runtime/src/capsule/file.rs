//! A capsule as bytes.
//!
//! ```text
//!   file    seal ("MSCP", version 1, CRC-32), facts: u64 length, JSON; then tables as in a checkpoint's state file
//!   tables  input, accumulators, left, right, keys, state: what the guest got
//!           groups, times, present, starts, ends: lists of the call, one column each
//! ```

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{PrimitiveArray, RecordBatch};

use super::facts::{self, CallFacts, ComponentFacts, Facts, Failure, FreshFact, LimitFacts};
use crate::checkpoint::{decode, encode, open_seal, seal};
use crate::state::Snapshot;
use crate::wasm::{
    Call, FailedCall, OperatorKind, PACKAGE, ProcessArguments, ProcessWork, Secrets, TimerClock, VERSION,
};

const MAGIC: [u8; 4] = *b"MSCP";
const FORMAT: u32 = 1;

/// A call that failed, and what it depended on.
#[derive(Clone, Debug, PartialEq)]
pub struct Capsule {
    /// all but the columns
    pub facts: Facts,
    /// what the guest was called with
    pub call: Call,
}

/// There is no capsule to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// bytes that are no capsule
    #[error("no capsule, or a damaged one: {0}")]
    Damaged(String),
    /// the call cannot be written
    #[error("the call cannot be written: {0}")]
    Unwritable(String),
    /// the call would tell a secret
    #[error("its rows hold the value of the secret `{variable}`")]
    Secret {
        /// the environment variable
        variable: String,
    },
}

fn damaged(reason: impl Into<String>) -> CapsuleError {
    CapsuleError::Damaged(reason.into())
}

impl Capsule {
    /// Of a call of `pipeline` that failed; `event_time_ms` is that of the row at fault.
    pub fn of(failed: &FailedCall, pipeline: &str, event_time_ms: Option<i64>) -> Option<Self> {
        let facts = Facts {
            pipeline: pipeline.to_owned(),
            pipeline_file: None,
            step: failed.step.clone(),
            task: failed.task,
            at_ms: failed.at_ms,
            event_time_ms,
            component: ComponentFacts {
                file: failed.component.clone(),
                digest: failed.digest.to_string(),
                version: Some(failed.version).filter(|number| *number > 0),
                candidate: failed.candidate,
                kind: failed.kind.to_string(),
                contract: format!("{PACKAGE}@{VERSION}"),
            },
            config: facts::config(&failed.settings),
            limits: LimitFacts { memory_bytes: failed.memory_bytes as u64, deadline_ns: facts::ns(failed.deadline) },
            world: failed.world.into(),
            call: call_facts(&failed.call),
            failure: Failure::of(&failed.error)?,
            fresh: FreshFact::from(&failed.fresh),
        };
        Some(Self { facts, call: failed.call.clone() })
    }

    /// What the component was called as.
    pub fn kind(&self) -> Result<OperatorKind, CapsuleError> {
        let kind = &self.facts.component.kind;
        let known = OperatorKind::ALL.into_iter().find(|known| known.interface() == kind);
        known.ok_or_else(|| damaged(format!("no operator is a `{kind}`")))
    }

    /// The columns and lists of the call by name, as they stand in the file.
    pub fn tables(&self) -> Vec<(&'static str, RecordBatch)> {
        tables(&self.call)
    }

    /// As a file, unless one of `secrets` would be in it.
    pub fn to_bytes(&self, secrets: &Secrets) -> Result<Vec<u8>, CapsuleError> {
        let facts = serde_json::to_vec(&self.facts).map_err(|error| CapsuleError::Unwritable(error.to_string()))?;
        let mut snapshot = Snapshot::default();
        for (name, rows) in self.tables() {
            snapshot = snapshot.with(name, None, vec![rows]);
        }
        let tables = encode(&snapshot).map_err(|error| CapsuleError::Unwritable(error.to_string()))?;
        let mut content = Vec::with_capacity(8 + facts.len() + tables.len());
        content.extend_from_slice(&(facts.len() as u64).to_le_bytes());
        content.extend_from_slice(&facts);
        content.extend_from_slice(&tables);
        match secrets.found_in(&content) {
            Some(variable) => Err(CapsuleError::Secret { variable: variable.to_owned() }),
            None => Ok(seal(MAGIC, FORMAT, &content)),
        }
    }

    /// From a file; whatever the bytes are, an answer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CapsuleError> {
        let content = open_seal(MAGIC, FORMAT, bytes).map_err(|error| damaged(error.to_string()))?;
        let (length, rest) = content.split_first_chunk::<8>().ok_or_else(|| damaged("it ends before its facts"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (facts, tables) = rest.split_at_checked(length).ok_or_else(|| damaged("it ends within its facts"))?;
        let facts: Facts = serde_json::from_slice(facts).map_err(|error| damaged(format!("its facts: {error}")))?;
        let tables = decode(tables).map_err(|error| damaged(format!("its columns: {error}")))?;
        let call = call(&facts.call, &Tables(tables))?;
        let capsule = Self { facts, call };
        capsule.kind()?;
        Ok(capsule)
    }
}

fn call_facts(call: &Call) -> CallFacts {
    let mut facts = CallFacts { function: name(call).to_owned(), ..CallFacts::default() };
    match call {
        Call::Route { targets, .. } => facts.targets = Some(*targets),
        Call::Process(arguments) => {
            facts.now_ms = Some(arguments.now_ms);
            facts.watermark_ms = Some(arguments.watermark_ms);
            match arguments.work {
                ProcessWork::Rows { port, .. } => facts.port = Some(u32::try_from(port).unwrap_or(u32::MAX)),
                ProcessWork::Timers { clock } => facts.timers = Some(clock as u8),
            }
        }
        _ => {}
    }
    facts
}

/// Functions of two kinds have one name in the contract.
fn name(call: &Call) -> &'static str {
    if matches!(call, Call::ProcessWindows { .. }) { "process-windows" } else { call.function() }
}

pub(super) fn list<T: ArrowPrimitiveType>(name: &'static str, values: &[T::Native]) -> (&'static str, RecordBatch) {
    let column = PrimitiveArray::<T>::from_iter_values(values.iter().copied());
    let field = arrow_schema::Field::new(name, T::DATA_TYPE, false);
    let schema = Arc::new(arrow_schema::Schema::new(vec![field]));
    // one column of the schema's type: this does not fail
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]);
    (name, rows.unwrap_or_else(|_| RecordBatch::new_empty(schema)))
}

fn tables(call: &Call) -> Vec<(&'static str, RecordBatch)> {
    match call {
        Call::Transform { input } | Call::Select { input } | Call::Expand { input } | Call::Route { input, .. } => {
            vec![("input", input.clone())]
        }
        Call::Create => Vec::new(),
        Call::Accumulate { groups, accumulators, input } => {
            vec![("input", input.clone()), ("accumulators", accumulators.clone()), list::<UInt32Type>("groups", groups)]
        }
        Call::Merge { left, right } => vec![("left", left.clone()), ("right", right.clone())],
        Call::Finish { accumulators } => vec![("accumulators", accumulators.clone())],
        Call::Process(arguments) => {
            let ProcessArguments { keys, present, state, groups, times, work, .. } = arguments;
            let mut tables = Vec::new();
            if let ProcessWork::Rows { input, .. } = work {
                tables.push(("input", input.clone()));
            }
            tables.extend([("keys", keys.clone()), ("state", state.clone())]);
            tables.push(list::<UInt8Type>("present", present));
            tables.extend([list::<UInt32Type>("groups", groups), list::<Int64Type>("times", times)]);
            tables
        }
        Call::ProcessWindows { starts, ends, groups, times, input } => vec![
            ("input", input.clone()),
            list::<Int64Type>("starts", starts),
            list::<Int64Type>("ends", ends),
            list::<UInt32Type>("groups", groups),
            list::<Int64Type>("times", times),
        ],
    }
}

/// What a file holds beside facts.
struct Tables(Snapshot);

impl Tables {
    fn rows(&self, name: &str) -> Result<RecordBatch, CapsuleError> {
        match self.0.rows(name) {
            [rows] => Ok(rows.clone()),
            found => Err(damaged(format!("expected the table `{name}` once, found {} of it", found.len()))),
        }
    }

    fn list<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<T::Native>, CapsuleError> {
        let rows = self.rows(name)?;
        let column = rows.columns().first().and_then(|column| column.as_primitive_opt::<T>());
        column.map(|column| column.values().to_vec()).ok_or_else(|| damaged(format!("`{name}` is no list")))
    }
}

fn call(facts: &CallFacts, tables: &Tables) -> Result<Call, CapsuleError> {
    let missing = |what: &str| damaged(format!("`{what}` of the call is missing"));
    Ok(match facts.function.as_str() {
        "transform" => Call::Transform { input: tables.rows("input")? },
        "select" => Call::Select { input: tables.rows("input")? },
        "expand" => Call::Expand { input: tables.rows("input")? },
        "route" => {
            Call::Route { input: tables.rows("input")?, targets: facts.targets.ok_or_else(|| missing("targets"))? }
        }
        "create" => Call::Create,
        "accumulate" => Call::Accumulate {
            groups: tables.list::<UInt32Type>("groups")?,
            accumulators: tables.rows("accumulators")?,
            input: tables.rows("input")?,
        },
        "merge" => Call::Merge { left: tables.rows("left")?, right: tables.rows("right")? },
        "finish" => Call::Finish { accumulators: tables.rows("accumulators")? },
        "process" => Call::Process(ProcessArguments {
            now_ms: facts.now_ms.ok_or_else(|| missing("now_ms"))?,
            watermark_ms: facts.watermark_ms.ok_or_else(|| missing("watermark_ms"))?,
            keys: tables.rows("keys")?,
            present: tables.list::<UInt8Type>("present")?,
            state: tables.rows("state")?,
            groups: tables.list::<UInt32Type>("groups")?,
            times: tables.list::<Int64Type>("times")?,
            work: match (facts.port, facts.timers) {
                (Some(port @ 0..=1), None) => ProcessWork::Rows { port: port as usize, input: tables.rows("input")? },
                (None, Some(0)) => ProcessWork::Timers { clock: TimerClock::Event },
                (None, Some(1)) => ProcessWork::Timers { clock: TimerClock::Processing },
                _ => return Err(missing("port")),
            },
        }),
        "process-windows" => Call::ProcessWindows {
            starts: tables.list::<Int64Type>("starts")?,
            ends: tables.list::<Int64Type>("ends")?,
            groups: tables.list::<UInt32Type>("groups")?,
            times: tables.list::<Int64Type>("times")?,
            input: tables.rows("input")?,
        },
        other => return Err(damaged(format!("no operator has the function `{other}`"))),
    })
}
