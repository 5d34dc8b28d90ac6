//! The Kafka source and sink against a real broker. Where there is no Java or Maven these tests pass and say so.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{RecordBatch, StringArray};
use millstream::clock::{Clock, Stopwatch};
use millstream::format::{BadRecord, Format};
use millstream::kafka::KafkaSecurity;
use millstream::record::{Batch, Field, Kind, NO_EVENT_TIME, Position, Schema};
use millstream::sink::{self, KafkaSinkSpec, SinkContext, SinkKind};
use millstream::source::{self, KafkaSourceSpec, KafkaStart, Source, SourceContext, SourceEvent, SourceKind};
use millstream_tests::broker::Broker;
use rdkafka::ClientConfig;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// The broker, or the end of the test.
macro_rules! broker_or_return {
    () => {
        match Broker::or_skip(std::thread::current().name().unwrap_or("kafka_io")).unwrap() {
            Some(broker) => broker,
            None => return,
        }
    };
}

mod security_tests;
mod sink_tests;
mod source_tests;

/// A source or sink that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn spec(broker: &Broker, topic: &str) -> KafkaSourceSpec {
    KafkaSourceSpec {
        brokers: broker.bootstrap(),
        topic: topic.to_owned(),
        start: KafkaStart::Earliest,
        bounded: true,
        security: KafkaSecurity::default(),
        discover: std::time::Duration::from_millis(300),
        properties: Vec::new(),
    }
}

fn context(format: Format) -> SourceContext {
    let kind = if format == Format::Json { Kind::Int64 } else { Kind::Text };
    let schema = Schema::new([Field::new("value", kind)]);
    SourceContext {
        name: "input".into(),
        format: Some(format),
        schema: schema.clone(),
        wanted: schema,
        event_time: None,
        subtask: 0,
        parallelism: 1,
        clock: Clock::virtual_at_ms(77),
        base: PathBuf::new(),
        restore: None,
        trickle: None,
    }
}

async fn open(spec: KafkaSourceSpec, context: SourceContext) -> Box<dyn Source> {
    source::open(&SourceKind::Kafka(spec), context).await.unwrap()
}

fn producer(broker: &Broker, properties: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Sends a record that may have no value.
fn produce(producer: &BaseProducer, topic: &str, partition: i32, value: Option<&str>, time_ms: i64) {
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition).timestamp(time_ms);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.poll(Duration::ZERO);
}

#[derive(Debug, Default)]
struct Told {
    /// partition, value, time
    rows: Vec<(u32, String, i64)>,
    bad: Vec<(u32, BadRecord)>,
    ended: Vec<u32>,
}

impl Told {
    fn add(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Batch { partition, batch, bad } => {
                for row in 0..batch.rows() {
                    let value = match batch.column(0).as_string_opt::<i32>() {
                        Some(values) => values.value(row).to_owned(),
                        None => batch.column(0).as_primitive::<arrow_array::types::Int64Type>().value(row).to_string(),
                    };
                    self.rows.push((partition, value, batch.times()[row]));
                }
                self.bad.extend(bad.into_iter().map(|bad| (partition, bad)));
            }
            SourceEvent::PartitionEnded { partition } => self.ended.push(partition),
            SourceEvent::Quiet | SourceEvent::End | SourceEvent::Direct(_) => {}
        }
    }

    fn of_partition(&self, partition: u32) -> Vec<&str> {
        self.rows.iter().filter(|row| row.0 == partition).map(|row| row.1.as_str()).collect()
    }
}

async fn read_to_end(source: &mut dyn Source) -> Told {
    let read = async {
        let mut told = Told::default();
        loop {
            match source.next().await.unwrap() {
                SourceEvent::End => return told,
                event => told.add(event),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

async fn read_rows(source: &mut dyn Source, told: &mut Told, rows: usize) {
    let read = async {
        while told.rows.len() < rows {
            told.add(source.next().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
}

fn sink_kind(broker: &Broker, topic: &str, key: Option<&str>) -> SinkKind {
    SinkKind::Kafka(KafkaSinkSpec {
        brokers: broker.bootstrap(),
        topic: topic.to_owned(),
        key: key.map(|key| key.to_owned().into()),
        security: KafkaSecurity::default(),
        properties: Vec::new(),
    })
}

fn sink_context(format: Format, fields: &[&str]) -> SinkContext {
    let fields: Vec<Field> = fields.iter().map(|name| Field::new(*name, Kind::Text)).collect();
    let schema = Schema::new(fields);
    SinkContext { name: "out".into(), format, schema, base: PathBuf::new(), subtask: 0, parallelism: 1, epochs: None }
}

fn text_batch(schema: &Schema, columns: &[Vec<String>], times: Vec<i64>) -> Batch {
    let arrays = columns.iter().map(|values| Arc::new(StringArray::from(values.clone())) as _).collect();
    let columns = RecordBatch::try_new(schema.arrow().clone(), arrays).unwrap();
    Batch::new(columns, times.into()).unwrap()
}
