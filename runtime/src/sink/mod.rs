//! Where rows go: encoded in the task that writes, made visible by [`Sink::finish`] at the latest.
//!
//! What a sink could not write is an error that ends the run: a sink never drops rows.

mod blocking;
mod channel;
mod discard;
mod error;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod parquet;
mod print;
mod records;
mod spec;

#[cfg(test)]
mod testing;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

pub use channel::ChannelSink;
pub use error::SinkError;
pub use spec::{KafkaSinkSpec, SinkKind};

use crate::format::Format;
use crate::record::{Batch, Schema};

/// A boxed future, as an object-safe trait returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a sink must know beside its own settings.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// the sink's name, for messages
    pub name: String,
    /// how columns become bytes
    pub format: Format,
    /// the columns that will be written
    pub schema: Schema,
    /// what relative paths are relative to
    pub base: PathBuf,
    /// which of the sink's tasks this is
    pub subtask: usize,
    /// how many tasks the sink has
    pub parallelism: usize,
}

/// One task's share of an output.
pub trait Sink: Send {
    /// Takes in rows. Returns when there is room for more, which need not be when these have arrived.
    /// Dropping the future half way leaves the sink of no more use.
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Nothing more comes for now: passes on what is held back, where that is cheap.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// The input has ended: returns when all rows have arrived for good. A sink that is dropped instead leaves what
    /// was not yet visible invisible.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>>;
}

/// Opens one subtask's share of a sink: folders are made, brokers asked.
pub async fn open(kind: &SinkKind, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
    match kind {
        SinkKind::Print => Ok(Box::new(print::Print::new(std::io::stdout(), &context)?)),
        SinkKind::Channel(sink) => Ok(Box::new(channel::Channel::new(sink, context))),
        SinkKind::Discard => Ok(Box::new(discard::Discard::new(context))),
        SinkKind::File { path } if context.format == Format::Parquet => {
            Ok(Box::new(parquet::ParquetSink::create(path, &context)?))
        }
        SinkKind::File { path } => Ok(Box::new(file::FileSink::create(path, &context)?)),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(spec) => Ok(Box::new(kafka::open(spec, context).await?)),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka(_) => Err(SinkError::NotBuilt { sink_name: context.name, feature: "kafka" }),
    }
}
