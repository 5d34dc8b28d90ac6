//! How a task takes part in migrations ahead of a cut.

use super::{Chain, Link, TaskError, check};
use crate::pipeline::ballot::Ballot;
use crate::pipeline::change::Change;
use crate::pipeline::sweep::{SWEEP_TICK, SweepTask};

impl Chain {
    /// Begins to hand over the state of the steps that the change names.
    pub(super) fn begin_sweeps(&mut self, change: &Change) {
        for link in &mut self.links {
            if let Some(sweep) = change.take_sweep(&link.step, self.subtask) {
                let sweep = SweepTask::begin(sweep);
                // what one that was given up has noted is not this one's
                sweep.stop(link.operator.as_mut());
                link.sweep = Some(sweep);
            }
        }
    }

    /// Hands over a piece of state where one is wanted. To be called between two elements.
    pub(in crate::pipeline) fn sweep(&mut self) {
        for link in &mut self.links {
            if link.sweep.as_ref().is_some_and(|sweep| !sweep.go_on(link.operator.as_mut())) {
                link.sweep = None;
            }
        }
    }

    /// Whether state is handed over.
    pub(in crate::pipeline) fn is_swept(&self) -> bool {
        self.links.iter().any(|link| link.sweep.is_some())
    }

    /// Until the next look at [`Chain::sweep`] where no element comes; for ever if nothing is handed over.
    pub(in crate::pipeline) fn sweep_tick(&self) -> impl Future<Output = ()> + Send + use<> {
        let is_swept = self.is_swept();
        async move { if is_swept { tokio::time::sleep(SWEEP_TICK).await } else { std::future::pending().await } }
    }

    /// Migrates what is left of the steps whose migration the change ends. What does not migrate is told.
    pub(super) fn finish_sweeps(&mut self, change: &Change, ballot: &Ballot) {
        for link in self.links.iter_mut().filter(|link| change.ends_sweep(&link.step)) {
            let done = match &link.sweep {
                Some(sweep) => sweep.finish(link.operator.as_mut()),
                None => Err("its state has not been migrated ahead".to_owned()),
            };
            if let Err(reason) = done {
                ballot.cannot(&link.step, reason);
            }
        }
    }

    /// The change is not to be: operators go on as they were.
    pub(super) fn stop_sweeps(&mut self, change: &Change) {
        for link in self.links.iter_mut().filter(|link| change.ends_sweep(&link.step)) {
            if let Some(sweep) = link.sweep.take() {
                sweep.stop(link.operator.as_mut());
            }
        }
    }
}

impl Link {
    /// Puts in place what the change brings for this step.
    pub(super) fn replace(&mut self, change: &Change, subtask: usize) -> Result<(), TaskError> {
        let sweep = self.sweep.take_if(|_| change.ends_sweep(&self.step));
        for (slot, version, replacement) in change.take(&self.step, subtask) {
            let made = sweep.as_ref().and_then(|sweep| Some((sweep, sweep.made(slot)?)));
            let result = match made {
                Some((sweep, made)) => self.operator.adopt(slot, replacement, made).map(|left| sweep.leave(left)),
                None => self.operator.replace(slot, replacement),
            };
            check(self, subtask, result)?;
            self.runs(slot, version);
            crate::checkpoint::fail_point("swap-task");
        }
        Ok(())
    }
}
