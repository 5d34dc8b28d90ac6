//! Where the calls of a step that fail become files.
//!
//! The task writes them itself, between two batches: of each step at most some in ten seconds ([`Gate`](crate::wasm::Gate) decides), each as
//! small as its call could be made, and not flushed to the disk. So a dead letter that names a capsule is behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spec::{CapsulesSpec, PipelineSpec};
use crate::capsule::{Capsule, CapsuleError, Folder};
use crate::operator::{DeadRow, OperatorError};
use crate::record::NO_EVENT_TIME;
use crate::wasm::{FailedCall, GuestMetrics, Secrets};

/// The folder of a pipeline's capsules; `default` is where those of all pipelines are that do not say. None: none are
/// written.
pub(super) fn folder(spec: &PipelineSpec, default: Option<&Path>) -> Option<Arc<Folder>> {
    let path = path(spec, default)?;
    let capsules = spec.capsules.clone().unwrap_or_default();
    Some(Arc::new(Folder::new(path, capsules.keep.value, capsules.bytes_max.value as u64)))
}

/// The same as a path. What an encrypted pipeline handles is not written in the clear unless it says so.
pub fn path(spec: &PipelineSpec, default: Option<&Path>) -> Option<PathBuf> {
    let encrypted = spec.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.encrypt.is_some());
    match &spec.capsules {
        Some(CapsulesSpec { off: true, .. }) => None,
        Some(CapsulesSpec { folder: Some(folder), .. }) => Some(spec.base.join(&folder.value)),
        None if encrypted => None,
        _ => default.map(|default| default.join(&spec.name.value)),
    }
}

/// One step's, in one task.
pub(super) struct StepCapsules {
    pub(super) folder: Arc<Folder>,
    /// the pipeline's name
    pub(super) pipeline: String,
    /// has the witness of the step's guests
    pub(super) guests: Arc<GuestMetrics>,
}

impl StepCapsules {
    /// Writes what the guests' witness has kept; `dead` are the rows that have been given up.
    pub(super) fn write(&self, dead: &[DeadRow]) {
        let Some(witness) = self.guests.witness().filter(|witness| witness.waits()) else { return };
        for failed in witness.take() {
            let reason = crate::capsule::Failure::of(&failed.error).map(|failure| failure.message());
            // an operator may say first what is lost
            let of = |row: &&DeadRow| reason.as_ref().is_some_and(|reason| row.reason.ends_with(reason));
            let row = dead.iter().find(of);
            let time_ms = row.map(|row| row.time).filter(|time_ms| *time_ms != NO_EVENT_TIME);
            if let Err(reason) = self.write_one(&failed, time_ms) {
                witness.gate().withdraw(&failed.name);
                let step = &failed.step;
                tracing::warn!(target: "millstream::capsule", step, %reason, "a failed call is not kept");
            }
        }
    }

    fn write_one(&self, failed: &FailedCall, event_time_ms: Option<i64>) -> Result<(), String> {
        let Some(capsule) = Capsule::of(failed, &self.pipeline, event_time_ms) else { return Ok(()) };
        let bytes = capsule.to_bytes(&Secrets::of(&failed.settings));
        let bytes = bytes.map_err(|error: CapsuleError| error.to_string())?;
        let path = self
            .folder
            .write(&failed.name, &bytes)
            .map_err(|error| format!("cannot write `{}`: {error}", self.folder.file(&failed.name).display()))?;
        let (step, path) = (&failed.step, path.display());
        tracing::warn!(target: "millstream::capsule", step, %path, "a failed call is kept: millstream replay {path}");
        Ok(())
    }

    /// The file for a failure of this reason: its own, or that of the last one before it that was of the same class.
    pub(super) fn file_for(&self, reason: &str) -> Option<String> {
        let gate = self.guests.witness()?.gate();
        // an operator may say first what is lost: `the window is lost with its 3 rows: ..`
        let rest = || reason.split_once(": ").and_then(|(_, rest)| gate.name_for(rest));
        let name = gate.name_for(reason).or_else(rest)?;
        Some(self.folder.file(&name).display().to_string())
    }

    /// What the step ends with, with the file of its last call.
    pub(super) fn name_in(&self, error: OperatorError) -> OperatorError {
        self.write(&[]);
        let with_file = |reason: String| match self.file_for(&reason) {
            Some(file) => format!("{reason}; the call is kept: millstream replay {file}"),
            None => reason,
        };
        match error {
            OperatorError::Row { reason } => OperatorError::Row { reason: with_file(reason) },
            OperatorError::Contract { reason } => OperatorError::Contract { reason: with_file(reason) },
            other => other,
        }
    }
}
