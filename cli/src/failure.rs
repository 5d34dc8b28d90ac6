//! Why a command could not do what it was asked, each with its exit code and a stable name for machines.

use std::path::PathBuf;

use millstream::capsule::{CapsuleError, ReplayError};
use millstream::checkpoint::StoreError;
use millstream::control::{CheckpointError, OpenError, RunError, SwapError};
use millstream::error::PipelineError;
use millstream::pipeline::build::StartError;
use millstream::wasm::{DescribeError, LoadError, SandboxError};

use crate::componentize::BuildError;
use crate::exit::Exit;
use crate::scaffold::CreateError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// the pipeline is wrong: shown with its places
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// test scripts are wrong: shown with their places
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Scripts(Vec<PipelineError>),
    /// the pipeline is right but cannot be opened
    #[error(transparent)]
    Start(Box<StartError>),
    /// the pipeline cannot go on from its checkpoints
    #[error(transparent)]
    Checkpoint(Box<CheckpointError>),
    /// a checkpoint cannot be read or kept
    #[error(transparent)]
    Store(#[from] StoreError),
    /// the pipeline ran and failed
    #[error(transparent)]
    Run(Box<RunError>),
    /// a swap that was not asked for by hand (the demo's) failed
    #[error(transparent)]
    Swap(Box<SwapError>),
    /// a file is no component
    #[error(transparent)]
    Load(Box<LoadError>),
    /// a component does not describe itself
    #[error("{0}")]
    Describe(Box<DescribeError>),
    /// no engine on this machine
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// a project does not build
    #[error(transparent)]
    Build(Box<BuildError>),
    /// a project cannot be created
    #[error(transparent)]
    Create(#[from] CreateError),
    /// a running pipeline does not do what is asked
    #[error("{0}")]
    Control(String),
    /// a candidate was tried, and nobody knows how it would have ended
    #[error("{0}")]
    TrialLost(String),
    /// arguments that clap cannot judge
    #[error("{0}")]
    Usage(String),
    /// a file is no capsule
    #[error("{}: {error}", path.display())]
    Capsule {
        /// which file
        path: PathBuf,
        /// why
        error: CapsuleError,
    },
    /// a call cannot be made again
    #[error(transparent)]
    Replay(Box<ReplayError>),
    /// the operating system refuses something
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `watch`
        what: &'static str,
        /// which file
        path: PathBuf,
        /// why
        source: std::io::Error,
    },
    /// the process cannot work at all here
    #[error("cannot {what}: {reason}")]
    Process {
        /// what was tried
        what: &'static str,
        /// why it failed
        reason: String,
    },
    /// results are not what they should be
    #[error("{0}")]
    NotVerified(String),
}

impl Failure {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Start(_)
            | Self::Checkpoint(_)
            | Self::Store(_)
            | Self::Run(_)
            | Self::Swap(_)
            | Self::TrialLost(_)
            | Self::Process { .. } => Exit::RunFailed,
            Self::NotVerified(_) => Exit::NotVerified,
            Self::Pipeline(_)
            | Self::Scripts(_)
            | Self::Load(_)
            | Self::Describe(_)
            | Self::Sandbox(_)
            | Self::Build(_)
            | Self::Create(_)
            | Self::Control(_)
            | Self::Usage(_)
            | Self::Capsule { .. }
            | Self::Replay(_)
            | Self::File { .. } => Exit::Refused,
        }
    }

    /// A stable name for `--json`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::Scripts(_) => "script",
            Self::Start(_) => "start",
            Self::Checkpoint(_) | Self::Store(_) => "checkpoint",
            Self::Run(_) => "run",
            Self::Swap(_) => "swap",
            Self::Load(_) | Self::Describe(_) => "component",
            Self::Sandbox(_) => "sandbox",
            Self::Build(_) => "build",
            Self::Create(_) => "create",
            Self::Control(_) => "control",
            Self::TrialLost(_) => "trial_lost",
            Self::Usage(_) => "usage",
            Self::Capsule { .. } => "capsule",
            Self::Replay(_) => "replay",
            Self::File { .. } => "file",
            Self::Process { .. } => "process",
            Self::NotVerified(_) => "not_verified",
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Start(error) => Self::Start(Box::new(error)),
            OpenError::Checkpoint(error) => Self::Checkpoint(Box::new(error)),
        }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

impl From<SwapError> for Failure {
    fn from(error: SwapError) -> Self {
        Self::Swap(Box::new(error))
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}

impl From<DescribeError> for Failure {
    fn from(error: DescribeError) -> Self {
        Self::Describe(Box::new(error))
    }
}
