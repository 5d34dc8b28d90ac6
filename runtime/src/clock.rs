//! The host's clock. Code that needs the time takes a [`Clock`], so that tests and replays decide what time it is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// the machine's
    System(SystemClock),
    /// set by whoever holds it, see [`Clock::set_ms`]
    Virtual(Arc<watch::Sender<i64>>),
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

    /// A clock that stands still until it is set.
    pub fn virtual_at_ms(now_ms: i64) -> Self {
        Self::Virtual(Arc::new(watch::Sender::new(now_ms)))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System(clock) => {
                let elapsed_ms = i64::try_from(clock.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                clock.started_ms.saturating_add(elapsed_ms)
            }
            Self::Virtual(now_ms) => *now_ms.borrow(),
        }
    }

    /// Sets a virtual clock, and all its clones, forward; the machine's clock goes its own way.
    pub fn set_ms(&self, now_ms: i64) {
        if let Self::Virtual(clock) = self {
            clock.send_if_modified(|now| {
                let later = now_ms > *now;
                *now = (*now).max(now_ms);
                later
            });
        }
    }

    /// Returns once the clock shows `time_ms` or later.
    pub async fn wait_until(&self, time_ms: i64) {
        match self {
            Self::System(_) => {
                // a timer may ring early by its own granularity
                while let Ok(left @ 1..) = u64::try_from(time_ms.saturating_sub(self.now_ms())) {
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
            }
            Self::Virtual(clock) => {
                // the sender is held here, so the channel stays open
                let _ = clock.subscribe().wait_for(|now| *now >= time_ms).await;
            }
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
