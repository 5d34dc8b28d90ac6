//! The host's clock. Code that needs the time takes a [`Clock`], so that tests and replays decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// the machine's
    System(SystemClock),
    /// set by hand
    Virtual(Arc<AtomicI64>),
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

    /// A clock that stands still until [`Clock::advance_to_ms`].
    pub fn virtual_at_ms(now_ms: i64) -> Self {
        Self::Virtual(Arc::new(AtomicI64::new(now_ms)))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System(clock) => {
                let elapsed_ms = i64::try_from(clock.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                clock.started_ms.saturating_add(elapsed_ms)
            }
            Self::Virtual(now) => now.load(Ordering::Acquire),
        }
    }

    /// Sets a virtual clock, never backwards; does nothing to the machine's.
    pub fn advance_to_ms(&self, now_ms: i64) {
        if let Self::Virtual(now) = self {
            now.fetch_max(now_ms, Ordering::AcqRel);
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
