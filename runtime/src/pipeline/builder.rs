//! Pipelines built in Rust instead of read from a file; the result and its checks are the same.
//!
//! ```
//! use std::time::Duration;
//! use millstream::format::Format;
//! use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
//!
//! let spec = Pipeline::new("uppercase-counts")
//!     .source("lines", Source::kafka("localhost:9092", "test").format(Format::Text))
//!     .step("upper", Step::map("upper.wasm").from("lines"))
//!     .step("counts", Step::aggregate().from("upper").key_by(["value"]).tumbling(Duration::from_secs(5)).count("count"))
//!     .sink("out", Sink::print().from("counts"))
//!     .build()?;
//! assert_eq!(spec.steps.len(), 2);
//! # Ok::<(), millstream::error::PipelineError>(())
//! ```

mod join;
mod step;
mod top;

use std::path::PathBuf;
use std::time::Duration;

pub use step::Step;

use super::check;
use super::problems::Problems;
use super::spec::{
    CapsulesSpec, CheckpointSpec, ComponentSpec, KeySource, PipelineSpec, RestartSpec, SinkSpec, SourceSpec, StateSpec,
};
use super::wiring::{Part, Role, Wiring};
use crate::error::{PipelineError, Spanned};
use crate::format::Format;
use crate::kafka::KafkaSecurity;
use crate::operator::OnError;
use crate::record::{Field, Schema};
use crate::sink::{KafkaSinkSpec, ObjectSinkSpec, SinkKind};
use crate::source::{Framing, GeneratorSpec, KafkaSourceSpec, KafkaStart, SourceKind, WatermarkSpec};
use crate::wasm::Settings;

/// A pipeline in the making.
#[derive(Debug)]
#[must_use = "nothing is checked before `build`"]
pub struct Pipeline {
    spec: PipelineSpec,
    wiring: Wiring,
    problems: Problems,
}

impl Pipeline {
    /// An empty pipeline. Relative paths are relative to the working directory; see [`Self::base`].
    pub fn new(name: impl Into<String>) -> Self {
        let spec = PipelineSpec {
            path: PathBuf::from("<builder>"),
            text: "".into(),
            base: PathBuf::from("."),
            name: name.into().into(),
            parallelism: None,
            sources: Vec::new(),
            steps: Vec::new(),
            sinks: Vec::new(),
            dead_letter: None,
            checkpoint: None,
            restart: None,
            state: None,
            capsules: None,
        };
        Self { spec, wiring: Wiring::default(), problems: Problems::default() }
    }

    /// What relative paths are relative to.
    pub fn base(mut self, base: impl Into<PathBuf>) -> Self {
        self.spec.base = base.into();
        self
    }

    /// Tasks of each chain unless a step says otherwise.
    pub fn parallelism(mut self, tasks: usize) -> Self {
        self.spec.parallelism = Some(tasks.into());
        self
    }

    /// Adds a source.
    pub fn source(mut self, name: impl Into<String>, source: Source) -> Self {
        let name: Spanned<String> = name.into().into();
        self.part(Role::Source, &name, &[]);
        self.spec.sources.push(SourceSpec { name, ..source.spec });
        self
    }

    /// Adds a step.
    pub fn step(mut self, name: impl Into<String>, step: Step) -> Self {
        let name: Spanned<String> = name.into().into();
        self.part(Role::Step, &name, &step.reads());
        for output in step.outputs() {
            self.part(Role::Output, output, std::slice::from_ref(&name));
        }
        self.spec.steps.extend(step.into_spec(name, &mut self.problems));
        self
    }

    /// Adds a sink.
    pub fn sink(mut self, name: impl Into<String>, sink: Sink) -> Self {
        let name: Spanned<String> = name.into().into();
        self.part(Role::Sink, &name, &sink.spec.from);
        self.spec.sinks.push(SinkSpec { name, ..sink.spec });
        self
    }

    /// Where rows and records go that could not be handled.
    pub fn dead_letter(mut self, kind: SinkKind) -> Self {
        self.spec.dead_letter = Some(kind.into());
        self
    }

    /// Keeps what a restart needs in a folder, once each interval.
    pub fn checkpoint(mut self, store: impl Into<String>, interval: Duration) -> Self {
        self.spec.checkpoint = Some(CheckpointSpec { interval: interval.into(), ..CheckpointSpec::new(store.into()) });
        self
    }

    /// Encrypts what checkpoints keep; a pipeline without checkpoints keeps nothing.
    pub fn encrypt(mut self, keys: KeySource) -> Self {
        if let Some(checkpoint) = &mut self.spec.checkpoint {
            checkpoint.encrypt = Some(keys);
        }
        self
    }

    /// Under which id Kafka sinks write their epochs, and how long the broker keeps one open; after [`Self::checkpoint`].
    pub fn transactions(mut self, transactional_id: impl Into<String>, timeout: Duration) -> Self {
        if let Some(checkpoint) = &mut self.spec.checkpoint {
            checkpoint.transactional_id = Some(transactional_id.into().into());
            checkpoint.transaction_timeout = timeout.into();
        }
        self
    }

    /// How a pipeline with checkpoints that has failed is started again; [`RestartSpec::off`] for not at all.
    pub fn restart(mut self, restart: RestartSpec) -> Self {
        self.spec.restart = Some(restart.into());
        self
    }

    /// Where calls into components that fail are kept; [`CapsulesSpec::off`] for nowhere.
    pub fn capsules(mut self, capsules: CapsulesSpec) -> Self {
        self.spec.capsules = Some(capsules);
        self
    }

    /// Holds so many bytes of state in memory, and the rest in the scratch folder `spill`.
    pub fn state(mut self, memory_bytes: usize, spill: impl Into<String>) -> Self {
        let spill: String = spill.into();
        self.spec.state = Some(StateSpec { memory_bytes: memory_bytes.into(), spill: spill.into() });
        self
    }

    /// The pipeline, or all that is wrong with it.
    pub fn build(mut self) -> Result<PipelineSpec, PipelineError> {
        check::check(&self.spec, &self.wiring, &mut self.problems);
        let diagnostics = self.problems.into_diagnostics();
        if diagnostics.is_empty() {
            return Ok(self.spec);
        }
        Err(PipelineError { path: self.spec.path, text: self.spec.text, diagnostics })
    }

    fn part(&mut self, role: Role, name: &Spanned<String>, from: &[Spanned<String>]) {
        self.wiring.parts.push(Part { role, name: name.clone(), from: Some(from.to_vec()) });
    }
}

/// A source in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct Source {
    spec: SourceSpec,
}

impl Source {
    /// Any kind of source.
    pub fn of(kind: SourceKind) -> Self {
        let spec = SourceSpec {
            name: Spanned::default(),
            kind: kind.into(),
            format: None,
            schema: None,
            event_time: None,
            watermark: WatermarkSpec::default(),
            assigner: None,
            watermark_column: None,
            parallelism: None,
            on_error: OnError::default(),
        };
        Self { spec }
    }

    /// Rows made on the spot.
    pub fn generator(generator: GeneratorSpec) -> Self {
        Self::of(SourceKind::Generator(generator))
    }

    /// A file or glob without header lines.
    pub fn file(path: impl Into<String>) -> Self {
        Self::of(SourceKind::File { path: path.into(), header: false })
    }

    /// Standard input, by lines.
    pub fn stdin() -> Self {
        Self::of(SourceKind::Stdin)
    }

    /// Lines from any number of connections, for ever.
    pub fn tcp(listen: impl Into<String>) -> Self {
        Self::of(SourceKind::Tcp { listen: listen.into(), framing: Framing::default(), connections: None })
    }

    /// A Kafka topic from its earliest record, for ever.
    pub fn kafka(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self::of(SourceKind::Kafka(KafkaSourceSpec {
            brokers: brokers.into(),
            topic: topic.into(),
            start: KafkaStart::default(),
            bounded: false,
            security: KafkaSecurity::default(),
            discover: crate::source::KAFKA_DISCOVER,
            properties: Vec::new(),
        }))
    }

    /// How a Kafka source reaches its cluster; nothing for others.
    pub fn security(mut self, security: KafkaSecurity) -> Self {
        if let SourceKind::Kafka(kafka) = &mut self.spec.kind.value {
            kafka.security = security;
        }
        self
    }

    /// How bytes become columns. Needed by all sources but generators.
    pub fn format(mut self, format: Format) -> Self {
        self.spec.format = Some(format.into());
        self
    }

    /// The columns; otherwise what operators declare.
    pub fn schema(mut self, fields: impl Into<Vec<Field>>) -> Self {
        self.spec.schema = Some(Schema::new(fields).into());
        self
    }

    /// The column with the event time.
    pub fn event_time(mut self, column: impl Into<String>) -> Self {
        self.spec.event_time = Some(column.into().into());
        self
    }

    /// How far rows may be out of order.
    pub fn max_out_of_orderness(mut self, bound: Duration) -> Self {
        self.spec.watermark.max_out_of_orderness = bound;
        self
    }

    /// After how long without rows a partition no longer holds the watermark back.
    pub fn idle_after(mut self, silence: Duration) -> Self {
        self.spec.watermark.idle_after = Some(silence);
        self
    }

    /// How far it may be ahead of the slowest of all sources with such a bound.
    pub fn max_drift(mut self, bound: Duration) -> Self {
        self.spec.watermark.max_drift = Some(bound);
        self
    }

    /// A component that gives rows their event time, and watermarks if it puts them out; without settings.
    pub fn watermark_assigner(mut self, component: impl Into<String>) -> Self {
        self.spec.assigner = Some(ComponentSpec { path: component.into().into(), config: Settings::default() });
        self
    }

    /// The column whose values are watermarks.
    pub fn watermark_column(mut self, column: impl Into<String>) -> Self {
        self.spec.watermark_column = Some(column.into().into());
        self
    }

    /// Tasks.
    pub fn parallelism(mut self, tasks: usize) -> Self {
        self.spec.parallelism = Some(tasks.into());
        self
    }

    /// What happens with records that cannot be decoded.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.spec.on_error = on_error;
        self
    }
}

/// A sink in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct Sink {
    spec: SinkSpec,
}

impl Sink {
    /// Any kind of sink.
    pub fn of(kind: SinkKind) -> Self {
        let spec =
            SinkSpec { name: Spanned::default(), from: Vec::new(), kind: kind.into(), format: None, parallelism: None };
        Self { spec }
    }

    /// Standard output, a record a line.
    pub fn print() -> Self {
        Self::of(SinkKind::Print)
    }

    /// Counted and dropped.
    pub fn discard() -> Self {
        Self::of(SinkKind::Discard)
    }

    /// A file that appears when the input has ended.
    pub fn file(path: impl Into<String>) -> Self {
        Self::of(SinkKind::File { path: path.into() })
    }

    /// Objects in S3, HDFS or on a local disk.
    pub fn object(url: impl Into<String>) -> Self {
        Self::of(SinkKind::Object(ObjectSinkSpec { url: url.into(), roll: None }))
    }

    /// A Kafka topic, records without a key.
    pub fn kafka(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        let (brokers, topic) = (brokers.into(), topic.into());
        Self::of(SinkKind::Kafka(KafkaSinkSpec {
            brokers,
            topic,
            key: None,
            security: KafkaSecurity::default(),
            properties: Vec::new(),
        }))
    }

    /// How a Kafka sink reaches its cluster; nothing for others.
    pub fn security(mut self, security: KafkaSecurity) -> Self {
        if let SinkKind::Kafka(kafka) = &mut self.spec.kind.value {
            kafka.security = security;
        }
        self
    }

    /// Adds a source or step to read from.
    pub fn from(mut self, input: impl Into<String>) -> Self {
        self.spec.from.push(input.into().into());
        self
    }

    /// How columns become bytes; JSON if not said.
    pub fn format(mut self, format: Format) -> Self {
        self.spec.format = Some(format.into());
        self
    }

    /// Tasks.
    pub fn parallelism(mut self, tasks: usize) -> Self {
        self.spec.parallelism = Some(tasks.into());
        self
    }
}

#[cfg(test)]
mod tests;
