//! Where the calls of a step that fail become files.
//!
//! The task writes them itself, between two batches: of each step at most some in ten seconds ([`crate::wasm::Gate`] decides), each as
//! small as its call could be made, and not flushed to the disk. So a dead letter that names a capsule is behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spec::{CapsulesSpec, PipelineSpec};
use crate::capsule::{Capsule, CapsuleError, Folder};
use crate::operator::{DeadRow, OperatorError};
use crate::record::NO_EVENT_TIME;
use crate::wasm::{FailedCall, Gate, GuestMetrics, Secrets};

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

/// The file that a pipeline was read from, from wherever it is looked for.
pub(super) fn file_of(spec: &PipelineSpec) -> Option<String> {
    // a pipeline that was built has a name there that is no file
    let file = std::path::absolute(&spec.path).ok().filter(|file| file.is_file())?;
    Some(file.display().to_string())
}

/// One step's, in one task.
pub(super) struct StepCapsules {
    pub(super) folder: Arc<Folder>,
    /// the pipeline's name
    pub(super) pipeline: String,
    /// its file, if it was read from one
    pub(super) pipeline_file: Option<String>,
    /// has the witness of the step's guests
    pub(super) guests: Arc<GuestMetrics>,
    /// has that of a candidate's, while one is tried
    pub(super) candidate: Option<Arc<GuestMetrics>>,
}

impl StepCapsules {
    /// Writes what the guests' witnesses have kept; `dead` are the rows that have been given up.
    pub(super) fn write(&self, dead: &[DeadRow]) {
        for guests in self.candidate.iter().chain([&self.guests]) {
            let Some(witness) = guests.witness().filter(|witness| witness.waits()) else { continue };
            for failed in witness.take() {
                self.write_one(witness.gate(), &failed, dead);
            }
        }
    }

    /// A candidate is tried from here on, or no more.
    pub(super) fn tries(&mut self, candidate: Option<Arc<GuestMetrics>>) {
        self.write(&[]);
        self.candidate = candidate;
    }

    fn write_one(&self, gate: &Gate, failed: &FailedCall, dead: &[DeadRow]) {
        let reason = crate::capsule::Failure::of(&failed.error).map(|failure| failure.message());
        // an operator may say first what is lost
        let of = |row: &&DeadRow| reason.as_ref().is_some_and(|reason| row.reason.ends_with(reason));
        let time_ms = dead.iter().find(of).map(|row| row.time).filter(|time_ms| *time_ms != NO_EVENT_TIME);
        let (step, task, version, digest) = (&failed.step, failed.task, failed.version, failed.digest.short());
        match self.file(failed, time_ms) {
            Ok(None) => {}
            Ok(Some(path)) => {
                let path = path.display();
                tracing::warn!(
                    target: "millstream::capsule", step, task, version, digest, candidate = failed.candidate, %path,
                    "a failed call is kept: millstream replay {path}"
                );
            }
            Err(reason) => {
                gate.withdraw(&failed.name);
                tracing::warn!(
                    target: "millstream::capsule", step, task, version, digest, candidate = failed.candidate, %reason,
                    "a failed call is not kept"
                );
            }
        }
    }

    /// Makes a file of a failed call; none where it is not the guest's doing.
    fn file(&self, failed: &FailedCall, event_time_ms: Option<i64>) -> Result<Option<PathBuf>, String> {
        let Some(mut capsule) = Capsule::of(failed, &self.pipeline, event_time_ms) else { return Ok(None) };
        capsule.facts.pipeline_file.clone_from(&self.pipeline_file);
        let bytes = capsule.to_bytes(&Secrets::of(&failed.settings));
        let bytes = bytes.map_err(|error: CapsuleError| error.to_string())?;
        let written = self.folder.write(&failed.name, &bytes);
        let unwritten = |error| format!("cannot write `{}`: {error}", self.folder.file(&failed.name).display());
        written.map(Some).map_err(unwritten)
    }

    /// The file for a failure of this reason: its own, or that of the last one before it that was of the same class.
    pub(super) fn file_for(&self, reason: &str) -> Option<String> {
        self.file_of(reason, false)
    }

    /// The same for a failure of the version that runs, or of its candidate.
    pub(super) fn file_of(&self, reason: &str, of_candidate: bool) -> Option<String> {
        let guests = if of_candidate { self.candidate.as_ref()? } else { &self.guests };
        let gate = guests.witness()?.gate();
        // an operator may say first what is lost: `the window is lost with its 3 rows: ..`
        let rest = || reason.split_once(": ").and_then(|(_, rest)| gate.name_for(rest));
        let name = gate.name_for(reason).or_else(rest)?;
        Some(self.folder.file(&name).display().to_string())
    }

    /// What the step ends with, with the file of its last call.
    pub(super) fn name_in(&self, error: OperatorError) -> OperatorError {
        self.write(&[]);
        let file = |reason: &str| self.file_for(reason).or_else(|| self.file_of(reason, true));
        let with_file = |reason: String| match file(&reason) {
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
