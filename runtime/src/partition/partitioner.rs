//! Splits batches over the tasks of the next chain: an index list per task, then one `take` per task.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take_record_batch;

use super::{PartitionError, Sample, SplitPoints, hash_rows, key_group, task_of_group};
use crate::limits::KEY_GROUPS;
use crate::record::Batch;

/// Decides for one sender which task gets which row.
#[derive(Debug)]
pub struct Partitioner {
    rule: Rule,
    parallelism: usize,
    hashes: Vec<u64>,
    /// where ranges begin that are cut from a sample, once they are
    drawn: Option<SplitPoints>,
}

#[derive(Debug)]
enum Rule {
    Key { columns: Vec<usize>, task_of_group: Vec<usize> },
    Rebalance { rows_sent: Vec<u64> },
    Broadcast,
    Range { column: usize, splits: SplitPoints },
    Sampled { column: usize, sample: Sample, rows_sent: Vec<u64> },
    Addressed,
}

impl Partitioner {
    /// Rows with equal values in `columns` go to one of `parallelism` tasks, the same in every sender and for ever.
    pub fn key(columns: Vec<usize>, parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        let task_of_group = (0..KEY_GROUPS).map(|group| task_of_group(group, parallelism)).collect();
        Ok(Self { rule: Rule::Key { columns, task_of_group }, parallelism, hashes: Vec::new(), drawn: None })
    }

    /// Whole batches go round: each to the task that got the fewest rows from this sender, the first of these.
    /// Batches of one size so go to tasks 0, 1, 2, .. in turn, and no row is copied.
    pub fn rebalance(parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        Ok(Self {
            rule: Rule::Rebalance { rows_sent: vec![0; parallelism] },
            parallelism,
            hashes: Vec::new(),
            drawn: None,
        })
    }

    /// All rows go to all tasks; none is copied.
    pub fn broadcast(parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        Ok(Self { rule: Rule::Broadcast, parallelism, hashes: Vec::new(), drawn: None })
    }

    /// Rows go by the range that their value in `column` lies in.
    pub fn range(column: usize, splits: SplitPoints, parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        Ok(Self { rule: Rule::Range { column, splits }, parallelism, hashes: Vec::new(), drawn: None })
    }

    /// As [`Partitioner::range`], by ranges that [`Partitioner::cut`] sets and sets anew; evenly before the first. What comes
    /// by is sampled.
    pub fn sampled(column: usize, sample: Sample, parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        let rows_sent = vec![0; parallelism];
        Ok(Self { rule: Rule::Sampled { column, sample, rows_sent }, parallelism, hashes: Vec::new(), drawn: None })
    }

    /// Ranges of rows to come, where they are cut from a sample.
    pub fn cut(&mut self, splits: SplitPoints) {
        self.drawn = Some(splits);
    }

    /// Rows go to the task whose number stands in their last column, which goes no further.
    pub fn addressed(parallelism: usize) -> Result<Self, PartitionError> {
        check(parallelism)?;
        Ok(Self { rule: Rule::Addressed, parallelism, hashes: Vec::new(), drawn: None })
    }

    /// The parts of `batch` with the task that each is for, by task, rows in their order, no part empty.
    /// A batch whose rows all go to one task is passed on as it is.
    pub fn split(&mut self, batch: &Batch) -> Result<Vec<(usize, Batch)>, PartitionError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if matches!(self.rule, Rule::Addressed) {
            return split_addressed(batch, self.parallelism);
        }
        if self.parallelism == 1 {
            return Ok(vec![(0, batch.clone())]);
        }
        match &mut self.rule {
            Rule::Key { columns, task_of_group } => {
                hash_rows(&key_columns(batch, columns)?, batch.rows(), &mut self.hashes)?;
                let mut rows = vec![Vec::new(); self.parallelism];
                for (row, hash) in (0u32..).zip(&self.hashes) {
                    let task = task_of_group.get(key_group(*hash) as usize).copied().unwrap_or_default();
                    if let Some(rows) = rows.get_mut(task) {
                        rows.push(row);
                    }
                }
                take_parts(batch, rows)
            }
            Rule::Range { column, splits } => split_ranges(batch, *column, splits, self.parallelism),
            Rule::Sampled { column, sample, rows_sent } => {
                for column in key_columns(batch, std::slice::from_ref(column))? {
                    sample.see(column)?;
                }
                match &self.drawn {
                    Some(splits) => split_ranges(batch, *column, splits, self.parallelism),
                    None => Ok(in_turn(batch, rows_sent)),
                }
            }
            Rule::Addressed => split_addressed(batch, self.parallelism),
            Rule::Broadcast => Ok((0..self.parallelism).map(|task| (task, batch.clone())).collect()),
            Rule::Rebalance { rows_sent } => Ok(in_turn(batch, rows_sent)),
        }
    }
}

fn check(parallelism: usize) -> Result<(), PartitionError> {
    if (1..=KEY_GROUPS as usize).contains(&parallelism) {
        Ok(())
    } else {
        Err(PartitionError::Parallelism { parallelism, max: KEY_GROUPS })
    }
}

fn in_turn(batch: &Batch, rows_sent: &mut [u64]) -> Vec<(usize, Batch)> {
    let least = (0..).zip(rows_sent.iter_mut()).min_by_key(|(_, sent)| **sent);
    let Some((task, sent)) = least else { return Vec::new() };
    *sent = sent.saturating_add(batch.rows() as u64);
    vec![(task, batch.clone())]
}

fn split_ranges(
    batch: &Batch,
    column: usize,
    splits: &SplitPoints,
    parallelism: usize,
) -> Result<Vec<(usize, Batch)>, PartitionError> {
    let mut rows = vec![Vec::new(); parallelism];
    for column in key_columns(batch, &[column])? {
        for (row, range) in (0u32..).zip(splits.ranges_of(column)?) {
            let task = rows.get_mut(splits.task_of(range, parallelism));
            task.into_iter().for_each(|rows| rows.push(row));
        }
    }
    take_parts(batch, rows)
}

fn split_addressed(batch: &Batch, parallelism: usize) -> Result<Vec<(usize, Batch)>, PartitionError> {
    let all = batch.columns().num_columns();
    let wrong = || PartitionError::Column { index: all, columns: all };
    let kept: Vec<usize> = (0..all.checked_sub(1).ok_or_else(wrong)?).collect();
    let tasks = batch.columns().columns().last().and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let mut rows = vec![Vec::new(); parallelism];
    for (row, task) in (0u32..).zip(tasks.ok_or_else(wrong)?.values()) {
        rows.get_mut(*task as usize).ok_or_else(wrong)?.push(row);
    }
    let columns = batch.columns().project(&kept).map_err(|source| PartitionError::Take { target: 0, source })?;
    let batch = Batch::new(columns, batch.times().clone()).ok_or_else(wrong)?;
    take_parts(&batch, rows)
}

fn key_columns<'a>(batch: &'a Batch, columns: &[usize]) -> Result<Vec<&'a ArrayRef>, PartitionError> {
    let all = batch.columns().columns();
    let column = |index: &usize| all.get(*index).ok_or(PartitionError::Column { index: *index, columns: all.len() });
    columns.iter().map(column).collect()
}

fn take_parts(batch: &Batch, rows: Vec<Vec<u32>>) -> Result<Vec<(usize, Batch)>, PartitionError> {
    let mut parts = Vec::new();
    for (target, rows) in rows.into_iter().enumerate() {
        if rows.len() == batch.rows() {
            return Ok(vec![(target, batch.clone())]);
        }
        if rows.is_empty() {
            continue;
        }
        let times: ScalarBuffer<i64> =
            rows.iter().map(|row| batch.times().get(*row as usize).copied().unwrap_or_default()).collect();
        let columns = take_record_batch(batch.columns(), &UInt32Array::from(rows))
            .map_err(|source| PartitionError::Take { target, source })?;
        parts.extend(Batch::new(columns, times).map(|part| (target, part)));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
