//! When a window fires. Pure: no clock, no task, no state.

mod keyed;
mod slices;
mod spec;
mod trigger;
mod windows;

pub use keyed::{Gap, KeyWindow};
pub use slices::{Slice, Slices};
pub use spec::{Emit, WindowSpec};
pub use trigger::{Firing, Trigger, next_multiple};
pub use windows::{Window, Windows};

/// A window that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// shorter than 1 ms, longer than event time, or not whole milliseconds
    #[error("window size {size:?} is not a whole number of milliseconds from 1 to {}", i64::MAX)]
    Size {
        /// what was asked for
        size: std::time::Duration,
    },
    /// a shift by a whole window or more says nothing
    #[error("window offset {offset_ms} ms is not smaller than {every_ms} ms, after which windows repeat")]
    Offset {
        /// what was asked for
        offset_ms: i64,
        /// from one start to the next
        every_ms: i64,
    },
    /// a kind of window where another was expected: a bug of the planner
    #[error("{window:?} is not a window of the kind that this operator has")]
    Kind {
        /// what was asked for
        window: WindowSpec,
    },
    /// rows say their gap in a column, and none was given: a bug of the planner
    #[error("sessions without the column that holds their gap")]
    NoGap,
    /// no window can be complete with no rows
    #[error("a window of no rows")]
    NoRows,
    /// rows between two windows would be in none
    #[error("windows of {size_ms} ms every {every_ms} ms leave gaps")]
    Gaps {
        /// the window's length
        size_ms: i64,
        /// from one start to the next
        every_ms: i64,
    },
}
