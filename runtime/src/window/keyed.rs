//! Windows that lie differently for every key.

use super::windows::whole_ms;
use super::{WindowError, WindowSpec};

/// When a key's rows make a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWindow {
    /// rows with less than so much time, or exactly so much, from one to the next
    Session {
        /// ms
        gap_ms: i64,
    },
    /// so many rows, in the order in which they come
    Count {
        /// how many
        rows: u64,
    },
    /// all rows
    Global,
}

impl KeyWindow {
    /// The windows of `spec`.
    pub fn new(spec: WindowSpec) -> Result<Self, WindowError> {
        match spec {
            WindowSpec::Session { gap } => Ok(Self::Session { gap_ms: whole_ms(gap)? }),
            WindowSpec::Count { rows: 0 } => Err(WindowError::NoRows),
            WindowSpec::Count { rows } => Ok(Self::Count { rows }),
            WindowSpec::Global => Ok(Self::Global),
            WindowSpec::Tumbling { .. } | WindowSpec::Sliding { .. } | WindowSpec::Rolling { .. } => {
                Err(WindowError::Kind { window: spec })
            }
        }
    }

    /// Whether event time decides.
    pub fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }
}
