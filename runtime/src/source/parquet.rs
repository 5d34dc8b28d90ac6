//! Parquet files: found and shared among subtasks as other files are, read by a thread of their own that takes only the
//! wanted columns from the disk, row group after row group.
//!
//! Unlike bytes of records, pages are decompressed and decoded in the reading thread: they come from the file in pieces
//! that only the decoder knows. The channel holds few batches, so a slow pipeline stops the thread.

use tokio::sync::mpsc;

use super::decode::time_values;
use super::file::{self, Input};
use super::{BoxFuture, QUIET_AFTER, Source, SourceContext, SourceError, SourceEvent};
use crate::format::{ParquetError, ParquetFile, ParquetReader, ParquetRows};
use crate::record::{Batch, NO_EVENT_TIME, Schema};

#[cfg(test)]
mod tests;

/// Batches between the thread and its task: one in the works, one ready.
const IN_FLIGHT: usize = 2;

/// What the thread hands over.
enum Read {
    Rows { partition: u32, rows: ParquetRows },
    PartitionEnded { partition: u32 },
    End,
    Failed(SourceError),
}

/// The task's end.
pub(super) struct ParquetFiles {
    source_name: String,
    channel: mpsc::Receiver<Read>,
    event_time: Option<usize>,
    partitions: Vec<u32>,
    ended: bool,
}

/// Finds this subtask's files and reads their footers: a column that one of them lacks is told before anything runs.
pub(super) fn open(path: &str, context: &SourceContext) -> Result<ParquetFiles, SourceError> {
    let inputs = file::inputs(path, context)?;
    let partitions: Vec<u32> = inputs.iter().map(|input| input.partition).collect();
    for input in &inputs {
        open_file(input, context)?;
    }
    let (sender, channel) = mpsc::channel(IN_FLIGHT);
    if let Some(first) = inputs.first().map(|input| input.path.clone()) {
        let context = context.clone();
        let name = context.name.clone();
        std::thread::Builder::new()
            .name(format!("file-{name}"))
            .spawn(move || read_all(inputs, &context, &sender))
            .map_err(|error| file::file_error(&name, "start a thread to read", first, error))?;
    }
    let (source_name, ended) = (context.name.clone(), partitions.is_empty());
    Ok(ParquetFiles { source_name, channel, event_time: context.event_time, partitions, ended })
}

/// The columns that all files have, for a source without a schema. A column may be null if it may be in any file.
pub(super) fn schema(path: &str, context: &SourceContext) -> Result<Schema, SourceError> {
    let mut known: Option<Schema> = None;
    for input in file::inputs(path, context)? {
        let failed = |error| parquet_error(context, &input, error);
        let file = file::open_file(&context.name, &input.path)?;
        let found = ParquetFile::open(file).and_then(|file| file.schema()).map_err(failed)?;
        known = Some(match known {
            None => found,
            Some(known) => merged(&known, &found).map_err(failed)?,
        });
    }
    Ok(known.unwrap_or_else(|| Schema::new([])))
}

/// The columns of `known`, null where either may be; `found` may have others besides.
fn merged(known: &Schema, found: &Schema) -> Result<Schema, ParquetError> {
    let fields = known.fields().iter().map(|field| match found.field(&field.name) {
        Some(other) if other.kind == field.kind => {
            let mut field = field.clone();
            field.nullable |= other.nullable;
            Ok(field)
        }
        Some(other) => Err(ParquetError::Kind { expected: field.clone(), found: other.kind.to_string() }),
        None => Err(ParquetError::NoColumn { column: field.name.clone(), known: found.to_string() }),
    });
    Ok(Schema::new(fields.collect::<Result<Vec<_>, ParquetError>>()?))
}

fn open_file(input: &Input, context: &SourceContext) -> Result<ParquetReader, SourceError> {
    let file = file::open_file(&context.name, &input.path)?;
    let reader = ParquetFile::open(file).and_then(|file| file.read(&context.wanted, context.event_time));
    reader.map_err(|error| parquet_error(context, input, error))
}

fn parquet_error(context: &SourceContext, input: &Input, error: ParquetError) -> SourceError {
    SourceError::Parquet { source_name: context.name.clone(), path: input.path.clone(), error }
}

/// The thread's body: one file after the other, until the task has dropped its end.
fn read_all(inputs: Vec<Input>, context: &SourceContext, to_task: &mpsc::Sender<Read>) {
    for input in inputs {
        let partition = input.partition;
        let mut reader = match open_file(&input, context) {
            Ok(reader) => reader,
            Err(error) => return drop(to_task.blocking_send(Read::Failed(error))),
        };
        loop {
            let read = match reader.next_rows() {
                Ok(Some(rows)) => Read::Rows { partition, rows },
                Ok(None) => break,
                Err(error) => {
                    let failed = Read::Failed(parquet_error(context, &input, error));
                    return drop(to_task.blocking_send(failed));
                }
            };
            if to_task.blocking_send(read).is_err() {
                return;
            }
        }
        if to_task.blocking_send(Read::PartitionEnded { partition }).is_err() {
            return;
        }
    }
    let _ = to_task.blocking_send(Read::End);
}

impl ParquetFiles {
    async fn next_event(&mut self) -> Result<SourceEvent, SourceError> {
        if self.ended {
            return Ok(SourceEvent::End);
        }
        tokio::task::coop::consume_budget().await;
        match tokio::time::timeout(QUIET_AFTER, self.channel.recv()).await {
            Err(_) => Ok(SourceEvent::Quiet),
            Ok(Some(Read::Rows { partition, rows })) => self.batch(partition, rows),
            Ok(Some(Read::PartitionEnded { partition })) => Ok(SourceEvent::PartitionEnded { partition }),
            Ok(Some(Read::End)) => {
                self.ended = true;
                Ok(SourceEvent::End)
            }
            Ok(Some(Read::Failed(error))) => Err(error),
            Ok(None) => Err(self.internal("the reader stopped without an end".to_owned())),
        }
    }

    fn batch(&self, partition: u32, rows: ParquetRows) -> Result<SourceEvent, SourceError> {
        let ParquetRows { columns, bad } = rows;
        let times = match self.event_time.and_then(|index| columns.columns().get(index)) {
            Some(column) => time_values(column).map_err(|reason| self.internal(reason))?,
            None => vec![NO_EVENT_TIME; columns.num_rows()].into(),
        };
        let batch = Batch::new(columns, times);
        let batch = batch.ok_or_else(|| self.internal("columns and times differ in length".to_owned()))?;
        Ok(SourceEvent::Batch { partition, batch, bad })
    }

    fn internal(&self, reason: String) -> SourceError {
        SourceError::Internal { source_name: self.source_name.clone(), reason }
    }
}

impl Source for ParquetFiles {
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>> {
        Box::pin(self.next_event())
    }

    fn partitions(&self) -> Vec<u32> {
        self.partitions.clone()
    }
}
