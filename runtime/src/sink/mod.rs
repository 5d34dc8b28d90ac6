//! Where rows go: encoded in the task that writes, made visible by [`Sink::finish`] at the latest.
//!
//! What a sink could not write is an error that ends the run: a sink never drops rows.

mod blocking;
mod channel;
mod discard;
mod documents;
mod error;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod object;
mod parquet;
mod parts;
mod print;
mod records;
mod spec;
#[cfg(feature = "kafka")]
mod transactions;
#[cfg(not(feature = "kafka"))]
#[path = "no_transactions.rs"]
mod transactions;

#[cfg(test)]
mod testing;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

pub use channel::ChannelSink;
pub use documents::{DocumentId, DocumentIds, DocumentSink, DocumentStore};
pub use error::SinkError;
pub use spec::{CommittedEpoch, HeldPartition, KafkaSinkSpec, ObjectSinkSpec, SinkKind, TransactionSpec};
pub use transactions::Transactions;

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
    /// set where what is written becomes visible epoch by epoch, and not when the input ends
    pub epochs: Option<SinkEpochs>,
}

/// What a sink must know that commits epoch by epoch.
#[derive(Clone, Debug)]
pub struct SinkEpochs {
    /// tells this process from all others that write to the same place
    pub attempt: String,
    /// the epoch that begins
    pub next: u64,
    /// in which Kafka sinks write
    pub transactions: Option<Transactions>,
}

/// What one task of a sink has written of an epoch, not yet visible: [`commit`] makes it so, also in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// for people
    pub shown: String,
    /// for the sink
    pub bytes: Vec<u8>,
}

/// One task's share of an output.
pub trait Sink: Send {
    /// Takes in rows. Returns when there is room for more, which need not be when these have arrived.
    /// Dropping the future half way leaves the sink of no more use.
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Nothing more comes for now: passes on what is held back, where that is cheap.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Epoch `epoch` ends here: what has been written of it is kept safe, and stays invisible until [`commit`] is given
    /// what this returns. None where the epoch has no rows, or the sink shows rows at once: those of an epoch
    /// that is repeated after a failure come again then.
    fn prepare(&mut self, _epoch: u64) -> BoxFuture<'_, Result<Option<Prepared>, SinkError>> {
        Box::pin(async {
            self.flush().await?;
            Ok(None)
        })
    }

    /// The input has ended: returns when all rows have arrived for good. A sink that is dropped instead leaves what
    /// was not yet visible invisible.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>>;
}

/// Makes what a sink has prepared visible; `base` is what its relative paths are relative to. May be repeated.
pub async fn commit(sink_name: &str, base: &Path, prepared: &Prepared) -> Result<(), SinkError> {
    if let Some(part) = object::decode(&prepared.bytes) {
        return object::commit(sink_name, base, &part).await;
    }
    let (sink_name, base, prepared) = (sink_name.to_owned(), base.to_owned(), prepared.clone());
    let committed = tokio::task::spawn_blocking(move || parts::commit(&sink_name, &base, &prepared));
    committed.await.unwrap_or_else(|error| Err(SinkError::Ended { reason: error.to_string() }))
}

/// Removes what processes other than `attempt` have prepared and never committed.
pub fn remove_stale(sink_name: &str, kind: &SinkKind, base: &Path, attempt: &str) -> Result<(), SinkError> {
    match kind {
        SinkKind::File { path } => parts::remove_stale(sink_name, &base.join(path), attempt),
        // an object sink clears away when it is opened, and only what lies before its first epoch
        SinkKind::Object(_) => Ok(()),
        SinkKind::Print | SinkKind::Discard | SinkKind::Kafka(_) | SinkKind::Channel(_) | SinkKind::Documents(_) => {
            Ok(())
        }
    }
}

/// The last epoch of which anything is visible, where a sink commits epochs by itself; Kafka's are committed together, by
/// [`Transactions`].
pub async fn last_committed(sink_name: &str, kind: &SinkKind, base: &Path) -> Result<Option<u64>, SinkError> {
    match kind {
        SinkKind::File { path } => parts::last_committed(sink_name, &base.join(path)),
        SinkKind::Object(spec) => object::last_committed(sink_name, &spec.url, base).await,
        SinkKind::Print | SinkKind::Discard | SinkKind::Kafka(_) | SinkKind::Channel(_) | SinkKind::Documents(_) => {
            Ok(None)
        }
    }
}

/// Whether a sink shows every row exactly once where epochs are committed, or again under the id that it had.
pub fn is_exactly_once(kind: &SinkKind) -> bool {
    match kind {
        SinkKind::File { .. }
        | SinkKind::Object(_)
        | SinkKind::Discard
        | SinkKind::Kafka(_)
        | SinkKind::Documents(_) => true,
        SinkKind::Print | SinkKind::Channel(_) => false,
    }
}

/// Opens one subtask's share of a sink: folders are made, brokers asked.
pub async fn open(kind: &SinkKind, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
    match kind {
        SinkKind::Print => Ok(Box::new(print::Print::new(std::io::stdout(), &context)?)),
        SinkKind::Channel(sink) => Ok(Box::new(channel::Channel::new(sink, context))),
        SinkKind::Documents(sink) => Ok(Box::new(documents::Documents::open(sink, context).await?)),
        SinkKind::Discard => Ok(Box::new(discard::Discard::new(context))),
        SinkKind::File { path } if context.format == Format::Parquet => {
            Ok(Box::new(parquet::ParquetSink::create(path, &context)?))
        }
        SinkKind::File { path } => match &context.epochs {
            None => Ok(Box::new(file::FileSink::create(path, &context)?)),
            Some(epochs) => Ok(Box::new(parts::PartsSink::create(path, &context, epochs)?)),
        },
        SinkKind::Object(spec) => Ok(Box::new(object::ObjectSink::open(spec, &context).await?)),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(spec) => Ok(Box::new(kafka::open(spec, context).await?)),
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka(_) => Err(SinkError::NotBuilt { sink_name: context.name, feature: "kafka" }),
    }
}
