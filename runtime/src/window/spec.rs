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
}
