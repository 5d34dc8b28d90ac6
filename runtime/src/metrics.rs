//! Counters of a running pipeline. Each task counts for itself, once a batch; readers add up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What one task has done for one node.
#[derive(Debug)]
pub struct NodeCounters {
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    batches: AtomicU64,
    dead_rows: AtomicU64,
    skipped_rows: AtomicU64,
    late_rows: AtomicU64,
    watermark_ms: AtomicI64,
    state_bytes: AtomicU64,
    spilled_bytes: AtomicU64,
}

impl Default for NodeCounters {
    fn default() -> Self {
        Self {
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            dead_rows: AtomicU64::new(0),
            skipped_rows: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            watermark_ms: AtomicI64::new(i64::MIN),
            state_bytes: AtomicU64::new(0),
            spilled_bytes: AtomicU64::new(0),
        }
    }
}

/// A reading of [`NodeCounters`], of one task or added up over tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeCounts {
    /// rows taken in
    pub rows_in: u64,
    /// rows put out
    pub rows_out: u64,
    /// batches taken in
    pub batches: u64,
    /// rows sent to the dead-letter output
    pub dead_rows: u64,
    /// rows dropped because the policy is `skip`
    pub skipped_rows: u64,
    /// rows that came after their window had fired
    pub late_rows: u64,
    /// event time up to which all is in, ms; the smallest over tasks; `None` before the first
    pub watermark_ms: Option<i64>,
    /// bytes of state in memory, about; counted where the pipeline bounds them
    pub state_bytes: u64,
    /// bytes of state in the scratch store
    pub spilled_bytes: u64,
}

impl NodeCounts {
    /// Nothing yet; adding to it gives what is added.
    pub const ZERO: Self = Self {
        rows_in: 0,
        rows_out: 0,
        batches: 0,
        dead_rows: 0,
        skipped_rows: 0,
        late_rows: 0,
        watermark_ms: Some(i64::MAX),
        state_bytes: 0,
        spilled_bytes: 0,
    };

    /// What has been counted since `before`; times, and what is held now, as they are.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            rows_in: self.rows_in.saturating_sub(before.rows_in),
            rows_out: self.rows_out.saturating_sub(before.rows_out),
            batches: self.batches.saturating_sub(before.batches),
            dead_rows: self.dead_rows.saturating_sub(before.dead_rows),
            skipped_rows: self.skipped_rows.saturating_sub(before.skipped_rows),
            late_rows: self.late_rows.saturating_sub(before.late_rows),
            ..self
        }
    }

    /// Sums of both, and the smaller watermark.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rows_in: self.rows_in + other.rows_in,
            rows_out: self.rows_out + other.rows_out,
            batches: self.batches + other.batches,
            dead_rows: self.dead_rows + other.dead_rows,
            skipped_rows: self.skipped_rows + other.skipped_rows,
            late_rows: self.late_rows + other.late_rows,
            watermark_ms: self.watermark_ms.min(other.watermark_ms),
            state_bytes: self.state_bytes + other.state_bytes,
            spilled_bytes: self.spilled_bytes + other.spilled_bytes,
        }
    }
}

impl NodeCounters {
    /// A batch came in.
    pub fn batch_in(&self, rows: usize) {
        self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows went out.
    pub fn out(&self, rows: usize) {
        self.rows_out.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows were not handled.
    pub fn lost(&self, dead: usize, skipped: u64, late: u64) {
        if dead > 0 {
            self.dead_rows.fetch_add(dead as u64, Ordering::Relaxed);
        }
        if skipped > 0 {
            self.skipped_rows.fetch_add(skipped, Ordering::Relaxed);
        }
        if late > 0 {
            self.late_rows.fetch_add(late, Ordering::Relaxed);
        }
    }

    /// Event time has advanced.
    pub fn watermark(&self, watermark_ms: i64) {
        self.watermark_ms.store(watermark_ms, Ordering::Relaxed);
    }

    /// State takes so much.
    pub fn state(&self, in_memory_bytes: usize, spilled_bytes: u64) {
        self.state_bytes.store(in_memory_bytes as u64, Ordering::Relaxed);
        self.spilled_bytes.store(spilled_bytes, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn read(&self) -> NodeCounts {
        let watermark_ms = self.watermark_ms.load(Ordering::Relaxed);
        NodeCounts {
            rows_in: self.rows_in.load(Ordering::Relaxed),
            rows_out: self.rows_out.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            dead_rows: self.dead_rows.load(Ordering::Relaxed),
            skipped_rows: self.skipped_rows.load(Ordering::Relaxed),
            late_rows: self.late_rows.load(Ordering::Relaxed),
            watermark_ms: (watermark_ms != i64::MIN).then_some(watermark_ms),
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
            spilled_bytes: self.spilled_bytes.load(Ordering::Relaxed),
        }
    }
}
