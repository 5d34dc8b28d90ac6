//! The dead-letter output: rows and records that could not be handled, with the reason, none of them dropped.
//!
//! One task writes for the whole pipeline. Its channel is bounded: a flood of bad rows slows the pipeline down, it does
//! not fill the memory. Without a `[dead_letter]` table in the pipeline letters go to the log, one warning each.
//!
//! The writer aligns barriers as tasks do: letters that a task sends after a barrier wait until all tasks have sent it,
//! so that a letter belongs to the same epoch as the row that it tells of.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_buffer::ScalarBuffer;
use tokio::sync::mpsc;

use super::change::{Change, TaskReport};
use super::cut::Cut;
use super::handover::{Handover, Later};
use crate::format::{Encoder, Format, Frames};
use crate::record::{Barrier, Batch, Field, Kind, NO_EVENT_TIME, Schema};
use crate::sink::Sink;
use crate::wasm::ExactVersion;

/// What the output is called among sinks.
pub(super) const NAME: &str = "dead_letter";

/// Letters that wait for the writer.
const WAITING: usize = 64;

/// Letters written at once.
const AT_ONCE: usize = 64;

/// Bytes written of a row or record. A column of letters must stay far below the 2 GiB that its offsets can tell.
const PAYLOAD_BYTES: usize = 1 << 20;

/// One row or record that could not be handled.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    /// source or step that gave up on it
    pub node: String,
    /// the version of the component that failed on it
    pub version: Option<ExactVersion>,
    /// the file from which the call can be made again
    pub capsule: Option<String>,
    /// why
    pub reason: String,
    /// the row or record itself
    pub payload: Payload,
}

/// What could not be handled.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// a row of an operator's input
    Row {
        /// its columns, one row
        row: RecordBatch,
        /// its event time, ms
        time_ms: i64,
    },
    /// a record that could not be decoded
    Record {
        /// partition of the source
        partition: u32,
        /// position in the partition
        offset: u64,
        /// the record
        bytes: Vec<u8>,
    },
}

/// What tasks tell the writer.
#[derive(Debug)]
enum Mail {
    Letter(DeadLetter),
    /// no letter of this task that belongs before it will follow
    Barrier(Barrier),
    End,
}

/// The tasks' end of the dead-letter output. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct DeadLetters {
    channel: mpsc::Sender<(usize, Mail)>,
    task: usize,
    /// whether the writer wants to know of barriers
    aligned: bool,
}

impl DeadLetters {
    /// The end of one task.
    pub(super) fn of_task(&self, task: usize) -> Self {
        Self { task, ..self.clone() }
    }

    /// Hands a letter over; waits while the writer is behind. `Err` says that the writer has failed.
    pub(super) async fn send(&self, letter: DeadLetter) -> Result<(), String> {
        self.mail(Mail::Letter(letter)).await
    }

    /// The task has passed a barrier.
    pub(super) async fn barrier(&self, barrier: &Barrier) -> Result<(), String> {
        if self.aligned { self.mail(Mail::Barrier(barrier.clone())).await } else { Ok(()) }
    }

    /// The task has no more letters.
    pub(super) async fn end(&self) -> Result<(), String> {
        if self.aligned { self.mail(Mail::End).await } else { Ok(()) }
    }

    async fn mail(&self, mail: Mail) -> Result<(), String> {
        self.channel.send((self.task, mail)).await.map_err(|_| "its writer has stopped".to_owned())
    }
}

/// The columns of a dead letter.
pub(crate) fn schema() -> Schema {
    Schema::new([
        Field::new("node", Kind::Text),
        Field::new("component", Kind::Text).nullable(),
        Field::new("version", Kind::Int64).nullable(),
        Field::new("reason", Kind::Text),
        Field::new("time", Kind::TimestampMs).nullable(),
        Field::new("row", Kind::Text).nullable(),
        Field::new("partition", Kind::Int64).nullable(),
        Field::new("offset", Kind::Int64).nullable(),
        Field::new("record", Kind::Binary).nullable(),
        Field::new("capsule", Kind::Text).nullable(),
    ])
}

/// The output and its writer, which runs until all senders are gone and then commits `sink`; `report` is the writer's
/// own as a task, beside `tasks` others. The sink is taken when the writer begins. `epoch` is the one that begins, where epochs are committed.
pub(super) fn open(
    sink: Option<Later<Box<dyn Sink>>>,
    report: Option<TaskReport>,
    tasks: usize,
    epoch: Option<u64>,
) -> (DeadLetters, impl Future<Output = Result<(), String>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let letters = DeadLetters { channel: sender, task: 0, aligned: sink.is_some() };
    let states = vec![Sender::Open; tasks];
    let writer = async move {
        let sink = match sink {
            None => None,
            Some(take) => Some(take().ok_or_else(|| "its sink is gone".to_owned())?),
        };
        let (waiting, held) = (Vec::new(), VecDeque::new());
        let writer = Writer { sink, report, epoch, waiting, tasks: states, held, barrier: None, is_over: false };
        writer.run(receiver).await
    };
    (letters, writer)
}

/// How far the writer has heard a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Open,
    /// waits at the barrier for the others
    Passed,
    Ended,
}

/// Writes letters.
struct Writer {
    sink: Option<Box<dyn Sink>>,
    report: Option<TaskReport>,
    epoch: Option<u64>,
    /// letters to be written at once
    waiting: Vec<DeadLetter>,
    tasks: Vec<Sender>,
    /// of tasks that have passed the barrier: after it
    held: VecDeque<(usize, Mail)>,
    barrier: Option<Barrier>,
    /// the last barrier has passed
    is_over: bool,
}

impl Writer {
    async fn run(mut self, mut mails: mpsc::Receiver<(usize, Mail)>) -> Result<(), String> {
        let mut taken = Vec::with_capacity(AT_ONCE);
        while mails.recv_many(&mut taken, AT_ONCE).await > 0 {
            for (task, mail) in taken.drain(..) {
                self.take(task, mail).await?;
            }
            self.write().await?;
            if let Some(sink) = self.sink.as_mut().filter(|_| mails.is_empty()) {
                sink.flush().await.map_err(|error| error.to_string())?;
            }
        }
        if let Some(report) = self.report.as_ref().filter(|_| self.is_over) {
            report.finished(Cut::default());
        }
        let Some(mut sink) = self.sink else { return Ok(()) };
        let mut left = Cut::default();
        if let Some(epoch) = self.epoch {
            let prepared = sink.prepare(epoch).await.map_err(|error| error.to_string())?;
            left.prepared.entry(NAME.to_owned()).or_default().extend(prepared);
        }
        sink.finish().await.map_err(|error| error.to_string())?;
        if let Some(report) = &self.report {
            report.finished(left);
        }
        Ok(())
    }

    async fn take(&mut self, task: usize, mail: Mail) -> Result<(), String> {
        if self.tasks.get(task) == Some(&Sender::Passed) {
            self.held.push_back((task, mail));
            return Ok(());
        }
        match mail {
            Mail::Letter(letter) => {
                self.waiting.push(letter);
                return Ok(());
            }
            Mail::Barrier(barrier) => {
                self.barrier = Some(barrier);
                self.hear(task, Sender::Passed);
            }
            Mail::End => self.hear(task, Sender::Ended),
        }
        while self.barrier.is_some() && self.tasks.iter().all(|task| *task != Sender::Open) {
            self.pass().await?;
        }
        Ok(())
    }

    fn hear(&mut self, task: usize, state: Sender) {
        if let Some(task) = self.tasks.get_mut(task) {
            *task = state;
        }
    }

    /// All tasks have reached the barrier. What was held is taken in, up to the next barrier of each.
    async fn pass(&mut self) -> Result<(), String> {
        let Some(barrier) = self.barrier.take() else { return Ok(()) };
        self.write().await?;
        let change = barrier.change.downcast_ref::<Change>();
        if let Some((epoch, into)) = change.and_then(|change| Some((change.epoch()?, change.snapshot()?)))
            && let Some(sink) = &mut self.sink
        {
            let prepared = sink.prepare(epoch).await.map_err(|error| error.to_string())?;
            prepared.into_iter().for_each(|prepared| into.add_prepared(NAME, prepared));
            self.epoch = Some(epoch + 1);
        }
        if let Some(handover) = change.and_then(Change::last) {
            self.leave(handover).await?;
        }
        if let Some(report) = &self.report {
            report.passed(barrier.id, 0);
        }
        self.tasks.iter_mut().filter(|task| **task == Sender::Passed).for_each(|task| *task = Sender::Open);
        for (task, mail) in std::mem::take(&mut self.held) {
            match mail {
                _ if self.tasks.get(task) == Some(&Sender::Passed) => self.held.push_back((task, mail)),
                Mail::Letter(letter) => self.waiting.push(letter),
                Mail::Barrier(next) => {
                    self.barrier = Some(next);
                    self.hear(task, Sender::Passed);
                }
                Mail::End => self.hear(task, Sender::Ended),
            }
        }
        Ok(())
    }

    /// No letter follows in this life.
    async fn leave(&mut self, handover: &Handover) -> Result<(), String> {
        self.is_over = true;
        let Some(mut sink) = self.sink.take() else { return Ok(()) };
        sink.flush().await.map_err(|error| error.to_string())?;
        if self.epoch.is_none() {
            handover.leave_sink(NAME, 0, sink);
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match &mut self.sink {
            Some(sink) => {
                let batch = batch(&self.waiting)?;
                sink.write(&batch).await.map_err(|error| error.to_string())?;
            }
            None => self.waiting.iter().for_each(log),
        }
        self.waiting.clear();
        Ok(())
    }
}

fn log(letter: &DeadLetter) {
    let digest = letter.version.map(|version| version.digest.short()).unwrap_or_default();
    let version = letter.version.map(|version| version.number).unwrap_or_default();
    let (node, reason) = (&letter.node, &letter.reason);
    match &letter.payload {
        Payload::Row { row, .. } => {
            let row = json(row);
            tracing::warn!(target: "millstream::dead_letter", node, version, digest, reason, row, "dead letter");
        }
        Payload::Record { partition, offset, bytes } => {
            let record = String::from_utf8_lossy(bytes);
            tracing::warn!(target: "millstream::dead_letter", node, reason, partition, offset, %record, "dead letter");
        }
    }
}

fn batch(letters: &[DeadLetter]) -> Result<Batch, String> {
    let text = |of: &dyn Fn(&DeadLetter) -> Option<String>| -> ArrayRef {
        Arc::new(letters.iter().map(of).collect::<StringArray>())
    };
    let int = |of: &dyn Fn(&DeadLetter) -> Option<i64>| letters.iter().map(of).collect::<Vec<_>>();
    let row = |letter: &DeadLetter| match &letter.payload {
        Payload::Row { row, .. } => Some(cut(json(row))),
        Payload::Record { .. } => None,
    };
    let time = |letter: &DeadLetter| match letter.payload {
        Payload::Row { time_ms, .. } => Some(time_ms).filter(|time| *time != NO_EVENT_TIME),
        Payload::Record { .. } => None,
    };
    let number = |letter: &DeadLetter| letter.version.and_then(|version| i64::try_from(version.number).ok());
    let place = |letter: &DeadLetter| match letter.payload {
        Payload::Row { .. } => None,
        Payload::Record { partition, offset, .. } => Some((partition, i64::try_from(offset).unwrap_or(i64::MAX))),
    };
    let bytes = |letter: &DeadLetter| match &letter.payload {
        Payload::Row { .. } => None,
        Payload::Record { bytes, .. } => Some(bytes.get(..PAYLOAD_BYTES).unwrap_or(bytes).to_vec()),
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|letter| Some(letter.node.clone())),
        text(&|letter| letter.version.map(|version| version.digest.to_string())),
        Arc::new(Int64Array::from(int(&number))),
        text(&|letter| Some(letter.reason.clone())),
        Arc::new(TimestampMillisecondArray::from(int(&time))),
        text(&row),
        Arc::new(Int64Array::from(int(&|letter| place(letter).map(|(partition, _)| i64::from(partition))))),
        Arc::new(Int64Array::from(int(&|letter| place(letter).map(|(_, offset)| offset)))),
        Arc::new(letters.iter().map(bytes).collect::<BinaryArray>()),
        text(&|letter| letter.capsule.clone()),
    ];
    let columns = RecordBatch::try_new(Arc::clone(schema().arrow()), columns).map_err(|error| error.to_string())?;
    let times = ScalarBuffer::from(vec![NO_EVENT_TIME; letters.len()]);
    Batch::new(columns, times).ok_or_else(|| "rows and times differ".to_owned())
}

/// At most [`PAYLOAD_BYTES`] of a text, cut between two characters.
fn cut(mut text: String) -> String {
    if text.len() > PAYLOAD_BYTES {
        let end = (0..=PAYLOAD_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The row as a JSON object, by the encoder that sinks use.
fn json(row: &RecordBatch) -> String {
    let fields: Option<Vec<Field>> = row
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let kind = Kind::from_data_type(field.data_type())?;
            Some(Field { name: field.name().clone(), kind, nullable: field.is_nullable() })
        })
        .collect();
    let encoded = fields.and_then(|fields| {
        let mut frames = Frames::default();
        Encoder::new(Format::Json, &Schema::new(fields)).ok()?.encode(row, &mut frames).ok()?;
        String::from_utf8(frames.bytes).ok()
    });
    encoded.unwrap_or_else(|| format!("{row:?}"))
}
