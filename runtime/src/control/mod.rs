//! Runs pipelines and changes them while they run.

mod checkpoints;
mod judge;
mod kept;
mod mending;
mod outcome;
mod quiet;
mod request;
mod restart;
mod run;
pub mod socket;
mod status;
mod successors;
mod supervise;
mod swap;
mod transactions;
mod versions;

pub use checkpoints::{CheckpointError, CheckpointStatus, Restored, StartFrom, open_store};
pub use judge::{Refusal, Verdict, judge};
pub use request::{Answer, Offer, Request};
pub use restart::{Decision, RestartPolicy, decide};
pub use run::{OpenError, RunError};
pub use status::{ComponentVersion, NodeRole, NodeStatus, RestartStatus, Status};
pub use supervise::{Handle, Running};
pub use swap::{SwapError, SwapReport, Swapped};
pub use versions::{Origin, Version};
