//! The thread that takes records from librdkafka and hands them to the task by partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;

use super::queue::{FROM_BEGINNING, Queue, TAKE_MAX, Taken};
use crate::clock::Stopwatch;
use crate::format::{BadRecord, Format, Frames};
use crate::kafka::{ANSWER_WITHIN, Log, partitions_of, unreachable};
use crate::limits::{BATCH_BYTES, BATCH_ROWS};
use crate::record::{NO_EVENT_TIME, Position, Positions};
use crate::source::feed::{Dropped, Fed, Feeder};
use crate::source::{KafkaSourceSpec, KafkaStart, SourceContext, SourceError};

/// How long to wait for a record before looking at events and at whether the source is still wanted.
const WAIT: Duration = Duration::from_millis(50);

/// [`Log`] for a consumer.
pub(super) struct ConsumerLog(Log);

impl ClientContext for ConsumerLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for ConsumerLog {}

/// What the thread was told.
pub(super) struct Reader {
    source_name: String,
    spec: KafkaSourceSpec,
    config: ClientConfig,
    subtask: usize,
    parallelism: usize,
    restore: Option<Arc<Positions>>,
    /// formats in which no bytes at all are a record
    empty_is_record: bool,
    feeder: Feeder,
}

/// A partition that has not ended.
struct Open {
    partition: i32,
    /// bounded: the offset after the last record to read
    until: Option<i64>,
    frames: Frames,
    bad: Vec<BadRecord>,
    ended: bool,
    /// offset after the last record taken
    next: u64,
    /// where it was when the source was opened
    begins: Position,
}

/// Answer to who opens the source: the partitions, or why there are none.
type Opened = oneshot::Sender<Result<Vec<(u32, Position)>, String>>;

impl Reader {
    pub(super) fn new(spec: &KafkaSourceSpec, context: &SourceContext, config: ClientConfig, feeder: Feeder) -> Self {
        Self {
            source_name: context.name.clone(),
            spec: spec.clone(),
            config,
            subtask: context.subtask,
            parallelism: context.parallelism.max(1),
            restore: context.restore.clone(),
            empty_is_record: matches!(context.format, Some(Format::Text | Format::Raw)),
            feeder,
        }
    }

    /// The thread's body.
    pub(super) fn run(self, opened: Opened) {
        let (mut queue, mut open) = match self.start() {
            Ok(started) => started,
            Err(reason) => {
                let _ = opened.send(Err(reason));
                return;
            }
        };
        let partitions = open.iter().map(|open| (open.number(), open.begins.clone())).collect();
        if opened.send(Ok(partitions)).is_err() {
            return;
        }
        match self.read(&mut queue, &mut open) {
            Ok(()) | Err(Stop::Dropped) => {}
            Err(Stop::Failed(reason)) => {
                let _ = self.feeder.send(Fed::Failed(SourceError::Kafka {
                    source_name: self.source_name,
                    brokers: self.spec.brokers,
                    topic: self.spec.topic,
                    reason,
                }));
            }
        }
    }

    /// Asks the broker for the topic and starts this subtask's partitions.
    fn start(&self) -> Result<(Queue, Vec<Open>), String> {
        let log = Log::new(format!("source `{}`", self.source_name));
        let consumer: BaseConsumer<ConsumerLog> =
            self.config.create_with_context(ConsumerLog(log.clone())).map_err(|error| error.to_string())?;
        let serve = || while consumer.poll(Duration::ZERO).is_some() {};
        let partitions = partitions_of(consumer.client(), &log, serve, &self.spec.topic)?;
        let mine = partitions
            .into_iter()
            .filter(|partition| usize::try_from(*partition).is_ok_and(|p| p % self.parallelism == self.subtask));
        let mut queue = Queue::new(consumer, &self.spec.topic)?;
        let mut open = Vec::new();
        for partition in mine {
            let end = match (self.spec.start, self.spec.bounded) {
                (KafkaStart::Earliest, false) => None,
                _ => Some(self.watermarks(&queue, partition)?),
            };
            let name = format!("{}/{partition}", self.spec.topic);
            let known = self.restore.as_ref().and_then(|positions| positions.get(&name));
            let from = self.begin(known, end);
            if let Some((_, high)) = end.filter(|(_, high)| known.is_some() && from > *high) {
                return Err(format!(
                    "partition {partition} ends at offset {high}, but had been read up to {from} at the checkpoint; \
                     the topic was made anew or cut off: bring it back, or start anew with --fresh"
                ));
            }
            let until = end.filter(|_| self.spec.bounded).map(|(_, high)| high);
            // where the last run found the end does not matter: the end is that of this start
            let ended = self.spec.bounded && end.is_some_and(|(low, high)| low >= high || from >= high);
            let begins = known.cloned().unwrap_or_else(|| Position::new(name, u64::try_from(from).unwrap_or(0), false));
            let begins = Position { ended, ..begins };
            if !ended {
                queue.start(partition, from).map_err(|error| format!("cannot read partition {partition}: {error}"))?;
            }
            let (frames, bad) = (self.feeder.spare(), Vec::new());
            open.push(Open { partition, until, frames, bad, ended, next: begins.next, begins });
        }
        Ok((queue, open))
    }

    /// The offset to begin a partition at; `end` are its first offset and the one after its last.
    fn begin(&self, known: Option<&Position>, end: Option<(i64, i64)>) -> i64 {
        match (known, self.spec.start, end) {
            // 0 is also where nothing has been read yet: the topic may begin later
            (Some(position), ..) if position.next > 0 => i64::try_from(position.next).unwrap_or(i64::MAX),
            // a partition that a checkpoint does not know has been added since: all of it is new
            (None, KafkaStart::Latest, Some((_, high))) if self.restore.is_none() => high,
            _ => FROM_BEGINNING,
        }
    }

    /// First offset of a partition and the one after its last. A partition just made may have no leader yet.
    fn watermarks(&self, queue: &Queue, partition: i32) -> Result<(i64, i64), String> {
        let watch = Stopwatch::start();
        loop {
            match queue.consumer().fetch_watermarks(&self.spec.topic, partition, ANSWER_WITHIN) {
                Ok(found) => return Ok(found),
                Err(error) if watch.elapsed() >= ANSWER_WITHIN => return Err(unreachable(&error)),
                Err(_) => std::thread::sleep(WAIT),
            }
        }
    }

    /// Reads until all partitions have ended (bounded), the source is dropped, or reading on would skip records.
    fn read(&self, queue: &mut Queue, open: &mut Vec<Open>) -> Result<(), Stop> {
        let mut known: BTreeSet<i32> = open.iter().map(|open| open.partition).collect();
        let mut looked = Stopwatch::start();
        loop {
            if !self.spec.bounded && looked.elapsed() >= self.spec.discover {
                self.discover(queue, open, &mut known)?;
                looked = Stopwatch::start();
            }
            self.end_partitions(queue, open)?;
            if open.is_empty() && self.spec.bounded {
                self.feeder.send(Fed::End)?;
                return Ok(());
            }
            let most = open.iter().map(|open| open.frames.len()).max().unwrap_or(0);
            let room = BATCH_ROWS.saturating_sub(most).clamp(1, TAKE_MAX);
            let mut cut = Cut::default();
            let mut count = queue.take(Duration::ZERO, room, |taken| self.accept(taken, open, &mut cut));
            if count == 0 {
                // all that is there has been taken: it must not wait for more
                self.send_all(open, 1)?;
                self.serve_events(queue)?;
                count = queue.take(WAIT, 1, |taken| self.accept(taken, open, &mut cut));
            }
            if let Some(reason) = cut.failed {
                return Err(Stop::Failed(reason));
            }
            for (partition, frames, bad, next) in cut.full {
                self.feeder.send(self.feeder.records(partition, frames, bad, next))?;
            }
            if count > 0 {
                self.send_all(open, BATCH_ROWS)?;
            }
        }
    }

    /// Starts this subtask's partitions that have been added to the topic, each from its beginning.
    fn discover(&self, queue: &mut Queue, open: &mut Vec<Open>, known: &mut BTreeSet<i32>) -> Result<(), Stop> {
        let log = Log::new(format!("source `{}`", self.source_name));
        let partitions = match partitions_of(queue.consumer().client(), &log, || (), &self.spec.topic) {
            Ok(partitions) => partitions,
            // as for records: a broker that is away is waited for
            Err(reason) => {
                tracing::warn!(source = self.source_name, reason, "cannot look for new partitions; trying again");
                return Ok(());
            }
        };
        let mine = |p: &i32| usize::try_from(*p).is_ok_and(|p| p % self.parallelism == self.subtask);
        for partition in partitions.into_iter().filter(mine) {
            if !known.insert(partition) {
                continue;
            }
            let failed = |error: String| Stop::Failed(format!("cannot read partition {partition}: {error}"));
            queue.start(partition, FROM_BEGINNING).map_err(failed)?;
            let begins = Position::new(format!("{}/{partition}", self.spec.topic), 0, false);
            let (frames, bad) = (self.feeder.spare(), Vec::new());
            let added = Open { partition, until: None, frames, bad, ended: false, next: 0, begins: begins.clone() };
            tracing::info!(source = self.source_name, partition, "a partition was added to the topic");
            self.feeder.send(Fed::PartitionAdded { partition: added.number(), position: begins })?;
            open.push(added);
        }
        Ok(())
    }

    /// Puts a record to its partition's frames.
    fn accept(&self, taken: Taken<'_>, open: &mut [Open], cut: &mut Cut) {
        let (Taken::Record { partition, .. }
        | Taken::EndOfPartition { partition, .. }
        | Taken::Failed { partition, .. }) = taken;
        let Some(open) = open.iter_mut().find(|open| open.partition == partition && !open.ended) else { return };
        match taken {
            Taken::Record { offset, time_ms, payload, .. } => {
                if open.until.is_none_or(|until| offset < until) {
                    open.push(offset, time_ms, payload, self.empty_is_record);
                }
                open.ended = open.until.is_some_and(|until| offset.saturating_add(1) >= until);
                if open.frames.bytes.len() >= BATCH_BYTES {
                    let frames = std::mem::replace(&mut open.frames, self.feeder.spare());
                    cut.full.push((open.number(), frames, std::mem::take(&mut open.bad), open.next));
                }
            }
            // what a transaction left at the end is never seen as a record
            Taken::EndOfPartition { offset, .. } => open.ended = open.until.is_some_and(|until| offset >= until),
            Taken::Failed { code, reason, .. } => match code {
                RDKafkaErrorCode::AutoOffsetReset => {
                    cut.failed = Some(format!(
                        "partition {partition}: records that were to be read are gone ({reason}); \
                         keep them for longer (retention.ms), or start again with start = \"earliest\""
                    ));
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    cut.failed = Some(format!("partition {partition}: {reason}; grant READ on the topic"));
                }
                _ => tracing::warn!(source = self.source_name, partition, reason, "cannot read; trying again"),
            },
        }
    }

    /// Sends the frames that hold `rows` or more.
    fn send_all(&self, open: &mut [Open], rows: usize) -> Result<(), Dropped> {
        for open in open {
            if open.frames.len() >= rows || (!open.bad.is_empty() && rows <= 1) {
                let next = self.feeder.spare();
                let fed = open.take(next);
                self.feeder.send(self.feeder.records(open.number(), fed.0, fed.1, open.next))?;
            }
        }
        Ok(())
    }

    /// Says goodbye to partitions that have ended.
    fn end_partitions(&self, queue: &mut Queue, open: &mut Vec<Open>) -> Result<(), Dropped> {
        for mut ended in open.extract_if(.., |open| open.ended) {
            queue.stop(ended.partition);
            self.send_all(std::slice::from_mut(&mut ended), 1)?;
            self.feeder.send(Fed::PartitionEnded { partition: ended.number() })?;
        }
        Ok(())
    }

    /// Lets librdkafka log and report, and looks whether anybody still wants records.
    fn serve_events(&self, queue: &Queue) -> Result<(), Stop> {
        while queue.consumer().poll(Duration::ZERO).is_some() {}
        if self.feeder.is_dropped() { Err(Stop::Dropped) } else { Ok(()) }
    }
}

impl Open {
    fn number(&self) -> u32 {
        u32::try_from(self.partition).unwrap_or_default()
    }

    fn push(&mut self, offset: i64, time_ms: Option<i64>, payload: Option<&[u8]>, empty_is_record: bool) {
        let offset = u64::try_from(offset).unwrap_or_default();
        self.next = offset.saturating_add(1);
        match payload {
            None if !empty_is_record => self.bad.push(BadRecord {
                index: u32::try_from(self.frames.len()).unwrap_or(u32::MAX),
                offset,
                bytes: Vec::new(),
                reason: "expected a value, got a record without one (a tombstone)".to_owned(),
            }),
            payload => {
                self.frames.push(payload.unwrap_or_default(), offset);
                self.frames.times.push(time_ms.unwrap_or(NO_EVENT_TIME));
            }
        }
    }

    /// The frames and bad records so far. The next frames get as much memory as these needed, at once.
    fn take(&mut self, mut next: Frames) -> (Frames, Vec<BadRecord>) {
        next.bytes.reserve(self.frames.bytes.len());
        (std::mem::replace(&mut self.frames, next), std::mem::take(&mut self.bad))
    }
}

/// What came out of taking records beside the frames of the partitions.
#[derive(Default)]
struct Cut {
    /// frames that are full by their bytes
    full: Vec<(u32, Frames, Vec<BadRecord>, u64)>,
    failed: Option<String>,
}

/// Why reading stopped.
enum Stop {
    Dropped,
    Failed(String),
}

impl From<Dropped> for Stop {
    fn from(_: Dropped) -> Self {
        Self::Dropped
    }
}
