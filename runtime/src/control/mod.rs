//! Runs pipelines and changes them while they run.

mod checkpoints;
mod judge;
mod quiet;
mod request;
mod run;
pub mod socket;
mod status;
mod swap;
mod versions;

pub use checkpoints::{CheckpointError, CheckpointStatus, Restored, StartFrom};
pub use judge::{Refusal, Verdict, judge};
pub use request::{Answer, Offer, Request};
pub use run::{Handle, OpenError, RunError, Running};
pub use status::{ComponentVersion, NodeRole, NodeStatus, Status};
pub use swap::{SwapError, SwapReport, Swapped};
pub use versions::{Origin, Version};
