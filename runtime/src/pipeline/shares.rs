//! What each task of a pipeline goes on with: the rows of a [`Cut`] by the tasks that own their keys now.
//!
//! All tasks begin at once and each wants its own rows of every piece of state. A piece is looked at once, by the first task that comes to
//! it, and cut in as many parts as there are tasks; tasks begin at different pieces, so that the work is shared out over their threads.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;

use super::cut::{Cut, RestoreError, TaskState};
use crate::partition::{hash_rows, key_group, task_of_group};
use crate::record::Watermark;
use crate::state::{Later, Snapshot};

/// The state of all steps, shared out over their tasks.
#[derive(Debug)]
pub(crate) struct Shares {
    steps: BTreeMap<String, Step>,
}

#[derive(Debug)]
struct Step {
    tasks: usize,
    watermark: Watermark,
    /// in the order of the tables, those of the first task first
    pieces: Vec<Piece>,
    /// name and key columns of the tables, which may have no rows
    tables: Vec<(String, Option<usize>)>,
}

/// Rows of a table.
#[derive(Debug)]
struct Piece {
    /// number of the table
    table: usize,
    keys: Option<usize>,
    rows: Rows,
    /// by task
    parts: OnceLock<Result<Vec<RecordBatch>, String>>,
}

#[derive(Debug)]
enum Rows {
    Made(RecordBatch),
    Later(Later),
}

impl Shares {
    /// Of a cut, for so many `tasks` of a step. Takes no time by the size of the state.
    pub(crate) fn new(cut: &Cut, tasks: impl Fn(&str) -> usize) -> Self {
        let steps = cut.steps.iter().filter(|(_, held)| !held.is_empty());
        let step = |(name, held): (&String, _)| (name.clone(), Step::new(held, tasks(name).max(1)));
        Self { steps: steps.map(step).collect() }
    }

    /// What task `subtask` of a step goes on with; none if the step had no state.
    ///
    /// A row with a key goes to the task that owns the key's group, a row without to all tasks; the watermark is the least
    /// that any task had reached.
    pub(crate) fn share(&self, step: &str, subtask: usize) -> Result<Option<TaskState>, RestoreError> {
        let Some(of) = self.steps.get(step) else { return Ok(None) };
        let failed = |reason: &String| RestoreError { step: step.to_owned(), reason: reason.clone() };
        let first = of.pieces.len() * subtask / of.tasks;
        let (before, from_here) = of.pieces.split_at_checked(first).unwrap_or_default();
        from_here.iter().chain(before).for_each(|piece| _ = piece.parts(of.tasks));
        let mut state = Snapshot::default();
        for (name, keys) in &of.tables {
            state = state.with(name, *keys, Vec::new());
        }
        for piece in &of.pieces {
            let parts = piece.parts(of.tasks).as_ref().map_err(failed)?;
            let own = parts.get(subtask).filter(|rows| rows.num_rows() > 0);
            state.tables.get_mut(piece.table).into_iter().for_each(|table| table.rows.extend(own.cloned()));
        }
        Ok(Some(TaskState { watermark: of.watermark, state }))
    }
}

impl Step {
    fn new(held: &BTreeMap<usize, TaskState>, tasks: usize) -> Self {
        let mut tables: Vec<(String, Option<usize>)> = Vec::new();
        let mut pieces = Vec::new();
        for table in held.values().flat_map(|task| &task.state.tables) {
            let number = tables.iter().position(|(name, _)| *name == table.name).unwrap_or(tables.len());
            if number == tables.len() {
                tables.push((table.name.clone(), table.keys));
            }
            let later = table.later.iter().cloned().map(Rows::Later);
            let rows = later.chain(table.rows.iter().cloned().map(Rows::Made));
            pieces.extend(rows.map(|rows| Piece { table: number, keys: table.keys, rows, parts: OnceLock::new() }));
        }
        let watermark = held.values().map(|task| task.watermark).min().unwrap_or(Watermark::MIN);
        Self { tasks, watermark, pieces, tables }
    }
}

impl Piece {
    fn parts(&self, tasks: usize) -> &Result<Vec<RecordBatch>, String> {
        self.parts.get_or_init(|| {
            let rows = match &self.rows {
                Rows::Made(rows) => rows.clone(),
                Rows::Later(later) => later.rows().map_err(|error| error.to_string())?,
            };
            match self.keys {
                Some(keys) if tasks > 1 => by_task(&rows, keys, tasks),
                _ => Ok(vec![rows; tasks]),
            }
        })
    }
}

/// The rows of a batch by the tasks that own their keys, which are the first `keys` columns.
fn by_task(batch: &RecordBatch, keys: usize, tasks: usize) -> Result<Vec<RecordBatch>, String> {
    let columns: Vec<_> = batch.columns().iter().take(keys).collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, batch.num_rows(), &mut hashes).map_err(|error| error.to_string())?;
    let mut rows = vec![Vec::new(); tasks];
    for (row, hash) in (0u32..).zip(hashes) {
        let task = rows.get_mut(task_of_group(key_group(hash), tasks));
        task.into_iter().for_each(|rows| rows.push(row));
    }
    let part = |rows: Vec<u32>| match rows.len() {
        0 => Ok(batch.slice(0, 0)),
        // as many tasks as before: nothing is copied
        all if all == batch.num_rows() => Ok(batch.clone()),
        _ => take_record_batch(batch, &UInt32Array::from(rows)).map_err(|error| error.to_string()),
    };
    rows.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    use super::*;
    use crate::pipeline::cut::Collected;
    use crate::record::{Field, Kind, Schema};

    fn rows(keys: std::ops::Range<i64>) -> RecordBatch {
        let schema = Schema::new([Field::new("key", Kind::Int64)]);
        RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(Int64Array::from_iter_values(keys))]).unwrap()
    }

    /// A cut of two tasks, and how often rows of their frozen copies have been made.
    fn cut() -> (Cut, Arc<AtomicUsize>) {
        let (collected, made) = (Collected::default(), Arc::new(AtomicUsize::new(0)));
        for (subtask, keys, watermark) in [(0, 0..50, 7), (1, 50..100, 9)] {
            let counted = Arc::clone(&made);
            let later = Later::new(
                || 0,
                move || {
                    counted.fetch_add(1, Ordering::Relaxed);
                    Ok(rows(100 + keys.start..100 + keys.end))
                },
            );
            let keys = subtask as i64 * 50..subtask as i64 * 50 + 50;
            let state = Snapshot::default()
                .with("keyed", Some(1), vec![rows(keys)])
                .with_later(vec![later])
                .with("all", None, vec![rows(0..1)])
                .with("empty", Some(1), vec![]);
            collected.add("sum", subtask, TaskState { watermark: Watermark(watermark), state });
        }
        (collected.take(), made)
    }

    #[test]
    fn each_key_goes_to_one_task_and_rows_without_a_key_to_all() {
        for tasks in 1..=4 {
            let (cut, made) = cut();
            let shares = Shares::new(&cut, |_| tasks);
            let mut seen = Vec::new();
            for subtask in 0..tasks {
                let share = shares.share("sum", subtask).unwrap().unwrap();
                assert_eq!(share.watermark, Watermark(7));
                assert_eq!((share.state.rows("all").len(), share.state.tables.len()), (2, 3));
                for batch in share.state.rows("keyed") {
                    seen.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..200).collect::<Vec<_>>());
            assert_eq!(made.load(Ordering::Relaxed), 2, "a piece is looked at once, whatever the number of tasks");
            assert!(shares.share("other", 0).unwrap().is_none());
        }
    }

    #[test]
    fn rows_of_a_key_stay_together_whatever_their_other_columns_hold() {
        let schema = Schema::new([Field::new("key", Kind::Int64), Field::new("value", Kind::Int64)]);
        let columns =
            [|row: i64| row % 4, |row: i64| row].map(|of| Arc::new((0..64).map(of).collect::<Int64Array>()) as _);
        let rows = RecordBatch::try_new(schema.arrow().clone(), columns.into()).unwrap();
        let collected = Collected::default();
        let state = Snapshot::default().with("keyed", Some(1), vec![rows]);
        collected.add("sum", 0, TaskState { watermark: Watermark(1), state });
        let shares = Shares::new(&collected.take(), |_| 3);
        for subtask in 0..3 {
            let share = shares.share("sum", subtask).unwrap().unwrap();
            for batch in share.state.rows("keyed") {
                let keys = batch.column(0).as_primitive::<Int64Type>().values();
                assert!((0..4).all(|key| [0, 16].contains(&keys.iter().filter(|of| **of == key).count())), "{keys:?}");
            }
        }
    }

    #[test]
    fn tasks_that_begin_at_once_share_the_work() {
        let (cut, made) = cut();
        let shares = Shares::new(&cut, |_| 3);
        let counts: usize = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..3)
                .map(|subtask| {
                    scope.spawn({
                        let shares = &shares;
                        move || shares.share("sum", subtask).unwrap().unwrap()
                    })
                })
                .collect();
            tasks
                .into_iter()
                .map(|task| task.join().unwrap().state.rows("keyed").iter().map(RecordBatch::num_rows).sum::<usize>())
                .sum()
        });
        assert_eq!((counts, made.load(Ordering::Relaxed)), (200, 2));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_of_the_step_for_every_task() {
        let later = Later::new(|| 0, || Err(crate::state::StateError::Elsewhere { reason: "gone".into() }));
        let state = Snapshot::default().with("keyed", Some(1), Vec::new()).with_later(vec![later]);
        let collected = Collected::default();
        collected.add("sum", 0, TaskState { watermark: Watermark(1), state });
        let shares = Shares::new(&collected.take(), |_| 2);
        for subtask in 0..2 {
            let error = shares.share("sum", subtask).unwrap_err();
            assert!(error.step == "sum" && error.reason.contains("gone"), "{error}");
        }
    }
}
