//! What the Kafka source and sink share: how to reach a cluster and prove who one is, the first question to it, and
//! librdkafka's log lines.

#[cfg(feature = "kafka")]
mod client;
mod security;

#[cfg(feature = "kafka")]
pub(crate) use client::{ANSWER_WITHIN, Log, Refusal, config, partitions_of, unreachable};
pub use security::{KafkaSecurity, Mechanism, Sasl, Secret, Tls};
