//! When an open window puts out results.

use std::time::Duration;

use crate::record::EventTime;

/// `trigger = { .. }`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// at the window's end, and for late rows that it still takes
    #[default]
    End,
    /// `{ count = 4 }`
    Count {
        /// whenever so many rows of a key have come since the window last fired for it, at least 1
        rows: u64,
        /// `at_end = true`: at the window's end too
        at_end: bool,
    },
    /// `{ every = "1s" }`: when the watermark reaches a multiple of this, and at the window's end
    Every {
        /// at least 1 ms
        interval: Duration,
    },
    /// `{ processing_time = "1s" }`: when the host's clock reaches a multiple of this, and at the window's end
    ProcessingTime {
        /// at least 1 ms
        interval: Duration,
    },
}

/// `firing = ".."`: what becomes of the rows of a window that has fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firing {
    /// they stay: the next result of the window has them too
    #[default]
    Accumulating,
    /// they go: the next result of the window is of rows that come from now on
    Discarding,
}

impl Trigger {
    /// Whether windows fire when they end.
    pub fn fires_at_end(self) -> bool {
        !matches!(self, Self::Count { at_end: false, .. })
    }
}

/// The first multiple of `interval` after `time`.
pub fn next_multiple(time: EventTime, interval: Duration) -> EventTime {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    time.saturating_sub(time.rem_euclid(interval_ms)).saturating_add(interval_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_lie_alike_before_and_after_the_epoch_and_do_not_overflow() {
        let second = Duration::from_secs(1);
        assert_eq!(next_multiple(0, second), 1_000);
        assert_eq!(next_multiple(999, second), 1_000);
        assert_eq!(next_multiple(1_000, second), 2_000);
        assert_eq!(next_multiple(-1, second), 0);
        assert_eq!(next_multiple(-1_000, second), 0);
        assert_eq!(next_multiple(i64::MAX, second), i64::MAX);
        assert!(next_multiple(i64::MIN, second) > i64::MIN);
        assert_eq!(next_multiple(5, Duration::MAX), i64::MAX);
    }
}
