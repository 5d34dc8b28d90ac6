//! Sinks as written in a pipeline.

use super::ChannelSink;
use crate::error::Spanned;

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
    /// `properties`: handed to librdkafka
    pub properties: Vec<(String, String)>,
}
