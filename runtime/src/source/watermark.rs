//! Event-time progress of one source subtask: a watermark a partition, merged by minimum. Pure: time comes in as numbers.
//!
//! - A partition that has shown time `t` promises "no more rows at or before `t − bound − 1`" (bounded out-of-orderness,
//!   as Flink defines it). Where watermarks are [punctuated](PartitionWatermarks::punctuated), rows promise nothing: the
//!   stream itself says what has been reached.
//! - The subtask's watermark is the minimum over partitions that are neither ended nor idle. A partition that is
//!   [added](PartitionWatermarks::add) and has not shown a row yet holds the watermark back.
//! - A partition is idle once nothing came for `idle_after` of the [time in which the source was asked](AskedTime); its
//!   next row makes it active again.
//! - The watermark never goes back: what a partition brings that resumes, or begins, behind it may be late. Such a
//!   partition does not count until it has caught up, or it would make all others wait as well.
//! - With no partition left that is not idle, the subtask is idle and its watermark stands still; the end of input is the
//!   caller's to announce.

use std::collections::BTreeMap;

use super::WatermarkSpec;
use crate::record::{EventTime, NO_EVENT_TIME, Watermark};

#[cfg(test)]
mod tests;

/// The watermarks of the partitions that one subtask reads.
#[derive(Debug)]
pub struct PartitionWatermarks {
    /// `None`: punctuated
    out_of_orderness_ms: Option<i64>,
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
    /// what it has promised
    watermark: Watermark,
    /// when rows last came, in ms of the time in which the source was asked
    seen_ms: i64,
    /// counts for the minimum: not idle since, or caught up again
    aligned: bool,
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
            out_of_orderness_ms: Some(ms(spec.max_out_of_orderness)),
            idle_after_ms: spec.idle_after.map(ms),
            live: BTreeMap::new(),
            watermark: Watermark::MIN,
            idle: false,
        }
    }

    /// The same, advanced by [`PartitionWatermarks::mark`] only.
    #[must_use]
    pub fn punctuated(self) -> Self {
        Self { out_of_orderness_ms: None, ..self }
    }

    /// A partition that will send rows: from now on it holds the watermark back. Does nothing to one that is known.
    pub fn add(&mut self, partition: u32, asked_ms: i64) {
        self.entry(partition, asked_ms);
    }

    fn entry(&mut self, partition: u32, asked_ms: i64) -> &mut Partition {
        let unknown = Partition { watermark: Watermark::MIN, seen_ms: asked_ms, aligned: false };
        self.live.entry(partition).or_insert(unknown)
    }

    /// Rows of a partition have come, the latest of them at `time_ms_max` ([`NO_EVENT_TIME`]: none has a time).
    /// Adds the partition if it is new.
    pub fn observe(&mut self, partition: u32, time_ms_max: EventTime, asked_ms: i64) {
        let bound = self.out_of_orderness_ms.filter(|_| time_ms_max != NO_EVENT_TIME);
        let promised =
            bound.map_or(Watermark::MIN, |bound| Watermark(time_ms_max.saturating_sub(bound).saturating_sub(1)));
        let known = self.entry(partition, asked_ms);
        known.watermark = known.watermark.max(promised);
        known.seen_ms = known.seen_ms.max(asked_ms);
    }

    /// A partition has said itself that no more rows with this time or an earlier one come.
    pub fn mark(&mut self, partition: u32, watermark: Watermark, asked_ms: i64) {
        // the end of time is the caller's to announce: a row that claims it would make all that follow late
        let said = watermark.min(Watermark(Watermark::MAX.0 - 1));
        let known = self.entry(partition, asked_ms);
        known.watermark = known.watermark.max(said);
    }

    /// The event time from which a partition's watermark follows, to be kept for [`PartitionWatermarks::resume`]: the latest
    /// that it has shown, or what it has said itself. `None` before the first, and for one that has ended.
    pub fn time_ms_max(&self, partition: u32) -> Option<EventTime> {
        let promised = self.live.get(&partition)?.watermark;
        let behind = self.out_of_orderness_ms.map_or(0, |bound| bound.saturating_add(1));
        (promised != Watermark::MIN).then(|| promised.0.saturating_add(behind))
    }

    /// A partition goes on from where [`PartitionWatermarks::time_ms_max`] was.
    pub fn resume(&mut self, partition: u32, time_ms_max: EventTime) {
        match self.out_of_orderness_ms {
            Some(_) => self.observe(partition, time_ms_max, 0),
            None => self.mark(partition, Watermark(time_ms_max), 0),
        }
    }

    /// A partition sends nothing any more.
    pub fn end(&mut self, partition: u32) {
        self.live.remove(&partition);
    }

    /// What to announce, when the source has been asked for `asked_ms` in all.
    pub fn progress(&mut self, asked_ms: i64) -> Progress {
        let (announced, idle_after_ms) = (self.watermark, self.idle_after_ms);
        let silent = |partition: &Partition| {
            idle_after_ms.is_some_and(|after_ms| asked_ms.saturating_sub(partition.seen_ms) >= after_ms)
        };
        let mut idle = true;
        for partition in self.live.values_mut() {
            let silent = silent(partition);
            idle &= silent;
            partition.aligned = !silent && (partition.aligned || partition.watermark >= announced);
        }
        let counting = self.live.values().filter(|partition| partition.aligned);
        let minimum = counting.map(|partition| partition.watermark).min();

        let mut progress = Progress::default();
        if idle != self.idle {
            self.idle = idle;
            progress.idle = Some(idle);
        }
        if let Some(watermark) = minimum.filter(|minimum| *minimum > announced) {
            self.watermark = watermark;
            progress.watermark = Some(watermark);
        }
        progress
    }

    /// What was last announced; `None` while idle.
    pub fn announced(&self) -> Option<Watermark> {
        (!self.idle).then_some(self.watermark)
    }
}

/// The time in which a source was asked for rows, by the host's clock. It stands still while the pipeline is busy with
/// rows, or waits until others take them: a partition whose rows nobody takes is not silent.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskedTime {
    total_ms: i64,
    since_ms: Option<i64>,
}

impl AskedTime {
    /// The source is asked from `now_ms` on.
    pub fn start(&mut self, now_ms: i64) {
        self.since_ms.get_or_insert(now_ms);
    }

    /// It has answered, or is asked no more.
    pub fn stop(&mut self, now_ms: i64) {
        if let Some(since_ms) = self.since_ms.take() {
            self.total_ms = self.total_ms.saturating_add(now_ms.saturating_sub(since_ms).max(0));
        }
    }

    /// All of it up to the last stop, in ms.
    pub fn ms(&self) -> i64 {
        self.total_ms
    }
}

/// Whether a task whose watermark is `own` is so far ahead of `slowest` that it is to wait. One that has no watermark yet
/// is ahead of nobody, and nobody can be too far ahead of the end of time.
pub(super) fn is_ahead(own: Watermark, slowest: Watermark, max_drift_ms: i64) -> bool {
    own > Watermark(slowest.0.saturating_add(max_drift_ms))
}
