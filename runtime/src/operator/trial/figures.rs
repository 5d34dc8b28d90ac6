//! What a trial has seen in one task: counts of both versions, their cost, and examples of where they differ.

use arrow_array::RecordBatch;

use crate::record::EventTime;

/// Examples of differences that are kept in one task.
pub const EXAMPLES: usize = 5;

/// Parts of an octave that cost is told apart by: a value is off by at most a sixteenth.
const PARTS: u64 = 8;

/// What one task has seen of a trial so far.
#[derive(Clone, Debug, Default)]
pub struct TaskFigures {
    /// whether the trial has begun here
    pub began: bool,
    /// what the running version has done
    pub running: Side,
    /// what the candidate has done
    pub candidate: Side,
    /// how their outputs compare, where they do the same work
    pub difference: Difference,
    /// why the candidate could not go on here
    pub failed: Option<String>,
}

/// One of both versions.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// rows handed to it
    pub rows_in: u64,
    /// rows that it put out, to whatever output
    pub rows_out: u64,
    /// rows that it could not handle, whether dead or skipped
    pub dead: u64,
    /// rows that came too late for it
    pub late: u64,
    /// what its calls cost
    pub cost: Cost,
}

/// Time of calls for each of their rows, as a histogram over rows. Rows, not calls, are counted: a call with few rows
/// costs much for each of them, and says little.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// calls
    pub calls: u64,
    /// rows of them
    pub rows: u64,
    /// time of them, ns
    pub busy_ns: u64,
    /// rows by what each cost
    buckets: Vec<u64>,
}

/// How the outputs of two versions of one step compare.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// rows that both should have put out: of each element the larger number
    pub compared: u64,
    /// rows that one of them put out and the other did not; one put out otherwise by the other counts once
    pub differing: u64,
    /// rows of the running version that the candidate does not have
    pub only_running: u64,
    /// rows of the candidate that the running version does not have
    pub only_candidate: u64,
    /// the first of them
    pub examples: Vec<Example>,
}

/// A row that differs: what each version made, in the order of output.
#[derive(Clone, Debug)]
pub struct Example {
    /// 0 for the step's output, n for its n-th other output
    pub output: usize,
    /// of the running version; one row
    pub running: Option<(RecordBatch, EventTime)>,
    /// of the candidate; one row
    pub candidate: Option<(RecordBatch, EventTime)>,
}

impl TaskFigures {
    /// Adds what another task has seen.
    pub fn add(&mut self, other: &Self) {
        self.began |= other.began;
        self.running.add(&other.running);
        self.candidate.add(&other.candidate);
        self.difference.add(&other.difference);
        if self.failed.is_none() {
            self.failed.clone_from(&other.failed);
        }
    }
}

impl Side {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.dead += other.dead;
        self.late += other.late;
        self.cost.add(&other.cost);
    }
}

impl Difference {
    /// Adds others; examples as far as there is room.
    pub fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.differing += other.differing;
        self.only_running += other.only_running;
        self.only_candidate += other.only_candidate;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }
}

impl Cost {
    /// Takes note of a call with so many rows.
    pub fn record(&mut self, rows: usize, busy_ns: u64) {
        let rows = rows as u64;
        if rows == 0 {
            return;
        }
        self.calls += 1;
        self.rows += rows;
        self.busy_ns = self.busy_ns.saturating_add(busy_ns);
        let bucket = bucket_of(busy_ns.saturating_mul(1_000) / rows);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += rows;
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.rows += other.rows;
        self.busy_ns = self.busy_ns.saturating_add(other.busy_ns);
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
    }

    /// What that share of rows cost at most, each, in ns; none before the first row.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // to a sixteenth
    pub fn quantile_ns(&self, share: f64) -> Option<f64> {
        if self.rows == 0 {
            return None;
        }
        let wanted = ((self.rows as f64 * share).ceil() as u64).clamp(1, self.rows);
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(middle_of(at) / 1_000.0)
    }
}

/// Eight buckets to each doubling, exact below eight.
fn bucket_of(value: u64) -> usize {
    let octave = u64::from(value.max(1).ilog2());
    if octave < 3 {
        return usize::try_from(value).unwrap_or(0);
    }
    let part = (value >> (octave - 3)) & (PARTS - 1);
    usize::try_from((octave - 2) * PARTS + part).unwrap_or(0)
}

#[allow(clippy::cast_precision_loss)]
fn middle_of(bucket: usize) -> f64 {
    let (octave, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if octave == 0 {
        return part as f64;
    }
    let width = 2f64.powi(i32::try_from(octave).unwrap_or(0) - 1);
    (PARTS + part) as f64 * width + width / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_a_bucket_whose_middle_is_near() {
        for value in (0..2_000).chain([1 << 20, 3_333_333, u64::MAX / 3, u64::MAX]) {
            let middle = middle_of(bucket_of(value));
            let off = (middle - value as f64).abs();
            assert!(off <= value as f64 / 16.0 + 0.5, "{value} stands for {middle}");
        }
    }

    #[test]
    fn quantiles_are_over_rows_not_calls() {
        let mut cost = Cost::default();
        assert_eq!(cost.quantile_ns(0.99), None);
        // one row at 50 µs beside 1,000 at 100 ns each
        cost.record(1, 50_000);
        cost.record(1_000, 100_000);
        assert!((90.0..110.0).contains(&cost.quantile_ns(0.99).unwrap()));
        assert!((45_000.0..55_000.0).contains(&cost.quantile_ns(1.0).unwrap()));
        let mut other = Cost::default();
        other.record(100_000, 1_000_000_000);
        other.add(&cost);
        assert!((9_000.0..11_000.0).contains(&other.quantile_ns(0.5).unwrap()));
        assert_eq!((other.calls, other.rows), (3, 101_001));
    }
}
