//! Rows to a Kafka topic: one record each, with the row's event time as its timestamp, in order within a partition.
//!
//! The producer is idempotent and waits for all replicas, so a retry neither repeats nor reorders records. A broker
//! that goes away is waited for (librdkafka retries for `message.timeout.ms`, five minutes); rows pile up in a bounded
//! queue and then hold up the pipeline. A record that could not be delivered ends the run: at the next batch, at the latest
//! when the input ends.
//!
//! With checkpoints all Kafka sinks of a pipeline share one producer, whose transactions are epochs: see `transactions`.

mod partitions;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use partitions::Partitions;

use super::records::Records;
use super::{BoxFuture, KafkaSinkSpec, Prepared, Sink, SinkContext, SinkError, Transactions};
use crate::kafka::{self, Log, Refusal, partitions_of};
use crate::record::{Batch, EventTime};

/// How long to wait before looking again whether the producer has room, or has delivered all.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// What this sink needs to be so.
const REFUSED: &[Refusal] = &[
    ("enable.idempotence", "without it a retry could repeat or reorder records"),
    ("acks", "records count as written when all replicas have them"),
    ("request.required.acks", "records count as written when all replicas have them"),
    ("transactional.id", "it is the key `transactional_id` of `checkpoint`"),
    ("transaction.timeout.ms", "it is the key `transaction_timeout` of `checkpoint`"),
];

/// The settings of a producer for these records; `sink_name` for messages.
pub(super) fn config(spec: &KafkaSinkSpec, base: &Path, sink_name: &str) -> Result<ClientConfig, SinkError> {
    let ours = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // so long a record may wait for company; a full batch goes at once
        ("linger.ms", "5"),
        ("batch.size", "1000000"),
        ("batch.num.messages", "100000"),
        ("queue.buffering.max.messages", "500000"),
        ("queue.buffering.max.kbytes", "131072"),
        // the partition that other clients would choose for the key
        ("partitioner", "murmur2_random"),
    ];
    let mut config = kafka::config(&spec.brokers, &ours, &spec.properties, REFUSED).map_err(|(property, why)| {
        SinkError::RefusedProperty { sink_name: sink_name.to_owned(), property: property.to_owned(), why }
    })?;
    let (brokers, topic) = (spec.brokers.clone(), spec.topic.clone());
    let failed = |reason| SinkError::Kafka { sink_name: sink_name.to_owned(), brokers, topic, reason };
    spec.security.apply(base, &mut config).map_err(failed)?;
    Ok(config)
}

/// Checks key and topic; starts a producer where there is none for the whole pipeline.
pub(super) async fn open(spec: &KafkaSinkSpec, context: SinkContext) -> Result<KafkaSink, SinkError> {
    let config = config(spec, &context.base, &context.name)?;
    let key = spec.key.as_ref().map(|key| key_column(&key.value, &context)).transpose()?;
    let records = Records::new(&context)?;
    let transactions = context.epochs.and_then(|epochs| Some((epochs.transactions?, epochs.next)));
    let epoch = transactions.map(|(transactions, epoch)| {
        let counted = transactions.partitions_of(&spec.topic);
        let own = !spec.properties.iter().any(|(name, _)| name == "partitioner");
        let partitions = (own && counted > 0).then(|| Partitions::new(counted, context.subtask));
        EpochGate::new(transactions, epoch, partitions)
    });
    let target = Target { sink_name: context.name, brokers: spec.brokers.clone(), topic: spec.topic.clone() };
    if let Some(epoch) = epoch {
        let producer = epoch.transactions.producer();
        return Ok(KafkaSink { target, key, records, producer, epoch: Some(epoch) });
    }
    let deliveries = Deliveries::new(format!("sink `{}`", target.sink_name));
    let topic = target.topic.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(deliveries).map_err(|error| error.to_string())?;
        partitions_of(producer.client(), &producer.context().log, || (), &topic)?;
        Ok(producer)
    });
    let producer = opened.await.map_err(|error| error.to_string()).flatten().map_err(|reason| target.error(reason))?;
    Ok(KafkaSink { target, key, records, producer: Arc::new(producer), epoch: None })
}

fn key_column(name: &str, context: &SinkContext) -> Result<usize, SinkError> {
    context.schema.index_of(name).ok_or_else(|| SinkError::NoSuchKey {
        sink_name: context.name.clone(),
        column: name.to_owned(),
        known: context.schema.to_string(),
    })
}

/// One subtask's producer.
pub(super) struct KafkaSink {
    target: Target,
    /// which column is the record key
    key: Option<usize>,
    records: Records,
    /// its own, or that of all Kafka sinks of the pipeline
    producer: Arc<ThreadedProducer<Deliveries>>,
    /// where epochs are committed
    epoch: Option<EpochGate>,
}

/// Which epoch a task writes. What it has after a barrier waits until the transaction before it is committed.
struct EpochGate {
    transactions: Transactions,
    epoch: u64,
    /// says whose a record is: the first of this task in a partition carries it, as a reader of what a partition holds
    /// back looks at the oldest record. On every record it would take as long as all the rest of sending it
    header: OwnedHeaders,
    /// where records go; none where librdkafka is to choose by a `partitioner` of the pipeline: then all have the header
    partitions: Option<Partitions>,
    /// its transaction has been seen open
    open: bool,
}

impl EpochGate {
    fn new(transactions: Transactions, epoch: u64, partitions: Option<Partitions>) -> Self {
        let header = transactions.header(epoch);
        Self { transactions, epoch, header, partitions, open: false }
    }

    /// What comes belongs to the epoch after `epoch`.
    fn passed(&mut self, epoch: u64) {
        self.epoch = epoch.saturating_add(1);
        self.header = self.transactions.header(self.epoch);
        self.partitions.iter_mut().for_each(Partitions::next_epoch);
        self.open = false;
    }

    async fn pass(&mut self) {
        if !self.open {
            self.transactions.wait_for(self.epoch).await;
            self.open = true;
        }
    }
}

/// For messages.
struct Target {
    sink_name: String,
    brokers: String,
    topic: String,
}

impl Target {
    fn error(&self, reason: String) -> SinkError {
        SinkError::Kafka {
            sink_name: self.sink_name.clone(),
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            reason,
        }
    }
}

/// Hears what became of records, in the producer's thread.
pub(super) struct Deliveries {
    pub(super) log: Log,
    /// the first record that was not delivered
    failed: Mutex<Option<String>>,
}

impl Deliveries {
    /// `owner` for messages.
    pub(super) fn new(owner: String) -> Self {
        Self { log: Log::new(owner), failed: Mutex::new(None) }
    }

    /// What became of the first record that was not delivered.
    pub(super) fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| {
                let (topic, partition) = (record.topic(), record.partition());
                format!(
                    "a record of `{topic}/{partition}` was not delivered ({error}); check the broker's log and its disk"
                )
            });
        }
    }
}

impl KafkaSink {
    fn check_deliveries(&self) -> Result<(), SinkError> {
        if let Some(gate) = &self.epoch {
            return gate.transactions.check();
        }
        match self.producer.context().failure() {
            Some(reason) => Err(self.target.error(reason)),
            None => Ok(()),
        }
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.check_deliveries()?;
        self.records.encode(batch)?;
        if let Some(epoch) = &mut self.epoch {
            epoch.pass().await;
            epoch.partitions.iter_mut().for_each(Partitions::turn);
        }
        let mut key = Vec::new();
        for row in 0..batch.rows() {
            let has_key = self.key.is_some_and(|column| write_key(batch.column(column), row, &mut key));
            let time_ms = batch.times().get(row).copied();
            while !self.try_send(row, has_key.then_some(key.as_slice()), time_ms)? {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                self.check_deliveries()?;
            }
        }
        Ok(())
    }

    /// Hands a record to the producer, which copies it; `false` if it has no room.
    fn try_send(&mut self, row: usize, key: Option<&[u8]>, time_ms: Option<EventTime>) -> Result<bool, SinkError> {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&self.target.topic).payload(self.records.frames().get(row));
        record.key = key;
        // Kafka knows no times before 1970: the time of sending takes their place, as for rows that have none
        record.timestamp = time_ms.filter(|time_ms| *time_ms >= 0);
        let mut first_in = None;
        if let Some(epoch) = &self.epoch {
            let partition = epoch.partitions.as_ref().map(|partitions| partitions.of(key));
            record.partition = partition.and_then(|partition| i32::try_from(partition).ok());
            let known = epoch.partitions.as_ref().zip(partition);
            if known.is_none_or(|(partitions, partition)| !partitions.is_headed(partition)) {
                record.headers = Some(epoch.header.clone());
                first_in = partition;
            }
        }
        match self.producer.send(record) {
            Ok(()) => {
                let partitions = self.epoch.as_mut().and_then(|epoch| epoch.partitions.as_mut());
                if let Some((partitions, partition)) = partitions.zip(first_in) {
                    partitions.note_header(partition);
                }
                Ok(true)
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(match &self.epoch {
                Some(gate) => gate.transactions.not_sent(gate.epoch, &error),
                None => self.target.error(format!("row {row} of a batch cannot be sent: {error}")),
            }),
        }
    }

    /// Waits until all records have been delivered or refused.
    async fn delivered(&self) -> Result<(), SinkError> {
        while self.producer.in_flight_count() > 0 {
            self.check_deliveries()?;
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        self.check_deliveries()
    }

    async fn drain(self) -> Result<(), SinkError> {
        if self.epoch.is_some() {
            // the last commit waits for them
            return Ok(());
        }
        self.delivered().await?;
        // its thread is waited for, up to 0.1 s
        let closed = tokio::task::spawn_blocking(move || drop(self.producer)).await;
        closed.map_err(|error| self.target.error(error.to_string()))
    }
}

impl Sink for KafkaSink {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send(batch))
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        // the producer holds nothing back for longer than `linger.ms`
        Box::pin(std::future::ready(self.check_deliveries()))
    }

    /// All records of the epoch have been handed to the producer; who commits waits until they have arrived. Without
    /// transactions they are visible at once, and a checkpoint waits here: none can be missing after it.
    fn prepare(&mut self, epoch: u64) -> BoxFuture<'_, Result<Option<Prepared>, SinkError>> {
        Box::pin(async move {
            match &mut self.epoch {
                Some(gate) => gate.passed(epoch),
                None => self.delivered().await?,
            }
            Ok(None)
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(self.drain())
    }
}

/// Writes a cell as a record key: text and bytes as they are, numbers in decimal. `false` for null.
fn write_key(column: &ArrayRef, row: usize, key: &mut Vec<u8>) -> bool {
    key.clear();
    if column.is_null(row) {
        return false;
    }
    if let Some(values) = column.as_string_opt::<i32>() {
        key.extend_from_slice(values.value(row).as_bytes());
    } else if let Some(values) = column.as_binary_opt::<i32>() {
        key.extend_from_slice(values.value(row));
    } else if let Some(values) = column.as_primitive_opt::<Int64Type>() {
        key.extend_from_slice(itoa::Buffer::new().format(values.value(row)).as_bytes());
    } else if let Some(values) = column.as_primitive_opt::<TimestampMillisecondType>() {
        key.extend_from_slice(itoa::Buffer::new().format(values.value(row)).as_bytes());
    } else if let Some(values) = column.as_primitive_opt::<Float64Type>() {
        key.extend_from_slice(values.value(row).to_string().as_bytes());
    } else if let Some(values) = column.as_boolean_opt() {
        key.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;
    use crate::kafka::KafkaSecurity;
    use crate::sink::testing::context;

    fn spec(properties: &[(&str, &str)], key: Option<&str>) -> KafkaSinkSpec {
        KafkaSinkSpec {
            brokers: "127.0.0.1:1".into(),
            topic: "orders".into(),
            key: key.map(|key| key.to_owned().into()),
            security: KafkaSecurity::default(),
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn keys_are_the_text_of_their_cells() {
        let columns: [(ArrayRef, Option<&str>); 8] = [
            (Arc::new(StringArray::from(vec!["ü"])), Some("ü")),
            (Arc::new(StringArray::from(vec![""])), Some("")),
            (Arc::new(StringArray::from(vec![None::<&str>])), None),
            (Arc::new(BinaryArray::from(vec![&b"ab"[..]])), Some("ab")),
            (Arc::new(Int64Array::from(vec![i64::MIN])), Some("-9223372036854775808")),
            (Arc::new(TimestampMillisecondArray::from(vec![5])), Some("5")),
            (Arc::new(Float64Array::from(vec![1.5])), Some("1.5")),
            (Arc::new(BooleanArray::from(vec![true])), Some("true")),
        ];
        for (column, expected) in columns {
            let mut key = b"before".to_vec();
            let found = write_key(&column, 0, &mut key).then(|| String::from_utf8(key).unwrap());
            assert_eq!(found.as_deref(), expected, "{column:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_before_a_broker_is_asked() {
        let error = open(&spec(&[("acks", "1")], None), context("text")).await.err().unwrap().to_string();
        assert_eq!(
            error,
            "sink `out`: kafka property `acks` cannot be set: records count as written when all replicas have them"
        );
        let error = open(&spec(&[], Some("user")), context("text")).await.err().unwrap().to_string();
        assert!(error.contains("no column `user` for `key`; expected one of value: text"), "{error}");
        let error = open(&spec(&[("linger", "1")], None), context("text")).await.err().unwrap().to_string();
        assert!(error.contains("`orders` at `127.0.0.1:1`") && error.contains("linger"), "{error}");
    }
}
