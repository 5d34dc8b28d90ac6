//! How many rows the sources of a run may still give together: a rehearsal ends once it has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that are left to all sources of a run. Clones share them.
#[derive(Clone, Debug)]
pub struct Enough(Arc<AtomicU64>);

impl Enough {
    /// So many in all.
    pub fn rows(rows: u64) -> Self {
        Self(Arc::new(AtomicU64::new(rows)))
    }

    /// Whether there are any left.
    pub(super) fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// A batch of so many has been given; the last may have more than were left.
    pub(super) fn given(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let left = |left: u64| Some(left.saturating_sub(rows));
        // the function never refuses
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
    }
}
