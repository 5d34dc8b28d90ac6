//! Channels between tasks: one bounded channel from each task to each task that reads it. A full channel is the
//! backpressure; nothing else buffers.

use std::future::poll_fn;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_buffer::ScalarBuffer;
use arrow_select::concat::concat_batches;
use tokio::sync::mpsc;

use super::change::Change;
use super::merge::{Merge, Signal};
use crate::limits;
use crate::partition::Partitioner;
use crate::record::{Batch, Element};

/// A task at the other end is gone: it failed, or the run is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task at the other end of a channel is gone")]
pub struct Disconnected;

/// A batch could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// the reader is gone
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// rows could not be split by target
    #[error("rows could not be split by target: {0}")]
    Split(String),
    /// small batches could not be joined
    #[error("batches could not be joined: {0}")]
    Join(String),
}

/// The sending end: all tasks of one reader.
#[derive(Debug)]
pub struct Edge {
    targets: Vec<mpsc::Sender<Element>>,
    partitioner: Partitioner,
    /// number of the sampler whose ranges it follows
    sampler: Option<usize>,
}

impl Edge {
    /// Sends to `targets` as `partitioner` says.
    pub fn new(targets: Vec<mpsc::Sender<Element>>, partitioner: Partitioner) -> Self {
        Self { targets, partitioner, sampler: None }
    }

    /// Follows the ranges that are drawn from the sampler of this number, if there is one.
    #[must_use]
    pub fn following(self, sampler: Option<usize>) -> Self {
        Self { sampler, ..self }
    }

    /// Rows behind the barrier that brought this change go by the ranges that it brings.
    pub fn change(&mut self, change: &Change) {
        if let Some(splits) = self.sampler.and_then(|sampler| change.ranges(sampler)) {
            self.partitioner.cut(splits.clone());
        }
    }

    /// Sends rows to the tasks they belong to; waits while channels are full.
    pub async fn send(&mut self, batch: &Batch) -> Result<(), ExchangeError> {
        let parts = self.partitioner.split(batch).map_err(|error| ExchangeError::Split(error.to_string()))?;
        for (target, part) in parts {
            let Some(target) = self.targets.get(target) else { continue };
            target.send(Element::Batch(part)).await.map_err(|_| Disconnected)?;
        }
        Ok(())
    }

    /// Sends a control element to all tasks.
    pub async fn broadcast(&self, element: &Element) -> Result<(), Disconnected> {
        for target in &self.targets {
            target.send(element.clone()).await.map_err(|_| Disconnected)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Input {
    /// the number of the operator's input that its rows belong to
    port: usize,
    channel: mpsc::Receiver<Element>,
    /// taken from the channel while small batches were joined, to be handled next
    stashed: Option<Element>,
}

impl Input {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Element>> {
        match self.stashed.take() {
            Some(element) => Poll::Ready(Some(element)),
            None => self.channel.poll_recv(context),
        }
    }
}

/// The receiving end: all tasks that send to this one, merged.
#[derive(Debug)]
pub struct Inputs {
    inputs: Vec<Input>,
    merge: Merge,
    /// where the next look starts, so that no input starves
    turn: usize,
    signals: Vec<Signal>,
}

impl Inputs {
    /// Merges `channels`, each of which belongs to the operator's input of this number.
    pub fn new(channels: Vec<(usize, mpsc::Receiver<Element>)>) -> Self {
        let merge = Merge::new(channels.len());
        let inputs = channels.into_iter().map(|(port, channel)| Input { port, channel, stashed: None }).collect();
        Self { inputs, merge, turn: 0, signals: Vec::new() }
    }

    /// The next element of the merged stream; for a batch also the number of the input it belongs to.
    pub async fn next(&mut self) -> Result<(usize, Element), ExchangeError> {
        loop {
            if !self.signals.is_empty() {
                let element = match self.signals.remove(0) {
                    Signal::Watermark(watermark) => Element::Watermark(watermark),
                    Signal::Barrier(barrier) => Element::Barrier(barrier),
                    Signal::Idle => Element::Idle,
                    Signal::Active => Element::Active,
                    Signal::End => Element::End,
                };
                return Ok((0, element));
            }
            let (input, element) = poll_fn(|context| self.poll(context)).await?;
            let signal = match element {
                Element::Batch(batch) => {
                    let port = self.inputs.get(input).map_or(0, |input| input.port);
                    return self.joined(input, batch).map(|batch| (port, Element::Batch(batch)));
                }
                Element::Watermark(watermark) => Signal::Watermark(watermark),
                Element::Barrier(barrier) => Signal::Barrier(barrier),
                Element::Idle => Signal::Idle,
                Element::Active => Signal::Active,
                Element::End => Signal::End,
            };
            self.merge.on(input, signal, &mut self.signals);
        }
    }

    /// Whether nothing waits to be taken at this moment.
    pub fn quiet(&self) -> bool {
        self.signals.is_empty() && self.inputs.iter().all(|input| input.stashed.is_none() && input.channel.is_empty())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(usize, Element), Disconnected>> {
        let count = self.inputs.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if !self.merge.open(index) {
                continue;
            }
            let Some(input) = self.inputs.get_mut(index) else { continue };
            if let Poll::Ready(element) = input.poll(context) {
                self.turn = index + 1;
                return Poll::Ready(element.map(|element| (index, element)).ok_or(Disconnected));
            }
        }
        Poll::Pending
    }

    /// Joins a small batch with those that already wait behind it. Never waits for more.
    fn joined(&mut self, index: usize, first: Batch) -> Result<Batch, ExchangeError> {
        if first.rows() >= limits::COALESCE_BELOW_ROWS {
            return Ok(first);
        }
        let Some(input) = self.inputs.get_mut(index) else { return Ok(first) };
        let (mut rows, mut bytes) = (first.rows(), first.memory_bytes());
        let mut parts = vec![first];
        while rows < limits::COALESCE_BELOW_ROWS && bytes < limits::BATCH_BYTES {
            match input.channel.try_recv() {
                Ok(Element::Batch(batch)) => {
                    rows += batch.rows();
                    bytes = bytes.saturating_add(batch.memory_bytes());
                    parts.push(batch);
                }
                Ok(other) => {
                    input.stashed = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        concat(&parts)
    }
}

/// Rows of all parts in order.
fn concat(parts: &[Batch]) -> Result<Batch, ExchangeError> {
    let [first, ..] = parts else { return Err(ExchangeError::Join("nothing to join".to_owned())) };
    if parts.len() == 1 {
        return Ok(first.clone());
    }
    let schema = first.columns().schema();
    let columns: Vec<&RecordBatch> = parts.iter().map(Batch::columns).collect();
    let times: Vec<i64> = parts.iter().flat_map(|part| part.times().iter().copied()).collect();
    let joined = concat_batches(&schema, columns).map_err(|error| ExchangeError::Join(error.to_string()))?;
    Batch::new(joined, ScalarBuffer::from(times)).ok_or_else(|| ExchangeError::Join("rows and times differ".to_owned()))
}
