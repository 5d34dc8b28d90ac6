//! Sources that stay together in event time: a task that is further ahead of the slowest than `max_drift` stops reading
//! until the others have caught up, so that operators need not keep what the fast ones have brought too early.
//!
//! The slowest never waits, so somebody always reads. Tasks that are idle or have ended do not count; a task that has
//! shown no watermark yet counts as the slowest. A task that gets no rows at all and never goes idle therefore stops the
//! others: that is what `idle_after` is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::watermark::is_ahead;
use crate::record::Watermark;

/// The tasks of all sources of a pipeline that have `max_drift`.
#[derive(Debug)]
pub struct DriftGroup {
    /// the watermark of each task; the end of time for those that do not count
    tasks: Box<[AtomicI64]>,
    changed: Notify,
}

/// One task of the group. Dropping it takes it out.
#[derive(Debug)]
pub struct DriftMember {
    group: Arc<DriftGroup>,
    task: usize,
    max_drift_ms: i64,
}

impl DriftGroup {
    /// A group of `tasks` tasks that have shown nothing yet. Each must become a member, or the others wait for it.
    pub fn new(tasks: usize) -> Arc<Self> {
        let tasks = (0..tasks).map(|_| AtomicI64::new(Watermark::MIN.0)).collect();
        Arc::new(Self { tasks, changed: Notify::new() })
    }

    /// Task `task` of the group, with its own bound.
    pub fn member(self: &Arc<Self>, task: usize, max_drift: Duration) -> DriftMember {
        let max_drift_ms = i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX);
        DriftMember { group: Arc::clone(self), task, max_drift_ms }
    }

    fn slowest(&self) -> Watermark {
        let slowest = self.tasks.iter().map(|task| task.load(Ordering::Acquire)).min();
        slowest.map_or(Watermark::MAX, Watermark)
    }
}

impl DriftMember {
    /// How far this task has come; `None` while it is idle.
    pub fn reached(&self, watermark: Option<Watermark>) {
        let Some(task) = self.group.tasks.get(self.task) else { return };
        let reached = watermark.unwrap_or(Watermark::MAX).0;
        if task.swap(reached, Ordering::AcqRel) != reached {
            self.group.changed.notify_waiters();
        }
    }

    /// Whether this task is to wait.
    pub fn is_ahead(&self) -> bool {
        let own = self.group.tasks.get(self.task).map_or(Watermark::MIN.0, |task| task.load(Ordering::Acquire));
        // at the end of time it is idle: what it has yet to bring is not known
        own != Watermark::MAX.0 && is_ahead(Watermark(own), self.group.slowest(), self.max_drift_ms)
    }

    /// Returns once the others have caught up.
    pub async fn caught_up(&self) {
        loop {
            let mut changed = std::pin::pin!(self.group.changed.notified());
            // registered before the look, so that what happens in between is not missed
            changed.as_mut().enable();
            if !self.is_ahead() {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for DriftMember {
    fn drop(&mut self) {
        self.reached(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (DriftMember, DriftMember) {
        let group = DriftGroup::new(2);
        (group.member(0, Duration::from_millis(100)), group.member(1, Duration::from_millis(100)))
    }

    #[test]
    fn the_one_ahead_waits_and_the_slowest_never_does() {
        let (fast, slow) = pair();
        assert!(!fast.is_ahead() && !slow.is_ahead());
        fast.reached(Some(Watermark(500)));
        assert!(fast.is_ahead() && !slow.is_ahead(), "the slow one has shown nothing yet");
        slow.reached(Some(Watermark(399)));
        assert!(fast.is_ahead() && !slow.is_ahead());
        slow.reached(Some(Watermark(400)));
        assert!(!fast.is_ahead() && !slow.is_ahead());
    }

    #[test]
    fn who_is_idle_or_gone_holds_nobody() {
        let (fast, slow) = pair();
        fast.reached(Some(Watermark(500)));
        slow.reached(None);
        assert!(!fast.is_ahead() && !slow.is_ahead());
        slow.reached(Some(Watermark(1)));
        assert!(fast.is_ahead());
        drop(slow);
        assert!(!fast.is_ahead());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_slowest() {
        let (fast, slow) = pair();
        fast.reached(Some(Watermark(500)));
        let waiting = tokio::spawn(async move { fast.caught_up().await });
        for reached in [100, 300, 450] {
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() || reached == 450);
            slow.reached(Some(Watermark(reached)));
        }
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }
}
