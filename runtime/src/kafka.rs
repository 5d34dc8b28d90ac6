//! What the Kafka source and sink share: settings, the first question to the broker, and librdkafka's log lines.

use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::clock::Stopwatch;
use crate::error::near_match;

/// A broker that does not answer within this time while a source or sink is opened is unreachable.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A topic that was just made may be unknown to a broker for so long.
const TOPIC_APPEARS_WITHIN: Duration = Duration::from_secs(2);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Topics that a message lists.
const TOPICS_LISTED: usize = 8;

/// Librdkafka's log lines and errors, as ours.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// ``source `orders` ``
    pub(crate) owner: String,
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let owner = &self.owner;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", %owner, facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", %owner, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", %owner, facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", %owner, facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(owner = %self.owner, %error, reason, "kafka; trying again");
    }
}

/// A property that users may not set, and why.
pub(crate) type Refusal = (&'static str, &'static str);

/// Our settings with the user's over them, unless one is refused.
pub(crate) fn config(
    brokers: &str,
    ours: &[(&str, &str)],
    theirs: &[(String, String)],
    refusals: &[Refusal],
) -> Result<ClientConfig, Refusal> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set_log_level(RDKafkaLogLevel::Warning);
    for (property, value) in ours {
        config.set(*property, *value);
    }
    for (property, value) in theirs {
        if let Some(refusal) = refusals.iter().find(|(name, _)| name == property) {
            return Err(*refusal);
        }
        config.set(property, value);
    }
    Ok(config)
}

/// The partitions of a topic, in order. Blocks up to [`ANSWER_WITHIN`].
pub(crate) fn partitions_of<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<Vec<i32>, String> {
    let watch = Stopwatch::start();
    loop {
        let left = ANSWER_WITHIN.saturating_sub(watch.elapsed());
        let metadata = client.fetch_metadata(Some(topic), left).map_err(|error| unreachable(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = match found {
            None => RDKafkaErrorCode::UnknownTopicOrPartition,
            Some(found) => match found.error() {
                Some(error) => RDKafkaErrorCode::from(error),
                None => {
                    let mut partitions: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
                    partitions.sort_unstable();
                    return Ok(partitions);
                }
            },
        };
        let passes = matches!(
            error,
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::LeaderNotAvailable
        );
        if !passes {
            return Err(format!("the broker refuses it: {error}"));
        }
        if watch.elapsed() >= TOPIC_APPEARS_WITHIN {
            return Err(no_such_topic(client, topic));
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
    }
}

/// A message for a broker that did not answer.
pub(crate) fn unreachable(error: &KafkaError) -> String {
    format!(
        "no broker answered within {} s ({error}); check that `brokers` names one that runs and is reached from here",
        ANSWER_WITHIN.as_secs()
    )
}

fn no_such_topic<C: ClientContext>(client: &Client<C>, topic: &str) -> String {
    let mut known: Vec<String> = match client.fetch_metadata(None, Duration::from_secs(2)) {
        Ok(metadata) => metadata.topics().iter().map(|topic| topic.name().to_owned()).collect(),
        Err(_) => Vec::new(),
    };
    known.retain(|name| !name.starts_with("__"));
    known.sort_unstable();
    let near = near_match(topic, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`? "));
    let more = if known.len() > TOPICS_LISTED { ", .." } else { "" };
    known.truncate(TOPICS_LISTED);
    let listed = if known.is_empty() { "no topics".to_owned() } else { format!("{}{more}", known.join(", ")) };
    format!(
        "there is no such topic; {}the broker has {listed}; make it with `kafka-topics.sh --create`",
        near.unwrap_or_default()
    )
}
