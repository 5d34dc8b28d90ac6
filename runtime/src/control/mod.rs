//! Runs pipelines and changes them while they run.

mod checkpoints;
mod judge;
mod quiet;
mod run;
mod status;
mod swap;
mod transactions;

pub use checkpoints::{CheckpointError, CheckpointStatus, Restored, StartFrom};
pub use judge::{Refusal, Verdict, judge};
pub use run::{Handle, OpenError, RunError, Running};
pub use status::{ComponentVersion, NodeRole, NodeStatus, Status};
pub use swap::{SwapError, SwapReport, Swapped};
