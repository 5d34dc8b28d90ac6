//! Objects of an epoch become visible, by whichever process comes to it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{failed, place};
use crate::objects::{Objects, ObjectsError};
use crate::sink::parts::epoch_of;
use crate::sink::{Prepared, SinkEpochs, SinkError};

/// What a checkpoint keeps of an object. Its field tells it from what other sinks keep.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    object: Part,
}

/// One object.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sink) struct Part {
    /// as written in the pipeline
    pub(super) url: String,
    /// beside it
    pub(super) name: String,
    /// where it is until it is committed, beside it too
    pub(super) pending: String,
    pub(super) bytes: u64,
}

impl Part {
    pub(super) fn prepared(self, sink_name: &str, objects: &Objects) -> Result<Prepared, SinkError> {
        let shown = objects.shown(&self.name);
        let bytes = rmp_serde::to_vec_named(&Kept { object: self });
        let bytes = bytes
            .map_err(|error| SinkError::Prepared { sink_name: sink_name.to_owned(), reason: error.to_string() })?;
        Ok(Prepared { shown, bytes })
    }
}

/// The object that was prepared, if it is one.
pub(in crate::sink) fn decode(prepared: &[u8]) -> Option<Part> {
    rmp_serde::from_slice::<Kept>(prepared).ok().map(|kept| kept.object)
}

/// Where it has been done before, the object is there with its length.
pub(in crate::sink) async fn commit(sink_name: &str, base: &Path, part: &Part) -> Result<(), SinkError> {
    let (folder, _) = place(sink_name, &part.url, base)?;
    let objects = Objects::open(&folder).map_err(|error| failed(sink_name, error))?;
    commit_in(&objects, part).await.map_err(|error| match error {
        CommitError::Gone(detail) => {
            SinkError::ObjectGone { sink_name: sink_name.to_owned(), object: objects.shown(&part.name), detail }
        }
        CommitError::Objects(error) => failed(sink_name, error),
    })
}

pub(super) enum CommitError {
    /// neither pending nor visible
    Gone(String),
    Objects(ObjectsError),
}

pub(super) async fn commit_in(objects: &Objects, part: &Part) -> Result<(), CommitError> {
    let Err(error) = objects.move_to(&part.pending, &part.name, part.bytes).await else { return Ok(()) };
    // what an earlier try, or an earlier process, has done is done
    let size = objects.size(&part.name).await.map_err(CommitError::Objects)?;
    if size == Some(part.bytes) {
        // it may not have come to removing the pending one
        return objects.remove(vec![part.pending.clone()]).await.map_err(CommitError::Objects);
    }
    Err(match (error.is_passing(), size) {
        (true, _) => CommitError::Objects(error),
        (false, None) => CommitError::Gone(error.to_string()),
        (false, Some(size)) => CommitError::Gone(format!("an object of {size} bytes is there, not of {}", part.bytes)),
    })
}

/// The last epoch that has a visible object beside `url`.
pub(in crate::sink) async fn last_committed(sink_name: &str, url: &str, base: &Path) -> Result<Option<u64>, SinkError> {
    let (folder, name) = place(sink_name, url, base)?;
    let objects = Objects::open(&folder).map_err(|error| failed(sink_name, error))?;
    let (_, files) = objects.list("").await.map_err(|error| failed(sink_name, error))?;
    Ok(files.iter().filter_map(|file| epoch_of(file, Path::new(&name))).max())
}

/// Hidden from those that read a folder as a table.
pub(super) fn pending_name(name: &str, attempt: &str) -> String {
    format!(".{name}.{attempt}.pending")
}

/// Pending files of epochs that are over: whatever of these is in a checkpoint has been committed. A process that was shut
/// out and has not noticed may still finish the epoch that comes next, so its files stay.
pub(super) async fn stale(objects: &Objects, name: &str, epochs: &SinkEpochs) -> Result<Vec<String>, ObjectsError> {
    let (_, mut files) = objects.list("").await?;
    files.retain(|file| {
        // HDFS writes a file under another hidden name first
        let pending = file.trim_start_matches('.').split_once(".pending").map(|(pending, _)| pending);
        let part = pending.filter(|_| file.starts_with('.')).and_then(|pending| pending.rsplit_once('.'));
        part.and_then(|(part, _)| epoch_of(part, Path::new(name))).is_some_and(|epoch| epoch < epochs.next)
    });
    Ok(files)
}
