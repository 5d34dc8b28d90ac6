//! One task: elements come in, go through the operators of its chain, and leave for the next tasks or a sink.
//!
//! Invariants: elements leave in the order in which they came; what a watermark triggers leaves before the watermark;
//! a barrier's change takes effect between two elements, in all operators of the task at once.

mod barrier;
mod error;
mod sweeps;

use std::sync::Arc;

pub use self::error::TaskError;
use super::capsules::StepCapsules;
use super::change::TaskReport;
use super::cut::{Collected, Cut, RestoreError, TaskState};
use super::dead_letter::{DeadLetter, DeadLetters, Payload};
use super::exchange::{Edge, ExchangeError, Inputs};
use super::handover::{Handover, Later};
use super::shares::Shares;
use super::sweep::SweepTask;
use super::task_versions::{TaskVersions, refused_by};
use crate::clock::Clock;
use crate::metrics::NodeCounters;
use crate::operator::{Migration, Operator, OperatorError, Output};
use crate::record::{Batch, Element, Watermark};
use crate::sink::{Prepared, Sink};
use crate::wasm::ExactVersion;

/// An operator of a chain.
pub(super) struct Link {
    pub(super) step: String,
    pub(super) operator: Box<dyn Operator>,
    pub(super) counters: Arc<NodeCounters>,
    /// which versions of its components run now
    pub(super) versions: Versions,
    /// what becomes of state that other components have left, before it is restored
    pub(super) migrations: Vec<Migration>,
    /// its state is migrated as it goes on
    pub(super) sweep: Option<SweepTask>,
    /// who reads its other outputs, by number of the output
    pub(super) sides: Vec<Vec<Edge>>,
    /// where calls of its components go that fail
    pub(super) capsules: Option<StepCapsules>,
}

impl Link {
    /// Takes note of what runs.
    fn runs(&self, slot: usize, version: ExactVersion) {
        self.versions.runs(slot, version, self.counters.read());
    }
}

/// Versions of a step's components in one task.
pub type Versions = Arc<TaskVersions>;

/// Where a chain ends.
pub(super) enum Tail {
    /// in the tasks that read it
    Edges(Vec<Edge>),
    /// in a sink; `None` before it has been taken over, and once it has been finished or left
    Sink { name: String, sink: Option<Box<dyn Sink>>, counters: Arc<NodeCounters> },
}

/// Operators and where their results go: all of a task but its input.
pub(super) struct Chain {
    pub(super) subtask: usize,
    pub(super) links: Vec<Link>,
    pub(super) tail: Tail,
    pub(super) dead: DeadLetters,
    pub(super) report: TaskReport,
    pub(super) clock: Clock,
    /// how far event time has come
    watermark: Watermark,
    /// the same before the input ended: the end is not a time
    reached: Watermark,
    /// the epoch that the sink writes, where epochs are committed
    pub(super) epoch: Option<u64>,
    /// a sink that an earlier life of the pipeline has left open
    pub(super) handed: Option<Later<Box<dyn Sink>>>,
    /// set behind the last barrier: the task is to end as it stands
    over: Option<Arc<Handover>>,
    /// reused from element to element
    output: Output,
}

impl Chain {
    /// A chain that has seen nothing.
    pub(super) fn new(
        subtask: usize,
        links: Vec<Link>,
        tail: Tail,
        dead: DeadLetters,
        report: TaskReport,
        clock: Clock,
    ) -> Self {
        Self {
            subtask,
            links,
            tail,
            dead,
            report,
            clock,
            watermark: Watermark::MIN,
            reached: Watermark::MIN,
            epoch: None,
            handed: None,
            over: None,
            output: Output::default(),
        }
    }

    /// Takes over this task's share of what the tasks of these steps held.
    pub(super) fn restore(&mut self, shares: &Shares) -> Result<(), RestoreError> {
        for link in &mut self.links {
            let Some(share) = shares.share(&link.step, self.subtask)? else { continue };
            self.watermark = self.watermark.max(share.watermark);
            self.reached = self.watermark;
            let refused = |reason| RestoreError { step: link.step.clone(), reason };
            let mut state = share.state;
            for mut migration in std::mem::take(&mut link.migrations) {
                state = migration.run(state).map_err(|error| refused(error.to_string()))?;
            }
            let restored = link.operator.restore(&state, share.watermark);
            restored.map_err(|source| refused(source.to_string()))?;
        }
        Ok(())
    }

    /// The task begins: what an earlier life has left open is its own from here on.
    pub(super) fn begin(&mut self) -> Result<(), TaskError> {
        let Some(take) = self.handed.take() else { return Ok(()) };
        if let Tail::Sink { sink, .. } = &mut self.tail {
            // it has been seen there when the chain was made, and only this task takes it
            *sink = Some(take().ok_or(ExchangeError::from(super::exchange::Disconnected))?);
        }
        Ok(())
    }

    /// Where to leave the source, once the task has passed its last barrier.
    pub(super) fn is_over(&self) -> Option<&Arc<Handover>> {
        self.over.as_ref()
    }

    /// No task goes on behind this barrier, and the input has not ended: nothing fires, nothing is finished.
    async fn leave(&mut self, handover: &Arc<Handover>) -> Result<(), TaskError> {
        self.flush().await?;
        if let Tail::Sink { name, sink, .. } = &mut self.tail
            && let Some(sink) = sink.take()
            // what belongs to an epoch has been prepared, and the next epoch is of another attempt
            && self.epoch.is_none()
        {
            handover.leave_sink(name, self.subtask, sink);
        }
        self.over = Some(Arc::clone(handover));
        self.report.finished(Cut::default());
        Ok(())
    }

    /// Puts what the operators remember where the one who asked will look.
    fn snapshot(&mut self, into: &Collected, watermark: Watermark) -> Result<(), TaskError> {
        for link in &mut self.links {
            let result = link.operator.snapshot();
            let state = result.map_err(|source| failed(&link.step, self.subtask, source))?;
            into.add(&link.step, self.subtask, TaskState { watermark, state });
        }
        Ok(())
    }

    /// Makes what the sink has written of `epoch` ready to be committed.
    async fn prepare(&mut self, epoch: u64) -> Result<Option<(String, Prepared)>, TaskError> {
        let Tail::Sink { name, sink: Some(sink), .. } = &mut self.tail else { return Ok(None) };
        let failed = |source| TaskError::Sink { name: name.clone(), subtask: self.subtask, source };
        let prepared = sink.prepare(epoch).await.map_err(failed)?;
        self.epoch = Some(epoch + 1);
        Ok(prepared.map(|prepared| (name.clone(), prepared)))
    }

    /// Runs rows through the chain from its start, into input `port` of the first operator.
    pub(super) async fn batch(&mut self, port: usize, batch: Batch) -> Result<(), TaskError> {
        self.through(0, port, vec![batch]).await
    }

    /// Runs batches through the operators from `first` on.
    async fn through(&mut self, first: usize, mut port: usize, mut batches: Vec<Batch>) -> Result<(), TaskError> {
        for index in first..self.links.len() {
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches.drain(..) {
                let Some(link) = self.links.get_mut(index) else { continue };
                link.counters.batch_in(batch.rows());
                let result = link.operator.on_input(port, batch, &mut self.output);
                check(link, self.subtask, result)?;
            }
            port = 0;
            batches = self.collect(index).await?;
        }
        self.emit(batches).await
    }

    /// What the operator at `index` has put out; its dead rows are on their way when this returns.
    async fn collect(&mut self, index: usize) -> Result<Vec<Batch>, TaskError> {
        let (batches, letters) = self.taken(index);
        for letter in letters {
            self.dead.send(letter).await.map_err(TaskError::DeadLetter)?;
        }
        if !self.output.sides.is_empty() {
            let sides = std::mem::take(&mut self.output.sides);
            let edges = self.links.get_mut(index).map(|link| link.sides.as_mut_slice()).unwrap_or_default();
            for (output, batch) in sides {
                for edge in edges.get_mut(output).into_iter().flatten() {
                    edge.send(&batch).await?;
                }
            }
        }
        Ok(batches)
    }

    fn taken(&mut self, index: usize) -> (Vec<Batch>, Vec<DeadLetter>) {
        let Some(link) = self.links.get(index) else { return (Vec::new(), Vec::new()) };
        let output = &mut self.output;
        let mut batches = std::mem::take(&mut output.batches);
        batches.retain(|batch| !batch.is_empty());
        link.counters.out(batches.iter().map(Batch::rows).sum());
        link.counters.lost(output.dead.len(), output.skipped_rows, output.late_rows);
        (output.skipped_rows, output.late_rows) = (0, 0);
        if let Some(capsules) = &link.capsules {
            capsules.write(&output.dead);
        }
        if output.dead.is_empty() {
            return (batches, Vec::new());
        }
        // where one of several components failed the operator says which
        let own: Vec<(usize, ExactVersion)> =
            link.versions.all().into_iter().map(|(slot, of)| (slot, of.version)).collect();
        let others = std::mem::take(&mut output.dead_by);
        let by = |row: usize| others.iter().find(|(rows, _)| rows.contains(&row)).map(|(_, versions)| &**versions);
        let letters = output.dead.drain(..).enumerate().map(|(row, dead)| DeadLetter {
            node: link.step.clone(),
            version: refused_by(by(row).unwrap_or(&own), dead.slot),
            capsule: link.capsules.as_ref().and_then(|capsules| capsules.file_of(&dead.reason, by(row).is_some())),
            reason: dead.reason,
            payload: Payload::Row { row: dead.row, time_ms: dead.time },
        });
        (batches, letters.collect())
    }

    async fn emit(&mut self, batches: Vec<Batch>) -> Result<(), TaskError> {
        match &mut self.tail {
            Tail::Edges(edges) => {
                for batch in &batches {
                    for edge in edges.iter_mut() {
                        edge.send(batch).await?;
                    }
                }
            }
            Tail::Sink { name, sink, counters } => {
                let Some(sink) = sink else { return Ok(()) };
                for batch in &batches {
                    counters.batch_in(batch.rows());
                    let failed = |source| TaskError::Sink { name: name.clone(), subtask: self.subtask, source };
                    sink.write(batch).await.map_err(failed)?;
                    counters.out(batch.rows());
                }
            }
        }
        Ok(())
    }

    /// Event time has advanced: each operator acts on it, and what it puts out passes the rest of the chain first.
    pub(super) async fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        // after a restore sources begin behind what operators have seen; who reads this task has not seen it yet
        if watermark <= self.watermark {
            return self.forward(Element::Watermark(watermark)).await;
        }
        self.watermark = watermark;
        if watermark < Watermark::MAX {
            self.reached = watermark;
        }
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { continue };
            let result = link.operator.on_watermark(watermark, &mut self.output);
            check(link, self.subtask, result)?;
            self.let_out(index).await?;
            self.links.get(index).into_iter().for_each(|link| link.counters.watermark(watermark.0));
        }
        if let Tail::Sink { counters, .. } = &self.tail {
            counters.watermark(watermark.0);
        }
        self.forward(Element::Watermark(watermark)).await
    }

    /// The earliest time of the clock at which an operator has something to do.
    pub(super) fn next_processing_time(&self) -> Option<i64> {
        self.links.iter().filter_map(|link| link.operator.next_processing_time()).min()
    }

    /// The clock has advanced to where an operator has something to do.
    pub(super) async fn processing_time(&mut self) -> Result<(), TaskError> {
        let now_ms = self.clock.now_ms();
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { continue };
            if link.operator.next_processing_time().is_none_or(|time_ms| time_ms > now_ms) {
                continue;
            }
            let result = link.operator.on_processing_time(now_ms, &mut self.output);
            check(link, self.subtask, result)?;
            self.let_out(index).await?;
        }
        Ok(())
    }

    /// Passes on what the operator at `index` has put out, then what it has left undone, part by part: a slow reader holds
    /// it up in between.
    async fn let_out(&mut self, index: usize) -> Result<(), TaskError> {
        loop {
            let batches = self.collect(index).await?;
            self.through(index + 1, 0, batches).await?;
            let Some(link) = self.links.get_mut(index) else { return Ok(()) };
            let went_on = link.operator.go_on(&mut self.output);
            if !went_on.map_err(|source| stopped(link, self.subtask, source))? {
                return Ok(());
            }
        }
    }

    pub(super) async fn forward(&mut self, element: Element) -> Result<(), TaskError> {
        let sides: Vec<&Edge> = self.links.iter().flat_map(|link| &link.sides).flatten().collect();
        for edge in sides {
            edge.broadcast(&element).await.map_err(ExchangeError::from)?;
        }
        if let Tail::Edges(edges) = &self.tail {
            for edge in edges {
                edge.broadcast(&element).await.map_err(ExchangeError::from)?;
            }
        }
        Ok(())
    }

    /// Nothing waits behind what was written: lets a sink show it.
    pub(super) async fn flush(&mut self) -> Result<(), TaskError> {
        if let Tail::Sink { name, sink: Some(sink), .. } = &mut self.tail {
            let failed = |source| TaskError::Sink { name: name.clone(), subtask: self.subtask, source };
            sink.flush().await.map_err(failed)?;
        }
        Ok(())
    }

    /// The input has ended: the sink commits, or prepares to, and readers are told. `left` is what cuts that come
    /// later need to know of the input.
    pub(super) async fn end(&mut self, mut left: Cut) -> Result<(), TaskError> {
        if let Some(epoch) = self.epoch {
            // windows have fired; what has no end (sums so far, the state of processors) goes on with what is appended
            let state = Collected::default();
            self.snapshot(&state, self.reached)?;
            left.steps = state.take().steps;
            if let Some((sink, prepared)) = self.prepare(epoch).await? {
                left.prepared.entry(sink).or_default().push(prepared);
            }
        }
        if let Tail::Sink { name, sink, .. } = &mut self.tail
            && let Some(sink) = sink.take()
        {
            let failed = |source| TaskError::Sink { name: name.clone(), subtask: self.subtask, source };
            sink.finish().await.map_err(failed)?;
        }
        self.dead.end().await.map_err(TaskError::DeadLetter)?;
        self.forward(Element::End).await?;
        self.report.finished(left);
        Ok(())
    }
}

fn check(link: &Link, subtask: usize, result: Result<(), OperatorError>) -> Result<(), TaskError> {
    result.map_err(|source| stopped(link, subtask, source))
}

/// Its last call is kept before the task ends.
fn stopped(link: &Link, subtask: usize, source: OperatorError) -> TaskError {
    let source = match &link.capsules {
        Some(capsules) => capsules.name_in(source),
        None => source,
    };
    failed(&link.step, subtask, source)
}

fn failed(step: &str, subtask: usize, source: OperatorError) -> TaskError {
    TaskError::Operator { step: step.to_owned(), subtask, source }
}

/// Until an operator has something to do because of the time; for ever if none has.
pub(super) async fn wait(time_ms: Option<i64>, clock: &Clock) {
    match time_ms {
        Some(time_ms) => clock.wait_until(time_ms).await,
        None => std::future::pending().await,
    }
}

/// A task that reads other tasks: runs until all of them have ended.
pub(super) async fn run(mut inputs: Inputs, mut chain: Chain) -> Result<(), TaskError> {
    let clock = chain.clock.clone();
    chain.begin()?;
    loop {
        chain.sweep();
        let next = match chain.next_processing_time() {
            None if !chain.is_swept() => inputs.next().await?,
            time_ms => tokio::select! {
                biased;
                () = wait(time_ms, &clock) => {
                    chain.processing_time().await?;
                    continue;
                }
                () = chain.sweep_tick() => continue,
                next = inputs.next() => next?,
            },
        };
        match next {
            (port, Element::Batch(batch)) => {
                chain.batch(port, batch).await?;
                if inputs.quiet() {
                    chain.flush().await?;
                }
            }
            (_, Element::Watermark(watermark)) => {
                chain.watermark(watermark).await?;
                if inputs.quiet() {
                    chain.flush().await?;
                }
            }
            (_, Element::Barrier(barrier)) => {
                chain.barrier(barrier).await?;
                if chain.is_over().is_some() {
                    return Ok(());
                }
            }
            (_, element @ (Element::Idle | Element::Active)) => chain.forward(element).await?,
            (_, Element::End) => return chain.end(Cut::default()).await,
        }
    }
}

#[cfg(test)]
mod tests;
