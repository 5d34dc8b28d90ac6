//! Windows as written in a pipeline.

use std::time::Duration;

/// `window = { .. }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowSpec {
    /// `{ tumbling = "5s", offset = "1s" }`
    Tumbling {
        /// length, at least 1 ms
        size: Duration,
        /// shift of the window starts against the epoch, ms; may be negative; smaller than the size
        offset_ms: i64,
    },
    /// `{ sliding = "10s", every = "2s", offset = "1s" }`
    Sliding {
        /// length, at least 1 ms
        size: Duration,
        /// from one start to the next, at least 1 ms and at most the size; need not divide it
        every: Duration,
        /// shift of the window starts against the epoch, ms; may be negative; smaller than `every`
        offset_ms: i64,
    },
    /// `{ session = "10s" }`
    Session {
        /// a session ends when so long no row of its key has come; at least 1 ms
        gap: Duration,
    },
    /// `{ session = { gap = "gap_ms" } }`: as [`WindowSpec::Session`], every row says its gap in a column
    SessionByColumn,
    /// `{ count = 100 }`
    Count {
        /// rows of a key that make a window, at least 1
        rows: u64,
    },
    /// `{ count = 100, every = 10 }`: after every so many rows of a key its last ones
    SlidingCount {
        /// rows of a window, at least 1; the first windows of a key have fewer
        rows: u64,
        /// rows from one result to the next, at least 1 and at most `rows`
        every: u64,
    },
    /// `{ global = true }`
    Global,
    /// `window` left out: all rows of a key so far, no bounds
    Rolling {
        /// when results come
        emit: Emit,
    },
}

/// `emit = ".."`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emit {
    /// after every row
    #[default]
    Changes,
    /// when event time advances, for the keys that have changed
    Latest,
}

impl WindowSpec {
    /// Whether there are windows at all: results have their bounds.
    pub fn has_bounds(&self) -> bool {
        !matches!(self, Self::Rolling { .. })
    }

    /// Whether windows are made of a number of rows, whatever their times.
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Count { .. } | Self::SlidingCount { .. })
    }

    /// Whether windows lie alike for all keys.
    pub fn is_alike_for_all_keys(&self) -> bool {
        matches!(self, Self::Tumbling { .. } | Self::Sliding { .. })
    }
}
