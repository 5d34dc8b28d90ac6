//! Why a swap was refused, or could not be carried out.

use std::path::PathBuf;

use super::Offers;
use crate::control::judge::Refusal;
use crate::control::trial::TrialSpecError;
use crate::pipeline::build::StartError;
use crate::wasm::{CallError, DescribeError, GuestError, LoadError};

/// A swap was refused, or could not be carried out. The running version is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// no such step
    #[error("pipeline has no step `{step}` with a component; there are {known}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownStep {
        /// what was asked for
        step: String,
        /// what there is
        known: String,
        /// the closest
        near: Option<String>,
    },
    /// two components for one place
    #[error("step `{step}` is to become both {} and {}; name it once", first.display(), second.display())]
    Twice {
        /// as it was named
        step: String,
        /// the file named first
        first: PathBuf,
        /// the file named then
        second: PathBuf,
    },
    /// the file is not a component that can be used; the reason names the file
    #[error("{source}")]
    Load {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: Box<LoadError>,
    },
    /// the component refuses its configuration or fails to describe itself; the reason names the file
    #[error("{source}")]
    Describe {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: DescribeError,
    },
    /// the component does not fit
    #[error("{} does not fit step `{step}`: {source}{}", path.display(), source.way_on())]
    Refused {
        /// the file
        path: PathBuf,
        /// the step
        step: String,
        /// the first difference
        #[source]
        source: Box<Refusal>,
    },
    /// no guest could be made of it
    #[error("{}: {source}", path.display())]
    Guest {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: GuestError,
    },
    /// an aggregate fails to make an empty accumulator
    #[error("{}: `create` fails: {source}", path.display())]
    Create {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: Box<CallError>,
    },
    /// there is nothing to go back to
    #[error("nothing to roll back: {what} {} the first version of this run; a swap puts another in place", if *several { "run" } else { "runs" })]
    NoVersionBefore {
        /// what was named
        what: String,
        /// more than one step
        several: bool,
    },
    /// state cannot be migrated
    #[error("step `{step}` stays as it is: {reason} ({})", path.display())]
    Migration {
        /// the file
        path: PathBuf,
        /// the step
        step: String,
        /// which state, and why
        reason: String,
    },
    /// an operator could not be made of it
    #[error(transparent)]
    Start(StartError),
    /// the version to go back to cannot be had
    #[error("version {number} of step `{step}` cannot run: {reason}; `millstream swap` puts a file in place")]
    Version {
        /// the step
        step: String,
        /// its version
        number: u64,
        /// why
        reason: String,
    },
    /// a candidate is being tried
    #[error("a trial of {steps} goes on; end it with `promote` or `rollback` first")]
    TrialRuns {
        /// whose
        steps: String,
    },
    /// no candidate is being tried
    #[error("no trial goes on; `swap --shadow`, `--canary` and `--watch` begin one")]
    NoTrial,
    /// a trial cannot be asked for like this
    #[error(transparent)]
    TrialSpec(#[from] TrialSpecError),
    /// a candidate cannot be tried beside this step
    #[error("step `{step}` cannot try a candidate: {reason}")]
    CannotTry {
        /// the step
        step: String,
        /// why
        reason: String,
    },
    /// the pipeline has ended
    #[error("the pipeline has ended")]
    Ended,
}

impl SwapError {
    /// What would make a refused component fit: Rust, to be filled in.
    pub fn stub(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } => source.stub.as_deref(),
            _ => None,
        }
    }

    /// Says which of `offers` it is of.
    pub(super) fn with_path_of(self, offers: &Offers) -> Self {
        let Self::Migration { step, reason, .. } = self else { return self };
        let path = offers.iter().find(|(slot, _)| slot.step == step).map(|(_, offered)| offered.path.clone());
        Self::Migration { path: path.unwrap_or_default(), step, reason }
    }

    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownStep { .. } => "unknown_step",
            Self::Twice { .. } => "named_twice",
            Self::Load { .. } => "component",
            Self::Describe { .. } => "describe",
            Self::Refused { .. } => "does_not_fit",
            Self::Guest { .. } | Self::Create { .. } => "guest",
            Self::NoVersionBefore { .. } => "no_version_before",
            Self::Migration { .. } => "migration",
            Self::Start(_) => "start",
            Self::Version { .. } => "version",
            Self::TrialRuns { .. } => "trial_runs",
            Self::NoTrial => "no_trial",
            Self::TrialSpec(_) => "request",
            Self::CannotTry { .. } => "cannot_be_tried",
            Self::Ended => "ended",
        }
    }
}
