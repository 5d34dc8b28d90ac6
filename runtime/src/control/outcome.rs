//! How a run ended, from the ends of its tasks in whatever order these come.

use tokio::task::JoinError;

use super::checkpoints::CheckpointError;
use super::run::RunError;
use crate::pipeline::exchange::ExchangeError;
use crate::pipeline::task::TaskError;
use crate::sink::SinkError;

/// The end of one task of a run.
#[derive(Debug)]
pub(super) enum Ended {
    Task(Result<(), TaskError>),
    DeadLetters(Result<(), String>),
    /// nobody cuts ranges any more
    Ranges,
    /// `true`: all that matters is in the last checkpoint
    Checkpoints(Result<bool, CheckpointError>),
}

/// What the ends so far come to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    failure: Option<RunError>,
    stopped: bool,
}

impl Outcome {
    /// Takes in one more end; `true`: the tasks that are left are to be aborted.
    pub(super) fn take(&mut self, ended: Result<Ended, JoinError>) -> bool {
        let error = match ended {
            Ok(Ended::Task(Ok(())) | Ended::DeadLetters(Ok(())) | Ended::Ranges | Ended::Checkpoints(Ok(false))) => {
                return false;
            }
            Ok(Ended::Checkpoints(Ok(true))) => {
                self.stopped = true;
                return true;
            }
            Ok(Ended::Checkpoints(Err(error))) => RunError::Checkpoint(error),
            Ok(Ended::Task(Err(TaskError::Sink { source: SinkError::Closed { .. }, .. }))) => RunError::OutputClosed,
            Ok(Ended::Task(Err(error))) => RunError::Task(error),
            Ok(Ended::DeadLetters(Err(error))) => RunError::DeadLetter(error),
            Err(error) if error.is_cancelled() => return false,
            Err(error) => RunError::Panic(error.to_string()),
        };
        // Tasks are aborted one after the other, on several threads: one that still runs finds its neighbours gone.
        // Whatever else fails then fails on rows after the last checkpoint: the next start reads them again, and tells.
        if self.stopped && !matches!(error, RunError::Panic(_)) {
            tracing::debug!(%error, "after the last checkpoint");
            return false;
        }
        // A task that fails takes its neighbours' channels with it; the cause is the one worth telling.
        if !self.failure.as_ref().is_none_or(is_consequence) {
            return false;
        }
        let cause = !is_consequence(&error);
        self.failure = Some(error);
        cause
    }

    /// Whether all that matters is in the last checkpoint.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The failure worth telling, if there was one.
    pub(super) fn failure(&mut self) -> Option<RunError> {
        self.failure.take()
    }
}

fn is_consequence(error: &RunError) -> bool {
    matches!(error, RunError::Task(TaskError::Exchange(ExchangeError::Disconnected(_)) | TaskError::DeadLetter(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::exchange::Disconnected;

    fn disconnected() -> Ended {
        Ended::Task(Err(ExchangeError::from(Disconnected).into()))
    }

    fn broken() -> Ended {
        Ended::Task(Err(TaskError::DeadLetter("the disk is gone".to_owned())))
    }

    #[test]
    fn tasks_that_find_their_neighbours_gone_while_a_run_is_stopped_are_no_failure() {
        let mut outcome = Outcome::default();
        assert!(!outcome.take(Ok(Ended::Task(Ok(())))));
        assert!(outcome.take(Ok(Ended::Checkpoints(Ok(true)))), "the others are aborted");
        for ended in [disconnected(), broken(), Ended::DeadLetters(Err("closed".to_owned())), disconnected()] {
            assert!(!outcome.take(Ok(ended)));
        }
        assert!(outcome.failure().is_none());
    }

    #[test]
    fn of_several_failures_the_cause_is_told() {
        let mut outcome = Outcome::default();
        assert!(!outcome.take(Ok(disconnected())), "its cause is still to come");
        assert!(outcome.take(Ok(Ended::DeadLetters(Err("the disk is full".to_owned())))));
        assert!(!outcome.take(Ok(Ended::Checkpoints(Err(CheckpointError::Refused { reason: "later".to_owned() })))));
        let failure = outcome.failure().unwrap().to_string();
        assert!(failure.contains("the disk is full"), "{failure}");
    }
}
