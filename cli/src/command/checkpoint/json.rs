//! Checkpoints and savepoints as JSON objects, one a line.

use millstream::checkpoint::{Listed, Loaded, Manifest, Savepoint, StoreError};
use serde::Serialize;

use crate::report::json_line;

/// One of them: of what can be read all that its manifest says, else why it cannot.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    /// `checkpoint` or `savepoint`
    kind: &'static str,
    /// of a savepoint
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// of what cannot be read; else the manifest says it
    #[serde(rename = "epoch", skip_serializing_if = "Option::is_none")]
    damaged_epoch: Option<u64>,
    /// whether all sinks have shown it
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<bool>,
    #[serde(flatten)]
    sizes: Option<Sizes>,
    #[serde(flatten)]
    manifest: Option<&'a Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sizes {
    state_bytes: u64,
    new_state_bytes: u64,
}

impl<'a> Entry<'a> {
    fn of(kind: &'static str, manifest: Result<&'a Manifest, &StoreError>) -> Self {
        let read = manifest.as_ref().ok();
        let sizes = |of: &&Manifest| Sizes { state_bytes: of.state_bytes(), new_state_bytes: of.new_state_bytes() };
        Self {
            kind,
            name: None,
            damaged_epoch: None,
            committed: None,
            sizes: read.map(sizes),
            manifest: read.copied(),
            error: manifest.err().map(ToString::to_string),
        }
    }
}

pub(super) fn checkpoint(listed: &Listed) -> String {
    let manifest = listed.manifest.as_ref();
    let damaged_epoch = manifest.is_err().then_some(listed.epoch);
    json_line(&Entry { damaged_epoch, committed: Some(listed.committed), ..Entry::of("checkpoint", manifest) })
}

pub(super) fn savepoint(savepoint: &Savepoint) -> String {
    let manifest = savepoint.manifest.as_ref();
    json_line(&Entry { name: Some(&savepoint.name), ..Entry::of("savepoint", manifest) })
}

/// The savepoint of this name, or a checkpoint.
pub(super) fn loaded(loaded: &Loaded, name: Option<&str>) -> String {
    let kind = if name.is_some() { "savepoint" } else { "checkpoint" };
    json_line(&Entry { name, committed: Some(loaded.committed), ..Entry::of(kind, Ok(&loaded.manifest)) })
}

/// A savepoint that has just been made.
pub(super) fn saved(manifest: &Manifest, name: &str) -> String {
    json_line(&Entry { name: Some(name), ..Entry::of("savepoint", Ok(manifest)) })
}
