//! Partitions that hold records back from readers of committed records though no transaction of ours is open.
//!
//! Seen with one replica and a broker that was killed and restarted while a transaction timed out: it notes the abort and
//! does not tell the partition. The next commit of the same producer would commit what was aborted.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use super::markers::{read_on, reader, watermarks};
use super::{ASK_AGAIN_AFTER, Asks, CALL, EPOCH_HEADER, LOOK_AGAIN_AFTER, START_WITHIN, Shared, asks};
use crate::clock::Stopwatch;
use crate::sink::HeldPartition;

/// A broker that is well ends a transaction in its partitions within this time.
const ENDED_WITHIN: Duration = Duration::from_secs(3);

/// The header of a record.
pub(super) fn header(transactional_id: &str, epoch: u64) -> OwnedHeaders {
    let value = format!("{transactional_id};{epoch}");
    OwnedHeaders::new_with_capacity(1).insert(Header { key: EPOCH_HEADER, value: Some(value.as_bytes()) })
}

/// The epoch of a record of ours.
fn epoch_of(message: &impl Message, transactional_id: &str) -> Option<u64> {
    let headers = message.headers()?;
    let ours = headers.iter().find(|header| header.key == EPOCH_HEADER)?;
    let value = std::str::from_utf8(ours.value?).ok()?;
    value.strip_prefix(transactional_id)?.strip_prefix(';')?.parse().ok()
}

/// Partitions of the sinks and of the markers that hold records back and go on doing so.
pub(super) fn find(shared: &Shared) -> Result<Vec<HeldPartition>, String> {
    let committed = reader(shared, "read_committed", false)?;
    let all = reader(shared, "read_uncommitted", true)?;
    let watch = Stopwatch::start();
    let mut held = Vec::new();
    let markers = (shared.markers.clone(), 0);
    for (topic, partition) in shared.partitions.iter().chain([&markers]) {
        let (_, high) = watermarks(&all, topic, *partition)?;
        let stable = loop {
            let (_, stable) = watermarks(&committed, topic, *partition)?;
            if stable >= high || watch.elapsed() > ENDED_WITHIN {
                break stable;
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        };
        if stable >= high {
            continue;
        }
        let (mut first, mut any_ours) = (None, false);
        read_on(&all, (topic, *partition), stable, |message| {
            let epoch = epoch_of(message, &shared.spec.transactional_id);
            first.get_or_insert(epoch);
            any_ours |= epoch.is_some();
            Ok(())
        })?;
        held.push(HeldPartition {
            topic: topic.clone(),
            partition: *partition,
            of_markers: *topic == shared.markers,
            first_of: first.flatten(),
            any_ours,
        });
    }
    Ok(held)
}

/// Runs a transaction with a record in each partition and aborts it; returns once none holds anything back that was there.
pub(super) fn abort_again(shared: &Shared, partitions: &[(String, i32)]) -> Result<(), String> {
    let all = reader(shared, "read_uncommitted", false)?;
    let committed = reader(shared, "read_committed", false)?;
    let mut highs = Vec::new();
    for (topic, partition) in partitions {
        highs.push(watermarks(&all, topic, *partition)?.1);
    }
    shared.producer.begin_transaction().map_err(|error| error.to_string())?;
    for (topic, partition) in partitions {
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).partition(*partition).payload(b"never committed");
        shared.producer.send(record).map_err(|(error, _)| error.to_string())?;
    }
    let watch = Stopwatch::start();
    while shared.producer.in_flight_count() > 0 && watch.elapsed() < START_WITHIN {
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
    while let Err(error) = shared.producer.abort_transaction(CALL) {
        let again = matches!(&error, KafkaError::Transaction(error) if matches!(asks(error), Asks::Again));
        if !again || watch.elapsed() > START_WITHIN {
            return Err(format!("cannot abort: {error}"));
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
    }
    for ((topic, partition), high) in partitions.iter().zip(highs) {
        while watermarks(&committed, topic, *partition)?.1 < high {
            if watch.elapsed() > START_WITHIN {
                return Err(format!("`{topic}/{partition}` still holds records back after an abort"));
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
    }
    Ok(())
}
