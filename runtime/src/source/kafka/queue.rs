//! Records of several partitions in bulk, straight from librdkafka.
//!
//! The safe interface of rdkafka hands out one record a call, at half the speed. This uses librdkafka's consumer without
//! groups: partitions are started into one queue of ours, and a call takes many records from it. All unsafe code of
//! the source is here. Pointers live in guards whose fields and `Drop` keep librdkafka's order: records before
//! the queue, partitions stopped before queue and topic, all before the client.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

/// Where a partition is started to read from its first record.
pub(super) const FROM_BEGINNING: i64 = native::RD_KAFKA_OFFSET_BEGINNING as i64;

/// Records that one call takes at most. More gains nothing.
pub(super) const TAKE_MAX: usize = 1_000;

/// One entry of the queue.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    Record {
        partition: i32,
        offset: i64,
        /// none in topics of very old brokers
        time_ms: Option<i64>,
        /// none: a tombstone
        payload: Option<&'a [u8]>,
    },
    /// all records up to `offset` have been taken
    EndOfPartition {
        partition: i32,
        offset: i64,
    },
    Failed {
        partition: i32,
        code: RDKafkaErrorCode,
        reason: String,
    },
}

/// The partitions that are being read.
pub(super) struct Queue {
    queue: NonNull<native::rd_kafka_queue_t>,
    topic: NonNull<native::rd_kafka_topic_t>,
    started: Vec<i32>,
    slots: Vec<*mut native::rd_kafka_message_t>,
    /// dropped last: fields are dropped after `Drop::drop`
    consumer: BaseConsumer<KafkaLog>,
}

/// The context of the consumer.
pub(super) type KafkaLog = super::reader::ConsumerLog;

impl Queue {
    /// A queue of the topic's partitions, none started.
    #[allow(unsafe_code)]
    pub(super) fn new(consumer: BaseConsumer<KafkaLog>, topic: &str) -> Result<Self, String> {
        let name = CString::new(topic).map_err(|_| "the name holds a zero byte".to_owned())?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive (owned by `consumer`), the name is a C string, a null configuration is allowed
        let topic = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(last_error)?;
        // SAFETY: the client is alive
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(client) });
        let Some(queue) = queue else {
            // SAFETY: made above and handed to nobody
            unsafe { native::rd_kafka_topic_destroy(topic.as_ptr()) };
            return Err(last_error());
        };
        Ok(Self { queue, topic, started: Vec::new(), slots: vec![ptr::null_mut(); TAKE_MAX], consumer })
    }

    /// The client, for questions and events.
    pub(super) fn consumer(&self) -> &BaseConsumer<KafkaLog> {
        &self.consumer
    }

    /// Starts to fetch a partition from `offset` (or [`FROM_BEGINNING`]).
    #[allow(unsafe_code)]
    pub(super) fn start(&mut self, partition: i32, offset: i64) -> Result<(), String> {
        // SAFETY: topic and queue are alive and of the same client
        let result = unsafe {
            native::rd_kafka_consume_start_queue(self.topic.as_ptr(), partition, offset, self.queue.as_ptr())
        };
        if result != 0 {
            return Err(last_error());
        }
        self.started.push(partition);
        Ok(())
    }

    /// Stops to fetch a partition; records of it that are in the queue may still be taken.
    pub(super) fn stop(&mut self, partition: i32) {
        if let Some(index) = self.started.iter().position(|started| *started == partition) {
            self.started.swap_remove(index);
            stop(self.topic, partition);
        }
    }

    /// Takes up to `max` entries, waiting for the first up to `wait`. Returns how many there were.
    #[allow(unsafe_code)]
    pub(super) fn take(&mut self, wait: Duration, max: usize, mut each: impl FnMut(Taken<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // librdkafka waits until all slots are full: who waits asks for one
        let max = if wait.is_zero() { max.min(self.slots.len()) } else { 1 };
        // SAFETY: the queue is alive; `slots` has room for `max` pointers
        let count =
            unsafe { native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.slots.as_mut_ptr(), max) };
        let count = usize::try_from(count).unwrap_or(0);
        for slot in self.slots.iter().take(count) {
            if let Some(message) = NonNull::new(*slot) {
                each(Message(message).view());
            }
        }
        count
    }
}

impl Drop for Queue {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        for partition in std::mem::take(&mut self.started) {
            stop(self.topic, partition);
        }
        // SAFETY: both were made by `new` and are used by nobody else: records live no longer than a call of `take`
        unsafe {
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
            native::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}

/// A record that is given back to librdkafka when it is dropped.
struct Message(NonNull<native::rd_kafka_message_t>);

impl Message {
    #[allow(unsafe_code)]
    fn view(&self) -> Taken<'_> {
        // SAFETY: librdkafka filled it in and leaves it alone until it is destroyed, which takes `self`
        let message = unsafe { self.0.as_ref() };
        let (partition, offset) = (message.partition, message.offset);
        match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                let payload = NonNull::new(message.payload.cast::<u8>());
                // SAFETY: a payload that is not null has `len` bytes and lives as long as the message
                let payload = payload.map(|bytes| unsafe { std::slice::from_raw_parts(bytes.as_ptr(), message.len) });
                Taken::Record { partition, offset, time_ms: self.time_ms(), payload }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Taken::EndOfPartition { partition, offset },
            error => Taken::Failed { partition, code: error.into(), reason: self.reason() },
        }
    }

    #[allow(unsafe_code)]
    fn time_ms(&self) -> Option<i64> {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, `kind` is written before the call returns
        let time_ms = unsafe { native::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        (kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time_ms)
    }

    #[allow(unsafe_code)]
    fn reason(&self) -> String {
        // SAFETY: the message is alive and holds an error, so its text is a C string that lives as long
        let text = unsafe { native::rd_kafka_message_errstr(self.0.as_ptr()) };
        if text.is_null() {
            return "unknown error".to_owned();
        }
        // SAFETY: not null, see above
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

impl Drop for Message {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: taken from the queue once, so destroyed once; no view of it outlives `self`
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

#[allow(unsafe_code)]
fn stop(topic: NonNull<native::rd_kafka_topic_t>, partition: i32) {
    // SAFETY: callers hold the topic alive
    unsafe { native::rd_kafka_consume_stop(topic.as_ptr(), partition) };
}

/// What went wrong in the last call of this thread that failed.
#[allow(unsafe_code)]
fn last_error() -> String {
    // SAFETY: reads a number of this thread
    let code = unsafe { native::rd_kafka_last_error() };
    RDKafkaErrorCode::from(code).to_string()
}
