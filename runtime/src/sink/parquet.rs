//! Parquet files that appear when they are whole, as those of the [file sink](super::file) do. A row group waits in
//! memory until it is full; the file's index is written when the input ends.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::blocking::BlockingWriter;
use super::file::Place;
use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::disk::folder_of;
use crate::format::{ParquetError, ParquetWriter};
use crate::record::Batch;

#[cfg(test)]
mod tests;

/// One subtask's file.
pub(super) struct ParquetSink {
    sink_name: String,
    place: Place,
    /// `None` once it is finished, or after a write that failed
    out: BlockingWriter<Option<ParquetWriter<File>>>,
}

impl ParquetSink {
    /// Makes the folders and the pending file.
    pub(super) fn create(path: &str, context: &SinkContext) -> Result<Self, SinkError> {
        let (place, file) = Place::create(path, context)?;
        let sink_name = context.name.clone();
        let writer = ParquetWriter::new(file, &context.schema).map_err(|error| SinkError::Parquet {
            sink_name: sink_name.clone(),
            path: place.path.clone(),
            error,
        })?;
        Ok(Self { sink_name, place, out: BlockingWriter::new(Some(writer)) })
    }

    async fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let columns = batch.columns().clone();
        let write = move |writer: &mut Option<ParquetWriter<File>>| match writer {
            Some(writer) => writer.write(columns),
            None => Err(ParquetError::File("an earlier write failed".to_owned())),
        };
        let written = self.out.run(write).await;
        self.done("write to", written)
    }

    /// The rename is the commit, see the file sink.
    async fn commit(mut self) -> Result<(), SinkError> {
        let place = self.place.clone();
        let finish = move |writer: &mut Option<ParquetWriter<File>>| {
            let Some(writer) = writer.take() else { return Ok(()) };
            let failed = |error: io::Error| ParquetError::File(error.to_string());
            writer.finish()?.sync_all().map_err(failed)?;
            std::fs::rename(&place.pending, &place.path).map_err(failed)?;
            File::open(folder_of(&place.path)).and_then(|folder| folder.sync_all()).map_err(failed)
        };
        let finished = self.out.run(finish).await;
        self.done("finish", finished)
    }

    fn done(&self, action: &'static str, result: io::Result<Result<(), ParquetError>>) -> Result<(), SinkError> {
        let path: PathBuf = self.place.pending.clone();
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SinkError::Parquet { sink_name: self.sink_name.clone(), path, error }),
            Err(error) => Err(SinkError::File { sink_name: self.sink_name.clone(), action, path, error }),
        }
    }
}

impl Sink for ParquetSink {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.append(batch))
    }

    /// A row group is not cut short: nobody can read the file before its end anyway.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(self.commit())
    }
}
