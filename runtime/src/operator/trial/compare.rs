//! Whether two versions of a step put out the same rows: as multisets, between one element of the stream and the next.
//!
//! Rows meet by a hash of 64 bits over their columns, their time and the output that they are for; NaN equals NaN, and 0.0
//! equals -0.0. Two rows that differ are taken for equal once in 2^64 pairs, so nothing is decided on less than rates. Rows
//! without a match wait until [`Comparison::settle`]; of these at most [`WAITING_MAX`] are known at once, more count as
//! differing without waiting.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use hashbrown::HashMap;

use super::figures::{Difference, EXAMPLES, Example};
use crate::operator::{OperatorError, Output};
use crate::partition::hash_rows;
use crate::record::{Batch, EventTime};

/// Different rows that wait for their match.
const WAITING_MAX: usize = 1 << 20;

/// Of these, rows of each version that could become examples: each may hold the batch that it stands in.
const SHOWN_MAX: usize = 128;

/// Which version put a row out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Running,
    Candidate,
}

/// Rows of one element that have not met their like yet.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    waiting: HashMap<u64, Waiting>,
    hashes: Vec<u64>,
    /// counts rows, so that examples come in order
    seen: u64,
    shown: [usize; 2],
    rows: [u64; 2],
    /// those that found no room
    over: [u64; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    /// how many more of the running version than of the candidate
    more: i64,
    /// the first of them, if it may become an example
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    number: u64,
    output: usize,
    row: RecordBatch,
    time: EventTime,
}

/// The rows of an output from a position on.
pub(super) struct Rows<'a> {
    batches: &'a [Batch],
    sides: &'a [(usize, Batch)],
}

impl<'a> Rows<'a> {
    /// What `output` holds behind so many batches and batches of sides.
    pub(super) fn behind(output: &'a Output, (batches, sides): (usize, usize)) -> Self {
        Self {
            batches: output.batches.get(batches..).unwrap_or_default(),
            sides: output.sides.get(sides..).unwrap_or_default(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        let sides = self.sides.iter().map(|(_, batch)| batch.rows());
        self.batches.iter().map(Batch::rows).chain(sides).sum::<usize>() as u64
    }

    fn all(&self) -> impl Iterator<Item = (usize, &'a Batch)> + use<'a> {
        let sides = self.sides.iter().map(|(side, batch)| (side + 1, batch));
        self.batches.iter().map(|batch| (0, batch)).chain(sides)
    }
}

impl Comparison {
    /// Takes in what both have put out meanwhile.
    pub(super) fn take(&mut self, running: &Rows<'_>, candidate: &Rows<'_>) -> Result<(), OperatorError> {
        let (mut left, mut right) = (running.all(), candidate.all());
        // as a rule both are alike, batch by batch: then no row is looked at
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) if are_alike(a, b) => {
                    self.rows.iter_mut().for_each(|rows| *rows += a.1.rows() as u64);
                }
                (a, b) => {
                    for (output, batch) in a.into_iter().chain(left.by_ref()) {
                        self.add(By::Running, output, batch)?;
                    }
                    for (output, batch) in b.into_iter().chain(right.by_ref()) {
                        self.add(By::Candidate, output, batch)?;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn add(&mut self, by: By, output: usize, batch: &Batch) -> Result<(), OperatorError> {
        let times: ArrayRef = Arc::new(Int64Array::new(batch.times().clone(), None));
        let outputs: ArrayRef = Arc::new(Int64Array::from(vec![i64::try_from(output).unwrap_or(-1); batch.rows()]));
        let columns: Vec<&ArrayRef> = batch.columns().columns().iter().chain([&times, &outputs]).collect();
        let hashed = hash_rows(&columns, batch.rows(), &mut self.hashes);
        hashed.map_err(|error| OperatorError::Internal { reason: error.to_string() })?;
        let (step, side) = match by {
            By::Running => (1, 0),
            By::Candidate => (-1, 1),
        };
        if let Some(rows) = self.rows.get_mut(side) {
            *rows += batch.rows() as u64;
        }
        // what is taken away is the other version's: both have none at zero
        let [of_running, of_candidate] = &mut self.shown;
        let (own, others) = match by {
            By::Running => (of_running, of_candidate),
            By::Candidate => (of_candidate, of_running),
        };
        for (row, hash) in self.hashes.iter().enumerate() {
            let full = self.waiting.len() >= WAITING_MAX;
            match self.waiting.get_mut(hash) {
                Some(waiting) => {
                    waiting.more += step;
                    if waiting.more == 0 {
                        *others -= usize::from(waiting.shown.is_some());
                        self.waiting.remove(hash);
                    }
                }
                None if full => self.over.get_mut(side).into_iter().for_each(|over| *over += 1),
                None => {
                    let shown = (*own < SHOWN_MAX).then(|| Shown {
                        number: self.seen,
                        output,
                        row: batch.columns().slice(row, 1),
                        time: batch.times().get(row).copied().unwrap_or_default(),
                    });
                    *own += usize::from(shown.is_some());
                    self.waiting.insert(*hash, Waiting { more: step, shown });
                }
            }
            self.seen += 1;
        }
        Ok(())
    }

    /// The element is over: what has no match has none.
    pub(super) fn settle(&mut self) -> Difference {
        let [running, candidate] = std::mem::take(&mut self.rows);
        let [mut only_running, mut only_candidate] = std::mem::take(&mut self.over);
        let mut shown: [Vec<Shown>; 2] = [Vec::new(), Vec::new()];
        for (_, waiting) in self.waiting.drain() {
            let side = usize::from(waiting.more < 0);
            let only = if side == 0 { &mut only_running } else { &mut only_candidate };
            *only += waiting.more.unsigned_abs();
            if let Some(shown) = shown.get_mut(side) {
                shown.extend(waiting.shown);
            }
        }
        (self.seen, self.shown) = (0, [0; 2]);
        Difference {
            compared: running.max(candidate),
            differing: only_running.max(only_candidate),
            only_running,
            only_candidate,
            examples: paired(shown),
        }
    }
}

fn are_alike((of_a, a): (usize, &Batch), (of_b, b): (usize, &Batch)) -> bool {
    of_a == of_b && a.times() == b.times() && a.columns() == b.columns()
}

/// The first rows of both, side by side in the order of output: what a row at a time became, or a window's result.
fn paired(mut shown: [Vec<Shown>; 2]) -> Vec<Example> {
    shown.iter_mut().for_each(|rows| rows.sort_unstable_by_key(|shown| shown.number));
    let [running, candidate] = shown;
    let (mut running, mut candidate) = (running.into_iter().peekable(), candidate.into_iter().peekable());
    let row = |shown: Shown| (shown.row, shown.time);
    let mut examples = Vec::new();
    while examples.len() < EXAMPLES {
        let outputs = [running.peek(), candidate.peek()].map(|next| next.map(|shown| shown.output));
        let output = match outputs {
            [None, None] => break,
            [Some(one), None] | [None, Some(one)] => one,
            [Some(a), Some(b)] => a.min(b),
        };
        let running = running.next_if(|shown| shown.output == output).map(row);
        let candidate = candidate.next_if(|shown| shown.output == output).map(row);
        examples.push(Example { output, running, candidate });
    }
    examples
}

#[cfg(test)]
mod tests {
    use arrow_array::Float64Array;

    use super::*;
    use crate::record::{Field, Kind, Schema};

    fn numbers(values: &[f64], time: i64) -> Batch {
        let schema = Schema::new([Field::new("n", Kind::Float64)]);
        let columns =
            RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(Float64Array::from(values.to_vec()))]).unwrap();
        Batch::new(columns, vec![time; values.len()].into()).unwrap()
    }

    fn output(batches: &[&[f64]]) -> Output {
        Output { batches: batches.iter().map(|values| numbers(values, 7)).collect(), ..Output::default() }
    }

    /// Compared, differing, only of the running version, only of the candidate.
    fn compared(running: &Output, candidate: &Output) -> [u64; 4] {
        let mut comparison = Comparison::default();
        comparison.take(&Rows::behind(running, (0, 0)), &Rows::behind(candidate, (0, 0))).unwrap();
        let found = comparison.settle();
        assert!(comparison.waiting.is_empty());
        [found.compared, found.differing, found.only_running, found.only_candidate]
    }

    #[test]
    fn rows_are_compared_as_multisets_however_they_are_cut_and_ordered() {
        type Case = (&'static [&'static [f64]], &'static [&'static [f64]], [u64; 4]);
        let cases: [Case; 9] = [
            (&[], &[], [0, 0, 0, 0]),
            (&[&[1.0, 2.0]], &[&[1.0, 2.0]], [2, 0, 0, 0]),
            (&[&[1.0, 2.0]], &[&[2.0], &[1.0]], [2, 0, 0, 0]),
            (&[&[1.0], &[2.0, 3.0]], &[&[1.0], &[2.0, 4.0]], [3, 1, 1, 1]),
            (&[&[1.0, 1.0]], &[&[1.0]], [2, 1, 1, 0]),
            (&[&[1.0]], &[&[1.0, 1.0, 1.0]], [3, 2, 0, 2]),
            (&[&[f64::NAN, 0.0]], &[&[-0.0, f64::NAN]], [2, 0, 0, 0]),
            (&[&[1.0]], &[], [1, 1, 1, 0]),
            (&[], &[&[5.0, 5.0]], [2, 2, 0, 2]),
        ];
        for (running, candidate, expected) in cases {
            assert_eq!(compared(&output(running), &output(candidate)), expected, "{running:?} {candidate:?}");
        }
    }

    #[test]
    fn time_and_output_are_part_of_a_row() {
        let at = |time| Output { batches: vec![numbers(&[1.0], time)], ..Output::default() };
        assert_eq!(compared(&at(1), &at(2)), [1, 1, 1, 1]);
        let side = |side| Output { sides: vec![(side, numbers(&[1.0], 1))], ..Output::default() };
        assert_eq!(compared(&side(0), &side(0)), [1, 0, 0, 0]);
        assert_eq!(compared(&side(0), &side(1)), [1, 1, 1, 1]);
        assert_eq!(compared(&at(1), &side(0)), [1, 1, 1, 1]);
    }

    #[test]
    fn rows_of_one_element_meet_though_they_come_in_other_parts() {
        let mut comparison = Comparison::default();
        let none = Output::default();
        let (first, second) = (output(&[&[1.0, 2.0]]), output(&[&[3.0]]));
        comparison.take(&Rows::behind(&first, (0, 0)), &Rows::behind(&second, (0, 0))).unwrap();
        comparison.take(&Rows::behind(&second, (0, 0)), &Rows::behind(&none, (0, 0))).unwrap();
        comparison.take(&Rows::behind(&none, (0, 0)), &Rows::behind(&first, (0, 0))).unwrap();
        let found = comparison.settle();
        assert_eq!((found.compared, found.differing, comparison.shown), (3, 0, [0; 2]));
    }

    #[test]
    fn examples_show_both_versions_of_a_row_and_are_bounded() {
        let running: Vec<f64> = (0..2_000).map(f64::from).collect();
        let candidate: Vec<f64> = running.iter().map(|n| n + 0.5).collect();
        let mut comparison = Comparison::default();
        let (running, candidate) = (output(&[&running]), output(&[&candidate]));
        comparison.take(&Rows::behind(&running, (0, 0)), &Rows::behind(&candidate, (0, 0))).unwrap();
        let found = comparison.settle();
        assert_eq!((found.differing, found.examples.len()), (2_000, EXAMPLES));
        let value = |row: &Option<(RecordBatch, i64)>| {
            use arrow_array::cast::AsArray;
            row.as_ref().unwrap().0.column(0).as_primitive::<arrow_array::types::Float64Type>().value(0)
        };
        for (number, example) in (0..).zip(&found.examples) {
            assert_eq!(
                (value(&example.running), value(&example.candidate)),
                (f64::from(number), f64::from(number) + 0.5)
            );
        }
    }
}
