//! What can be asked of a running pipeline from outside its process, and what it answers: one JSON object each way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

fn refused(error: SwapError) -> Answer {
    let stub = error.stub().map(str::to_owned);
    Answer::Refused { code: error.code().to_owned(), message: error.to_string(), stub }
}
