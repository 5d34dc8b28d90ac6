//! What all tasks of a pipeline held at one cut, and each task's share of it when the pipeline goes on.

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_select::filter::filter_record_batch;

use super::plan::SlotId;
use crate::partition::{hash_rows, key_group, task_of_group};
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

    /// What task `subtask` of `parallelism` of a step goes on with; none if the step had no state.
    ///
    /// A row with a key goes to the task that owns the key's group, a row without to all tasks; the watermark is the least
    /// that any task had reached.
    pub fn share(&self, step: &str, subtask: usize, parallelism: usize) -> Result<Option<TaskState>, RestoreError> {
        let Some(tasks) = self.steps.get(step).filter(|tasks| !tasks.is_empty()) else { return Ok(None) };
        let failed = |reason: String| RestoreError { step: step.to_owned(), reason };
        let mut share = Snapshot::default();
        for table in tasks.values().flat_map(|task| &task.state.tables) {
            let mut rows = Vec::with_capacity(table.rows.len());
            for batch in table.batches().map_err(|error| failed(error.to_string()))? {
                let kept = match table.keys {
                    Some(keys) => own(&batch, keys, subtask, parallelism).map_err(failed)?,
                    None => batch,
                };
                if kept.num_rows() > 0 {
                    rows.push(kept);
                }
            }
            match share.tables.iter_mut().find(|known| known.name == table.name) {
                Some(known) => known.rows.append(&mut rows),
                None => share = share.with(&table.name, table.keys, rows),
            }
        }
        let watermark = tasks.values().map(|task| task.watermark).min().unwrap_or(Watermark::MIN);
        Ok(Some(TaskState { watermark, state: share }))
    }
}

/// The rows of a batch whose keys (the first `keys` columns) belong to the task.
fn own(batch: &RecordBatch, keys: usize, subtask: usize, parallelism: usize) -> Result<RecordBatch, String> {
    if parallelism <= 1 || batch.num_rows() == 0 {
        return Ok(batch.clone());
    }
    let columns: Vec<_> = batch.columns().iter().take(keys).collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, batch.num_rows(), &mut hashes).map_err(|error| error.to_string())?;
    let mine = |hash: &u64| task_of_group(key_group(*hash), parallelism) == subtask;
    let mine = BooleanBuffer::from_iter(hashes.iter().map(mine));
    match mine.count_set_bits() {
        // as many tasks as before: nothing is copied
        rows if rows == batch.num_rows() => Ok(batch.clone()),
        0 => Ok(batch.slice(0, 0)),
        _ => filter_record_batch(batch, &BooleanArray::new(mine, None)).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::record::{Field, Kind, Schema};

    fn rows(keys: std::ops::Range<i64>) -> RecordBatch {
        let schema = Schema::new([Field::new("key", Kind::Int64)]);
        RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(Int64Array::from_iter_values(keys))]).unwrap()
    }

    fn cut() -> Cut {
        let collected = Collected::default();
        for (subtask, keys, watermark) in [(0, 0..50, 7), (1, 50..100, 9)] {
            let state =
                Snapshot::default().with("keyed", Some(1), vec![rows(keys)]).with("all", None, vec![rows(0..1)]);
            collected.add("sum", subtask, TaskState { watermark: Watermark(watermark), state });
        }
        collected.take()
    }

    #[test]
    fn each_key_goes_to_one_task_and_rows_without_a_key_to_all() {
        let cut = cut();
        for parallelism in 1..=4 {
            let mut seen = Vec::new();
            for subtask in 0..parallelism {
                let share = cut.share("sum", subtask, parallelism).unwrap().unwrap();
                assert_eq!(share.watermark, Watermark(7));
                assert_eq!(share.state.rows("all").len(), 2);
                for batch in share.state.rows("keyed") {
                    seen.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
        assert!(cut.share("other", 0, 1).unwrap().is_none());
    }
}
