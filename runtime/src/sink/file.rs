//! Files that appear when they are whole: written beside their place under a name that ends in `.pending`, flushed to
//! the disk and renamed when the input ends. A run that fails leaves the pending file, which the next run replaces.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::blocking::BlockingWriter;
use super::records::Records;
use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::disk::folder_of;
use crate::record::Batch;

#[cfg(test)]
mod tests;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Where a subtask's file will be, and where it is until then.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) pending: PathBuf,
    pub(super) path: PathBuf,
}

impl Place {
    /// Makes the folders and the pending file.
    pub(super) fn create(path: &str, context: &SinkContext) -> Result<(Self, File), SinkError> {
        let path = subtask_path(&context.base.join(path), context.subtask, context.parallelism);
        let pending = pending_path(&path);
        let file_error = |action, path: &Path, error| SinkError::File {
            sink_name: context.name.clone(),
            action,
            path: path.to_owned(),
            error,
        };
        if path.is_dir() {
            return Err(file_error("write to", &path, io::ErrorKind::IsADirectory.into()));
        }
        let folder = folder_of(&path);
        std::fs::create_dir_all(folder).map_err(|error| file_error("create the folder", folder, error))?;
        let file = File::create(&pending).map_err(|error| file_error("create", &pending, error))?;
        Ok((Self { pending, path }, file))
    }
}

/// One subtask's file.
pub(super) struct FileSink {
    sink_name: String,
    records: Records,
    bytes: Vec<u8>,
    pending: PathBuf,
    path: PathBuf,
    out: BlockingWriter<File>,
}

impl FileSink {
    /// Makes the folders and the pending file.
    pub(super) fn create(path: &str, context: &SinkContext) -> Result<Self, SinkError> {
        let records = Records::new(context)?;
        let (Place { pending, path }, file) = Place::create(path, context)?;
        let out = BlockingWriter::new(file);
        Ok(Self { sink_name: context.name.clone(), records, bytes: Vec::new(), pending, path, out })
    }

    async fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.records.append(batch, &mut self.bytes)?;
        if self.bytes.len() >= WRITE_BYTES { self.write_out().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), SinkError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let written = self.out.write(&mut self.bytes).await;
        written.map_err(|error| self.error("write to", self.pending.clone(), error))
    }

    /// The rename is the commit: before it the file is not there, after it it is there whole, also after a power cut.
    async fn commit(mut self) -> Result<(), SinkError> {
        self.write_out().await?;
        let synced = self.out.run(|file| file.sync_all()).await.flatten();
        synced.map_err(|error| self.error("flush to disk", self.pending.clone(), error))?;
        let (pending, path) = (self.pending.clone(), self.path.clone());
        let renamed = self.out.run(move |_| {
            std::fs::rename(&pending, &path)?;
            File::open(folder_of(&path))?.sync_all()
        });
        let renamed = renamed.await.flatten();
        renamed.map_err(|error| self.error("rename its pending file to", self.path.clone(), error))
    }

    fn error(&self, action: &'static str, path: PathBuf, error: io::Error) -> SinkError {
        SinkError::File { sink_name: self.sink_name.clone(), action, path, error }
    }
}

impl Sink for FileSink {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.append(batch))
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.write_out())
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(self.commit())
    }
}

/// `out/rows.json` for the only task, `out/rows-2.json` for the third of several.
fn subtask_path(path: &Path, subtask: usize, parallelism: usize) -> PathBuf {
    if parallelism <= 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
    name.push(format!("-{subtask}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn pending_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".pending");
    path.with_file_name(name)
}
