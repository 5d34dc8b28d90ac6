//! Runs pipelines and changes them while they run.

mod apply;
mod checkpoints;
mod diff;
mod edit;
mod judge;
mod kept;
mod kinds;
mod mending;
mod outcome;
mod plan;
mod quiet;
mod ranges;
mod rebuild;
pub mod rehearse;
mod request;
mod restart;
mod run;
pub mod socket;
mod status;
mod successors;
mod supervise;
mod swap;
mod sweeps;
mod transactions;
mod trial;
mod versions;

pub use apply::{ApplyError, ApplyReport};
pub use checkpoints::{CheckpointError, CheckpointStatus, Restored, StartFrom, cut_of, open_store};
pub use diff::{Difference, Effect, Part};
pub use judge::{Refusal, Verdict, judge};
pub use plan::{ExpectedPause, MigrationPause, MigrationPlan, PauseFigure, PlannedComponent, RowFigure, SwapPlan};
pub use request::{Answer, Offer, Request, Value};
pub use restart::{Decision, RestartPolicy, decide};
pub use run::{OpenError, RunError};
pub use status::{ComponentVersion, NodeRole, NodeStatus, RestartStatus, Status};
pub use supervise::{Handle, Running};
pub use swap::{SwapError, SwapReport, Swapped};
pub use sweeps::Migrated;
pub use trial::{
    Breach, Budget, BudgetError, ExampleStatus, Mode, SideStatus, TrialMode, TrialRequest, TrialSpec, TrialSpecError,
    TrialState, TrialStatus, TriedStepStatus,
};
pub use versions::{Origin, Version};
