//! What can be asked of a running pipeline from outside its process, and what it answers: one JSON object each way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::apply::{ApplyError, ApplyReport};
use super::plan::SwapPlan;
use super::status::Status;
use super::supervise::Handle;
use super::swap::{SwapError, SwapReport};
use super::trial::{TrialRequest, TrialStatus};
use super::versions::Version;

/// A component for a step, named `step` or `step.entry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// the step
    pub step: String,
    /// the file, absolute: the process that runs the pipeline reads it
    pub file: PathBuf,
}

/// A value for a key of a step, named `step.key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// which
    pub name: String,
    /// as it would be written on a command line
    pub value: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// how it goes, and which versions run
    Status,
    /// other components, all at one cut
    Swap {
        /// which
        offers: Vec<Offer>,
    },
    /// what such a swap would do, without doing it
    Plan {
        /// which
        offers: Vec<Offer>,
    },
    /// candidates beside what runs, or in its place and watched
    Try {
        /// which
        offers: Vec<Offer>,
        /// how
        #[serde(flatten)]
        trial: TrialRequest,
    },
    /// the candidates of a trial take the place of what runs
    Promote,
    /// how the trial stands that goes on, or went on last
    Trial,
    /// the versions before; while a trial goes on its end, with the versions of before
    Rollback {
        /// which steps; none: all that the last swap changed
        steps: Vec<String>,
    },
    /// the shape that a pipeline file describes
    Apply {
        /// the file, absolute: the process that runs the pipeline reads it
        file: PathBuf,
        /// names of steps and sources whose state may be lost
        #[serde(default)]
        approve: Vec<String>,
        /// only say what is different
        #[serde(default)]
        dry_run: bool,
    },
    /// another number of tasks
    Rescale {
        /// of each
        tasks: usize,
        /// which parts; none: all that do not say otherwise
        #[serde(default)]
        names: Vec<String>,
    },
    /// configuration, limits, parallelism of steps
    Set {
        /// which, and to what
        values: Vec<Value>,
    },
    /// sources take nothing in
    Pause,
    /// sources go on
    Resume,
    /// end cleanly
    Stop,
}

/// What is answered.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// how it goes
    Status {
        /// counts, versions that run, checkpoints
        status: Box<Status>,
        /// versions by step, oldest first
        versions: BTreeMap<String, Vec<Version>>,
        /// the trial that goes on, or went on last
        trial: Option<Box<TrialStatus>>,
        /// the process
        pid: u32,
    },
    /// it has changed
    Swapped(SwapReport),
    /// how a trial stands
    Trial(Box<TrialStatus>),
    /// it would change
    Plan(SwapPlan),
    /// its shape has changed
    Applied(ApplyReport),
    /// it would change so
    ApplyPlan(ApplyReport),
    /// done
    Done,
    /// not done, and nothing has changed
    Refused {
        /// a stable name of the reason
        code: String,
        /// for people
        message: String,
        /// Rust that would make a component fit whose state is another, to be filled in
        #[serde(skip_serializing_if = "Option::is_none")]
        stub: Option<String>,
    },
}

impl Handle {
    /// Whether a trial of these steps goes on; of any step, if none is named.
    fn tries(&self, steps: &[String]) -> bool {
        let trial = self.trial().filter(|trial| !trial.state.is_over());
        let tried = |step: &String| trial.iter().flat_map(|trial| &trial.steps).any(|tried| tried.step == *step);
        trial.is_some() && steps.iter().all(tried)
    }

    /// Does what is asked.
    pub async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status {
                status: Box::new(self.status()),
                versions: self.history(),
                trial: self.trial().map(Box::new),
                pid: std::process::id(),
            },
            Request::Swap { offers } => self.swap(&named(offers)).await.map_or_else(refused, Answer::Swapped),
            Request::Plan { offers } => self.plan(&named(offers)).await.map_or_else(refused, Answer::Plan),
            Request::Try { offers, trial } => {
                let spec = trial.read().map_err(SwapError::from);
                match spec {
                    Ok(spec) => tried(self.try_out(&named(offers), spec).await),
                    Err(error) => refused(error),
                }
            }
            Request::Promote => tried(self.promote().await),
            Request::Trial => tried(self.trial().ok_or(SwapError::NoTrial)),
            Request::Rollback { steps } if self.tries(&steps) => tried(self.abandon_trial().await),
            Request::Rollback { steps } => self.rollback(&steps).await.map_or_else(refused, Answer::Swapped),
            Request::Apply { file, approve, dry_run } => {
                let wanted = match crate::pipeline::read(&file) {
                    Ok(wanted) => wanted,
                    Err(error) => return not_applied(ApplyError::Wrong(Box::new(error))),
                };
                if dry_run {
                    return self.plan_apply(wanted).await.map_or_else(not_applied, Answer::ApplyPlan);
                }
                self.apply(wanted, &approve).await.map_or_else(not_applied, Answer::Applied)
            }
            Request::Rescale { tasks, names } => {
                self.rescale(tasks, &names).await.map_or_else(not_applied, Answer::Applied)
            }
            Request::Set { values } => {
                let values: Vec<_> = values.into_iter().map(|value| (value.name, value.value)).collect();
                self.set(&values).await.map_or_else(not_applied, Answer::Applied)
            }
            Request::Pause => {
                self.pause().await;
                Answer::Done
            }
            Request::Resume => {
                self.resume().await;
                Answer::Done
            }
            Request::Stop => {
                self.stop().await;
                Answer::Done
            }
        }
    }
}

fn tried(trial: Result<TrialStatus, SwapError>) -> Answer {
    trial.map_or_else(refused, |status| Answer::Trial(Box::new(status)))
}

fn named(offers: Vec<Offer>) -> Vec<(String, PathBuf)> {
    offers.into_iter().map(|offer| (offer.step, offer.file)).collect()
}

fn not_applied(error: ApplyError) -> Answer {
    Answer::Refused { code: error.code().to_owned(), message: error.to_string(), stub: None }
}

fn refused(error: SwapError) -> Answer {
    let stub = error.stub().map(str::to_owned);
    Answer::Refused { code: error.code().to_owned(), message: error.to_string(), stub }
}
