//! The host's clock. Code that needs the time takes a [`Clock`], so that tests and replays decide what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// the machine's
    System(SystemClock),
    /// always the same
    Virtual(i64),
}

/// The machine's clock, monotonic from a wall-clock start, so that time never runs backwards within a process.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let started_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Self::System(SystemClock { started: Instant::now(), started_ms })
    }

    /// A clock that stands still.
    pub fn virtual_at_ms(now_ms: i64) -> Self {
        Self::Virtual(now_ms)
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System(clock) => {
                let elapsed_ms = i64::try_from(clock.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                clock.started_ms.saturating_add(elapsed_ms)
            }
            Self::Virtual(now_ms) => *now_ms,
        }
    }
}

/// A stopwatch for durations that are reported to people, never decided on.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
