//! Files of a pipeline with checkpoints: one for each epoch and task, `rows-0000000007-0.json` for `rows.json`, visible
//! once the checkpoint of the epoch is whole.
//!
//! ```text
//!   write    .rows-0000000007-0.json.<attempt>.pending    hidden, in the same folder
//!   prepare  flushed to the disk, closed                  the checkpoint names both
//!   commit   rename to rows-0000000007-0.json             repeated after a crash: the one or the other is there
//! ```
//!
//! Epochs never come again, so no part is ever replaced by another. Pending files of processes that are gone are removed
//! by [`remove_stale`], after what belongs to a checkpoint has been committed and the pipeline is sure to start.
//!
//! A part that cannot be made or written (a full disk, a folder without permission) is tried again, with pauses, and holds
//! the pipeline up meanwhile. A flush to the disk that fails is not: nobody can tell what is on the disk then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blocking::BlockingWriter;
use super::records::Records;
use super::{BoxFuture, Prepared, Sink, SinkContext, SinkEpochs, SinkError};
use crate::disk::{self, folder_of};
use crate::record::Batch;

#[cfg(test)]
mod tests;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Between two tries after a write has failed.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Digits of an epoch in a name, so that names sort as epochs do.
pub(super) const EPOCH_DIGITS: usize = 10;

/// What a checkpoint keeps of a part; paths are relative to the pipeline's folder unless written otherwise.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    pending: String,
    path: String,
}

/// One subtask's parts.
pub(super) struct PartsSink {
    sink_name: String,
    records: Records,
    bytes: Vec<u8>,
    base: PathBuf,
    /// the path as written in the pipeline
    path: PathBuf,
    subtask: usize,
    attempt: String,
    epoch: u64,
    /// none until the epoch has rows
    open: Option<BlockingWriter<File>>,
    /// bytes of it that have been written
    length: u64,
}

impl PartsSink {
    /// Makes the folder.
    pub(super) fn create(path: &str, context: &SinkContext, epochs: &SinkEpochs) -> Result<Self, SinkError> {
        let records = Records::new(context)?;
        let full = context.base.join(path);
        let error = |action, path: &Path, error| file_error(&context.name, action, path, error);
        let folder = folder_of(&full);
        disk::make_folder(folder).map_err(|source| error("create the folder", folder, source))?;
        Ok(Self {
            sink_name: context.name.clone(),
            records,
            bytes: Vec::new(),
            base: context.base.clone(),
            path: PathBuf::from(path),
            subtask: context.subtask,
            attempt: epochs.attempt.clone(),
            epoch: epochs.next,
            open: None,
            length: 0,
        })
    }

    /// The pending file and the visible one of the epoch that is being written.
    fn part(&self) -> (PathBuf, PathBuf) {
        let (stem, extension) = name_parts(&self.path);
        let name = format!("{stem}-{:0width$}-{}{extension}", self.epoch, self.subtask, width = EPOCH_DIGITS);
        let pending = format!(".{name}.{}.pending", self.attempt);
        (self.path.with_file_name(pending), self.path.with_file_name(name))
    }

    async fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.records.append(batch, &mut self.bytes)?;
        if self.bytes.len() >= WRITE_BYTES { self.write_out().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), SinkError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let (pending, _) = self.part();
        let pending = self.base.join(pending);
        let mut pause = RETRY_FIRST;
        loop {
            let (action, error) = match self.try_write_out(&pending).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let error = file_error(&self.sink_name, action, &pending, error);
            if matches!(&error, SinkError::File { error, .. } if !may_pass(error)) {
                return Err(error);
            }
            tracing::warn!(%error, "rows wait; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// On failure the bytes are still there, and the file up to `length` is as it was.
    async fn try_write_out(&mut self, pending: &Path) -> Result<(), (&'static str, io::Error)> {
        let out = match &mut self.open {
            Some(out) => out,
            None => {
                let file = disk::make_folder(folder_of(pending)).and_then(|_| File::create(pending));
                self.length = 0;
                self.open.insert(BlockingWriter::new(file.map_err(|error| ("create", error))?))
            }
        };
        let (bytes, at) = (std::mem::take(&mut self.bytes), self.length);
        let written = out.run(move |file| {
            let written = write_at(file, at, &bytes);
            (written, bytes)
        });
        let (written, bytes) = written.await.map_err(|error| ("write to", error))?;
        self.bytes = bytes;
        written.map_err(|error| ("write to", error))?;
        self.length += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    async fn close(&mut self, epoch: u64) -> Result<Option<Prepared>, SinkError> {
        self.write_out().await?;
        let (pending, path) = self.part();
        self.epoch = epoch.saturating_add(1);
        let Some(mut out) = self.open.take() else { return Ok(None) };
        let folder = folder_of(&self.base.join(&pending)).to_owned();
        // the name too: the manifest that names it may be on another disk
        let synced = out.run(move |file| file.sync_all().and_then(|()| disk::flush_folder(&folder))).await.flatten();
        synced.map_err(|error| file_error(&self.sink_name, "flush to disk", &pending, error))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let part = Part { pending: text(&pending), path: text(&path) };
        let bytes = rmp_serde::to_vec_named(&part)
            .map_err(|error| SinkError::Prepared { sink_name: self.sink_name.clone(), reason: error.to_string() })?;
        Ok(Some(Prepared { shown: part.path, bytes }))
    }
}

impl Sink for PartsSink {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.append(batch))
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.write_out())
    }

    fn prepare(&mut self, epoch: u64) -> BoxFuture<'_, Result<Option<Prepared>, SinkError>> {
        Box::pin(self.close(epoch))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        // all has been prepared before: the last checkpoint makes it visible
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The rename is the commit. Where it has been done before, there is nothing to do.
pub(super) fn commit(sink_name: &str, base: &Path, prepared: &Prepared) -> Result<(), SinkError> {
    let part: Part = rmp_serde::from_slice(&prepared.bytes)
        .map_err(|error| SinkError::Prepared { sink_name: sink_name.to_owned(), reason: error.to_string() })?;
    let (pending, path) = (base.join(&part.pending), base.join(&part.path));
    match std::fs::rename(&pending, &path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match path.try_exists() {
                Ok(true) => Ok(()),
                _ => Err(SinkError::PartGone { sink_name: sink_name.to_owned(), pending, path }),
            };
        }
        Err(error) => return Err(file_error(sink_name, "rename its pending file to", &path, error)),
    }
    let folder = folder_of(&path);
    disk::flush_folder(folder).map_err(|error| file_error(sink_name, "flush to disk", folder, error))
}

/// The last epoch that has a visible part beside `path`.
pub(super) fn last_committed(sink_name: &str, path: &Path) -> Result<Option<u64>, SinkError> {
    let names = match names_in(folder_of(path)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(sink_name, "list", folder_of(path), error)),
    };
    Ok(names.iter().filter_map(|name| epoch_of(name, path)).max())
}

/// The epoch of a part of `path` by its name.
pub(super) fn epoch_of(name: &str, path: &Path) -> Option<u64> {
    let (stem, extension) = name_parts(path);
    let middle = name.strip_prefix(stem.as_str())?.strip_suffix(extension.as_str())?.strip_prefix('-')?;
    let (epoch, subtask) = middle.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (epoch.len() >= EPOCH_DIGITS && digits(epoch) && digits(subtask)).then(|| epoch.parse().ok()).flatten()
}

/// Writes all of `bytes` at `at`, over what an earlier try has left there.
fn write_at(file: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.flush()
}

/// Whether somebody may do something about it while the pipeline waits.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, Other, Unsupported};
    !matches!(error.kind(), InvalidFilename | InvalidInput | IsADirectory | Other | Unsupported)
}

/// Removes pending files of `path` that other processes have left.
pub(super) fn remove_stale(sink_name: &str, path: &Path, attempt: &str) -> Result<(), SinkError> {
    let folder = folder_of(path);
    for file in stale(path, attempt).map_err(|error| file_error(sink_name, "list", folder, error))? {
        std::fs::remove_file(&file).map_err(|error| file_error(sink_name, "remove", &file, error))?;
    }
    Ok(())
}

/// Pending files of `path` that another process left behind.
fn stale(path: &Path, attempt: &str) -> io::Result<Vec<PathBuf>> {
    let own = format!(".{attempt}.pending");
    let left = |name: &String| {
        let pending = name.strip_prefix('.').and_then(|name| name.strip_suffix(".pending"));
        let part = pending.and_then(|name| name.rsplit_once('.')).map(|(part, _)| part);
        part.is_some_and(|part| epoch_of(part, path).is_some()) && !name.ends_with(&own)
    };
    Ok(names_in(folder_of(path))?.into_iter().filter(left).map(|name| path.with_file_name(name)).collect())
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// `rows` and `.json` of `out/rows.json`.
pub(super) fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

fn file_error(sink_name: &str, action: &'static str, path: &Path, error: io::Error) -> SinkError {
    SinkError::File { sink_name: sink_name.to_owned(), action, path: path.to_owned(), error }
}
