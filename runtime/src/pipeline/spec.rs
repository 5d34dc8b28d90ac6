//! A pipeline as written: every value with its place, nothing checked against components or each other yet.
//!
//! Built by the reader (`pipeline/read`, TOML and JSON) or by hand through `pipeline/builder.rs`;
//! `pipeline/plan.rs` turns it into something that can run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::join::JoinSpec;
use super::partition::PartitionSpec;
use crate::error::Spanned;
use crate::format::Format;
use crate::objects::{Location, LocationError};
use crate::operator::{AggregateFunction, OnError, Ties};
use crate::record::Schema;
use crate::sink::SinkKind;
use crate::source::{SourceKind, WatermarkSpec};
use crate::wasm::Settings;
use crate::window::{Firing, Trigger, WindowSpec};

/// A whole pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpec {
    /// the file it came from, for messages; `<builder>` otherwise
    pub path: PathBuf,
    /// the file's text, for messages; empty otherwise
    pub text: Arc<str>,
    /// what relative paths are relative to: the file's folder
    pub base: PathBuf,
    /// `name`
    pub name: Spanned<String>,
    /// `parallelism`: tasks of each chain unless a step says otherwise
    pub parallelism: Option<Spanned<usize>>,
    /// `[source.<name>]`, in file order
    pub sources: Vec<SourceSpec>,
    /// `[step.<name>]`, in file order
    pub steps: Vec<StepSpec>,
    /// `[sink.<name>]`, in file order
    pub sinks: Vec<SinkSpec>,
    /// `[dead_letter]`: where rows go that an operator or decoder could not handle
    pub dead_letter: Option<Spanned<SinkKind>>,
    /// `checkpoint = { .. }`: keep what a restart needs
    pub checkpoint: Option<CheckpointSpec>,
    /// `restart = { .. }`: how a pipeline with checkpoints that has failed is started again
    pub restart: Option<Spanned<RestartSpec>>,
    /// `state = { .. }`: state larger than memory
    pub state: Option<StateSpec>,
    /// `capsules = { .. }`: where calls into components that fail are kept; none: where the host keeps those of all
    pub capsules: Option<CapsulesSpec>,
}

/// `capsules = { folder = "capsules", keep = 20, max = "16MiB" }`, or `capsules = "off"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsulesSpec {
    /// none are written
    pub off: bool,
    /// `folder`: relative to the pipeline file; none: where the host keeps those of all pipelines
    pub folder: Option<Spanned<String>>,
    /// `keep`: how many, the oldest go first
    pub keep: Spanned<usize>,
    /// `max`: bytes of all together, the oldest go first
    pub bytes_max: Spanned<usize>,
}

impl Default for CapsulesSpec {
    fn default() -> Self {
        Self { off: false, folder: None, keep: 20.into(), bytes_max: (16 << 20).into() }
    }
}

impl CapsulesSpec {
    /// No call is kept.
    pub fn off() -> Self {
        Self { off: true, ..Self::default() }
    }
}

/// `restart = { attempts = 10, within = "10m", first = "1s", max = "1m" }`, or `restart = "off"`, which is no attempts
#[derive(Clone, Debug, PartialEq)]
pub struct RestartSpec {
    /// `attempts` within `within`
    pub attempts: Spanned<usize>,
    /// `within`: failures that lie longer back are forgotten
    pub within: Spanned<Duration>,
    /// `first`: the pause after the first failure; each further one doubles it
    pub first: Spanned<Duration>,
    /// `max`: the longest pause
    pub max: Spanned<Duration>,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            attempts: 10.into(),
            within: Duration::from_secs(600).into(),
            first: Duration::from_secs(1).into(),
            max: Duration::from_secs(60).into(),
        }
    }
}

impl RestartSpec {
    /// A failure is the end.
    pub fn off() -> Self {
        Self { attempts: 0.into(), ..Self::default() }
    }
}

/// `state = { memory = "256MiB", spill = "scratch" }`
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpec {
    /// `memory`: bytes of state that all tasks hold together
    pub memory_bytes: Spanned<usize>,
    /// `spill`: a scratch folder for the rest, relative to the pipeline file
    pub spill: Spanned<String>,
}

/// `checkpoint = { store = "..", interval = "1s", retain = 3 }`
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointSpec {
    /// `store`: `s3://..`, `hdfs://..`, `file:///..`, or a folder relative to the pipeline file
    pub store: Spanned<String>,
    /// `interval`: between the starts of two checkpoints
    pub interval: Spanned<Duration>,
    /// `retain`: how many are kept
    pub retain: Spanned<usize>,
    /// `transactional_id`: names the pipeline to the Kafka cluster of its sinks; else made of the pipeline's name
    pub transactional_id: Option<Spanned<String>>,
    /// `transaction_timeout`: how long the Kafka broker keeps an epoch open without hearing of it
    pub transaction_timeout: Spanned<Duration>,
    /// `encrypt`: where the keys are that what lies in the store is encrypted with
    pub encrypt: Option<KeySource>,
}

/// `encrypt = { .. }` of `checkpoint`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `key_file`: relative to the pipeline file
    File(String),
    /// `key_env`: name of an environment variable
    Variable(String),
}

impl CheckpointSpec {
    /// With the defaults.
    pub fn new(store: impl Into<Spanned<String>>) -> Self {
        Self {
            store: store.into(),
            interval: Duration::from_secs(10).into(),
            retain: 3.into(),
            encrypt: None,
            transactional_id: None,
            // what brokers allow by default: an epoch must outlive the longest restart of a broker
            transaction_timeout: Duration::from_secs(900).into(),
        }
    }

    /// Under which id the transactions of a pipeline run. No host or process in it: whoever runs the pipeline shuts
    /// out who ran it before.
    pub fn transactional_id(&self, pipeline: &str) -> String {
        let given = self.transactional_id.as_ref().map(|id| id.value.clone());
        given.unwrap_or_else(|| format!("millstream-{pipeline}"))
    }

    /// Where the store is.
    pub fn location(&self, base: &Path) -> Result<Location, LocationError> {
        Location::parse(&self.store.value, base)
    }
}

/// `[source.<name>]`
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// stable name
    pub name: Spanned<String>,
    /// where records come from
    pub kind: Spanned<SourceKind>,
    /// `format`; the generator has none, all others must have one
    pub format: Option<Spanned<Format>>,
    /// `schema = { column = "kind", other = "kind?" }`; a trailing `?` allows nulls. Absent: what operators declare.
    pub schema: Option<Spanned<Schema>>,
    /// `event_time = "column"`; absent: the time that the source knows (Kafka, generator) or the time of arrival
    pub event_time: Option<Spanned<String>>,
    /// `watermark = { .. }`: the figures
    pub watermark: WatermarkSpec,
    /// `watermark = { assigner = "x.wasm" }`: a mapper that gives rows their event time, and watermarks if it will
    pub assigner: Option<ComponentSpec>,
    /// `watermark = { column = "reached" }`: a column whose values are watermarks
    pub watermark_column: Option<Spanned<String>>,
    /// `parallelism`
    pub parallelism: Option<Spanned<usize>>,
    /// `on_error` for records that cannot be decoded
    pub on_error: OnError,
}

/// `[step.<name>]`
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// stable name: state and versions hang on it
    pub name: Spanned<String>,
    /// `from`: names of sources or steps; several are united
    pub from: Vec<Spanned<String>>,
    /// the other input of a step that has two: what is joined to `from`, or connected with it
    pub with: Vec<Spanned<String>>,
    /// names of the outputs beside the step's own, by number: late rows, side outputs. Read like any step.
    pub side_outputs: Vec<Spanned<String>>,
    /// what the step does
    pub kind: Spanned<StepKind>,
    /// `parallelism`
    pub parallelism: Option<Spanned<usize>>,
    /// `keep`: columns of the input that a map or flat_map carries over beside its own
    pub keep: Option<Spanned<Keep>>,
    /// `on_error`
    pub on_error: OnError,
    /// `limits`
    pub limits: LimitsSpec,
    /// `partition`: how rows of `from` get to its tasks; none: as they need to
    pub partition: Option<Spanned<PartitionSpec>>,
}

/// `keep = "all"` or `keep = ["url"]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// all columns that the operator does not produce itself
    All,
    /// these
    Columns(Vec<Spanned<String>>),
}

/// `limits = { memory = "64MiB", deadline = "1s" }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsSpec {
    /// bytes of linear memory of one instance
    pub memory_bytes: usize,
    /// time for one call
    pub deadline: Duration,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self { memory_bytes: crate::limits::GUEST_MEMORY_BYTES, deadline: crate::limits::GUEST_DEADLINE }
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// `map = "x.wasm"`
    Map(ComponentSpec),
    /// `filter = "x.wasm"`
    Filter(ComponentSpec),
    /// `flat_map = "x.wasm"`
    FlatMap(ComponentSpec),
    /// `select`: columns by their new names, in order
    Select(Vec<SelectedColumn>),
    /// `key_by`, `window`, `aggregate`
    Aggregate {
        /// key columns; none: all rows are of one key
        key_by: Vec<Spanned<String>>,
        /// when results are made
        window: Spanned<WindowSpec>,
        /// `allowed_lateness`: how long after firing a window takes rows
        allowed_lateness: Duration,
        /// the column with the gap of [`WindowSpec::SessionByColumn`]
        gap: Option<Spanned<String>>,
        /// `trigger`: when an open window puts out results
        trigger: Option<Spanned<Trigger>>,
        /// `firing`: what becomes of its rows then
        firing: Option<Spanned<Firing>>,
        /// what is computed, in output order
        aggregates: Vec<AggregateSpec>,
    },
    /// `key_by`, `process`
    Process {
        /// the component
        component: ComponentSpec,
        /// key columns, at least one
        key_by: Vec<Spanned<String>>,
        /// `with_key_by`: key columns of the second input; as `key_by` unless given
        with_key_by: Vec<Spanned<String>>,
        /// `state_ttl`: how long state is kept without being written
        state_ttl: Option<Duration>,
    },
    /// `top = { n = 3, by = "count" }`
    Top(TopStepSpec),
    /// `join` or `lookup`; its other input is [`StepSpec::with`]
    Join(Box<JoinSpec>),
}

/// A top-N step.
#[derive(Clone, Debug, PartialEq)]
pub struct TopStepSpec {
    /// `key_by`: each key has a list of its own; may be empty
    pub key_by: Vec<Spanned<String>>,
    /// `window`; none: rows have their bounds as columns
    pub window: Option<Spanned<WindowSpec>>,
    /// `n`: rows of a window and key, at least 1
    pub rows: Spanned<usize>,
    /// `by`: at least one column
    pub by: Vec<OrderBySpec>,
    /// `ties`
    pub ties: Ties,
    /// `rank`: name of the column with the rank
    pub rank: Spanned<String>,
}

/// `"count desc"`
#[derive(Clone, Debug, PartialEq)]
pub struct OrderBySpec {
    /// the column
    pub column: Spanned<String>,
    /// largest first, unless it says `asc`
    pub descending: bool,
}

/// One column of `select`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedColumn {
    /// its new name
    pub output: Spanned<String>,
    /// the column of the input
    pub column: Spanned<String>,
}

/// A component reference: `"x.wasm"` or `{ component = "x.wasm", config = { .. } }`
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentSpec {
    /// the file, relative to [`PipelineSpec::base`]
    pub path: Spanned<String>,
    /// configuration that the guest can read
    pub config: Settings,
}

/// One entry of `aggregate = { name = ".." }`, or a WASM aggregate that names its own outputs.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateSpec {
    /// `total = "sum(amount)"`
    BuiltIn {
        /// name of the output column
        output: Spanned<String>,
        /// which function
        function: Spanned<AggregateFunction>,
        /// the column it reads; none for `count()`
        column: Option<Spanned<String>>,
    },
    /// `mean = "average.wasm"` or `{ component = "..", config = { .. } }`.
    /// A component with one output gives it the name of the entry; with several, its own names.
    Component {
        /// name of the entry
        output: Spanned<String>,
        /// the component
        component: ComponentSpec,
    },
    /// `window_process = "median.wasm"`: a component that takes all rows of a window and names its outputs; the only entry
    Rows {
        /// the component
        component: ComponentSpec,
    },
}

/// `[sink.<name>]`
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSpec {
    /// stable name
    pub name: Spanned<String>,
    /// `from`: names of sources or steps
    pub from: Vec<Spanned<String>>,
    /// where rows go
    pub kind: Spanned<SinkKind>,
    /// `format`; JSON by default
    pub format: Option<Spanned<Format>>,
    /// `parallelism`
    pub parallelism: Option<Spanned<usize>>,
}

impl StepSpec {
    /// Names of all that the step reads, each with the number of the input it belongs to.
    pub fn inputs(&self) -> impl Iterator<Item = (usize, &Spanned<String>)> {
        self.from.iter().map(|from| (0, from)).chain(self.with.iter().map(|with| (1, with)))
    }
}

impl AggregateSpec {
    /// The name that the pipeline gives the entry.
    pub fn output(&self) -> &Spanned<String> {
        match self {
            Self::BuiltIn { output, .. } | Self::Component { output, .. } => output,
            Self::Rows { component } => &component.path,
        }
    }
}

impl StepKind {
    /// The name of entry `index` of `aggregate`.
    pub fn aggregate_name(&self, index: usize) -> Option<&str> {
        match self {
            Self::Aggregate { aggregates, .. } => aggregates.get(index).map(|entry| entry.output().value.as_str()),
            Self::Map(_) | Self::Filter(_) | Self::FlatMap(_) | Self::Select(_) => None,
            Self::Top(_) | Self::Join(_) => None,
            Self::Process { .. } => None,
        }
    }
}
