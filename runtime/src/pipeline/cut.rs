//! What all tasks of a pipeline held at one cut. Each task's share of it when the pipeline goes on: `shares.rs`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::plan::SlotId;
use crate::record::{Position, Positions, Watermark};
use crate::sink::Prepared;
use crate::state::Snapshot;
use crate::wasm::StateSchema;

/// State cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct RestoreError {
    /// whose
    pub step: String,
    /// why
    pub reason: String,
}

/// State of one step in one task.
#[derive(Clone, Debug)]
pub struct TaskState {
    /// how far event time had come
    pub watermark: Watermark,
    /// what the operator remembered
    pub state: Snapshot,
}

/// Where the tasks of a run put their state at a barrier.
#[derive(Debug, Default)]
pub struct Collected {
    cut: Mutex<Cut>,
}

impl Collected {
    /// Adds the state of a step in one task.
    pub fn add(&self, step: &str, subtask: usize, state: TaskState) {
        // a writer that panicked can only have left a whole entry or none
        let mut cut = self.cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cut.steps.entry(step.to_owned()).or_default().insert(subtask, state);
    }

    /// Adds where a source stands in one task.
    pub fn add_positions(&self, source: &str, subtask: usize, positions: Vec<Position>) {
        let mut cut = self.cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cut.sources.entry(source.to_owned()).or_default().insert(subtask, positions);
    }

    /// Adds what a sink has prepared in one task.
    pub fn add_prepared(&self, sink: &str, prepared: Prepared) {
        let mut cut = self.cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cut.prepared.entry(sink.to_owned()).or_default().push(prepared);
    }

    /// All that has been added so far; it stays.
    pub fn copy(&self) -> Cut {
        self.cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// All that has been added, to go on from.
    pub fn take(&self) -> Cut {
        std::mem::take(&mut *self.cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// State of all steps.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// by name of the step, then task
    pub steps: BTreeMap<String, BTreeMap<usize, TaskState>>,
    /// by name of the source, then task
    pub sources: BTreeMap<String, BTreeMap<usize, Vec<Position>>>,
    /// what components kept that have left their state here, as far as it is known
    pub kept_by: BTreeMap<SlotId, StateSchema>,
    /// what is to become visible with this cut, by name of the sink
    pub prepared: BTreeMap<String, Vec<Prepared>>,
}

impl Cut {
    /// Where the partitions of a source stood, whichever task read them.
    pub fn positions(&self, source: &str) -> Option<Positions> {
        self.sources.get(source).map(|tasks| tasks.values().flatten().cloned().collect())
    }

    /// Adds what tasks that had ended before the cut left behind. What they left at the cut itself counts more.
    pub fn add_ended(&mut self, ended: Cut) {
        for (source, tasks) in ended.sources {
            let known = self.sources.entry(source).or_default();
            for (subtask, positions) in tasks {
                known.entry(subtask).or_insert(positions);
            }
        }
        for (step, tasks) in ended.steps {
            let known = self.steps.entry(step).or_default();
            for (subtask, state) in tasks {
                known.entry(subtask).or_insert(state);
            }
        }
        for (sink, mut prepared) in ended.prepared {
            self.prepared.entry(sink).or_default().append(&mut prepared);
        }
    }
}
