//! One run of a pipeline whose sources and sinks are the script's.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::cell::Cell;
use crate::control::{Handle, NodeRole, OpenError, RunError, Running, Status, SwapError};
use crate::error::Spanned;
use crate::metrics::NodeCounts;
use crate::pipeline::build::{RunOptions, StartError};
use crate::pipeline::cut::Cut;
use crate::pipeline::resolve::{Components, Resolution};
use crate::record::Batch;
use crate::sink::{ChannelSink, SinkKind};
use crate::source::{ChannelEvent, ChannelInput, ChannelSource, SourceKind};
use crate::wasm::Sandbox;

/// Batches that may wait in a sink: they are taken out whenever the engine is waited for.
const WAITING: usize = 64;

/// How long the writer of dead letters may take for those that have been counted. Only texts for people depend on it.
const LETTERS_WITHIN: Duration = Duration::from_millis(500);

/// Rows of one sink that nobody has asked for yet.
pub(super) type Rows = Vec<Vec<Cell>>;

/// A pipeline that runs.
pub(super) struct Engine {
    handle: Handle,
    run: Pin<Box<dyn Future<Output = Result<Status, RunError>> + Send>>,
    /// how the run ended, once it has
    ended: Option<Result<(), String>>,
    /// the input has ended, so tasks may end
    over: bool,
    sources: Vec<Input>,
    outputs: Outputs,
}

/// One source: its tasks, and which of them gets the next rows.
struct Input {
    tasks: Vec<ChannelInput>,
    turn: usize,
}

/// What comes out; the last one is the dead-letter output.
struct Outputs {
    channels: Vec<mpsc::Receiver<Batch>>,
    rows: Vec<Rows>,
}

impl Outputs {
    /// Takes in what is there, and is woken by more.
    fn poll(&mut self, context: &mut Context<'_>) {
        for (channel, rows) in self.channels.iter_mut().zip(&mut self.rows) {
            while let Poll::Ready(Some(batch)) = channel.poll_recv(context) {
                take(&batch, rows);
            }
        }
    }

    fn drain(&mut self) {
        for (channel, rows) in self.channels.iter_mut().zip(&mut self.rows) {
            while let Ok(batch) = channel.try_recv() {
                take(&batch, rows);
            }
        }
    }
}

fn take(batch: &Batch, rows: &mut Rows) {
    let columns = batch.columns().columns();
    rows.extend((0..batch.rows()).map(|row| columns.iter().map(|column| Cell::of(column, row)).collect::<Vec<_>>()));
}

impl Engine {
    /// Starts `resolution` with the script's ends in the place of its own. `rows` came out before it was started.
    pub(super) async fn start(
        mut resolution: Resolution,
        sandbox: Sandbox,
        options: &RunOptions,
        mut rows: Vec<Rows>,
    ) -> Result<Self, StartError> {
        let spec = &mut resolution.plan.spec;
        // a script says itself what is kept and taken up again
        spec.checkpoint = None;
        let sources: Vec<ChannelSource> = spec.sources.iter().map(|_| ChannelSource::new()).collect();
        for (spec, source) in spec.sources.iter_mut().zip(&sources) {
            spec.kind.value = SourceKind::Channel(source.clone());
        }
        let mut channels = Vec::new();
        for sink in &mut spec.sinks {
            let (channel, reader) = ChannelSink::new(WAITING);
            sink.kind.value = SinkKind::Channel(channel);
            channels.push(reader);
        }
        let (letters, reader) = ChannelSink::new(WAITING);
        spec.dead_letter = Some(Spanned::from(SinkKind::Channel(letters)));
        channels.push(reader);
        rows.resize(channels.len(), Rows::new());
        let running = Running::start(resolution, sandbox, options).await.map_err(|error| match error {
            OpenError::Start(error) => error,
            OpenError::Checkpoint(error) => StartError::Internal(error.to_string()),
        })?;
        Ok(Self {
            handle: running.handle(),
            run: Box::pin(running.wait()),
            ended: None,
            over: false,
            sources: sources.iter().map(|source| Input { tasks: source.take_inputs(), turn: 0 }).collect(),
            outputs: Outputs { channels, rows },
        })
    }

    /// Rows to one task of a source, the next one to the next task.
    pub(super) async fn rows(&mut self, source: usize, batch: Batch) {
        let Some(input) = self.sources.get_mut(source) else { return };
        let count = input.tasks.len().max(1);
        let Some(task) = input.tasks.get(input.turn % count).cloned() else { return };
        input.turn = (input.turn + 1) % count;
        // a task that is gone has failed: the next barrier tells
        let _ = self.drive(async move { task.send(ChannelEvent::Rows(batch)).await }).await;
    }

    /// Anything else to all tasks of a source.
    pub(super) async fn tell(&mut self, source: usize, event: ChannelEvent) {
        let Some(input) = self.sources.get(source) else { return };
        let tasks = input.tasks.clone();
        self.drive(async move {
            for task in tasks {
                let _ = task.send(event.clone()).await;
            }
        })
        .await;
    }

    /// Waits until everything that went in has come out or is remembered.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        if !self.over {
            let handle = self.handle.clone();
            if self.drive(async move { handle.settle().await }).await.is_err() {
                // no source takes it any more: they have failed, or are about to say so
                self.until_ended().await;
            }
        }
        self.well().await
    }

    /// Ends all input and waits for the end of the run.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.over = true;
        for source in 0..self.sources.len() {
            self.tell(source, ChannelEvent::End).await;
        }
        self.until_ended().await;
        self.well().await
    }

    /// Replaces components at one cut.
    pub(super) async fn swap(&mut self, requests: &[(String, PathBuf)]) -> Result<(), SwapError> {
        let (handle, requests) = (self.handle.clone(), requests.to_vec());
        self.drive(async move { handle.swap(&requests).await }).await.map(drop)
    }

    /// What all steps remember.
    pub(super) async fn snapshot(&mut self) -> Result<Cut, String> {
        let handle = self.handle.clone();
        let cut = self.drive(async move { handle.snapshot().await }).await;
        self.well().await?;
        cut.map_err(|error| error.to_string())
    }

    /// The components as they run now.
    pub(super) async fn components(&mut self) -> Components {
        self.handle.components().await
    }

    /// Drops everything at once, and gives back what had come out.
    pub(super) async fn abort(mut self) -> Vec<Rows> {
        self.outputs.drain();
        let Self { handle, run, outputs, .. } = self;
        drop(run);
        handle.gone().await;
        outputs.rows
    }

    /// A sum over all sources and steps.
    pub(super) fn total(&self, of: impl Fn(&NodeCounts) -> u64) -> u64 {
        let status = self.handle.status();
        status.nodes.iter().filter(|node| node.role != NodeRole::Sink).map(|node| of(&node.counts)).sum()
    }

    /// Takes the rows of a sink.
    pub(super) fn take(&mut self, sink: usize) -> Rows {
        self.outputs.drain();
        self.outputs.rows.get_mut(sink).map(std::mem::take).unwrap_or_default()
    }

    /// Waits for `letters` dead letters: their writer stands beside the tasks, and no barrier passes it.
    pub(super) async fn letters(&mut self, letters: usize) {
        let arrived = poll_fn(|context| {
            self.outputs.poll(context);
            let here = self.outputs.rows.last().map_or(0, Vec::len);
            if here >= letters { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(LETTERS_WITHIN, arrived).await;
    }

    /// Whether the run is as it should be.
    async fn well(&mut self) -> Result<(), String> {
        if !self.over && self.ended.is_none() && self.handle.lost_a_task() {
            self.until_ended().await;
        }
        self.outputs.drain();
        match &self.ended {
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(())) if !self.over => Err("it ended by itself".to_owned()),
            _ => Ok(()),
        }
    }

    async fn until_ended(&mut self) {
        poll_fn(|context| {
            self.poll(context);
            if self.ended.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits for `future` while the run goes on and what it puts out is taken in.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.poll(context);
            future.as_mut().poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        self.outputs.poll(context);
        if self.ended.is_none()
            && let Poll::Ready(result) = self.run.as_mut().poll(context)
        {
            self.ended = Some(result.map(drop).map_err(|error| error.to_string()));
        }
    }
}
