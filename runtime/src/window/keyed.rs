//! Windows of which every key has its own.

use std::time::Duration;

use super::windows::whole_ms;
use super::{WindowError, WindowSpec, Windows};

/// When a key's rows make a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWindow {
    /// windows of event time that lie alike for all keys, kept for each key
    Aligned(Windows),
    /// rows with less than so much time, or exactly so much, from one to the next
    Session {
        /// how much
        gap: Gap,
    },
    /// so many rows, in the order in which they come
    Count {
        /// how many
        rows: u64,
    },
    /// after every so many rows of a key its last ones; as [`WindowSpec::SlidingCount`] with `every` less than `rows`
    SlidingCount {
        /// rows of a window
        rows: u64,
        /// rows from one to the next
        every: u64,
    },
    /// all rows
    Global,
}

/// How long after a row its session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// so many ms
    Ms(i64),
    /// as many ms as the row has in the column at this position
    Column(usize),
}

impl KeyWindow {
    /// The windows of `spec`, which take rows until the watermark is `allowed_lateness` past their last time. `gap` is the
    /// position of the column with the gap of sessions, if rows say it.
    pub fn new(spec: WindowSpec, gap: Option<usize>, allowed_lateness: Duration) -> Result<Self, WindowError> {
        match spec {
            WindowSpec::Session { gap } => Ok(Self::Session { gap: Gap::Ms(whole_ms(gap)?) }),
            WindowSpec::SessionByColumn => Ok(Self::Session { gap: gap.map(Gap::Column).ok_or(WindowError::NoGap)? }),
            WindowSpec::Count { rows: 0 } => Err(WindowError::NoRows),
            WindowSpec::Count { rows } => Ok(Self::Count { rows }),
            WindowSpec::SlidingCount { rows, every } if every == 0 || every > rows => Err(WindowError::NoRows),
            WindowSpec::SlidingCount { rows, every } if every == rows => Ok(Self::Count { rows }),
            WindowSpec::SlidingCount { rows, every } => Ok(Self::SlidingCount { rows, every }),
            WindowSpec::Global => Ok(Self::Global),
            WindowSpec::Rolling { .. } => Err(WindowError::Kind { window: spec }),
            WindowSpec::Tumbling { .. } | WindowSpec::Sliding { .. } => {
                Ok(Self::Aligned(Windows::new(spec, allowed_lateness)?))
            }
        }
    }

    /// Whether windows end by event time.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Session { .. } | Self::Aligned(_))
    }

    /// Windows that a row can be in at once.
    pub fn overlap(&self) -> usize {
        match self {
            Self::Aligned(windows) => windows.overlap(),
            Self::SlidingCount { rows, every } => usize::try_from(rows.div_ceil((*every).max(1))).unwrap_or(usize::MAX),
            Self::Session { .. } | Self::Count { .. } | Self::Global => 1,
        }
    }

    /// Whether windows grow and join.
    pub fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }
}
