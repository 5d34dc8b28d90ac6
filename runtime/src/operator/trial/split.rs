//! Which rows are a canary's: those of a share of the key groups, spread evenly over all tasks.
//!
//! They lie at even distances, as the pixels of a line, so the contiguous ranges that tasks own have as many each, give or
//! take one. The groups beside them, where there are so many, are the control group: the running version handles their rows in
//! a call of its own, so that calls of like size are compared.

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use crate::limits::KEY_GROUPS;
use crate::operator::OperatorError;
use crate::operator::isolate::selected;
use crate::partition::{hash_rows, key_group};
use crate::record::Batch;
use crate::state::{Snapshot, Table};

/// The groups of a canary.
#[derive(Clone, Debug)]
pub struct Share {
    /// so many groups are the candidate's
    groups: u32,
    /// for each input of the step the columns by whose values rows are told apart
    by: Vec<Vec<usize>>,
}

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Candidate,
    Control,
    Rest,
}

/// Rows of one batch.
pub(super) struct Parts {
    pub(super) candidate: Batch,
    pub(super) control: Batch,
    pub(super) rest: Batch,
}

impl Share {
    /// `percent`, in 0..100, of the groups, but at least one of them and not all.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
    pub fn new(percent: f64, by: Vec<Vec<usize>>) -> Self {
        let groups = (percent / 100.0 * f64::from(KEY_GROUPS)).round() as u32;
        Self { groups: groups.clamp(1, KEY_GROUPS - 1), by }
    }

    /// What part of the groups it is, in percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.groups) / f64::from(KEY_GROUPS) * 100.0
    }

    fn part(&self, group: u32) -> Part {
        let place = group.wrapping_mul(self.groups) % KEY_GROUPS;
        if place < self.groups {
            Part::Candidate
        } else if place < self.groups.saturating_mul(2) {
            Part::Control
        } else {
            Part::Rest
        }
    }

    /// Rows of input `input`, each part in its order.
    pub(super) fn split(&self, input: usize, batch: &Batch) -> Result<Parts, OperatorError> {
        let columns = self.by.get(input).or_else(|| self.by.first()).map(Vec::as_slice).unwrap_or_default();
        let columns: Vec<&ArrayRef> =
            columns.iter().filter_map(|column| batch.columns().columns().get(*column)).collect();
        let parts = self.parts(&columns, batch.rows())?;
        let of = |wanted: Part| selected(batch, &mask(&parts, |part| part == wanted));
        Ok(Parts { candidate: of(Part::Candidate)?, control: of(Part::Control)?, rest: of(Part::Rest)? })
    }

    fn parts(&self, columns: &[&ArrayRef], rows: usize) -> Result<Vec<Part>, OperatorError> {
        let mut hashes = Vec::new();
        hash_rows(columns, rows, &mut hashes).map_err(|error| internal(&error))?;
        Ok(hashes.iter().map(|hash| self.part(key_group(*hash))).collect())
    }

    /// State of the running version's keys, and of the candidate's. Rows without a key go to both.
    pub(super) fn divide(&self, state: &Snapshot) -> Result<(Snapshot, Snapshot), OperatorError> {
        let (mut running, mut candidate) = (Snapshot::default(), Snapshot::default());
        for table in &state.tables {
            let (mut kept, mut given) = (Vec::new(), Vec::new());
            for batch in &table.batches().map_err(|error| internal(&error))? {
                let Some(keys) = table.keys else {
                    kept.push(batch.clone());
                    given.push(batch.clone());
                    continue;
                };
                let columns: Vec<&ArrayRef> = batch.columns().iter().take(keys).collect();
                let parts = self.parts(&columns, batch.num_rows())?;
                let is_candidate = |part| part == Part::Candidate;
                put(&mut given, batch, &mask(&parts, is_candidate))?;
                put(&mut kept, batch, &mask(&parts, |part| !is_candidate(part)))?;
            }
            let table = |rows| Table { name: table.name.clone(), keys: table.keys, rows, later: Vec::new() };
            running.tables.push(table(kept));
            candidate.tables.push(table(given));
        }
        Ok((running, candidate))
    }
}

/// All state of both, as one task's.
pub(crate) fn union(mut running: Snapshot, candidate: Snapshot) -> Snapshot {
    for mut table in candidate.tables {
        match running.tables.iter_mut().find(|known| known.name == table.name) {
            Some(known) => {
                known.rows.append(&mut table.rows);
                known.later.append(&mut table.later);
            }
            None => running.tables.push(table),
        }
    }
    running
}

fn mask(parts: &[Part], is_wanted: impl Fn(Part) -> bool) -> BooleanArray {
    parts.iter().map(|part| Some(is_wanted(*part))).collect()
}

fn put(into: &mut Vec<RecordBatch>, batch: &RecordBatch, mask: &BooleanArray) -> Result<(), OperatorError> {
    let rows = filter_record_batch(batch, mask).map_err(|error| internal(&error))?;
    if rows.num_rows() > 0 {
        into.push(rows);
    }
    Ok(())
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> OperatorError {
    OperatorError::Internal { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;

    use super::*;
    use crate::partition::task_of_group;
    use crate::record::{Field, Kind, Schema};

    fn rows(count: i64) -> Batch {
        let schema = Schema::new([Field::new("key", Kind::Int64)]);
        let keys = Int64Array::from_iter_values(0..count);
        let columns = RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(keys)]).unwrap();
        Batch::new(columns, vec![0; usize::try_from(count).unwrap()].into()).unwrap()
    }

    #[test]
    fn every_task_gives_its_share_of_groups() {
        for (percent, expected) in [(0.1, 1), (10.0, 13), (25.0, 32), (50.0, 64), (99.9, 127)] {
            let share = Share::new(percent, Vec::new());
            let of_candidate: Vec<u32> =
                (0..KEY_GROUPS).filter(|group| share.part(*group) == Part::Candidate).collect();
            assert_eq!(of_candidate.len(), expected, "{percent} %");
            for parallelism in [1, 3, 4] {
                let mut by_task = vec![0; parallelism];
                of_candidate.iter().for_each(|group| by_task[task_of_group(*group, parallelism)] += 1);
                let (least, most) = (by_task.iter().min().unwrap(), by_task.iter().max().unwrap());
                assert!(most - least <= 2, "{percent} % in {parallelism} tasks: {by_task:?}");
            }
        }
    }

    #[test]
    fn state_goes_where_the_rows_of_its_key_go_and_comes_back_whole() {
        let share = Share::new(20.0, vec![vec![0]]);
        let batch = rows(10_000);
        let parts = share.split(0, &batch).unwrap();
        let of_control = parts.control.rows();
        assert_eq!(parts.candidate.rows() + of_control + parts.rest.rows(), 10_000);
        assert!((1_500..2_500).contains(&parts.candidate.rows()), "{}", parts.candidate.rows());
        assert!((1_500..2_500).contains(&of_control), "{of_control}");
        let state = Snapshot::default().with("keyed", Some(1), vec![batch.columns().clone()]);
        let state = state.with("all", None, vec![batch.columns().slice(0, 1)]);
        let (running, candidate) = share.divide(&state).unwrap();
        assert_eq!(candidate.rows("keyed"), [parts.candidate.columns().clone()]);
        assert_eq!(candidate.rows("all").len(), 1);
        let whole = union(running, candidate);
        let rows: usize = whole.rows("keyed").iter().map(RecordBatch::num_rows).sum();
        assert_eq!((rows, whole.tables.len(), whole.rows("all").len()), (10_000, 2, 2));
    }
}
