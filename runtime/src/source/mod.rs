//! Where records come from: framed, decoded, with an event time a row and a watermark a partition.
//!
//! ```text
//!   file, stdin  a named reader thread ─╮
//!   tcp          a task a connection   ─┼─▶ feed: bounded channel of framed bytes ─▶ decoded in the task that asks
//!   kafka        a named client thread ─╯         (a full channel is backpressure)
//!   parquet      a named reader thread that decodes ─▶ bounded channel of batches
//!   generator    made in the task that asks
//!   channel      from code in this process, with its own watermarks
//! ```
//!
//! What blocks has a thread of its own; what costs CPU (decoding) runs in the pipeline's task, so that a slow pipeline
//! slows its source down and nothing piles up in between.

mod channel;
mod decode;
mod drift;
mod error;
mod feed;
mod file;
mod generator;
mod glob;
#[cfg(feature = "kafka")]
mod kafka;
mod parquet;
mod pump;
mod spec;
mod stdin;
mod tcp;
mod watermark;

#[cfg(test)]
mod testing;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use channel::{ChannelEvent, ChannelInput, ChannelSource, SourceGone};
pub use drift::{DriftGroup, DriftMember};
pub use error::SourceError;
pub use spec::{
    Framing, GeneratorKind, GeneratorSpec, KAFKA_DISCOVER, KafkaSourceSpec, KafkaStart, NexmarkStream, SourceKind,
    WatermarkSpec,
};
pub use watermark::{AskedTime, PartitionWatermarks, Progress};

use crate::clock::Clock;
use crate::format::{BadRecord, Format};
use crate::record::{Batch, Field, Kind, Position, Positions, Schema};

/// A boxed future, as the two object-safe traits of inputs and outputs return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// After so long without a row a source says [`SourceEvent::Quiet`].
pub const QUIET_AFTER: Duration = Duration::from_millis(50);

/// Reading in small pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trickle {
    /// of each piece
    pub bytes: usize,
    /// before each piece
    pub pause: std::time::Duration,
}

/// What a source must know beside its own settings.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// the source's name, for messages and thread names
    pub name: String,
    /// how bytes become columns; none for the generator
    pub format: Option<Format>,
    /// all columns of a record, in order
    pub schema: Schema,
    /// the columns to decode, in the order of the batches' columns
    pub wanted: Schema,
    /// which of `wanted` is the event time (int64 in ms, or timestamp_ms); rows that have none there are bad records
    pub event_time: Option<usize>,
    /// which of the source's tasks this is
    pub subtask: usize,
    /// how many tasks the source has
    pub parallelism: usize,
    /// time of arrival
    pub clock: Clock,
    /// what relative paths are relative to
    pub base: PathBuf,
    /// where to go on: the positions of all partitions of the source, whichever task read them. None: from the start.
    pub restore: Option<Arc<Positions>>,
    /// how files are read, if not as fast as they can be
    pub trickle: Option<Trickle>,
}

/// One task's share of an input.
pub trait Source: Send {
    /// The next rows or news. Dropping the future before it is ready loses nothing. After [`SourceEvent::End`] it says so
    /// again; after an error the source is of no more use.
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>>;

    /// The partitions that are known when the source is opened: they hold the watermark back until they send or end.
    fn partitions(&self) -> Vec<u32>;

    /// Where each partition that this task reads, or has read to its end, stands: everything before has been given out
    /// by [`Source::next`]. Each with its number, as in [`SourceEvent`]. None where the input cannot be read again.
    fn positions(&self) -> Vec<(u32, Position)> {
        Vec::new()
    }

    /// The address that a listening source has got.
    fn bound(&self) -> Option<SocketAddr> {
        None
    }
}

/// What a source says.
#[derive(Debug)]
pub enum SourceEvent {
    /// rows of one partition
    Batch {
        /// number of the partition within the source
        partition: u32,
        /// the rows, possibly none
        batch: Batch,
        /// records between them that could not be decoded
        bad: Vec<BadRecord>,
    },
    /// a partition sends nothing any more
    PartitionEnded {
        /// which one
        partition: u32,
    },
    /// nothing came for [`QUIET_AFTER`]: time to look at idleness
    Quiet,
    /// what a source says that knows event time itself: rows, watermarks and idleness go into the stream as they are
    Direct(ChannelEvent),
    /// all input has been read
    End,
}

/// Opens one subtask's share of a source: files are found, addresses bound, brokers asked.
pub async fn open(kind: &SourceKind, context: SourceContext) -> Result<Box<dyn Source>, SourceError> {
    match kind {
        SourceKind::Generator(spec) => Ok(Box::new(generator::Generator::new(spec, &context)?)),
        SourceKind::File { path, .. } if context.format == Some(Format::Parquet) => {
            Ok(Box::new(parquet::open(path, &context)?))
        }
        SourceKind::File { path, header } => Ok(Box::new(file::open(path, *header, context)?)),
        SourceKind::Stdin => Ok(Box::new(stdin::open(context)?)),
        SourceKind::Tcp { listen, framing, connections } => {
            Ok(Box::new(tcp::open(listen, *framing, *connections, context).await?))
        }
        SourceKind::Channel(source) => Ok(Box::new(channel::open(source, context))),
        #[cfg(feature = "kafka")]
        SourceKind::Kafka(spec) => Ok(Box::new(kafka::open(spec, context).await?)),
        #[cfg(not(feature = "kafka"))]
        SourceKind::Kafka(_) => Err(SourceError::NotBuilt { source_name: context.name, feature: "kafka" }),
    }
}

/// The columns of a source that has its own (the generator) or whose format has (`text`, `raw`: one column `value`).
pub fn schema_of(kind: &SourceKind, format: Option<Format>) -> Option<Schema> {
    if let SourceKind::Generator(spec) = kind {
        return Some(generator::schema_of(spec.kind));
    }
    let value = match format? {
        Format::Text => Kind::Text,
        Format::Raw => Kind::Binary,
        Format::Json | Format::Msgpack | Format::Csv | Format::Parquet => return None,
    };
    Some(Schema::new([Field::new("value", value)]))
}

/// The columns of the Parquet files at `path`, relative to `base`, read from their footers; `source_name` is for messages.
pub fn parquet_schema(source_name: &str, path: &str, base: &Path) -> Result<Schema, SourceError> {
    let context = SourceContext {
        name: source_name.to_owned(),
        format: Some(Format::Parquet),
        schema: Schema::new([]),
        wanted: Schema::new([]),
        event_time: None,
        subtask: 0,
        parallelism: 1,
        clock: Clock::system(),
        base: base.to_owned(),
        restore: None,
        trickle: None,
    };
    parquet::schema(path, &context)
}

/// Whether rows have an event time without an `event_time` column: the generator's, Kafka's record time, or the time of
/// arrival on a connection or standard input. Rows of files have none.
pub fn has_event_time(kind: &SourceKind) -> bool {
    match kind {
        SourceKind::Generator(_) | SourceKind::Kafka(_) | SourceKind::Tcp { .. } | SourceKind::Stdin => true,
        SourceKind::Channel(_) => true,
        SourceKind::File { .. } => false,
    }
}

/// Whether the input can be read again from a position: after a restart nothing is missing.
pub fn is_rewindable(kind: &SourceKind) -> bool {
    match kind {
        SourceKind::Generator(_) | SourceKind::File { .. } | SourceKind::Kafka(_) => true,
        SourceKind::Stdin | SourceKind::Tcp { .. } | SourceKind::Channel(_) => false,
    }
}

/// The watermarks of a subtask that reads `partitions`.
///
/// Files are read one after the other: one that waits for its turn is not idle but pending, and passing it over would
/// make all its rows late. So `idle_after` has no meaning for files.
pub fn watermarks(kind: &SourceKind, spec: WatermarkSpec, partitions: &[u32]) -> PartitionWatermarks {
    let idle_after = match kind {
        SourceKind::File { .. } => None,
        _ => spec.idle_after,
    };
    let mut marks = PartitionWatermarks::new(WatermarkSpec { idle_after, ..spec });
    for partition in partitions {
        marks.add(*partition, 0);
    }
    marks
}
