//! Bytes ↔ columns, natively, only the columns that somebody needs.

mod frames;
mod spec;

pub use frames::Frames;
pub use spec::Format;
