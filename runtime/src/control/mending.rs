//! Which failures a restart from the last checkpoint can mend.
//!
//! Guests are pure and a restart reads the same rows again: what a row, a component or the pipeline itself is to blame for
//! comes again. What the world around is to blame for (a disk, a broker, a port) may be gone, and so may a panic, which
//! can hang on timing. What has to do with rows lost or shown twice, or with another owner of the pipeline, is for people. A
//! failure that nobody has put in one of the lists below is not mended.

use super::checkpoints::CheckpointError;
use super::run::{OpenError, RunError};
use crate::operator::OperatorError;
use crate::pipeline::build::StartError;
use crate::pipeline::task::TaskError;
use crate::sink::SinkError;
use crate::source::SourceError;

/// Whether another try may go better.
pub(super) fn is_mendable(error: &RunError) -> bool {
    match error {
        RunError::Task(error) => task(error),
        RunError::DeadLetter(_) | RunError::Panic(_) => true,
        RunError::Checkpoint(error) => checkpoint(error),
        RunError::Reopen(OpenError::Checkpoint(error)) => checkpoint(error),
        RunError::Reopen(OpenError::Start(error)) => start(error),
        RunError::OutputClosed | RunError::GaveUp { .. } => false,
    }
}

fn task(error: &TaskError) -> bool {
    match error {
        TaskError::Source { source, .. } => of_source(source),
        TaskError::Sink { source, .. } => of_sink(source),
        // a neighbour that is gone without having said why
        TaskError::Exchange(_) | TaskError::DeadLetter(_) => true,
        TaskError::Operator { source: OperatorError::Spill(_), .. } => true,
        TaskError::Operator { .. } | TaskError::Assigner { .. } | TaskError::Record { .. } => false,
    }
}

fn start(error: &StartError) -> bool {
    match error {
        StartError::Source { source, .. } => of_source(source),
        StartError::Sink { source, .. } => of_sink(source),
        StartError::Spill(_) => true,
        StartError::Guest { .. }
        | StartError::Operator { .. }
        | StartError::Restore { .. }
        | StartError::Internal(_) => false,
    }
}

fn of_source(error: &SourceError) -> bool {
    matches!(error, SourceError::File { .. } | SourceError::Listen { .. } | SourceError::Kafka { .. })
}

fn of_sink(error: &SinkError) -> bool {
    matches!(
        error,
        SinkError::File { .. }
            | SinkError::Print { .. }
            | SinkError::Kafka { .. }
            | SinkError::Documents { .. }
            | SinkError::Ended { .. }
            | SinkError::GivenUp { .. }
            | SinkError::Transactions { .. }
    ) || error.is_passing()
}

fn checkpoint(error: &CheckpointError) -> bool {
    match error {
        CheckpointError::Store(error) => error.is_passing(),
        CheckpointError::Sink(error) => of_sink(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::checkpoint::StoreError;

    fn full() -> io::Error {
        io::Error::from(io::ErrorKind::StorageFull)
    }

    #[test]
    fn the_world_may_mend_rows_components_and_other_owners_do_not() {
        let sink = |source| RunError::Task(TaskError::Sink { name: "out".into(), subtask: 0, source });
        let store = |error| RunError::Checkpoint(CheckpointError::Store(error));
        let reopen = |error| RunError::Reopen(OpenError::Start(error));
        let mended = [
            sink(SinkError::File { sink_name: "out".into(), action: "write", path: "x".into(), error: full() }),
            RunError::Panic("index out of bounds".into()),
            store(StoreError::Lock { path: "x".into(), source: full() }),
            reopen(StartError::Source {
                name: "in".into(),
                source: SourceError::Listen { source_name: "in".into(), address: ":1".into(), error: full() },
            }),
        ];
        for error in mended {
            assert!(is_mendable(&error), "{error}");
        }
        let row = OperatorError::Row { reason: "no".into() };
        let part = SinkError::PartGone { sink_name: "out".into(), pending: "x".into(), path: "y".into() };
        let left = [
            RunError::Task(TaskError::Operator { step: "s".into(), subtask: 0, source: row }),
            RunError::Task(TaskError::Record { name: "in".into(), subtask: 0, offset: 7, reason: "no".into() }),
            sink(part),
            store(StoreError::Fenced { epoch: 3, place: "x".into(), holder: "other".into() }),
            store(StoreError::InUse { place: "x".into(), holder: "other".into() }),
            RunError::Checkpoint(CheckpointError::Refused { reason: "shown".into() }),
            reopen(StartError::Internal("no".into())),
            RunError::OutputClosed,
        ];
        for error in left {
            assert!(!is_mendable(&error), "{error}");
        }
    }
}
