//! A Kafka topic: each Kafka partition is a partition of the source, with the records' own timestamps as event times.
//!
//! Partition `p` belongs to subtask `p mod parallelism`, for the whole run: partitions are assigned here and not by a
//! consumer group, and nothing is committed to the broker. A thread of its own takes records from librdkafka in bulk and
//! copies each once, into the frames that the task decodes. When the task is behind, the thread waits for room in
//! its channel, and librdkafka stops fetching once its queue is full.
//!
//! A broker that goes away later is waited for. Records that the broker no longer has when they should be read are an
//! error, never skipped. Partitions that are added to the topic later are found by asking again
//! now and then, and read from their beginning.

mod queue;
mod reader;

use tokio::sync::oneshot;

use super::feed::{Arrival, Feed};
use super::{KafkaSourceSpec, SourceContext, SourceError};
use crate::kafka::{self, Refusal};
use reader::Reader;

/// What this source needs to be so.
const REFUSED: &[Refusal] = &[
    ("group.id", "partitions are assigned by the runtime, there is no consumer group"),
    ("enable.auto.commit", "nothing is committed to the broker: where to start is the key `start`"),
    ("auto.commit.enable", "nothing is committed to the broker: where to start is the key `start`"),
    ("enable.auto.offset.store", "nothing is committed to the broker: where to start is the key `start`"),
    ("auto.offset.reset", "records that are gone must not be skipped silently; where to start is the key `start`"),
    ("enable.partition.eof", "it is set as `until = \"end\"` needs it"),
];

/// Finds the partitions and starts to read this subtask's share.
pub(super) async fn open(spec: &KafkaSourceSpec, context: SourceContext) -> Result<Feed, SourceError> {
    let ours = [
        // the default of a second stalls a consumer that is slower than the network for a second at a time
        ("fetch.queue.backoff.ms", "2"),
        ("queued.min.messages", "1000000"),
        ("enable.auto.commit", "false"),
        ("auto.commit.enable", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", if spec.bounded { "true" } else { "false" }),
    ];
    let mut config = kafka::config(&spec.brokers, &ours, &spec.properties, REFUSED).map_err(|(property, why)| {
        SourceError::RefusedProperty { source_name: context.name.clone(), property: property.to_owned(), why }
    })?;
    spec.security.apply(&context.base, &mut config).map_err(|reason| kafka_error(spec, &context, reason))?;
    let (feed, feeder) = Feed::new(&context, false, Arrival::IsEventTime, Vec::new())?;
    let reader = Reader::new(spec, &context, config, feeder);
    let (opened, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("kafka-{}", context.name));
    thread.spawn(move || reader.run(opened)).map_err(|error| kafka_error(spec, &context, error.to_string()))?;
    match answer.await {
        Ok(Ok(partitions)) => {
            let numbers = partitions.iter().map(|(partition, _)| *partition).collect();
            Ok(feed.with_partitions(numbers).starting_at(partitions))
        }
        Ok(Err(reason)) => Err(kafka_error(spec, &context, reason)),
        Err(_) => Err(kafka_error(spec, &context, "its thread ended; please report it".to_owned())),
    }
}

fn kafka_error(spec: &KafkaSourceSpec, context: &SourceContext, reason: String) -> SourceError {
    SourceError::Kafka {
        source_name: context.name.clone(),
        brokers: spec.brokers.clone(),
        topic: spec.topic.clone(),
        reason,
    }
}
