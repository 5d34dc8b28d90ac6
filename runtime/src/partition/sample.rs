//! Split points from a sample of what passes: each sender keeps a few of its values, and where ranges begin is drawn from
//! all of them, so that tasks get about as many rows each.
//!
//! Values are kept by reservoir sampling, "algorithm L" of Li (1994): the rows to take are drawn in advance, so that a batch
//! costs as much as the values taken from it, not as its rows.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};

use super::{PartitionError, SplitPoints};
use crate::record::Kind;
use crate::rng::SplitMix;

/// Bytes of a text that are kept: its beginning decides where it stands among others.
const TEXT_BYTES: usize = 128;

/// Split points are not drawn from fewer values than this for each task.
const VALUES_PER_TASK_MIN: usize = 16;

/// What all senders of one exchange have seen of a column.
#[derive(Debug)]
pub struct Sampler {
    kind: Kind,
    values: usize,
    senders: Mutex<Vec<Sample>>,
}

/// What one sender has seen.
#[derive(Clone, Debug)]
pub struct Sample(Arc<Mutex<Reservoir>>);

#[derive(Debug)]
struct Reservoir {
    kept: Vec<Value>,
    capacity: usize,
    /// rows that came by, and how many of them had a value that can be a split point
    rows: u64,
    values: u64,
    /// the row, counted from 0, whose value is taken next
    next: u64,
    /// algorithm L's W
    weight: f64,
    random: SplitMix,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Sampler {
    /// Keeps `values` values in each sender of a column of `kind`, which must be one that [`SplitPoints`] cut.
    pub fn new(kind: Kind, values: usize) -> Self {
        Self { kind, values, senders: Mutex::default() }
    }

    /// Whether a column of this kind can be cut into ranges.
    pub fn fits(kind: Kind) -> bool {
        matches!(kind, Kind::Int64 | Kind::TimestampMs | Kind::Float64 | Kind::Text)
    }

    /// A sample for one more sender.
    pub fn sender(&self) -> Sample {
        let mut senders = locked(&self.senders);
        let sample = Sample(Arc::new(Mutex::new(Reservoir::new(self.values, senders.len() as u64))));
        senders.push(sample.clone());
        sample
    }

    /// Whether the senders have seen enough to cut ranges from, which they have once one of them keeps all it can.
    pub fn is_full(&self) -> bool {
        locked(&self.senders).iter().any(|sample| locked(&sample.0).kept.len() >= self.values)
    }

    /// Where to begin ranges for `tasks` tasks, from what came by since the last time; `None` if that was too little, which
    /// is kept then. Fewer ranges than tasks where one value is more than a task's share.
    pub fn draw(&self, tasks: usize) -> Option<SplitPoints> {
        let senders = locked(&self.senders);
        let kept: usize = senders.iter().map(|sample| locked(&sample.0).kept.len()).sum();
        if kept < tasks.saturating_mul(VALUES_PER_TASK_MIN) {
            return None;
        }
        // a value stands for as many rows as its sender saw for each that it kept
        let mut weighed: Vec<(Value, f64)> = Vec::with_capacity(kept);
        for sample in senders.iter() {
            let taken = locked(&sample.0).take();
            #[allow(clippy::cast_precision_loss)] // a share, not a count
            let each = taken.1 as f64 / taken.0.len().max(1) as f64;
            weighed.extend(taken.0.into_iter().map(|value| (value, each)));
        }
        weighed.sort_by(|one, other| one.0.order(&other.0));
        let points = cut(&weighed, tasks);
        Some(match self.kind {
            Kind::Float64 => SplitPoints::Floats(points.iter().filter_map(Value::float).collect()),
            Kind::Text => SplitPoints::Texts(points.iter().filter_map(Value::text).collect()),
            _ => SplitPoints::Integers(points.iter().filter_map(Value::integer).collect()),
        })
    }
}

impl Sample {
    /// Takes note of a batch.
    pub(super) fn see(&self, column: &ArrayRef) -> Result<(), PartitionError> {
        locked(&self.0).see(column)
    }
}

impl Reservoir {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut reservoir =
            Self { kept: Vec::new(), capacity, rows: 0, values: 0, next: 0, weight: 1.0, random: SplitMix::new(seed) };
        reservoir.begin();
        reservoir
    }

    fn begin(&mut self) {
        (self.rows, self.values, self.next, self.weight) = (0, 0, 0, 1.0);
        self.narrow();
    }

    /// What is kept and how many values it stands for; starts anew.
    fn take(&mut self) -> (Vec<Value>, u64) {
        let taken = (std::mem::take(&mut self.kept), self.values);
        self.begin();
        taken
    }

    /// In (0, 1].
    fn fraction(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // 53 bits fit
        let fraction = ((self.random.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        fraction
    }

    fn narrow(&mut self) {
        #[allow(clippy::cast_precision_loss)] // a few thousand
        let capacity = self.capacity.max(1) as f64;
        self.weight *= (self.fraction().ln() / capacity).exp();
    }

    fn skip(&mut self) {
        let skipped = (self.fraction().ln() / (-self.weight).ln_1p()).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative; what is too large saturates
        let skipped = skipped as u64;
        self.next = self.next.saturating_add(skipped).saturating_add(1);
    }

    fn see(&mut self, column: &ArrayRef) -> Result<(), PartitionError> {
        let rows = column.len() as u64;
        let end = self.rows.saturating_add(rows);
        while self.next < end {
            let row = usize::try_from(self.next.saturating_sub(self.rows)).unwrap_or(usize::MAX);
            let value = Value::at(column, row)?;
            if self.kept.len() < self.capacity {
                self.kept.extend(value);
                self.next += 1;
                if self.kept.len() == self.capacity {
                    self.skip();
                }
            } else {
                let place = usize::try_from(self.random.draw() % self.capacity.max(1) as u64).unwrap_or_default();
                if let (Some(kept), Some(value)) = (self.kept.get_mut(place), value) {
                    *kept = value;
                }
                self.narrow();
                self.skip();
            }
        }
        self.rows = end;
        self.values = self.values.saturating_add(rows.saturating_sub(column.null_count() as u64));
        Ok(())
    }
}

impl Value {
    /// `None` for what no split point decides about: nulls and NaN.
    fn at(column: &ArrayRef, row: usize) -> Result<Option<Self>, PartitionError> {
        if row >= column.len() || column.is_null(row) {
            return Ok(None);
        }
        if let Some(values) = column.as_primitive_opt::<Int64Type>() {
            return Ok(Some(Self::Integer(values.value(row))));
        }
        if let Some(values) = column.as_primitive_opt::<TimestampMillisecondType>() {
            return Ok(Some(Self::Integer(values.value(row))));
        }
        if let Some(values) = column.as_primitive_opt::<Float64Type>() {
            return Ok(Some(values.value(row)).filter(|value| !value.is_nan()).map(Self::Float));
        }
        match column.as_string_opt::<i32>() {
            Some(values) => {
                let text = values.value(row);
                Ok(Some(Self::Text(text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default().to_owned())))
            }
            None => Err(PartitionError::Kind { data_type: column.data_type().clone() }),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            (Self::Float(one), Self::Float(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            // of one column, so of one kind
            _ => Ordering::Equal,
        }
    }

    fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    fn float(&self) -> Option<f64> {
        if let Self::Float(value) = self { Some(*value) } else { None }
    }

    fn text(&self) -> Option<String> {
        if let Self::Text(value) = self { Some(value.clone()) } else { None }
    }
}

/// Where the shares of `tasks` tasks begin among sorted values, ascending, none of them the least value.
fn cut(weighed: &[(Value, f64)], tasks: usize) -> Vec<Value> {
    let total: f64 = weighed.iter().map(|(_, weight)| weight).sum();
    let Some((least, _)) = weighed.first() else { return Vec::new() };
    #[allow(clippy::cast_precision_loss)] // at most the number of key groups
    let share = total / tasks.max(1) as f64;
    let (mut points, mut before, mut wanted): (Vec<Value>, f64, f64) = (Vec::new(), 0.0, share);
    for (value, weight) in weighed {
        if before >= wanted {
            let last = points.last().unwrap_or(least);
            if last.order(value) == Ordering::Less && points.len() + 1 < tasks {
                points.push(value.clone());
            }
            while before >= wanted {
                wanted += share;
            }
        }
        before += weight;
    }
    points
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
