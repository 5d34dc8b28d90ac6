//! How a pipeline is wired: `spec` as written → `plan` checked → tasks that run.

pub mod spec;
