//! The dead-letter output: rows and records that could not be handled, with the reason, none of them dropped.
//!
//! One task writes for the whole pipeline. Its channel is bounded: a flood of bad rows slows the pipeline down, it does
//! not fill the memory. Without a `[dead_letter]` table in the pipeline letters go to the log, one warning each.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_buffer::ScalarBuffer;
use tokio::sync::mpsc;

use crate::format::{Encoder, Format, Frames};
use crate::record::{Batch, Field, Kind, NO_EVENT_TIME, Schema};
use crate::sink::Sink;
use crate::wasm::Digest;

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
    /// the component that failed on it
    pub component: Option<Digest>,
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

/// The tasks' end of the dead-letter output. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct DeadLetters {
    channel: mpsc::Sender<DeadLetter>,
}

impl DeadLetters {
    /// Hands a letter over; waits while the writer is behind. `Err` says that the writer has failed.
    pub(super) async fn send(&self, letter: DeadLetter) -> Result<(), String> {
        self.channel.send(letter).await.map_err(|_| "its writer has stopped".to_owned())
    }
}

/// The columns of a dead letter.
pub(crate) fn schema() -> Schema {
    Schema::new([
        Field::new("node", Kind::Text),
        Field::new("component", Kind::Text).nullable(),
        Field::new("reason", Kind::Text),
        Field::new("time", Kind::TimestampMs).nullable(),
        Field::new("row", Kind::Text).nullable(),
        Field::new("partition", Kind::Int64).nullable(),
        Field::new("offset", Kind::Int64).nullable(),
        Field::new("record", Kind::Binary).nullable(),
    ])
}

/// The output and its writer, which runs until all senders are gone and then commits `sink`.
pub(super) fn open(
    sink: Option<Box<dyn Sink>>,
) -> (DeadLetters, impl Future<Output = Result<(), String>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (DeadLetters { channel: sender }, write(receiver, sink))
}

async fn write(mut letters: mpsc::Receiver<DeadLetter>, mut sink: Option<Box<dyn Sink>>) -> Result<(), String> {
    let mut waiting = Vec::with_capacity(AT_ONCE);
    while letters.recv_many(&mut waiting, AT_ONCE).await > 0 {
        match &mut sink {
            Some(sink) => {
                let batch = batch(&waiting)?;
                sink.write(&batch).await.map_err(|error| error.to_string())?;
                if letters.is_empty() {
                    sink.flush().await.map_err(|error| error.to_string())?;
                }
            }
            None => waiting.iter().for_each(log),
        }
        waiting.clear();
    }
    match sink {
        Some(sink) => sink.finish().await.map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn log(letter: &DeadLetter) {
    let component = letter.component.as_ref().map(Digest::short).unwrap_or_default();
    let (node, reason) = (&letter.node, &letter.reason);
    match &letter.payload {
        Payload::Row { row, .. } => {
            let row = json(row);
            tracing::warn!(target: "millstream::dead_letter", node, component, reason, row, "dead letter");
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
        text(&|letter| letter.component.as_ref().map(ToString::to_string)),
        text(&|letter| Some(letter.reason.clone())),
        Arc::new(TimestampMillisecondArray::from(int(&time))),
        text(&row),
        Arc::new(Int64Array::from(int(&|letter| place(letter).map(|(partition, _)| i64::from(partition))))),
        Arc::new(Int64Array::from(int(&|letter| place(letter).map(|(_, offset)| offset)))),
        Arc::new(letters.iter().map(bytes).collect::<BinaryArray>()),
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
