//! What a task does at a barrier: it puts its state into the cut, and changes between two elements.

use std::time::Duration;

use super::{Chain, Tail, TaskError, check};
use crate::clock::Stopwatch;
use crate::operator::{Operator, put_in_place, union};
use crate::pipeline::ballot::Ballot;
use crate::pipeline::change::{Change, Successor};
use crate::record::{Barrier, Element, Watermark};

impl Chain {
    /// All inputs have reached the barrier: the change takes effect here and now.
    pub(in crate::pipeline) async fn barrier(&mut self, barrier: Barrier) -> Result<(), TaskError> {
        let pause = self.change(&barrier).await?;
        self.passed(&barrier, pause);
        Ok(())
    }

    /// The barrier's change has taken effect in all of the task, which it has held up for `pause`.
    pub(in crate::pipeline) fn passed(&self, barrier: &Barrier, pause: Duration) {
        self.report.passed(barrier.id, u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
    }

    /// As [`Chain::barrier`], where more of the task is still to change. How long it has taken.
    pub(in crate::pipeline) async fn change(&mut self, barrier: &Barrier) -> Result<Duration, TaskError> {
        // what is due by the clock belongs before the cut
        while self.next_processing_time().is_some_and(|time_ms| time_ms <= self.clock.now_ms()) {
            self.processing_time().await?;
        }
        let watch = Stopwatch::start();
        let mut last = None;
        if let Some(change) = barrier.change.downcast_ref::<Change>() {
            last = change.last().cloned();
            if let Some(snapshot) = change.snapshot() {
                self.snapshot(snapshot, self.watermark)?;
                if let Some(epoch) = change.epoch()
                    && let Some((sink, prepared)) = self.prepare(epoch).await?
                {
                    snapshot.add_prepared(&sink, prepared);
                }
            }
        }
        let change = barrier.change.downcast_ref::<Change>();
        let ballot = change.and_then(Change::ballot);
        if let Some(change) = change {
            if change.counts() {
                self.links.iter().for_each(|link| change.count(&link.step, link.operator.state_rows()));
            }
            if ballot.is_none() {
                self.try_out(change)?;
            }
            self.begin_sweeps(change);
        }
        let ready = match (change, ballot) {
            (Some(change), Some(ballot)) => self.make_ready(change, ballot),
            (Some(change), None) => {
                self.replace(change)?;
                Vec::new()
            }
            (None, _) => Vec::new(),
        };
        let mut pause = watch.elapsed();
        self.dead.barrier(barrier).await.map_err(TaskError::DeadLetter)?;
        self.forward(Element::Barrier(barrier.clone())).await?;
        if let Some(handover) = &last {
            self.leave(handover).await?;
        }
        if let Some(change) = change {
            let sides = self.links.iter_mut().flat_map(|link| &mut link.sides).flatten();
            let tail = if let Tail::Edges(edges) = &mut self.tail { edges.as_mut_slice() } else { &mut [] };
            sides.chain(tail).for_each(|edge| edge.change(change));
        }
        if let (Some(change), Some(ballot)) = (change, ballot) {
            let watch = Stopwatch::start();
            self.report.reached(barrier.id);
            if ballot.verdict().await {
                // a trial that ends with what cannot be goes on
                self.try_out(change)?;
                self.succeed(ready);
                self.replace(change)?;
            } else {
                self.stop_sweeps(change);
            }
            pause += watch.elapsed();
        }
        Ok(pause)
    }

    /// Replaces the guests that the change brings.
    fn replace(&mut self, change: &Change) -> Result<(), TaskError> {
        let subtask = self.subtask;
        self.links.iter_mut().try_for_each(|link| link.replace(change, subtask))
    }

    /// Operators that have taken over the state of those that run, which go on as if nothing had happened. What cannot be
    /// taken over is told.
    fn make_ready(&mut self, change: &Change, ballot: &Ballot) -> Vec<(usize, Successor)> {
        self.finish_sweeps(change, ballot);
        let mut ready = Vec::new();
        for (index, link) in self.links.iter_mut().enumerate() {
            let Some(mut successor) = change.take_successor(&link.step, self.subtask) else { continue };
            let watch = Stopwatch::start();
            match take_over(link.operator.as_mut(), &mut successor, self.watermark) {
                Ok(rows) => {
                    change.count_migrated(rows, watch.elapsed());
                    ready.push((index, successor));
                }
                Err(reason) => ballot.cannot(&link.step, reason),
            }
        }
        ready
    }

    /// Puts them in place.
    fn succeed(&mut self, ready: Vec<(usize, Successor)>) {
        for (index, successor) in ready {
            let Some(link) = self.links.get_mut(index) else { continue };
            link.operator = successor.operator;
            successor.versions.into_iter().for_each(|(slot, version)| link.runs(slot, version));
        }
    }

    /// Begins and ends trials of candidates.
    pub(in crate::pipeline) fn try_out(&mut self, change: &Change) -> Result<(), TaskError> {
        for link in &mut self.links {
            if let Some(step) = change.take_trial(&link.step, self.subtask) {
                let result = put_in_place(&mut link.operator, step, self.watermark);
                if let Some(capsules) = &mut link.capsules {
                    capsules.tries(change.candidate(&link.step, self.subtask));
                }
                check(link, self.subtask, result)?;
            }
        }
        Ok(())
    }
}

/// Gives a successor the state of the operator that runs; why not, where it cannot take it.
fn take_over(running: &mut dyn Operator, successor: &mut Successor, watermark: Watermark) -> Result<u64, String> {
    let mut rows = 0;
    let (state, has) = running.snapshot_apart().map_err(|error| error.to_string())?;
    let mut state = state.made().map_err(|error| error.to_string())?;
    for migration in &mut successor.migrations {
        state = migration.run(state).map_err(|error| error.to_string())?;
        rows += migration.rows_in(&state);
    }
    if let Some(has) = has {
        state = union(state, has.made().map_err(|error| error.to_string())?);
    }
    successor.operator.restore(&state, watermark).map_err(|error| error.to_string())?;
    Ok(rows)
}
