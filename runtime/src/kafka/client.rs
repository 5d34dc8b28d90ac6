//! Settings, the first question to a broker, and librdkafka's log lines.

use std::sync::{Arc, Mutex, PoisonError};
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

/// One question while a broker may refuse the connection for good.
const QUESTION: Duration = Duration::from_secs(1);

/// Librdkafka's log lines and errors, as ours.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// ``source `orders` ``
    owner: String,
    /// why a connection was refused
    refusal: Arc<Mutex<Option<String>>>,
}

impl Log {
    pub(crate) fn new(owner: String) -> Self {
        Self { owner, refusal: Arc::default() }
    }

    /// Keeps why a connection fails where trying again will not help, with what to do.
    fn remember(&self, failure: &str) {
        let says = |words: &[&str]| words.iter().any(|word| failure.contains(word));
        let help = if says(&["certificate verify failed", "certificate is not trusted"]) {
            "the broker's certificate is not signed by anybody in `ca` of `tls`"
        } else if says(&["SASL authentication error", "Authentication failed", "SASL handshake failed"]) {
            "check `username`, password and `mechanism` of `sasl`"
        } else if says(&["SSL handshake failed", "peer did not return a certificate", "SSL transport error"]) {
            "check `tls`, and that the port is one for TLS"
        } else {
            return;
        };
        let refusal = format!("the connection is refused ({failure}); {help}");
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
        self.remember(reason);
        tracing::warn!(owner = %self.owner, %error, reason, "kafka; trying again");
    }
}

/// A property that users may not set, and why.
pub(crate) type Refusal = (&'static str, &'static str);

/// Properties that have a key of their own, or hold secrets.
const HAVE_KEYS: &[Refusal] = &[
    ("bootstrap.servers", "it is the key `brokers`"),
    ("metadata.broker.list", "it is the key `brokers`"),
    ("security.protocol", "it follows from the keys `tls` and `sasl`"),
    ("ssl.ca.location", "it is `ca` of the key `tls`"),
    ("ssl.certificate.location", "it is `cert` of the key `tls`"),
    ("ssl.key.location", "it is `key` of the key `tls`"),
    ("ssl.key.pem", "secrets do not stand in pipelines; use `key` of the key `tls`"),
    ("ssl.key.password", "secrets do not stand in pipelines; use `key_password_env` of the key `tls`"),
    ("ssl.keystore.password", "secrets do not stand in pipelines; use `cert` and `key` of the key `tls`"),
    ("sasl.mechanism", "it is `mechanism` of the key `sasl`"),
    ("sasl.mechanisms", "it is `mechanism` of the key `sasl`"),
    ("sasl.username", "it is `username` of the key `sasl`"),
    ("sasl.password", "secrets do not stand in pipelines; use `password_env` or `password_file` of the key `sasl`"),
    ("sasl.oauthbearer.client.secret", "secrets do not stand in pipelines"),
];

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
        if let Some(refusal) = refusals.iter().chain(HAVE_KEYS).find(|(name, _)| name == property) {
            return Err(*refusal);
        }
        config.set(property, value);
    }
    Ok(config)
}

/// The partitions of a topic, in order. `log` is the client's, and `serve` lets it hear of errors, where no thread does.
/// Blocks up to [`ANSWER_WITHIN`].
pub(crate) fn partitions_of<C: ClientContext>(
    client: &Client<C>,
    log: &Log,
    serve: impl Fn(),
    topic: &str,
) -> Result<Vec<i32>, String> {
    let watch = Stopwatch::start();
    loop {
        let left = ANSWER_WITHIN.saturating_sub(watch.elapsed());
        let metadata = match client.fetch_metadata(Some(topic), left.min(QUESTION)) {
            Ok(metadata) => metadata,
            Err(error) => {
                std::thread::sleep(ASK_AGAIN_AFTER);
                serve();
                match log.refusal() {
                    Some(refusal) => return Err(refusal),
                    None if watch.elapsed() >= ANSWER_WITHIN => return Err(unreachable(&error)),
                    None => continue,
                }
            }
        };
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
