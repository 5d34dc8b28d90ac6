//! How a pipeline is wired: [`spec`] as written → [`plan`] checked → tasks that run.

pub mod ballot;
pub mod build;
pub mod builder;
pub mod capsules;
pub mod change;
mod channels;
pub mod check;
mod check_join;
mod check_partition;
mod check_state;
mod columns;
pub mod cut;
mod dead_letter;
pub mod duration;
pub mod exchange;
mod footers;
pub mod handover;
pub mod join;
mod marker;
mod merge;
pub mod partition;
pub mod plan;
pub mod problems;
pub mod ranges;
pub mod read;
pub mod resolve;
mod shuffle;
pub mod size;
pub mod source_task;
pub mod spec;
pub mod task;
pub mod task_versions;
mod wiring;

pub use check::check_structure;
pub(crate) use dead_letter::schema as dead_letter_schema;
pub use read::{parse, parse_json, read};
