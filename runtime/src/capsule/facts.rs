//! All of a capsule but its columns, as it stands in the file: JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wasm::{CallError, Fresh, RowFailure, Secret, Setting, Settings, World};

/// What is known of a failed call beside its columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// the pipeline's name
    pub pipeline: String,
    /// its file; none where it was not read from one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_file: Option<String>,
    /// the step, or the source whose watermark assigner it is
    pub step: String,
    /// number of the task within the step
    pub task: u32,
    /// when, by the host's clock, ms
    pub at_ms: i64,
    /// event time of the row at fault, ms; none where it has none or is not known
    pub event_time_ms: Option<i64>,
    /// what failed
    pub component: ComponentFacts,
    /// the step's configuration
    pub config: BTreeMap<String, ConfigFact>,
    /// bounds of the call
    pub limits: LimitFacts,
    /// clock and random numbers when the call began
    pub world: WorldFacts,
    /// which call it was
    pub call: CallFacts,
    /// what came of it
    pub failure: Failure,
    /// what a fresh instance made of it
    pub fresh: FreshFact,
}

/// A component as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentFacts {
    /// path, as the pipeline found it
    pub file: String,
    /// SHA-256, 64 hexadecimal digits
    pub digest: String,
    /// number of the version in its place; none where nobody counted
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// it was tried beside the version that ran, or for a share of its keys
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub candidate: bool,
    /// interface of the contract
    pub kind: String,
    /// package and version of the contract that the host had
    pub contract: String,
}

/// One value of `config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigFact {
    /// true or false
    Boolean(bool),
    /// integer
    Int64(i64),
    /// floating point; as text, as JSON has no infinity
    Float64(String),
    /// string
    Text(String),
    /// the environment variable that holds it
    Secret(String),
}

/// Bounds of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFacts {
    /// memory of the guest
    pub memory_bytes: u64,
    /// time of the call
    pub deadline_ns: u64,
}

/// As [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldFacts {
    /// what the clock shows
    pub clock_ns: u64,
    /// state of the generator of random numbers
    pub random: u64,
}

/// Arguments that are no columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// name in the contract
    pub function: String,
    /// partitioner: tasks that there are
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<u32>,
    /// processor: the host's clock
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<i64>,
    /// processor: how far event time had come
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
    /// processor: which input the rows are of; none: the call is about timers
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// processor: which time its timers wait for, 0 event time, 1 processing time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers: Option<u8>,
}

/// As [`CallError`], but for those that are not the guest's doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// the guest refused rows
    Rows {
        /// row and reason
        rows: Vec<(u32, String)>,
    },
    /// the guest refused the call
    Batch {
        /// in its words
        reason: String,
    },
    /// the guest crashed
    Trap {
        /// what happened, with what the guest said last
        reason: String,
        /// the guest's stack with the names of its functions
        backtrace: Option<String>,
    },
    /// the guest took too long
    Deadline {
        /// the bound
        limit_ns: u64,
    },
    /// the guest wanted too much memory
    Memory {
        /// what it would have had
        wanted_bytes: u64,
        /// what it may have
        limit_bytes: u64,
    },
    /// the guest's answer was against the contract
    Contract {
        /// what it did
        reason: String,
    },
}

/// As [`Fresh`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreshFact {
    /// the same failure
    Same,
    /// something else
    Other(String),
    /// not tried
    Untried,
}

impl From<&Fresh> for FreshFact {
    fn from(fresh: &Fresh) -> Self {
        match fresh {
            Fresh::Same => Self::Same,
            Fresh::Other(other) => Self::Other(other.clone()),
            Fresh::Untried => Self::Untried,
        }
    }
}

impl From<World> for WorldFacts {
    fn from(World { clock_ns, random }: World) -> Self {
        Self { clock_ns, random }
    }
}

impl From<WorldFacts> for World {
    fn from(WorldFacts { clock_ns, random }: WorldFacts) -> Self {
        Self { clock_ns, random }
    }
}

impl Failure {
    /// None where it is not the guest's doing.
    pub fn of(error: &CallError) -> Option<Self> {
        Some(match error {
            CallError::Rows(rows) => {
                let row = |failure: &RowFailure| (failure.row, failure.reason.clone());
                Self::Rows { rows: rows.iter().map(row).collect() }
            }
            CallError::Batch(reason) => Self::Batch { reason: reason.clone() },
            CallError::Trap { reason, backtrace } => {
                Self::Trap { reason: reason.clone(), backtrace: backtrace.clone() }
            }
            CallError::Deadline { limit } => Self::Deadline { limit_ns: ns(*limit) },
            CallError::Memory { wanted_bytes, limit_bytes } => {
                Self::Memory { wanted_bytes: *wanted_bytes as u64, limit_bytes: *limit_bytes as u64 }
            }
            CallError::Contract { reason } => Self::Contract { reason: reason.clone() },
            CallError::Instance { .. } | CallError::Internal { .. } => return None,
        })
    }

    /// One word for what it is.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rows { .. } => "row",
            Self::Batch { .. } => "batch",
            Self::Trap { .. } => "trap",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::Contract { .. } => "contract",
        }
    }

    /// The failure in the words that dead letters have for it.
    pub fn message(&self) -> String {
        match self {
            Self::Rows { rows } => rows.first().map(|(_, reason)| reason.clone()).unwrap_or_default(),
            Self::Batch { reason } | Self::Contract { reason } | Self::Trap { reason, .. } => reason.clone(),
            Self::Deadline { limit_ns } => CallError::Deadline { limit: Duration::from_nanos(*limit_ns) }.to_string(),
            Self::Memory { wanted_bytes, limit_bytes } => {
                let [wanted_bytes, limit_bytes] =
                    [wanted_bytes, limit_bytes].map(|bytes| usize::try_from(*bytes).unwrap_or(usize::MAX));
                CallError::Memory { wanted_bytes, limit_bytes }.to_string()
            }
        }
    }

    /// The guest's stack.
    pub fn backtrace(&self) -> Option<&str> {
        if let Self::Trap { backtrace, .. } = self { backtrace.as_deref() } else { None }
    }
}

/// Durations in files.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Settings without the values of secrets.
pub(super) fn config(settings: &Settings) -> BTreeMap<String, ConfigFact> {
    let fact = |setting: &Setting| match setting {
        Setting::Boolean(value) => ConfigFact::Boolean(*value),
        Setting::Int64(value) => ConfigFact::Int64(*value),
        Setting::Float64(value) => ConfigFact::Float64(value.to_string()),
        Setting::Text(value) => ConfigFact::Text(value.clone()),
        Setting::Secret(secret) => ConfigFact::Secret(secret.variable().to_owned()),
    };
    settings.iter().map(|(name, setting)| (name.clone(), fact(setting))).collect()
}

/// Settings from a file; secrets are yet without values.
pub(super) fn settings(config: &BTreeMap<String, ConfigFact>) -> Result<Settings, String> {
    let setting = |(name, fact): (&String, &ConfigFact)| {
        let setting = match fact {
            ConfigFact::Boolean(value) => Setting::Boolean(*value),
            ConfigFact::Int64(value) => Setting::Int64(*value),
            ConfigFact::Float64(text) => {
                Setting::Float64(text.parse().map_err(|_| format!("`{name}` of its config is no number"))?)
            }
            ConfigFact::Text(value) => Setting::Text(value.clone()),
            ConfigFact::Secret(variable) => Setting::Secret(Secret::new(variable.clone())),
        };
        Ok((name.clone(), setting))
    };
    config.iter().map(setting).collect::<Result<BTreeMap<_, _>, String>>().map(Into::into)
}
