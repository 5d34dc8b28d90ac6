//! Kafka sinks under checkpoints: all of them write in one transaction.

use super::TOPIC_BYTES_MAX;
use crate::pipeline::problems::{Problems, code, quote};
use crate::pipeline::spec::{CheckpointSpec, PipelineSpec};
use crate::sink::{KafkaSinkSpec, SinkKind};

/// What is added to the id for the name of the topic with its markers.
const SUFFIX_BYTES: usize = "-epochs".len();

/// Brokers round no further down.
const TIMEOUT_MS_MIN: u128 = 1_000;

/// librdkafka's largest.
const TIMEOUT_MS_MAX: u128 = i32::MAX as u128;

/// All Kafka sinks must be of one cluster and want one producer.
pub(super) fn check(spec: &PipelineSpec, checkpoint: &CheckpointSpec, problems: &mut Problems) {
    let sinks = spec.sinks.iter().map(|sink| (format!("sink {}", quote(&sink.name.value)), &sink.kind));
    let dead_letter = spec.dead_letter.iter().map(|kind| ("the dead-letter output".to_owned(), kind));
    let mut first: Option<(String, &KafkaSinkSpec)> = None;
    for (name, kind) in sinks.chain(dead_letter) {
        let SinkKind::Kafka(kafka) = &kind.value else { continue };
        let Some((first, of_first)) = &first else {
            first = Some((name, kafka));
            continue;
        };
        if kafka.brokers != of_first.brokers {
            problems.add(
                code::CONFLICT,
                kind.span,
                format!("{first} and {name} write to different Kafka clusters under one `checkpoint`"),
                format!("expected {}, as there", quote(&of_first.brokers)),
                "two clusters do not commit together, and an epoch that only one of them has committed can be neither \
                 finished nor taken back; write to one cluster, or run a pipeline for each",
            );
        } else if (&kafka.properties, &kafka.security) != (&of_first.properties, &of_first.security) {
            problems.add(
                code::CONFLICT,
                kind.span,
                format!("{first} and {name} have different `properties`, `tls` or `sasl` under one `checkpoint`"),
                "expected the same in all Kafka sinks",
                "with checkpoints they share one producer: an epoch is one transaction of it",
            );
        }
    }
    if first.is_some() {
        check_keys(checkpoint, problems);
    } else if let Some(id) = &checkpoint.transactional_id {
        let message = "`transactional_id` of `checkpoint` names transactions of Kafka sinks, and there are none";
        problems.add(code::CONFLICT, id.span, message, "nothing uses it", "remove it, or add a Kafka sink");
    }
}

fn check_keys(checkpoint: &CheckpointSpec, problems: &mut Problems) {
    if let Some(id) = &checkpoint.transactional_id {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let max = TOPIC_BYTES_MAX - SUFFIX_BYTES;
        if id.value.len() > max || !id.value.bytes().all(allowed) {
            problems.add(
                code::BAD_VALUE,
                id.span,
                format!("{} cannot be a transactional id", quote(&id.value)),
                format!("expected letters, digits, `.`, `_` and `-`, at most {max}"),
                "the topic of its markers is named after it",
            );
        }
    }
    let timeout = &checkpoint.transaction_timeout;
    let (timeout_ms, interval_ms) = (timeout.value.as_millis(), checkpoint.interval.value.as_millis());
    if timeout_ms < TIMEOUT_MS_MIN || timeout_ms < 2 * interval_ms || timeout_ms > TIMEOUT_MS_MAX {
        // the default has no place of its own
        let given = timeout.span != crate::error::Span::default();
        problems.add(
            code::BAD_DURATION,
            if given { timeout.span } else { checkpoint.interval.span },
            format!("the transaction timeout is {timeout_ms} ms, and the checkpoint interval {interval_ms} ms"),
            "expected a timeout of at least 1s and two intervals, at most 24d",
            "an epoch that is not committed within the timeout is lost: give `transaction_timeout` more, and no more than the \
             brokers' `transaction.max.timeout.ms` (15m unless configured)",
        );
    }
}
