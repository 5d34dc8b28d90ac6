//! The engine against models that are a page each: lists of rows, looked at one by one.
//!
//! Each test draws pipelines and inputs at random: rows out of order, without a key, without a time, behind the watermark;
//! watermarks that lag and go back; restores by another number of tasks. `drive` runs the whole engine over them
//! (its plan, tasks, exchanges, barriers, guests and state), begun by one task, by two, by three and by four, and what comes
//! out must be what the model says each time.
//!
//! A failure is made small, and told with its seed: `MILLSTREAM_REFERENCE_SEED=7` draws the same again, and
//! `MILLSTREAM_REFERENCE_CASES=500` as many cases a test.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

mod aggregates;
mod drive;
mod events;
mod joins;
mod partitioners;
mod processors;
mod rolling;
mod top;
mod windows;
