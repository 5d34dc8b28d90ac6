//! Rows made on the spot: for trying things out and for measurements.
//!
//! Row `i` is a pure function of the seed and `i`, so what a pipeline sees depends neither on parallelism nor on how
//! rows are cut into batches. Subtask `s` of `p` makes rows `s`, `s + p`, `s + 2p`, ..: event time advances evenly in all.
//! There is no thread and no channel: the task that asks for rows makes them, and only the columns that are wanted.

use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_buffer::ScalarBuffer;
use tokio::time::Instant;

use super::{BoxFuture, GeneratorKind, GeneratorSpec, QUIET_AFTER, Source, SourceContext, SourceError, SourceEvent};
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, EventTime, Position, Schema};

mod nexmark;
mod rows;

#[cfg(test)]
mod tests;

/// A paced generator looks at least so often at what is due.
const NAP_MAX: Duration = Duration::from_millis(10);

/// Between the event times of two rows, where neither `interval` nor `rate` says so: a million rows a second.
const INTERVAL_NS: u64 = 1_000;

/// The columns that the kind makes.
pub(super) fn schema_of(kind: GeneratorKind) -> Schema {
    rows::schema_of(kind)
}

/// One subtask's share of the rows.
pub(super) struct Generator {
    source_name: String,
    maker: rows::Maker,
    event_time: Option<usize>,
    lanes: Vec<Lane>,
    /// subtasks now; lanes may be of a run that had another number
    parallelism: u64,
    pace: Option<Pace>,
}

/// Every `stride`th row from row `first` on: a partition. Which lanes there are is settled at the first start: a
/// restart with more or fewer subtasks only shares them out anew.
#[derive(Clone, Copy, Debug)]
struct Lane {
    first: u64,
    stride: u64,
    /// rows made
    made: u64,
    /// rows made before this process
    made_before: u64,
    /// rows in all
    total: Option<u64>,
    ended: bool,
}

impl Lane {
    fn new(first: u64, stride: u64, made: u64, rows: Option<u64>) -> Self {
        let total = rows.map(|rows| share(rows, first, stride));
        Self { first, stride, made, made_before: made, total, ended: false }
    }

    /// The lane `3/4` of a position.
    fn restored(position: &Position, rows: Option<u64>) -> Option<Self> {
        let (first, stride) = position.partition.split_once('/')?;
        let (first, stride) = (first.parse().ok()?, stride.parse().ok().filter(|stride| *stride > 0)?);
        let lane = Self::new(first, stride, position.next, rows);
        // there may be more rows than at the last start
        Some(Self { ended: position.ended && lane.left() == 0, ..lane })
    }

    fn partition(&self) -> u32 {
        u32::try_from(self.first).unwrap_or(u32::MAX)
    }

    fn next_row(&self) -> u64 {
        self.made.wrapping_mul(self.stride).wrapping_add(self.first)
    }

    /// Rows still to be made.
    fn left(&self) -> u64 {
        self.total.map_or(u64::MAX, |total| total.saturating_sub(self.made))
    }

    fn position(&self) -> Position {
        Position::new(format!("{}/{}", self.first, self.stride), self.made, self.ended)
    }
}

/// When rows are due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rate: u64,
    /// set by the first call of `next`
    started: Option<Instant>,
}

impl Pace {
    /// Rows of all subtasks that are due: row `i` is due `i / rate` seconds after the start.
    fn due(&mut self) -> u64 {
        let elapsed = self.started.get_or_insert_with(Instant::now).elapsed();
        let due = elapsed.as_nanos().saturating_mul(u128::from(self.rate)) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How long to sleep until something can be due again: a row's time, within what timers can do.
    fn nap(self, parallelism: u64) -> Duration {
        let between_ns = 1_000_000_000_u64.saturating_mul(parallelism) / self.rate;
        Duration::from_nanos(between_ns).clamp(Duration::from_millis(1), NAP_MAX)
    }
}

/// How many of the first `rows` rows belong to `subtask`.
fn share(rows: u64, subtask: u64, parallelism: u64) -> u64 {
    rows.saturating_sub(subtask).div_ceil(parallelism)
}

impl Generator {
    /// A subtask's generator; fails where a wanted column is not one of [`schema_of`].
    pub(super) fn new(spec: &GeneratorSpec, context: &SourceContext) -> Result<Self, SourceError> {
        let rate = spec.rate.map(|rate| rate.max(1));
        let interval_ns =
            spec.interval_ns.or_else(|| rate.map(|rate| rows::interval_ns(spec.kind, rate))).unwrap_or(INTERVAL_NS);
        let series = rows::Series { seed: spec.seed, start_ms: spec.start_ms, interval_ns };
        let maker = rows::Maker::new(spec.kind, series, &context.wanted).map_err(|column| {
            let known = schema_of(spec.kind).to_string();
            SourceError::NoSuchColumn { source_name: context.name.clone(), column, known }
        })?;
        let (subtask, parallelism) = (context.subtask as u64, context.parallelism.max(1) as u64);
        let lanes = match &context.restore {
            None => vec![Lane::new(subtask, parallelism, 0, spec.rows)],
            Some(positions) => {
                let lanes = positions.iter().filter_map(|position| Lane::restored(position, spec.rows));
                lanes.filter(|lane| lane.first % parallelism == subtask).collect()
            }
        };
        Ok(Self {
            source_name: context.name.clone(),
            maker,
            event_time: context.event_time,
            lanes,
            parallelism,
            pace: rate.map(|rate| Pace { rate, started: None }),
        })
    }

    /// The next lane and how many rows it may make now; `None` where none has any left.
    fn ready(&mut self) -> Option<(usize, usize)> {
        let open = self.lanes.iter().enumerate().filter(|(_, lane)| lane.left() > 0);
        // one after the other by their next row, so that event time advances evenly
        let (index, lane) = open.min_by_key(|(_, lane)| lane.next_row())?;
        let due = match &mut self.pace {
            Some(pace) => {
                let since = share(pace.due(), lane.first, lane.stride);
                since.saturating_add(lane.made_before).saturating_sub(lane.made)
            }
            None => u64::MAX,
        };
        Some((index, usize::try_from(lane.left().min(due)).unwrap_or(usize::MAX).min(BATCH_ROWS)))
    }

    /// The next `count` rows of a lane.
    fn make(&mut self, lane: Lane, count: usize) -> Result<Batch, SourceError> {
        let rows = rows::Rows { first: lane.next_row(), stride: lane.stride, count };
        let internal = |reason: String| SourceError::Internal { source_name: self.source_name.clone(), reason };
        let (columns, times) = self.maker.make(rows).map_err(|error| internal(error.to_string()))?;
        let times = match self.event_time {
            Some(index) => columns.columns().get(index).and_then(|column| times_of(column)).unwrap_or(times),
            None => times,
        };
        Batch::new(columns, times).ok_or_else(|| internal("columns and times differ in length".into()))
    }

    async fn next_event(&mut self) -> Result<SourceEvent, SourceError> {
        let mut slept = Duration::ZERO;
        loop {
            // rows are always at hand: let other tasks of this thread have their turn
            tokio::task::coop::consume_budget().await;
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.left() == 0 && !lane.ended) {
                lane.ended = true;
                return Ok(SourceEvent::PartitionEnded { partition: lane.partition() });
            }
            let Some((index, count)) = self.ready() else { return Ok(SourceEvent::End) };
            if let Some(lane) = self.lanes.get(index).copied().filter(|_| count > 0) {
                let batch = self.make(lane, count)?;
                self.lanes.iter_mut().skip(index).take(1).for_each(|lane| lane.made += count as u64);
                return Ok(SourceEvent::Batch { partition: lane.partition(), batch, bad: Vec::new() });
            }
            if slept >= QUIET_AFTER {
                return Ok(SourceEvent::Quiet);
            }
            let nap = self.pace.map_or(NAP_MAX, |pace| pace.nap(self.parallelism));
            tokio::time::sleep(nap).await;
            slept += nap;
        }
    }
}

/// A column's values as event times, where it is of a kind that can be one.
fn times_of(column: &dyn Array) -> Option<ScalarBuffer<EventTime>> {
    if let Some(values) = column.as_primitive_opt::<Int64Type>() {
        return Some(values.values().clone());
    }
    column.as_primitive_opt::<TimestampMillisecondType>().map(|values| values.values().clone())
}

impl Source for Generator {
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>> {
        Box::pin(self.next_event())
    }

    fn partitions(&self) -> Vec<u32> {
        self.lanes.iter().filter(|lane| !lane.ended).map(Lane::partition).collect()
    }

    fn positions(&self) -> Vec<(u32, Position)> {
        self.lanes.iter().map(|lane| (lane.partition(), lane.position())).collect()
    }
}
