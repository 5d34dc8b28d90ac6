//! What readers of committed records see.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value};

const PATIENCE: Duration = Duration::from_secs(20);

fn consumer(broker: &str, isolation: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("group.id", "check").set("enable.auto.commit", "false");
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("fetch.wait.max.ms", "50");
    config.set_log_level(RDKafkaLogLevel::Critical).create().unwrap()
}

pub fn partitions(broker: &str, topic: &str) -> Vec<i32> {
    let reader = consumer(broker, "read_committed");
    let metadata = reader.fetch_metadata(Some(topic), PATIENCE).unwrap();
    metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect()
}

/// All records, partition after partition: key, value.
pub fn records(broker: &str, topic: &str) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let reader = consumer(broker, "read_committed");
    let mut list = TopicPartitionList::new();
    let mut left = partitions(broker, topic);
    for partition in &left {
        list.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    reader.assign(&list).unwrap();
    let mut records = Vec::new();
    while !left.is_empty() {
        match reader.poll(PATIENCE).expect("the end of a partition") {
            Ok(message) => {
                records.push((message.key().map(<[u8]>::to_vec), message.payload().unwrap_or_default().to_vec()));
            }
            Err(KafkaError::PartitionEOF(ended)) => left.retain(|partition| *partition != ended),
            Err(error) => panic!("{error}"),
        }
    }
    records
}

/// All committed rows.
pub fn read_committed(broker: &str, topic: &str) -> Vec<Map<String, Value>> {
    records(broker, topic).iter().map(|(_, value)| serde_json::from_slice(value).unwrap()).collect()
}

/// Partitions with a transaction that nobody has ended.
pub fn open_partitions(broker: &str, topic: &str) -> Vec<i32> {
    let (all, committed) = (consumer(broker, "read_uncommitted"), consumer(broker, "read_committed"));
    let mut open = partitions(broker, topic);
    open.retain(|partition| {
        let high = |reader: &BaseConsumer| reader.fetch_watermarks(topic, *partition, PATIENCE).unwrap().1;
        let end = high(&all);
        // the broker answers a commit a moment before it is told to the partitions
        (0..40).all(|_| {
            let is_open = high(&committed) < end;
            if is_open {
                std::thread::sleep(Duration::from_millis(50));
            }
            is_open
        })
    });
    open
}
