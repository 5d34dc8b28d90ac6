//! Sinks as written in a pipeline.

use std::path::PathBuf;
use std::time::Duration;

use super::{ChannelSink, DocumentSink};
use crate::error::Spanned;
use crate::kafka::KafkaSecurity;

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// `print = {}`: one record a line on stdout
    Print,
    /// `discard = {}`: counted and dropped, for measurements
    Discard,
    /// `file = { path = ".." }`: written beside it under a pending name and renamed when the input ends
    File {
        /// relative to the pipeline file
        path: String,
    },
    /// `object = { url = "s3://.." }`
    Object(ObjectSinkSpec),
    /// `kafka = { brokers, topic, key, properties }`
    Kafka(KafkaSinkSpec),
    /// to code in this process; pipeline files cannot name it
    Channel(ChannelSink),
    /// to a store of documents that code in this process connects to; pipeline files cannot name it
    Documents(DocumentSink),
}

/// `object = { .. }` of a sink
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSinkSpec {
    /// `url`: `s3://..`, `hdfs://..`, `file:///..` or a path; names of objects are made of its last part
    pub url: String,
    /// `roll`: without checkpoints, an object of so many bytes is finished and the next begun
    pub roll: Option<usize>,
}

/// `kafka = { .. }` of a sink
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSinkSpec {
    /// `brokers`
    pub brokers: String,
    /// `topic`
    pub topic: String,
    /// `key`: column whose value becomes the record key and picks the partition
    pub key: Option<Spanned<String>>,
    /// `tls`, `sasl`
    pub security: KafkaSecurity,
    /// `properties`: handed to librdkafka
    pub properties: Vec<(String, String)>,
}

/// The transactions in which all Kafka sinks of a pipeline write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSpec {
    /// names the pipeline to the broker: a process that uses it shuts out those that used it before
    pub transactional_id: String,
    /// what relative paths are relative to
    pub base: PathBuf,
    /// how long the broker keeps a transaction open without hearing of it
    pub timeout: Duration,
    /// at least one; all of one cluster
    pub sinks: Vec<KafkaSinkSpec>,
}

/// The last epoch that was committed, as the broker tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEpoch {
    /// its number
    pub epoch: u64,
    /// which process committed it
    pub attempt: String,
}

/// A partition that holds records back from readers of committed records, though no transaction of ours is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPartition {
    /// the topic
    pub topic: String,
    /// its number
    pub partition: i32,
    /// whether it holds the markers
    pub of_markers: bool,
    /// the epoch of the first such record, if it is ours
    pub first_of: Option<u64>,
    /// whether any is ours
    pub any_ours: bool,
}
