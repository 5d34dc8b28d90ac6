//! Objects in S3, in HDFS or on a local disk, uploaded while rows come and visible at once and whole.
//!
//! With checkpoints there is one for each epoch and task, `rows-0000000007-0.json` for `rows.json`, visible once the
//! checkpoint of the epoch is whole:
//!
//! ```text
//!   write     .rows-0000000007-0.json.<attempt>.pending
//!   prepare   whole; the checkpoint names both
//!   commit    HDFS, local disk: renamed; S3: copied by the server to its name, then the pending one removed
//! ```
//!
//! A commit is repeated after a crash: what has been moved is there with its length. The obvious way in S3, completing an
//! upload in parts as the commit, is not taken: MinIO leaves an upload broken for ever if the client dies while it is
//! completed. Without checkpoints an object appears when the input ends, or when it is as large as `roll` says.

mod commit;
mod upload;

use std::path::Path;

use self::upload::Upload;
use super::parts::{EPOCH_DIGITS, name_parts};
use super::records::Records;
use super::{BoxFuture, Prepared, Sink, SinkContext, SinkEpochs, SinkError};
use crate::format::{Format, ParquetWriter};
use crate::objects::{Location, Objects, PART_BYTES};
use crate::record::{Batch, Schema};
use crate::sink::spec::ObjectSinkSpec;

pub(super) use commit::{commit, decode, last_committed};

#[cfg(test)]
mod tests;

/// One subtask's objects.
pub(super) struct ObjectSink {
    sink_name: String,
    /// as written in the pipeline
    url: String,
    objects: Objects,
    /// the last part of `url`
    name: String,
    schema: Schema,
    encoder: Encoder,
    /// encoded and not yet handed to the upload
    bytes: Vec<u8>,
    subtask: usize,
    parallelism: usize,
    roll: Option<usize>,
    /// objects that this task has finished without checkpoints
    finished: u64,
    epochs: Option<SinkEpochs>,
    /// none until there are rows
    open: Option<Upload>,
}

/// What makes bytes of batches.
enum Encoder {
    Records(Box<Records>),
    /// none until the object has rows: each object is a file of its own
    Parquet(Option<Box<ParquetWriter<Vec<u8>>>>),
}

impl ObjectSink {
    /// Opens the store and removes what dead processes left of epochs that are over.
    pub(super) async fn open(spec: &ObjectSinkSpec, context: &SinkContext) -> Result<Self, SinkError> {
        let (folder, name) = place(&context.name, &spec.url, &context.base)?;
        let objects = Objects::open(&folder).map_err(|error| failed(&context.name, error))?;
        if let Some(epochs) = context.epochs.as_ref().filter(|_| context.subtask == 0) {
            let stale = commit::stale(&objects, &name, epochs).await;
            let removed = match stale {
                Ok(stale) => objects.remove(stale).await,
                Err(error) => Err(error),
            };
            removed.map_err(|error| failed(&context.name, error))?;
        }
        let encoder = match context.format {
            Format::Parquet => Encoder::Parquet(None),
            _ => Encoder::Records(Box::new(Records::new(context)?)),
        };
        Ok(Self {
            sink_name: context.name.clone(),
            url: spec.url.clone(),
            objects,
            name,
            schema: context.schema.clone(),
            encoder,
            bytes: Vec::new(),
            subtask: context.subtask,
            parallelism: context.parallelism,
            roll: spec.roll,
            finished: 0,
            epochs: context.epochs.clone(),
            open: None,
        })
    }

    /// The name of the object that is being written.
    fn object(&self) -> String {
        let (stem, extension) = name_parts(Path::new(&self.name));
        match (&self.epochs, self.roll) {
            (Some(epochs), _) => part_name(&self.name, epochs.next, self.subtask),
            (None, Some(_)) => {
                format!("{stem}-{}-{:0width$}{extension}", self.subtask, self.finished + 1, width = EPOCH_DIGITS)
            }
            (None, None) if self.parallelism > 1 => format!("{stem}-{}{extension}", self.subtask),
            (None, None) => self.name.clone(),
        }
    }

    async fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        match &mut self.encoder {
            Encoder::Records(records) => records.append(batch, &mut self.bytes)?,
            Encoder::Parquet(writer) => {
                let parquet = |error| parquet_error(&self.sink_name, &self.url, error);
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        let new = ParquetWriter::new(Vec::new(), &self.schema).map_err(parquet)?;
                        writer.insert(Box::new(new))
                    }
                };
                writer.write(batch.columns().clone()).map_err(parquet)?;
            }
        }
        if self.bytes.len() >= PART_BYTES {
            self.upload().await?;
        }
        let size = self.open.as_ref().map_or(0, |open| open.bytes) + self.bytes.len() as u64;
        if self.epochs.is_none() && self.roll.is_some_and(|roll| size >= roll as u64) {
            self.close().await?;
        }
        Ok(())
    }

    /// Hands over what is encoded.
    async fn upload(&mut self) -> Result<(), SinkError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let object = self.object();
        let open =
            self.open.get_or_insert_with(|| Upload::new(&self.objects, &self.sink_name, object, self.epochs.as_ref()));
        let written = open.write(std::mem::take(&mut self.bytes)).await;
        written.map_err(|error| failed(&self.sink_name, error))
    }

    /// Finishes the object: visible without checkpoints, else to be committed.
    async fn close(&mut self) -> Result<Option<Prepared>, SinkError> {
        if let Encoder::Parquet(writer) = &mut self.encoder
            && let Some(writer) = writer.take()
        {
            let finished = writer.finish();
            self.bytes = finished.map_err(|error| parquet_error(&self.sink_name, &self.url, error))?;
        }
        self.upload().await?;
        self.finished += 1;
        let Some(open) = self.open.take() else { return Ok(None) };
        let part = open.finish(&self.url).await.map_err(|error| failed(&self.sink_name, error))?;
        match part {
            Some(part) => part.prepared(&self.sink_name, &self.objects).map(Some),
            None => Ok(None),
        }
    }

    async fn close_epoch(&mut self, epoch: u64) -> Result<Option<Prepared>, SinkError> {
        let prepared = self.close().await?;
        if let Some(epochs) = &mut self.epochs {
            epochs.next = epoch.saturating_add(1);
        }
        Ok(prepared)
    }
}

impl Sink for ObjectSink {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.append(batch))
    }

    /// A part is not cut short: nobody sees the object before its end anyway.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn prepare(&mut self, epoch: u64) -> BoxFuture<'_, Result<Option<Prepared>, SinkError>> {
        Box::pin(self.close_epoch(epoch))
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            if self.epochs.is_some() {
                // all has been prepared before: the last checkpoint makes it visible
                return Ok(());
            }
            self.close().await.map(|_| ())
        })
    }
}

/// `rows-0000000007-0.json` for `rows.json`, as [file sinks](super::parts) name their parts.
fn part_name(name: &str, epoch: u64, subtask: usize) -> String {
    let (stem, extension) = name_parts(Path::new(name));
    format!("{stem}-{epoch:0width$}-{subtask}{extension}", width = EPOCH_DIGITS)
}

/// The folder of a URL and the name in it.
fn place(sink_name: &str, url: &str, base: &Path) -> Result<(Location, String), SinkError> {
    let wrong = |reason| SinkError::ObjectUrl { sink_name: sink_name.to_owned(), reason };
    let location = Location::parse(url, base).map_err(|error| wrong(error.to_string()))?;
    location.split().ok_or_else(|| wrong(format!("`{url}` names no object, only the place for one")))
}

fn failed(sink_name: &str, error: crate::objects::ObjectsError) -> SinkError {
    SinkError::Objects { sink_name: sink_name.to_owned(), error }
}

fn parquet_error(sink_name: &str, url: &str, error: crate::format::ParquetError) -> SinkError {
    SinkError::Parquet { sink_name: sink_name.to_owned(), path: url.into(), error }
}
