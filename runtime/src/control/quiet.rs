//! Waiting until a running pipeline has nothing left to do, and until it is gone.

use std::sync::Arc;

use super::supervise::Handle;
use super::swap::SwapError;
use crate::pipeline::change::Change;
use crate::pipeline::resolve::Components;
use crate::record::BarrierId;

impl Handle {
    /// Returns once everything that the sources had taken in has passed all tasks, and everything that was due by the
    /// clock has been done: a barrier that changes nothing is sent through. A task that has ended counts as passed.
    pub async fn settle(&self) -> Result<(), SwapError> {
        self.life().send(&Arc::new(Change::default())).await.map(drop)
    }

    /// What runs now, swaps included.
    pub async fn components(&self) -> Components {
        self.life().shared.components.lock().await.clone()
    }

    /// Whether any task has ended, well or not.
    pub(crate) fn lost_a_task(&self) -> bool {
        self.life().shared.progress.any_ended()
    }

    /// Returns once all tasks have ended, or have been dropped.
    pub(crate) async fn gone(&self) {
        self.life().shared.progress.passed(BarrierId(u64::MAX)).await;
    }
}
