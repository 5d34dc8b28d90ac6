//! Exactly-once into Kafka: real processes, killed at every step of the protocol and at random moments, against a real
//! broker. What readers of committed records see at the end is the image of the input, every row once, in all topics.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod job;
mod kills;
mod outages;
mod rehearsal;
mod shape;
mod starts;
mod topics;

use job::{Ended, Job, ROWS};
use millstream_tests::broker::Broker;

/// The broker, or the end of the test.
#[macro_export]
macro_rules! broker_or_return {
    () => {
        match Broker::or_skip(std::thread::current().name().unwrap_or("exactly_once")).unwrap() {
            Some(broker) => broker,
            None => return,
        }
    };
}
