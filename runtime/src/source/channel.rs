//! Rows from whoever runs the pipeline in the same process, who also says how far event time has come.
//!
//! Each task of the source has a channel of its own. An event counts as sent once the task has taken it, so that a barrier
//! sent after it stands behind it in the stream.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{BoxFuture, Source, SourceContext, SourceError, SourceEvent};
use crate::record::{Batch, Schema, Watermark};

/// The place where the tasks of a source leave the writing ends of their channels when they are opened.
#[derive(Clone, Debug, Default)]
pub struct ChannelSource {
    inputs: Arc<Mutex<Vec<ChannelInput>>>,
}

/// What goes into a task of the source.
#[derive(Clone, Debug)]
pub enum ChannelEvent {
    /// rows, with the columns of [`ChannelInput::schema`]
    Rows(Batch),
    /// progress of event time: rows do not advance it
    Watermark(Watermark),
    /// nothing comes for now: does not hold back the watermark
    Idle,
    /// something comes again
    Active,
    /// nothing follows
    End,
}

/// The writing end of one task's channel. Dropping it ends the task's input.
#[derive(Clone, Debug)]
pub struct ChannelInput {
    subtask: usize,
    schema: Schema,
    event_time: Option<usize>,
    events: mpsc::Sender<ChannelEvent>,
}

/// The task at the other end is gone: its input has ended, or the run has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source's task is gone")]
pub struct SourceGone;

impl ChannelSource {
    /// A source that nobody has opened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The writing ends of all tasks that have been opened since the last call, by subtask.
    pub fn take_inputs(&self) -> Vec<ChannelInput> {
        let mut inputs = std::mem::take(&mut *self.inputs.lock().unwrap_or_else(PoisonError::into_inner));
        inputs.sort_by_key(|input| input.subtask);
        inputs
    }
}

impl PartialEq for ChannelSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inputs, &other.inputs)
    }
}

impl ChannelInput {
    /// The columns that rows must have: those that the pipeline reads.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Which of the columns the pipeline names as the event time. The batch's times count, not this column.
    pub fn event_time(&self) -> Option<usize> {
        self.event_time
    }

    /// Returns once the task has taken the event: a barrier sent from now on comes behind it.
    pub async fn send(&self, event: ChannelEvent) -> Result<(), SourceGone> {
        let last = matches!(event, ChannelEvent::End);
        self.events.send(event).await.map_err(|_| SourceGone)?;
        match self.events.reserve().await {
            Ok(_) => Ok(()),
            // nobody listens behind the end
            Err(_) if last => Ok(()),
            Err(_) => Err(SourceGone),
        }
    }
}

/// One task's end.
pub(super) struct Channel {
    events: mpsc::Receiver<ChannelEvent>,
}

/// Makes the task's channel and leaves its other end with `source`.
pub(super) fn open(source: &ChannelSource, context: SourceContext) -> Channel {
    // one place: an event waits here, or the task has taken it
    let (sender, events) = mpsc::channel(1);
    let SourceContext { subtask, wanted: schema, event_time, .. } = context;
    let input = ChannelInput { subtask, schema, event_time, events: sender };
    source.inputs.lock().unwrap_or_else(PoisonError::into_inner).push(input);
    Channel { events }
}

impl Source for Channel {
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>> {
        Box::pin(async {
            Ok(match self.events.recv().await {
                Some(ChannelEvent::End) | None => {
                    self.events.close();
                    SourceEvent::End
                }
                Some(event) => SourceEvent::Direct(event),
            })
        })
    }

    fn partitions(&self) -> Vec<u32> {
        Vec::new()
    }
}
