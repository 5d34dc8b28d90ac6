//! Changes on their way: a barrier from all sources, and who waits for it.

use std::sync::Arc;

use super::SwapError;
use crate::control::run::Life;
use crate::pipeline::ballot::{Ballot, Chair};
use crate::pipeline::change::Change;
use crate::pipeline::source_task::Command;
use crate::record::{Barrier, BarrierId};

impl Life {
    /// As [`Life::send`] for a change that can fail at the cut: all tasks make ready, then all of them change, or none.
    pub(super) async fn send_and_decide(&self, change: &Arc<Change>, ballot: &Ballot) -> Result<u64, SwapError> {
        let chair = Chair(ballot);
        let id = self.announce(change).await?;
        self.shared.progress.reached(id).await;
        ballot.decide(ballot.against().is_none() && !self.has_failed());
        drop(chair);
        Ok(self.shared.progress.passed(id).await)
    }

    /// Sends the change with a barrier from all sources and waits until all tasks have taken it.
    pub(in crate::control) async fn send(&self, change: &Arc<Change>) -> Result<(BarrierId, u64), SwapError> {
        let id = self.announce(change).await?;
        Ok((id, self.shared.progress.passed(id).await))
    }

    /// Sends the change with a barrier from all sources.
    pub(in crate::control) async fn announce(&self, change: &Arc<Change>) -> Result<BarrierId, SwapError> {
        let turn = self.shared.barrier_turn.lock().await;
        if self.shared.progress.ended() {
            return Err(SwapError::Ended);
        }
        let id = self.next_barrier();
        let mut reached = false;
        for source in &self.shared.commands {
            let barrier = Barrier { id, change: Arc::<Change>::clone(change) };
            // a source that has ended already counts as past every barrier
            reached |= source.send(Command::Barrier(barrier)).await.is_ok();
        }
        if !reached {
            return Err(SwapError::Ended);
        }
        drop(turn);
        Ok(id)
    }
}
