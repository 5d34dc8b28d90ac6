//! Event-time progress of one source subtask: a watermark a partition, merged by minimum. Pure: time comes in as numbers.
//!
//! - A partition that has shown time `t` promises "no more rows at or before `t − bound − 1`" (bounded out-of-orderness,
//!   as Flink defines it).
//! - The subtask's watermark is the minimum over partitions that are neither ended nor idle. A partition that is
//!   [added](PartitionWatermarks::add) and has not shown a row yet holds the watermark back.
//! - A partition is idle once nothing came for `idle_after`; its next row makes it count again. The watermark
//!   never goes back for it: what it brings then may be late.
//! - With no partition left that counts, the subtask is idle and its watermark stands still; the end of input is the
//!   caller's to announce.

use std::collections::BTreeMap;

use super::WatermarkSpec;
use crate::record::{EventTime, NO_EVENT_TIME, Watermark};

#[cfg(test)]
mod tests;

/// The watermarks of the partitions that one subtask reads.
#[derive(Debug)]
pub struct PartitionWatermarks {
    out_of_orderness_ms: i64,
    idle_after_ms: Option<i64>,
    /// partitions that have not ended
    live: BTreeMap<u32, Partition>,
    /// what was last announced
    watermark: Watermark,
    /// what was last announced; subtasks start active
    idle: bool,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// latest event time seen, `NO_EVENT_TIME` before the first
    time_ms_max: EventTime,
    /// when rows last came, by the host's clock
    seen_ms: i64,
}

/// What has changed since the last call of [`PartitionWatermarks::progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// the watermark, if it advanced
    pub watermark: Option<Watermark>,
    /// whether the subtask is idle now, if that changed
    pub idle: Option<bool>,
}

impl PartitionWatermarks {
    /// No partitions yet.
    pub fn new(spec: WatermarkSpec) -> Self {
        let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self {
            out_of_orderness_ms: ms(spec.max_out_of_orderness),
            idle_after_ms: spec.idle_after.map(ms),
            live: BTreeMap::new(),
            watermark: Watermark::MIN,
            idle: false,
        }
    }

    /// A partition that will send rows: from now on it holds the watermark back. Does nothing to one that is known.
    pub fn add(&mut self, partition: u32, now_ms: i64) {
        self.live.entry(partition).or_insert(Partition { time_ms_max: NO_EVENT_TIME, seen_ms: now_ms });
    }

    /// Rows of a partition have come, the latest of them at `time_ms_max` ([`NO_EVENT_TIME`]: none has a time).
    /// Adds the partition if it is new.
    pub fn observe(&mut self, partition: u32, time_ms_max: EventTime, now_ms: i64) {
        let known = self.live.entry(partition).or_insert(Partition { time_ms_max, seen_ms: now_ms });
        known.time_ms_max = known.time_ms_max.max(time_ms_max);
        known.seen_ms = known.seen_ms.max(now_ms);
    }

    /// The latest event time that a partition has shown; `None` before the first, and for one that has ended.
    pub fn time_ms_max(&self, partition: u32) -> Option<EventTime> {
        self.live.get(&partition).map(|live| live.time_ms_max).filter(|time_ms| *time_ms != NO_EVENT_TIME)
    }

    /// A partition sends nothing any more.
    pub fn end(&mut self, partition: u32) {
        self.live.remove(&partition);
    }

    /// What to announce, at `now_ms` of the host's clock.
    pub fn progress(&mut self, now_ms: i64) -> Progress {
        let idle_after_ms = self.idle_after_ms;
        let counts = |partition: &Partition| {
            idle_after_ms.is_none_or(|after_ms| now_ms.saturating_sub(partition.seen_ms) < after_ms)
        };
        let minimum = self.live.values().filter(|partition| counts(partition)).map(|p| p.time_ms_max).min();
        let idle = minimum.is_none();

        let mut progress = Progress::default();
        if idle != self.idle {
            self.idle = idle;
            progress.idle = Some(idle);
        }
        if let Some(time_ms) = minimum.filter(|time_ms| *time_ms != NO_EVENT_TIME) {
            let watermark = Watermark(time_ms.saturating_sub(self.out_of_orderness_ms).saturating_sub(1));
            if watermark > self.watermark {
                self.watermark = watermark;
                progress.watermark = Some(watermark);
            }
        }
        progress
    }
}
