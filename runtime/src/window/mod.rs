//! When a window fires. Pure: no clock, no task, no state.

mod spec;

pub use spec::WindowSpec;
