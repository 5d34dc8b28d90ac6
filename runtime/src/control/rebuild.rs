//! A change of a pipeline's shape: its life ends at a barrier, and another begins there under another plan.
//!
//! ```text
//!   last barrier ─▶ tasks leave state, positions, open ends ─▶ the next life is opened ─▶ it runs
//!                   (with checkpoints: the last one is kept,     └▶ it cannot be: the old plan is opened again,
//!                    and its epoch shown)                             from the same cut
//! ```
//!
//! Behind the barrier no row moves until a life runs again, so none is lost and none comes twice, whatever sinks there are.
//! Without checkpoints the cut stays in memory; a process that dies meanwhile has lost what it would have lost anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::checkpoints::StartFrom;
use super::kept::Runs;
use super::run::{Ending, Life, OpenError, RunError, Tasks};
use super::status::{NodeStatus, Status};
use super::supervise::{Run, session};
use super::versions::Versions;
use crate::checkpoint::fail_point;
use crate::clock::Stopwatch;
use crate::metrics::NodeCounts;
use crate::pipeline::build::{RunOptions, StartError};
use crate::pipeline::cut::Cut;
use crate::pipeline::handover::{Handed, places};
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Resolution, Resolved};
use crate::pipeline::task::TaskError;

/// A change of shape that is asked for.
#[derive(Debug)]
pub(super) struct Ask {
    /// what is to run
    pub(super) wanted: Resolution,
    /// steps whose state is given up
    pub(super) dropped: BTreeSet<String>,
    /// how it went
    pub(super) answer: oneshot::Sender<Result<Done, NotDone>>,
}

/// A change of shape that has been made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    /// how many there were so far
    pub(super) generation: u64,
    /// from the barrier until all tasks ran again, ms
    pub(super) gap_ms: f64,
}

/// A change of shape that has not been made.
#[derive(Debug)]
pub(super) enum NotDone {
    /// the pipeline ended, or failed, before the last barrier had come through
    Ended,
    /// the new life could not be opened; the old plan goes on
    Failed(OpenError),
    /// neither could the old plan, or an output failed
    Lost(String),
}

/// What a run has after a change was asked for.
#[derive(Debug)]
pub(super) enum Rebuilt {
    Life(Tasks),
    Ended(Result<Ending, RunError>),
}

/// Changes of shape of a run.
#[derive(Debug)]
pub(super) struct Changes {
    asks: mpsc::Sender<Ask>,
    /// held by whoever changes the pipeline: changes come one after the other
    pub(super) turn: tokio::sync::Mutex<()>,
    past: Mutex<Past>,
}

/// What lives before the present one have done.
#[derive(Debug, Default)]
struct Past {
    generation: u64,
    /// by role and name: a sink may have the name of a step
    counts: BTreeMap<(u8, String), NodeCounts>,
    /// places that sinks have written to
    written: Arc<BTreeSet<String>>,
}

fn key(node: &NodeStatus) -> (u8, String) {
    (node.role as u8, node.name.clone())
}

impl Changes {
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        (Self { asks, turn: tokio::sync::Mutex::default(), past: Mutex::default() }, asked)
    }

    /// Asks whoever supervises the run. `None`: the run is over.
    pub(super) async fn ask(&self, wanted: Resolution, dropped: BTreeSet<String>) -> Option<Result<Done, NotDone>> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask { wanted, dropped, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Adds what lives before have counted.
    pub(super) fn add_to(&self, status: &mut Status) {
        let past = self.past();
        status.generation = past.generation;
        for node in &mut status.nodes {
            if let Some(before) = past.counts.get(&key(node)) {
                node.counts = node.counts.plus(*before);
            }
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where lives before, and this one, have written to.
    fn written(&self, also: &Resolution) -> Arc<BTreeSet<String>> {
        let mut past = self.past();
        let all = past.written.iter().cloned().chain(places(&also.plan)).collect();
        past.written = Arc::new(all);
        Arc::clone(&past.written)
    }

    /// A life is over that had counted this.
    fn count(&self, last: &Status) {
        let mut past = self.past();
        for node in &last.nodes {
            // neither a time nor what is held now adds up
            let counts = NodeCounts { watermark_ms: Some(i64::MAX), state_bytes: 0, spilled_bytes: 0, ..node.counts };
            let before = past.counts.entry(key(node)).or_insert(NodeCounts::ZERO);
            *before = before.plus(counts);
        }
    }

    fn changed(&self) -> u64 {
        let mut past = self.past();
        past.generation += 1;
        past.generation
    }
}

impl Run {
    /// Ends the life and begins another under the plan that is wanted, or, where that cannot be, under the old one.
    pub(super) async fn rebuild(&self, mut tasks: Tasks, ask: Ask) -> Rebuilt {
        let Ask { wanted, dropped, answer } = ask;
        let tell = |result| drop(answer.send(result));
        let life = tasks.life();
        let old = match self.running(&life).await {
            Ok(old) => old,
            Err(error) => {
                tell(Err(NotDone::Failed(error)));
                return Rebuilt::Life(tasks);
            }
        };
        let watch = Stopwatch::start();
        let (cut, ()) = tokio::join!(life.end_for_another(&dropped), tasks.ended());
        let last = life.status();
        let cut = match (tasks.outcome().await, cut) {
            (Ok(Ending::Checkpoint), _) => None,
            // where no source has come to the barrier all of them had ended before
            (Ok(Ending::Input), Ok(Some(mut cut))) if !self.is_kept && life.handover().has_sources() => {
                let state = |(slot, of): (&SlotId, &Resolved)| Some((slot.clone(), of.signature.state.clone()?));
                cut.kept_by = old.components.iter().filter_map(state).collect();
                Some(cut)
            }
            (ended, _) => {
                tell(Err(NotDone::Ended));
                return Rebuilt::Ended(ended);
            }
        };
        fail_point("change-cut");
        self.changes.count(&last);
        let handed = |new: &Resolution| {
            let written = self.changes.written(&old);
            Handed::new(life.handover(), (&old.plan, &new.plan), written, self.changes.past().generation + 1)
        };
        let (to_new, versions) = (handed(&wanted), life.versions().clone());
        match self.open(&wanted, cut.as_ref(), &dropped, (&to_new, versions.clone())).await {
            Ok(tasks) => {
                if let Err(error) = finish(&life, &to_new).await {
                    tell(Err(NotDone::Lost(error.to_string())));
                    return Rebuilt::Ended(Err(error));
                }
                fail_point("change-opened");
                self.runs_now(wanted, &tasks.life());
                self.follows(&tasks).await;
                let generation = self.changes.changed();
                let gap_ms = watch.elapsed().as_secs_f64() * 1e3;
                tracing::info!(generation, gap_ms, "the pipeline's shape has changed");
                tell(Ok(Done { generation, gap_ms }));
                Rebuilt::Life(tasks)
            }
            Err(error) => match self.open(&old, cut.as_ref(), &BTreeSet::new(), (&handed(&old), versions)).await {
                Ok(tasks) => {
                    self.follows(&tasks).await;
                    tracing::warn!(%error, "the pipeline cannot start in another shape; it goes on in the old one");
                    tell(Err(NotDone::Failed(error)));
                    Rebuilt::Life(tasks)
                }
                Err(again) => {
                    tell(Err(NotDone::Lost(format!("{error}; nor can it go on as it ran: {again}"))));
                    Rebuilt::Ended(Err(RunError::Reopen(again)))
                }
            },
        }
    }

    /// The pipeline as it runs, with the components that have been swapped in.
    pub(super) async fn running(&self, life: &Life) -> Result<Resolution, OpenError> {
        let components = life.shared.components.lock().await.clone();
        let mut resolution = self.resolution().as_ref().clone();
        for step in &mut resolution.plan.spec.steps {
            // a rollback may have put other limits in place than those that were set last
            let of_step = components.iter().find(|(slot, _)| slot.step == step.name.value);
            of_step.into_iter().for_each(|(_, resolved)| step.limits = resolved.limits);
        }
        resolution
            .with(components)
            .map_err(|error| StartError::Internal(format!("components that ran do not fit any more: {error}")).into())
    }

    /// Starts tasks at the cut: `cut` where it is in memory, else the newest checkpoint.
    async fn open(
        &self,
        resolution: &Resolution,
        cut: Option<&Cut>,
        dropped: &BTreeSet<String>,
        (handed, before): (&Handed, Versions),
    ) -> Result<Tasks, OpenError> {
        let mut runs = resolution.clone();
        let mut session = session(resolution, &self.options, &StartFrom::Latest, dropped).await?;
        if let Some(session) = &mut session {
            // a start from here on knows the new shape
            session.at_once = true;
            runs = session.go_on(runs, &self.sandbox, (Runs::Wanted, Some(&before))).await?;
        }
        let restore = cut.map(|cut| {
            let mut cut = cut.clone();
            cut.steps.retain(|step, _| !dropped.contains(step));
            Arc::new(cut)
        });
        // what the life before was told of pauses the next is told too
        let options = RunOptions { restore, paused: false, ..self.options.clone() };
        Tasks::start(runs, self.sandbox.clone(), &options, session, (Some(handed), Some(before))).await
    }
}

/// Shows what sinks have written that nobody goes on with.
async fn finish(life: &Life, handed: &Handed) -> Result<(), RunError> {
    for (name, subtask, sink) in life.handover().rest(handed.sinks()) {
        let finished = sink.finish().await;
        finished.map_err(|source| RunError::Task(TaskError::Sink { name, subtask, source }))?;
    }
    Ok(())
}
