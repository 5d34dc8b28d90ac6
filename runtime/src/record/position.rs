//! How far a source has been read: what a restart goes on from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EventTime, NO_EVENT_TIME};

/// Where reading of one partition stood at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// what the partition is, the same from run to run: a path, `topic/partition`, a generator's lane
    pub partition: String,
    /// what to read next, in the source's own count (bytes, Kafka offsets, rows)
    pub next: u64,
    /// the partition has no more: it is not read again
    pub ended: bool,
    /// the latest event time seen, ms; [`NO_EVENT_TIME`] before the first. Without it, rows that were late would be in
    /// time after a restart.
    pub time_ms_max: EventTime,
}

impl Position {
    /// A position of a partition of which no event time is known.
    pub fn new(partition: impl Into<String>, next: u64, ended: bool) -> Self {
        Self { partition: partition.into(), next, ended, time_ms_max: NO_EVENT_TIME }
    }
}

/// The positions of one source, all tasks together, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    by_partition: BTreeMap<String, Position>,
}

impl Positions {
    /// Where the partition stood.
    pub fn get(&self, partition: &str) -> Option<&Position> {
        self.by_partition.get(partition)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Position> {
        self.by_partition.values()
    }
}

impl FromIterator<Position> for Positions {
    fn from_iter<T: IntoIterator<Item = Position>>(positions: T) -> Self {
        let by_partition = positions.into_iter().map(|position| (position.partition.clone(), position)).collect();
        Self { by_partition }
    }
}
