//! What can be asked of a running pipeline from outside its process, and what it answers: one JSON object each way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::apply::{ApplyError, ApplyReport};
use super::status::Status;
use super::supervise::Handle;
use super::swap::{SwapError, SwapReport, Swapped};
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
    /// the versions before
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
        /// the process
        pid: u32,
    },
    /// it has changed
    Swapped(SwapReport),
    /// it would change
    Plan {
        /// what
        planned: Vec<Swapped>,
        /// how long the last change held up the task that it held up longest, ns; none where nothing changed yet
        last_pause_ns: Option<u64>,
    },
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
    },
}

impl Handle {
    /// Does what is asked.
    pub async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => {
                Answer::Status { status: Box::new(self.status()), versions: self.history(), pid: std::process::id() }
            }
            Request::Swap { offers } => self.swap(&named(offers)).await.map_or_else(refused, Answer::Swapped),
            Request::Plan { offers } => match self.plan_swap(&named(offers)).await {
                Ok(planned) => Answer::Plan { planned, last_pause_ns: self.last_pause_ns() },
                Err(error) => refused(error),
            },
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

fn named(offers: Vec<Offer>) -> Vec<(String, PathBuf)> {
    offers.into_iter().map(|offer| (offer.step, offer.file)).collect()
}

fn not_applied(error: ApplyError) -> Answer {
    Answer::Refused { code: error.code().to_owned(), message: error.to_string() }
}

fn refused(error: SwapError) -> Answer {
    Answer::Refused { code: error.code().to_owned(), message: error.to_string() }
}
