//! Markers: one record an epoch, in the transaction of the epoch, that names it.
//!
//! ```text
//!   topic   <transactional id>-epochs, one partition, compacted: the last marker is kept for ever
//!   key     the transactional id
//!   value   v1;epoch=<number>;attempt=<who wrote the checkpoint>
//! ```
//!
//! A topic of its own has two reasons: offsets of consumer groups, which could carry the same, are forgotten after
//! `offsets.retention.minutes`, and another producer's open transaction in the same partition would hide a marker.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{START_WITHIN, Shared};
use crate::clock::Stopwatch;
use crate::kafka::{ANSWER_WITHIN, Log, partitions_of};
use crate::sink::CommittedEpoch;

/// Markers that are read at first, from the end; more where ours is not among them.
const READ_FIRST: i64 = 64;

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The topic of a transactional id.
pub(super) fn topic(transactional_id: &str) -> String {
    format!("{transactional_id}-epochs")
}

pub(super) fn encode(committed: &CommittedEpoch) -> String {
    format!("v1;epoch={};attempt={}", committed.epoch, committed.attempt)
}

pub(super) fn decode(value: &[u8]) -> Result<CommittedEpoch, String> {
    let damaged = || format!("a marker is `{}`, which this version cannot read", String::from_utf8_lossy(value));
    let text = std::str::from_utf8(value).map_err(|_| damaged())?;
    let rest = text.strip_prefix("v1;epoch=").ok_or_else(damaged)?;
    let (epoch, attempt) = rest.split_once(";attempt=").ok_or_else(damaged)?;
    let epoch = epoch.parse().map_err(|_| damaged())?;
    Ok(CommittedEpoch { epoch, attempt: attempt.to_owned() })
}

/// Hands the marker to the producer; `false` if it has no room.
pub(super) fn send(shared: &Shared, committed: &CommittedEpoch) -> Result<bool, KafkaError> {
    let (key, value) = (shared.spec.transactional_id.as_bytes(), encode(committed));
    // the header says whose it is where a broker holds it back
    let header = super::held::header(&shared.spec.transactional_id, committed.epoch);
    let record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(&shared.markers).partition(0).key(key).payload(value.as_bytes()).headers(header);
    match shared.producer.send(record) {
        Ok(()) => Ok(true),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
        Err((error, _)) => Err(error),
    }
}

/// Makes the topic if it is not there, and looks whether it is as it has to be.
pub(super) async fn make_topic(shared: &Shared) -> Result<(), String> {
    let name = shared.markers.as_str();
    let admin: AdminClient<DefaultClientContext> = shared.config.create().map_err(|error| error.to_string())?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN)).request_timeout(Some(ANSWER_WITHIN));
    // -1: as many replicas as the cluster gives by default
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "1048576")
        .set("min.cleanable.dirty.ratio", "0.1");
    let made =
        admin.create_topics([&topic], &options).await.map_err(|error| format!("cannot make `{name}`: {error}"))?;
    for made in made {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, error)) => {
                return Err(format!(
                    "cannot make the topic `{name}` for markers: {error}; make it with one partition and \
                     `cleanup.policy=compact`"
                ));
            }
        }
    }
    let partitions = partitions_of(shared.producer.client(), &shared.producer.context().log, || (), name)?;
    if partitions.len() != 1 {
        return Err(format!("the topic `{name}` for markers has {} partitions, expected 1", partitions.len()));
    }
    check_policy(&admin, name, &options).await
}

async fn check_policy(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
    options: &AdminOptions,
) -> Result<(), String> {
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(name)], options).await;
    let described = described.map_err(|error| error.to_string()).and_then(|mut all| {
        let first = all.pop().ok_or_else(|| "no answer".to_owned())?;
        first.map_err(|error| error.to_string())
    });
    let policy = match &described {
        Ok(described) => described.get("cleanup.policy").and_then(|ConfigEntry { value, .. }| value.as_deref()),
        Err(error) => {
            tracing::warn!(topic = name, error, "cannot see whether the topic of markers is compacted");
            return Ok(());
        }
    };
    match policy {
        Some("compact") => Ok(()),
        other => Err(format!(
            "the topic `{name}` for markers has cleanup.policy={}, expected compact: the last marker must never be deleted; \
             change it with `kafka-configs.sh --alter --add-config cleanup.policy=compact`",
            other.unwrap_or("(none)")
        )),
    }
}

/// A consumer beside the producer.
pub(super) fn reader(shared: &Shared, isolation: &str, at_end: bool) -> Result<BaseConsumer<ReaderLog>, String> {
    let mut config: ClientConfig = shared.config.clone();
    config
        .set("group.id", &shared.spec.transactional_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        .set("fetch.wait.max.ms", "50")
        .set("enable.partition.eof", if at_end { "true" } else { "false" });
    let log = ReaderLog(Log::new(format!("transactions `{}`", shared.spec.transactional_id)));
    config.create_with_context(log).map_err(|error| error.to_string())
}

/// [`Log`] for a consumer.
pub(super) struct ReaderLog(Log);

impl rdkafka::client::ClientContext for ReaderLog {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        // it has the producer's settings too, which says nothing new
        if facility != "CONFWARN" {
            self.0.log(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let at_end = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF);
        if !at_end {
            self.0.error(error, reason);
        }
    }
}

impl rdkafka::consumer::ConsumerContext for ReaderLog {}

/// First offset of a partition and the one after its last, as the reader's isolation shows it. Asks again for a while.
pub(super) fn watermarks(reader: &BaseConsumer<ReaderLog>, topic: &str, partition: i32) -> Result<(i64, i64), String> {
    let watch = Stopwatch::start();
    loop {
        match reader.fetch_watermarks(topic, partition, ANSWER_WITHIN) {
            Ok(found) => return Ok(found),
            Err(error) if watch.elapsed() > START_WITHIN => {
                return Err(format!("cannot ask for the offsets of `{topic}/{partition}`: {error}"));
            }
            Err(_) => std::thread::sleep(ASK_AGAIN_AFTER),
        }
    }
}

/// Reads from `from` to the end, as the reader's isolation shows it.
pub(super) fn read_on(
    reader: &BaseConsumer<ReaderLog>,
    (topic, partition): (&str, i32),
    from: i64,
    mut each: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(|error| error.to_string())?;
    reader.assign(&list).map_err(|error| error.to_string())?;
    let watch = Stopwatch::start();
    loop {
        match reader.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => each(&message)?,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                return Err(format!("cannot read `{topic}/{partition}`: offset {from} is gone"));
            }
            Some(Err(_)) | None if watch.elapsed() > START_WITHIN => {
                return Err(format!("`{topic}/{partition}` cannot be read to its end"));
            }
            Some(Err(_)) | None => {}
        }
    }
}

/// The last marker that was committed, read backwards.
pub(super) fn read(shared: &Shared) -> Result<Option<CommittedEpoch>, String> {
    let reader = reader(shared, "read_committed", true)?;
    let (low, high) = watermarks(&reader, &shared.markers, 0)?;
    let mut length = READ_FIRST;
    loop {
        let from = low.max(high.saturating_sub(length));
        let mut last = None;
        read_on(&reader, (&shared.markers, 0), from, |message| {
            if message.key() == Some(shared.spec.transactional_id.as_bytes()) {
                last = message.payload().map(decode).transpose()?;
            }
            Ok(())
        })?;
        if last.is_some() || from <= low {
            return Ok(last);
        }
        length = length.saturating_mul(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written_and_nothing_else_is() {
        let committed = CommittedEpoch { epoch: 17, attempt: "00ff".into() };
        assert_eq!(decode(encode(&committed).as_bytes()).unwrap(), committed);
        for wrong in ["", "v2;epoch=1;attempt=a", "v1;epoch=x;attempt=a", "v1;epoch=1", "\u{fffd}"] {
            assert!(decode(wrong.as_bytes()).unwrap_err().contains("a marker is"), "{wrong}");
        }
    }
}
