//! The way from a thread or connection that reads to the task that decodes: a bounded channel of framed records, and
//! one back for the emptied buffers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::decode::{OtherwiseTime, RowDecoder};
use super::{BoxFuture, QUIET_AFTER, Source, SourceContext, SourceError, SourceEvent};
use crate::clock::Clock;
use crate::format::{BadRecord, Frames};
use crate::record::Position;

/// Batches of framed bytes between a reader and its task: one in the works, two ready.
const IN_FLIGHT: usize = 3;

/// What a reader hands over.
pub(super) enum Fed {
    /// records of one partition
    Records {
        partition: u32,
        frames: Frames,
        /// records that could not even be framed
        bad: Vec<BadRecord>,
        /// when they came, by the host's clock
        arrived_ms: i64,
        /// what follows them in the partition, in the source's own count
        next: u64,
    },
    /// a partition was added to the input
    #[cfg(feature = "kafka")]
    PartitionAdded { partition: u32, position: Position },
    /// a partition has no more
    PartitionEnded { partition: u32 },
    /// all partitions have ended
    End,
    /// the reader cannot go on
    Failed(SourceError),
}

/// The reader's end, for threads ([`Feeder::send`]) and tasks ([`Feeder::send_async`]).
#[derive(Clone)]
pub(super) struct Feeder {
    channel: mpsc::Sender<Fed>,
    spares: Spares,
    clock: Clock,
}

/// Emptied buffers on their way back, so that readers fill memory that is mapped already.
#[derive(Clone, Default)]
struct Spares(Arc<Mutex<Vec<Frames>>>);

impl Spares {
    fn take(&self) -> Option<Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps as many as can be in use at a time.
    fn put(&self, frames: Frames) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() <= IN_FLIGHT {
            spares.push(frames);
        }
    }
}

/// The task has dropped its source: stop reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped;

impl Feeder {
    /// Waits for room. For threads.
    pub(super) fn send(&self, fed: Fed) -> Result<(), Dropped> {
        self.channel.blocking_send(fed).map_err(|_| Dropped)
    }

    /// Waits for room. For tasks.
    pub(super) async fn send_async(&self, fed: Fed) -> Result<(), Dropped> {
        self.channel.send(fed).await.map_err(|_| Dropped)
    }

    /// Whether the task has dropped its source.
    #[cfg(feature = "kafka")]
    pub(super) fn is_dropped(&self) -> bool {
        self.channel.is_closed()
    }

    /// Records that have come now; `next` is the position after them.
    pub(super) fn records(&self, partition: u32, frames: Frames, bad: Vec<BadRecord>, next: u64) -> Fed {
        Fed::Records { partition, frames, bad, arrived_ms: self.clock.now_ms(), next }
    }

    /// Empty frames, with the memory of some that were decoded if there are any.
    pub(super) fn spare(&self) -> Frames {
        self.spares.take().unwrap_or_default()
    }
}

/// The task's end: a source that decodes what its reader sends.
pub(super) struct Feed {
    source_name: String,
    channel: mpsc::Receiver<Fed>,
    spares: Spares,
    decoder: RowDecoder,
    arrival_is_time: bool,
    partitions: Vec<u32>,
    /// where partitions stand that can be read again, by number
    positions: BTreeMap<u32, Position>,
    bound: Option<SocketAddr>,
    /// stops what reads when the source is dropped
    _reader: Option<StopOnDrop>,
    ended: bool,
}

/// A task that is aborted when this is dropped.
pub(super) struct StopOnDrop(pub(super) tokio::task::JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether records without an event time get the time of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    IsEventTime,
    IsNothing,
}

impl Feed {
    /// A source and the end for its reader.
    pub(super) fn new(
        context: &SourceContext,
        csv_header: bool,
        arrival: Arrival,
        partitions: Vec<u32>,
    ) -> Result<(Self, Feeder), SourceError> {
        let decoder = RowDecoder::new(context, csv_header)?;
        let (to_task, channel) = mpsc::channel(IN_FLIGHT);
        let spares = Spares::default();
        let feeder = Feeder { channel: to_task, spares: spares.clone(), clock: context.clock.clone() };
        let feed = Self {
            source_name: context.name.clone(),
            channel,
            spares,
            decoder,
            arrival_is_time: arrival == Arrival::IsEventTime,
            partitions,
            positions: BTreeMap::new(),
            bound: None,
            _reader: None,
            ended: false,
        };
        Ok((feed, feeder))
    }

    /// A subtask that has nothing to read.
    pub(super) fn empty(context: &SourceContext) -> Result<Self, SourceError> {
        let (mut feed, _) = Self::new(context, false, Arrival::IsNothing, Vec::new())?;
        feed.ended = true;
        Ok(feed)
    }

    /// The same, listening at `address` by a task that stops with the source.
    pub(super) fn listening(self, address: SocketAddr, listener: StopOnDrop) -> Self {
        Self { bound: Some(address), _reader: Some(listener), ..self }
    }

    /// The same, with partitions that only the reader could find.
    #[cfg(feature = "kafka")]
    pub(super) fn with_partitions(self, partitions: Vec<u32>) -> Self {
        Self { partitions, ..self }
    }

    /// The same, of partitions that can be read again; each begins where its position says.
    pub(super) fn starting_at(self, positions: impl IntoIterator<Item = (u32, Position)>) -> Self {
        Self { positions: positions.into_iter().collect(), ..self }
    }

    async fn next_event(&mut self) -> Result<SourceEvent, SourceError> {
        if self.ended {
            return Ok(SourceEvent::End);
        }
        // a reader that is ahead must not keep other tasks of this thread from their turn
        tokio::task::coop::consume_budget().await;
        let fed = match self.channel.try_recv() {
            Ok(fed) => Some(fed),
            Err(_) => match tokio::time::timeout(QUIET_AFTER, self.channel.recv()).await {
                Ok(fed) => fed,
                Err(_) => return Ok(SourceEvent::Quiet),
            },
        };
        match fed {
            Some(Fed::Records { partition, frames, bad, arrived_ms, next }) => {
                if let Some(position) = self.positions.get_mut(&partition) {
                    position.next = next;
                }
                self.decode(partition, frames, bad, arrived_ms)
            }
            #[cfg(feature = "kafka")]
            Some(Fed::PartitionAdded { partition, position }) => {
                self.positions.insert(partition, position);
                // it has a watermark from its first row on
                Ok(SourceEvent::Quiet)
            }
            Some(Fed::PartitionEnded { partition }) => {
                if let Some(position) = self.positions.get_mut(&partition) {
                    position.ended = true;
                }
                Ok(SourceEvent::PartitionEnded { partition })
            }
            Some(Fed::End) => {
                self.ended = true;
                Ok(SourceEvent::End)
            }
            Some(Fed::Failed(error)) => Err(error),
            None => {
                let reason = "the reader stopped without an end".to_owned();
                Err(SourceError::Internal { source_name: self.source_name.clone(), reason })
            }
        }
    }

    fn decode(
        &mut self,
        partition: u32,
        mut frames: Frames,
        mut bad: Vec<BadRecord>,
        arrived_ms: i64,
    ) -> Result<SourceEvent, SourceError> {
        let otherwise = if self.arrival_is_time { OtherwiseTime::Arrival(arrived_ms) } else { OtherwiseTime::None };
        let batch = self.decoder.decode(&mut frames, otherwise, &mut bad)?;
        frames.clear();
        self.spares.put(frames);
        Ok(SourceEvent::Batch { partition, batch, bad })
    }
}

impl Source for Feed {
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>> {
        Box::pin(self.next_event())
    }

    fn partitions(&self) -> Vec<u32> {
        self.partitions.clone()
    }

    fn positions(&self) -> Vec<(u32, Position)> {
        self.positions.iter().map(|(partition, position)| (*partition, position.clone())).collect()
    }

    fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }
}
