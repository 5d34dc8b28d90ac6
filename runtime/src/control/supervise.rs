//! A pipeline through all its lives: after a failure that may mend, its tasks are started again from the last checkpoint.
//!
//! ```text
//!   life ─▶ fails ─▶ tasks are aborted, a checkpoint in the making is finished ─▶ decide (pure) ─▶ pause ─▶ next life
//!                                                                                   └─▶ give up: the run ends
//! ```
//!
//! A handle stays good through all of it. Components that were swapped in stay as far as the checkpoint that the next life
//! goes on from knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::checkpoints::{Session, StartFrom};
use super::kept::Runs;
use super::mending::is_mendable;
use super::plan::SwapPlan;
use super::rebuild::{Ask, Changes, Rebuilt};
use super::restart::{Decision, RestartPolicy, decide};
use super::run::{Life, OpenError, RunError, Tasks};
use super::status::{RestartStatus, Status};
use super::swap::{SwapError, SwapReport, Swapped};
use super::trial::{Breach, TrialSpec, TrialStatus};
use super::versions::Version;
use crate::clock::Stopwatch;
use crate::pipeline::build::RunOptions;
use crate::pipeline::cut::Cut;
use crate::pipeline::resolve::Resolution;
use crate::pipeline::spec::RestartSpec;
use crate::wasm::Sandbox;

/// A running pipeline. Dropping it aborts its tasks at once; [`Handle::stop`] and [`Running::wait`] end it cleanly.
#[derive(Debug)]
pub struct Running {
    supervisor: JoinSet<Result<(), RunError>>,
    handle: Handle,
}

/// Access to a running pipeline from other tasks; it stays good where the pipeline fails and is started again. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) run: Arc<Run>,
}

/// What all lives have in common.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    shape: Mutex<Shape>,
    /// counts how often it was to run in another shape
    shapes: watch::Sender<u64>,
    pub(super) sandbox: Sandbox,
    pub(super) options: RunOptions,
    /// whether it takes checkpoints
    pub(super) is_kept: bool,
    /// changes of shape
    pub(super) changes: Changes,
    /// the one that runs, or ran last
    pub(super) life: watch::Sender<Life>,
    restarts: watch::Sender<RestartStatus>,
    pub(super) stopping: watch::Sender<bool>,
    /// no other life follows
    over: watch::Sender<bool>,
    started: Stopwatch,
}

/// What a run runs.
#[derive(Debug)]
struct Shape {
    /// as it is to run: changes with the pipeline's shape
    resolution: Arc<Resolution>,
    /// which components run where a life goes on from a checkpoint that knows nothing of this shape
    choice: Runs,
    /// the first epoch of this shape
    first_epoch: u64,
}

impl Running {
    /// Opens everything and starts all tasks.
    pub async fn start(resolution: Resolution, sandbox: Sandbox, options: &RunOptions) -> Result<Self, OpenError> {
        Self::start_from(resolution, sandbox, options, &StartFrom::Latest).await
    }

    /// As [`Running::start`]; where a pipeline with checkpoints begins is said.
    pub async fn start_from(
        resolution: Resolution,
        sandbox: Sandbox,
        options: &RunOptions,
        start_from: &StartFrom,
    ) -> Result<Self, OpenError> {
        let mut session = session(&resolution, options, start_from, &BTreeSet::new()).await?;
        let is_kept = session.is_some();
        let first_epoch = session.as_ref().map_or(0, |session| session.epochs.next);
        let choice = Runs::Start(options.components);
        let runs = match &mut session {
            Some(session) => session.go_on(resolution.clone(), &sandbox, (choice, None)).await?,
            None => resolution.clone(),
        };
        let tasks = Tasks::start(runs, sandbox.clone(), options, session, (None, None)).await?;
        let (changes, asked) = Changes::new();
        let run = Arc::new(Run {
            name: resolution.plan.spec.name.value.clone(),
            shape: Mutex::new(Shape { resolution: Arc::new(resolution), choice, first_epoch }),
            shapes: watch::Sender::new(0),
            sandbox,
            options: options.clone(),
            is_kept,
            changes,
            life: watch::Sender::new(tasks.life()),
            restarts: watch::Sender::default(),
            stopping: watch::Sender::new(false),
            over: watch::Sender::new(false),
            started: Stopwatch::start(),
        });
        let mut supervisor = JoinSet::new();
        let handle = Handle { run: Arc::clone(&run) };
        supervisor.spawn(async move {
            let result = run.supervise(tasks, asked).await;
            run.over.send_replace(true);
            result
        });
        Ok(Self { supervisor, handle })
    }

    /// Access for other tasks: status, swap, stop.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of the run and says how it went.
    pub async fn wait(mut self) -> Result<Status, RunError> {
        match self.supervisor.join_next().await {
            Some(Ok(result)) => result.map(|()| self.handle.status()),
            Some(Err(error)) => Err(RunError::Panic(error.to_string())),
            None => Ok(self.handle.status()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // its tasks are aborted, and so is whoever would have said so
        self.handle.run.over.send_replace(true);
    }
}

fn policy(spec: &RestartSpec) -> RestartPolicy {
    let (attempts, within) = (spec.attempts.value, spec.within.value);
    RestartPolicy { attempts, within, first: spec.first.value, max: spec.max.value }
}

/// What a life with checkpoints goes on from.
pub(super) async fn session(
    resolution: &Resolution,
    options: &RunOptions,
    start_from: &StartFrom,
    dropped: &BTreeSet<String>,
) -> Result<Option<Session>, OpenError> {
    let spec = &resolution.plan.spec;
    match &spec.checkpoint {
        // a cut that is handed in is an experiment with a pipeline, not its life
        Some(checkpoint) if options.restore.is_none() => {
            Ok(Some(Session::open(spec, checkpoint, start_from, options.clock.clone(), dropped).await?))
        }
        _ => Ok(None),
    }
}

impl Run {
    async fn supervise(&self, mut tasks: Tasks, mut asked: mpsc::Receiver<Ask>) -> Result<(), RunError> {
        let mut failures = Vec::new();
        loop {
            let change = tokio::select! {
                biased;
                () = tasks.ended() => None,
                change = asked.recv() => change,
            };
            let ended = match change {
                None => tasks.outcome().await,
                Some(change) => match self.rebuild(tasks, change).await {
                    Rebuilt::Life(next) => {
                        tasks = next;
                        continue;
                    }
                    Rebuilt::Ended(ended) => ended,
                },
            };
            let Err(mut error) = ended else { return Ok(()) };
            tasks = loop {
                let pause = self.pause_after(error, &mut failures)?;
                if self.is_stopped_within(pause).await {
                    return Ok(());
                }
                match self.next_life().await {
                    Ok(tasks) => break tasks,
                    Err(failed) => error = RunError::Reopen(failed),
                }
            };
            self.restarts.send_modify(|restarts| restarts.next_try_ms = None);
        }
    }

    /// How long to wait before the next start; the error where there is to be none.
    fn pause_after(&self, error: RunError, failures: &mut Vec<Duration>) -> Result<Duration, RunError> {
        if !is_mendable(&error) {
            return Err(error);
        }
        let (now, policy) = (self.started.elapsed(), self.policy());
        failures.retain(|at| now.saturating_sub(*at) < policy.within);
        match decide(&policy, failures, now, random()) {
            Decision::GiveUp { restarts: 0 } => Err(error),
            Decision::GiveUp { restarts } => {
                Err(RunError::GaveUp { restarts, within: policy.within, source: Box::new(error) })
            }
            Decision::Again { pause } => {
                failures.push(now);
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let due_ms = self.options.clock.now_ms().saturating_add_unsigned(pause_ms);
                tracing::warn!(%error, pause_ms, "the pipeline has failed; it is started again from the last checkpoint");
                self.restarts.send_modify(|restarts| {
                    restarts.count += 1;
                    restarts.reason = Some(error.to_string());
                    (restarts.next_try_ms, restarts.pause_ms) = (Some(due_ms), pause_ms);
                });
                Ok(pause)
            }
        }
    }

    async fn is_stopped_within(&self, pause: Duration) -> bool {
        let mut stopping = self.stopping.subscribe();
        tokio::time::timeout(pause, stopping.wait_for(|stopping| *stopping)).await.is_ok()
    }

    async fn next_life(&self) -> Result<Tasks, OpenError> {
        let (resolution, choice, first_epoch) = {
            let shape = self.shape();
            (shape.resolution.as_ref().clone(), shape.choice, shape.first_epoch)
        };
        let mut session = session(&resolution, &self.options, &StartFrom::Latest, &BTreeSet::new()).await?;
        let resolution = match &mut session {
            Some(session) => {
                // what was asked for holds until there is a checkpoint that knows of it
                let own = session.restored_epoch() >= Some(first_epoch);
                let before = self.life.borrow().versions().clone();
                let runs =
                    if own { (Runs::AsOf, None) } else { (choice, Some(&before).filter(|_| choice == Runs::Wanted)) };
                session.go_on(resolution, &self.sandbox, runs).await?
            }
            None => resolution,
        };
        let tasks = Tasks::start(resolution, self.sandbox.clone(), &self.options, session, (None, None)).await?;
        self.follows(&tasks).await;
        Ok(tasks)
    }

    /// Another life runs: paused or to be stopped as the one before.
    pub(super) async fn follows(&self, tasks: &Tasks) {
        let life = tasks.life();
        let paused = self.life.send_replace(life.clone()).is_paused();
        if paused {
            life.pause().await;
        }
        if *self.stopping.borrow() {
            life.stop().await;
        }
    }

    /// The pipeline as it is to run.
    pub(super) fn resolution(&self) -> Arc<Resolution> {
        Arc::clone(&self.shape().resolution)
    }

    /// The pipeline is to run so from now on, also after a failure.
    pub(super) fn runs_now(&self, resolution: Resolution, life: &Life) {
        let last = life.status().checkpoints.and_then(|checkpoints| checkpoints.epoch);
        let first_epoch = last.map_or(0, |epoch| epoch.saturating_add(1));
        *self.shape() = Shape { resolution: Arc::new(resolution), choice: Runs::Wanted, first_epoch };
        self.shapes.send_modify(|shapes| *shapes += 1);
    }

    fn shape(&self) -> MutexGuard<'_, Shape> {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> RestartPolicy {
        if !self.is_kept {
            // without checkpoints a restart would begin anew and repeat what is visible
            return policy(&RestartSpec::off());
        }
        policy(&self.resolution().plan.spec.restart.as_ref().map(|spec| spec.value.clone()).unwrap_or_default())
    }
}

/// In 0..1, from the standard library's hash seeds.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish() >> 32;
    u32::try_from(bits).map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

impl Handle {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// The pipeline as it was checked when it was started or [changed](Handle::apply) last, with the components of then.
    pub fn resolution(&self) -> Arc<Resolution> {
        self.run.resolution()
    }

    /// Changes when [`Handle::resolution`] does.
    pub fn shapes(&self) -> watch::Receiver<u64> {
        self.run.shapes.subscribe()
    }

    /// The life that runs, or ran last.
    pub(super) fn life(&self) -> Life {
        self.run.life.borrow().clone()
    }

    /// What has been done so far.
    pub fn status(&self) -> Status {
        let restarts = self.run.restarts.borrow().clone();
        let mut status = self.life().status();
        self.run.changes.add_to(&mut status);
        let elapsed_ms = u64::try_from(self.run.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Status { ended: status.ended && restarts.next_try_ms.is_none(), elapsed_ms, restarts, ..status }
    }

    /// Restarts as they come. The receiver sees the last state, not necessarily each one.
    pub fn restarts(&self) -> watch::Receiver<RestartStatus> {
        self.run.restarts.subscribe()
    }

    /// Asks all sources to take nothing more in. What is in the pipeline is finished, windows fire, sinks commit.
    ///
    /// A pipeline with checkpoints takes a last one instead, and windows stay open: the next start goes on as if there had
    /// been no stop. One that has failed and waits for its next start ends at once; its last checkpoint is as good.
    pub async fn stop(&self) {
        self.run.stopping.send_replace(true);
        self.life().stop().await;
    }

    /// What all steps hold at one cut, and where sources stand, taken while the pipeline goes on. Steps of tasks that
    /// have ended have none. [`SwapError::Ended`] once the run is over; a pipeline that is being started again is waited
    /// for.
    pub async fn snapshot(&self) -> Result<Cut, SwapError> {
        self.in_a_life(|life| async move { life.snapshot().await }).await
    }

    /// Replaces components at one cut. Each is named by its step, or `step.entry` where the step has several.
    ///
    /// A task that had ended already, because its sources had, changes no more. A component all of whose tasks had ended is
    /// not in the report; if that goes for all of them the answer is [`SwapError::Ended`].
    ///
    /// Where the pipeline fails meanwhile the swap is done once it runs again. Goes on to its end in a task of its own when
    /// the future is dropped: a barrier that only some sources have sent would hold up the pipeline for ever.
    pub async fn swap(&self, requests: &[(String, PathBuf)]) -> Result<SwapReport, SwapError> {
        let requests = requests.to_vec();
        let swap = move |life: Life| {
            let requests = requests.clone();
            async move { life.swap(&requests).await }
        };
        self.in_turn(|handle| async move { handle.in_a_life(swap).await }).await
    }

    /// Puts back, at one cut, what the named steps ran before their present version; with none named, all that the last swap
    /// changed. Can be repeated, back to what ran when the pipeline was started or, after a failure, started again (at most
    /// seven versions back).
    pub async fn rollback(&self, steps: &[String]) -> Result<SwapReport, SwapError> {
        let steps = steps.to_vec();
        let rollback = move |life: Life| {
            let steps = steps.clone();
            async move { life.rollback(&steps).await }
        };
        self.in_turn(|handle| async move { handle.in_a_life(rollback).await }).await
    }

    /// Tries candidates for steps, named as for [`Handle::swap`]. Done once they are in place; how it goes tells
    /// [`Handle::trial`]. One trial goes on at a time, and no swap meanwhile. A pipeline that fails is started again without it.
    pub async fn try_out(&self, requests: &[(String, PathBuf)], spec: TrialSpec) -> Result<TrialStatus, SwapError> {
        let requests = requests.to_vec();
        self.in_turn(|handle| async move { handle.life().try_out(&requests, spec).await }).await
    }

    /// Makes the candidates of the trial that goes on the versions of their steps, at one cut.
    pub async fn promote(&self) -> Result<TrialStatus, SwapError> {
        self.in_turn(|handle| async move { handle.life().promote().await }).await
    }

    /// Ends the trial that goes on: the versions of before go on alone.
    pub async fn abandon_trial(&self) -> Result<TrialStatus, SwapError> {
        self.in_turn(|handle| async move { handle.life().abandon_trial().await }).await
    }

    /// Does `what` when it is its turn, with nothing else that changes the pipeline meanwhile. It keeps its turn to its end also when
    /// the future is dropped: a change of shape must not meet a half of it.
    async fn in_turn<T, F>(&self, what: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, SwapError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SwapError>> + Send,
    {
        let handle = self.clone();
        let done = async move {
            let run = Arc::clone(&handle.run);
            let _turn = run.changes.turn.lock().await;
            what(handle).await
        };
        tokio::spawn(done).await.map_err(|_| SwapError::Ended)?
    }

    /// The trial that goes on, or went on last.
    pub fn trial(&self) -> Option<TrialStatus> {
        self.life().trial_status()
    }

    /// The budget that the trial has used up, judged by all that it has seen, once no more will come.
    pub(super) fn final_breach(&self) -> Option<Breach> {
        self.life().final_breach()
    }

    /// What a swap would do, without doing it: everything is compiled and judged, the stream is not touched.
    pub async fn plan_swap(&self, requests: &[(String, PathBuf)]) -> Result<Vec<Swapped>, SwapError> {
        self.life().plan_swap(requests).await
    }

    /// As [`Handle::plan_swap`], with what becomes of state and how long tasks would stand still.
    pub async fn plan(&self, requests: &[(String, PathBuf)]) -> Result<SwapPlan, SwapError> {
        self.life().plan(requests).await
    }

    /// The versions of each component that are known, oldest first, under the names that a swap takes.
    pub fn history(&self) -> BTreeMap<String, Vec<Version>> {
        self.life().history()
    }

    /// Asks all sources to take nothing in until [`Handle::resume`]: what is in the pipeline goes on to the sinks, and
    /// checkpoints and swaps still happen. Whoever sends to the pipeline waits, or keeps what it has.
    pub async fn pause(&self) {
        self.life().pause().await;
    }

    /// Goes on after [`Handle::pause`].
    pub async fn resume(&self) {
        self.life().resume().await;
    }

    /// Does `what` in the life that runs; where that has ended before it was done, in the one that follows.
    async fn in_a_life<T, F>(&self, what: impl Fn(Life) -> F) -> Result<T, SwapError>
    where
        F: Future<Output = Result<T, SwapError>>,
    {
        loop {
            let life = self.life();
            match what(life.clone()).await {
                Err(SwapError::Ended) if self.follows(&life).await => {}
                result => return result,
            }
        }
    }

    /// Whether another life follows this one; waits until it is known.
    async fn follows(&self, life: &Life) -> bool {
        if life.last().is_none() && (self.run.policy().attempts == 0 || !life.has_failed()) {
            return false;
        }
        let (mut lives, mut over) = (self.run.life.subscribe(), self.run.over.subscribe());
        tokio::select! {
            biased;
            other = lives.wait_for(|current| !current.is(life)) => other.is_ok(),
            _ = over.wait_for(|over| *over) => false,
        }
    }
}
