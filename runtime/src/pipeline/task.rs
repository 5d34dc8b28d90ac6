//! One task: elements come in, go through the operators of its chain, and leave for the next tasks or a sink.
//!
//! Invariants: elements leave in the order in which they came; what a watermark triggers leaves before the watermark;
//! a barrier's change takes effect between two elements, in all operators of the task at once.

use std::sync::{Arc, Mutex};

use super::change::{Change, TaskReport};
use super::dead_letter::{DeadLetter, DeadLetters, Payload};
use super::exchange::{Edge, ExchangeError, Inputs};
use crate::clock::Stopwatch;
use crate::metrics::NodeCounters;
use crate::operator::{Operator, OperatorError, Output};
use crate::record::{Barrier, Batch, Element, Watermark};
use crate::sink::{Sink, SinkError};

/// A task stopped before its input ended.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// an operator cannot go on
    #[error("step `{step}`, task {subtask}: {source}")]
    Operator {
        /// the step
        step: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: OperatorError,
    },
    /// a source cannot go on
    #[error("source `{name}`, task {subtask}: {source}")]
    Source {
        /// the source
        name: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: crate::source::SourceError,
    },
    /// a record could not be decoded and the source says `on_error = "fail"`
    #[error("source `{name}`, task {subtask}: record at offset {offset} cannot be decoded: {reason}")]
    Record {
        /// the source
        name: String,
        /// which task
        subtask: usize,
        /// where in its partition
        offset: u64,
        /// why
        reason: String,
    },
    /// a sink cannot go on
    #[error("sink `{name}`, task {subtask}: {source}")]
    Sink {
        /// the sink
        name: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: SinkError,
    },
    /// rows could not be passed on
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// the dead-letter output does not take rows
    #[error("the dead-letter output failed: {0}")]
    DeadLetter(String),
}

/// An operator of a chain.
pub(super) struct Link {
    pub(super) step: String,
    pub(super) operator: Box<dyn Operator>,
    pub(super) counters: Arc<NodeCounters>,
    /// digests of its components by slot, as they are now
    pub(super) versions: Versions,
}

/// Digests of a step's components in one task, by slot.
pub type Versions = Arc<Mutex<Vec<Option<crate::wasm::Digest>>>>;

/// Where a chain ends.
pub(super) enum Tail {
    /// in the tasks that read it
    Edges(Vec<Edge>),
    /// in a sink; `None` once it has been finished
    Sink { name: String, sink: Option<Box<dyn Sink>>, counters: Arc<NodeCounters> },
}

/// Operators and where their results go: all of a task but its input.
pub(super) struct Chain {
    pub(super) subtask: usize,
    pub(super) links: Vec<Link>,
    pub(super) tail: Tail,
    pub(super) dead: DeadLetters,
    pub(super) report: TaskReport,
    /// reused from element to element
    pub(super) output: Output,
}

impl Chain {
    /// Runs rows through the chain from its start.
    pub(super) async fn batch(&mut self, batch: Batch) -> Result<(), TaskError> {
        self.through(0, vec![batch]).await
    }

    /// Runs batches through the operators from `first` on.
    async fn through(&mut self, first: usize, mut batches: Vec<Batch>) -> Result<(), TaskError> {
        for index in first..self.links.len() {
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches.drain(..) {
                let Some(link) = self.links.get_mut(index) else { continue };
                link.counters.batch_in(batch.rows());
                let result = link.operator.on_batch(batch, &mut self.output);
                check(link, self.subtask, result)?;
            }
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
        if output.dead.is_empty() {
            return (batches, Vec::new());
        }
        // of several components it is not known which one failed: better none than the wrong one
        let component = link.versions.lock().ok().and_then(|versions| {
            let mut components = versions.iter().flatten();
            components.next().filter(|_| components.next().is_none()).copied()
        });
        let letters = output.dead.drain(..).map(|dead| DeadLetter {
            node: link.step.clone(),
            component,
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
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { continue };
            let result = link.operator.on_watermark(watermark, &mut self.output);
            check(link, self.subtask, result)?;
            link.counters.watermark(watermark.0);
            let batches = self.collect(index).await?;
            if !batches.is_empty() {
                self.through(index + 1, batches).await?;
            }
        }
        if let Tail::Sink { counters, .. } = &self.tail {
            counters.watermark(watermark.0);
        }
        self.forward(Element::Watermark(watermark)).await
    }

    /// All inputs have reached the barrier: the change takes effect here and now.
    pub(super) async fn barrier(&mut self, barrier: Barrier) -> Result<(), TaskError> {
        let watch = Stopwatch::start();
        if let Some(change) = barrier.change.downcast_ref::<Change>() {
            for link in &mut self.links {
                for (slot, digest, replacement) in change.take(&link.step, self.subtask) {
                    let result = link.operator.replace(slot, replacement);
                    check(link, self.subtask, result)?;
                    if let Some(version) = link.versions.lock().ok().as_mut().and_then(|v| v.get_mut(slot)) {
                        *version = Some(digest);
                    }
                }
            }
        }
        let pause_ns = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let id = barrier.id;
        self.forward(Element::Barrier(barrier)).await?;
        self.report.passed(id, pause_ns);
        Ok(())
    }

    pub(super) async fn forward(&mut self, element: Element) -> Result<(), TaskError> {
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

    /// The input has ended: the sink commits, readers are told.
    pub(super) async fn end(&mut self) -> Result<(), TaskError> {
        if let Tail::Sink { name, sink, .. } = &mut self.tail
            && let Some(sink) = sink.take()
        {
            let failed = |source| TaskError::Sink { name: name.clone(), subtask: self.subtask, source };
            sink.finish().await.map_err(failed)?;
        }
        self.forward(Element::End).await
    }
}

fn check(link: &Link, subtask: usize, result: Result<(), OperatorError>) -> Result<(), TaskError> {
    result.map_err(|source| TaskError::Operator { step: link.step.clone(), subtask, source })
}

/// A task that reads other tasks: runs until all of them have ended.
pub(super) async fn run(mut inputs: Inputs, mut chain: Chain) -> Result<(), TaskError> {
    loop {
        match inputs.next().await? {
            Element::Batch(batch) => {
                chain.batch(batch).await?;
                if inputs.quiet() {
                    chain.flush().await?;
                }
            }
            Element::Watermark(watermark) => {
                chain.watermark(watermark).await?;
                if inputs.quiet() {
                    chain.flush().await?;
                }
            }
            Element::Barrier(barrier) => chain.barrier(barrier).await?,
            element @ (Element::Idle | Element::Active) => chain.forward(element).await?,
            Element::End => return chain.end().await,
        }
    }
}
