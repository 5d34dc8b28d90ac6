//! Runs pipelines and changes them while they run.

mod checkpoints;
mod judge;
mod mending;
mod quiet;
mod restart;
mod run;
mod status;
mod supervise;
mod swap;

pub use checkpoints::{CheckpointError, CheckpointStatus, Restored, StartFrom};
pub use judge::{Refusal, Verdict, judge};
pub use restart::{Decision, RestartPolicy, decide};
pub use run::{OpenError, RunError};
pub use status::{ComponentVersion, NodeRole, NodeStatus, RestartStatus, Status};
pub use supervise::{Handle, Running};
pub use swap::{SwapError, SwapReport, Swapped};
