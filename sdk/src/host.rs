//! What an operator may tell the runtime: log lines, counters, gauges. Natively they are recorded, for tests.

use std::fmt;

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// every step
    Trace,
    /// for the author
    Debug,
    /// worth knowing
    Info,
    /// worth a look
    Warn,
    /// wrong
    Error,
}

/// Writes a line to the pipeline's log. [`info!`](crate::info), [`warn!`](crate::warn!) and [`log!`](macro@crate::log)
/// format it first.
pub fn log(level: Level, message: &str) {
    sink::log(level, message);
}

/// Adds to the counter `name` of this step. At most 64 names of at most 64 bytes.
pub fn counter(name: &str, delta: u64) {
    sink::counter(name, delta);
}

/// Sets the gauge `name` of this step; the last value of any task wins.
pub fn gauge(name: &str, value: f64) {
    sink::gauge(name, value);
}

/// Writes a formatted line at a [`Level`] to the pipeline's log: `log!(Level::Debug, "{n} bids")`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => { $crate::log($level, &::std::format!($($message)+)) };
}

/// Writes a formatted line to the pipeline's log.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::Level::Info, $($message)+) };
}

/// Writes a formatted warning to the pipeline's log.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log!($crate::Level::Warn, $($message)+) };
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        })
    }
}

#[cfg(target_arch = "wasm32")]
mod sink {
    use super::Level;
    use crate::export::map::millstream::operator::host;

    pub(super) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }

    pub(super) fn counter(name: &str, delta: u64) {
        host::counter(name, delta);
    }

    pub(super) fn gauge(name: &str, value: f64) {
        host::gauge(name, value);
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod sink {
    use std::io::Write;

    use super::Level;
    use crate::testing::recorder;

    pub(super) fn log(level: Level, message: &str) {
        // A test whose standard error is closed must not fail for it.
        let _ = writeln!(std::io::stderr(), "{level}: {message}");
        recorder::with(|told| told.lines.push((level, message.to_owned())));
    }

    pub(super) fn counter(name: &str, delta: u64) {
        recorder::with(|told| *told.counters.entry(name.to_owned()).or_default() += delta);
    }

    pub(super) fn gauge(name: &str, value: f64) {
        recorder::with(|told| {
            told.gauges.insert(name.to_owned(), value);
        });
    }
}
