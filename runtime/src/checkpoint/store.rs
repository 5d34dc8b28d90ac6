//! The checkpoints of one pipeline in one store: written, listed, loaded, thrown away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::fail_point::fail_point;
use super::folder::Folder;
use super::manifest::{Manifest, StateFile};
use super::protocol::{Candidate, Health};
use super::state_file::{self, StateFileError};
use crate::state::Snapshot;

#[cfg(test)]
mod tests;

const MANIFEST: &str = "manifest";
const COMMITTED: &str = "committed";
const LEASE: &str = "lease";
const SAVEPOINTS: &str = "savepoints";

/// Digits of an epoch in a folder's name, so that names sort as epochs do.
const EPOCH_DIGITS: usize = 10;

/// The store does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// the disk does not
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// `write`, `read`, ..
        action: &'static str,
        /// which file or folder
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// another process writes checkpoints of this pipeline here
    #[error(
        "`{}` is in use: another process runs this pipeline ({holder}); stop it, or give this run another store",
        path.display()
    )]
    InUse {
        /// the store's folder of the pipeline
        path: PathBuf,
        /// what it says of itself
        holder: String,
    },
    /// another process has written the epoch: it owns the pipeline now
    #[error("another process has written checkpoint {epoch} in `{}`: this one must stop", path.display())]
    Fenced {
        /// which epoch
        epoch: u64,
        /// the store's folder of the pipeline
        path: PathBuf,
    },
    /// state cannot be written
    #[error("the state of step `{step}`: {source}")]
    State {
        /// the step
        step: String,
        /// why
        source: StateFileError,
    },
    /// a checkpoint cannot be used
    #[error("checkpoint {name}: {reason}")]
    Damaged {
        /// its epoch or name
        name: String,
        /// why
        reason: String,
    },
    /// no such checkpoint or savepoint
    #[error("there is no {what} {name}; there are {known}")]
    Unknown {
        /// `checkpoint` or `savepoint`
        what: &'static str,
        /// as asked for
        name: String,
        /// what there is
        known: String,
    },
    /// a savepoint's name is taken, or no name
    #[error("a savepoint cannot be called `{name}`: {reason}")]
    Name {
        /// as asked for
        name: String,
        /// why
        reason: &'static str,
    },
}

/// The checkpoints of one pipeline.
#[derive(Clone, Debug)]
pub struct Store {
    folder: Folder,
}

/// The right to write; given back when it is dropped, at the latest when the process ends.
#[derive(Debug)]
pub struct Lease {
    _locked: File,
}

/// A checkpoint before it is written: a manifest whose tasks have no state files yet, and the state.
#[derive(Clone, Debug)]
pub struct Draft {
    /// all but the state files
    pub manifest: Manifest,
    /// by step and task; what has no tables needs no file
    pub states: BTreeMap<(String, usize), Snapshot>,
}

/// A checkpoint as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// the manifest
    pub manifest: Manifest,
    /// whether all sinks had shown its epoch
    pub committed: bool,
    /// by step and task
    pub states: BTreeMap<(String, usize), Snapshot>,
}

/// A checkpoint in a list.
#[derive(Debug)]
pub struct Listed {
    /// its epoch
    pub epoch: u64,
    /// whether all sinks have shown it
    pub committed: bool,
    /// what it consists of, or what is wrong with it
    pub manifest: Result<Manifest, StoreError>,
}

/// A savepoint in a list.
#[derive(Debug)]
pub struct Savepoint {
    /// its name
    pub name: String,
    /// what it consists of, or what is wrong with it
    pub manifest: Result<Manifest, StoreError>,
}

impl Store {
    /// The store's folder of one pipeline.
    pub fn new(root: impl Into<PathBuf>, pipeline: &str) -> Self {
        Self { folder: Folder::new(root.into().join(pipeline)) }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path("")
    }

    fn io(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.folder.path(name);
        move |source| StoreError::Io { action, path, source }
    }

    /// Makes sure that nobody else writes here; `says` is told to whoever tries meanwhile.
    pub fn lease(&self, says: &str) -> Result<Lease, StoreError> {
        match self.folder.lock(LEASE, says).map_err(self.io("lock", LEASE))? {
            Ok(locked) => Ok(Lease { _locked: locked }),
            Err(holder) => Err(StoreError::InUse { path: self.path(), holder }),
        }
    }

    /// Epochs that have a folder, newest first, whole or not.
    fn epochs(&self) -> Result<Vec<u64>, StoreError> {
        let names = self.folder.list("").map_err(self.io("list", ""))?;
        let mut epochs: Vec<u64> = names.iter().filter_map(|name| epoch_of(name)).collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// An epoch that nobody has begun.
    pub fn unused_epoch(&self) -> Result<u64, StoreError> {
        Ok(self.epochs()?.first().map_or(1, |newest| newest.saturating_add(1)))
    }

    /// All checkpoints that were made, newest first.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        for epoch in self.epochs()? {
            let folder = folder_of(epoch);
            let manifest = match self.manifest(&folder, &epoch.to_string()) {
                Ok(None) => continue, // never finished
                Ok(Some(manifest)) => Ok(manifest),
                Err(error) => Err(error),
            };
            listed.push(Listed { epoch, committed: self.is_committed(&folder)?, manifest });
        }
        Ok(listed)
    }

    /// What is known of each checkpoint, newest first, up to the first that is whole: older ones are not looked at.
    pub fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        for listed in self.list()? {
            let health = match listed.manifest.and_then(|manifest| self.states(&folder_of(listed.epoch), &manifest)) {
                Ok(_) => Health::Whole,
                Err(StoreError::Damaged { reason, .. }) => Health::Damaged(reason),
                Err(error) => return Err(error),
            };
            let whole = health == Health::Whole;
            candidates.push(Candidate { epoch: listed.epoch, health });
            if whole {
                break;
            }
        }
        Ok(candidates)
    }

    /// Reads a checkpoint and checks every file of it.
    pub fn load(&self, epoch: u64) -> Result<Loaded, StoreError> {
        let name = epoch.to_string();
        let loaded = self.load_folder(&folder_of(epoch), &name)?;
        loaded.ok_or_else(|| {
            let known = self.epochs().map(|epochs| epochs.iter().map(u64::to_string).collect()).unwrap_or_default();
            unknown("checkpoint", &name, known)
        })
    }

    /// Reads a savepoint and checks every file of it.
    pub fn load_savepoint(&self, name: &str) -> Result<Loaded, StoreError> {
        let loaded = match check_name(name) {
            Ok(()) => self.load_folder(&format!("{SAVEPOINTS}/{name}"), name)?,
            Err(_) => None,
        };
        match loaded {
            Some(loaded) => Ok(loaded),
            None => {
                let known = self.folder.list(SAVEPOINTS).map_err(self.io("list", SAVEPOINTS))?;
                Err(unknown("savepoint", name, known))
            }
        }
    }

    fn load_folder(&self, folder: &str, name: &str) -> Result<Option<Loaded>, StoreError> {
        let Some(manifest) = self.manifest(folder, name)? else { return Ok(None) };
        let states = self.states(folder, &manifest)?;
        Ok(Some(Loaded { committed: self.is_committed(folder)?, manifest, states }))
    }

    fn manifest(&self, folder: &str, name: &str) -> Result<Option<Manifest>, StoreError> {
        let file = format!("{folder}/{MANIFEST}");
        let Some(bytes) = self.folder.get(&file).map_err(self.io("read", &file))? else { return Ok(None) };
        let damaged = |reason| StoreError::Damaged { name: name.to_owned(), reason: format!("its manifest: {reason}") };
        Manifest::decode(&bytes).map(Some).map_err(damaged)
    }

    fn states(&self, folder: &str, manifest: &Manifest) -> Result<BTreeMap<(String, usize), Snapshot>, StoreError> {
        let mut states = BTreeMap::new();
        for (step, subtask, file) in manifest.state_files() {
            let damaged = |reason: String| StoreError::Damaged {
                name: manifest.epoch.to_string(),
                reason: format!("the state of step `{step}`, task {subtask} (`{}`): {reason}", file.name),
            };
            let path = format!("{folder}/{}", file.name);
            let bytes = self.folder.get(&path).map_err(self.io("read", &path))?;
            let bytes = bytes.ok_or_else(|| damaged("the file is missing".to_owned()))?;
            let found = (bytes.len() as u64, crc32fast::hash(&bytes));
            if found != (file.bytes, file.crc32) {
                let (bytes, crc32) = found;
                let expected = format!("{} bytes with the checksum {:08x}", file.bytes, file.crc32);
                return Err(damaged(format!("expected {expected}, got {bytes} bytes with {crc32:08x}")));
            }
            let state = state_file::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
            states.insert((step.to_owned(), subtask), state);
        }
        Ok(states)
    }

    /// Writes a whole checkpoint. Returns how many bytes. May be repeated after an error, by the same process.
    pub fn write(&self, mut draft: Draft) -> Result<u64, StoreError> {
        let (epoch, attempt) = (draft.manifest.epoch, draft.manifest.attempt.clone());
        let folder = folder_of(epoch);
        let mut written = 0;
        for step in &mut draft.manifest.steps {
            for task in &mut step.tasks {
                let state = draft.states.get(&(step.step.clone(), task.subtask));
                let Some(state) = state.filter(|state| !state.tables.is_empty()) else { continue };
                let bytes = state_file::encode(state)
                    .map_err(|source| StoreError::State { step: step.step.clone(), source })?;
                let name = format!("{attempt}-{}-{}.state", step.step, task.subtask);
                let path = format!("{folder}/{name}");
                self.folder.put(&path, &bytes).map_err(self.io("write", &path))?;
                task.state = Some(StateFile { name, bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes) });
                written += bytes.len() as u64;
                fail_point("state-written");
            }
        }
        fail_point("before-manifest");
        let file = format!("{folder}/{MANIFEST}");
        let bytes =
            draft.manifest.encode().map_err(|reason| StoreError::Damaged { name: epoch.to_string(), reason })?;
        let made = self.folder.put_new(&file, &bytes, &attempt).map_err(self.io("write", &file))?;
        if !made && self.folder.get(&file).map_err(self.io("read", &file))?.as_ref() != Some(&bytes) {
            return Err(StoreError::Fenced { epoch, path: self.path() });
        }
        fail_point("after-manifest");
        Ok(written + bytes.len() as u64)
    }

    /// Notes that all sinks show the epoch.
    pub fn mark_committed(&self, epoch: u64) -> Result<(), StoreError> {
        let file = format!("{}/{COMMITTED}", folder_of(epoch));
        self.folder.put(&file, b"").map_err(self.io("write", &file))
    }

    fn is_committed(&self, folder: &str) -> Result<bool, StoreError> {
        let file = format!("{folder}/{COMMITTED}");
        Ok(self.folder.get(&file).map_err(self.io("read", &file))?.is_some())
    }

    /// Removes all but the newest `keep` checkpoints up to `epoch`, and what was begun before them and never finished.
    /// Newer ones are another process's, or their epoch has not been decided: they neither go nor count.
    pub fn retain(&self, keep: usize, epoch: u64) -> Result<(), StoreError> {
        let listed = self.list()?;
        let ours = listed.iter().filter(|listed| listed.epoch <= epoch);
        let kept = ours.take(keep.max(1)).map(|listed| listed.epoch);
        let Some(oldest) = kept.min() else { return Ok(()) };
        for epoch in self.epochs()?.into_iter().filter(|epoch| *epoch < oldest) {
            let folder = folder_of(epoch);
            self.folder.remove_all(&folder).map_err(self.io("remove", &folder))?;
        }
        Ok(())
    }

    /// All savepoints, by name.
    pub fn savepoints(&self) -> Result<Vec<Savepoint>, StoreError> {
        let names = self.folder.list(SAVEPOINTS).map_err(self.io("list", SAVEPOINTS))?;
        let mut savepoints = Vec::new();
        for name in names {
            match self.manifest(&format!("{SAVEPOINTS}/{name}"), &name) {
                Ok(None) => {}
                Ok(Some(manifest)) => savepoints.push(Savepoint { name, manifest: Ok(manifest) }),
                Err(error) => savepoints.push(Savepoint { name, manifest: Err(error) }),
            }
        }
        Ok(savepoints)
    }

    /// Keeps a checkpoint under a name. Its epoch must have been shown by all sinks.
    pub fn save(&self, epoch: u64, name: &str) -> Result<Manifest, StoreError> {
        check_name(name)?;
        let loaded = self.load(epoch)?;
        let (from, to) = (folder_of(epoch), format!("{SAVEPOINTS}/{name}"));
        if self.manifest(&to, name).is_ok_and(|found| found.is_some()) {
            return Err(StoreError::Name { name: name.to_owned(), reason: "there is one of this name" });
        }
        let files = loaded.manifest.state_files().map(|(_, _, file)| file.name.as_str());
        for file in files.chain(loaded.committed.then_some(COMMITTED)) {
            let (source, target) = (format!("{from}/{file}"), format!("{to}/{file}"));
            let bytes = self.folder.get(&source).map_err(self.io("read", &source))?.unwrap_or_default();
            self.folder.put(&target, &bytes).map_err(self.io("write", &target))?;
        }
        let (source, target) = (format!("{from}/{MANIFEST}"), format!("{to}/{MANIFEST}"));
        let bytes = self.folder.get(&source).map_err(self.io("read", &source))?.unwrap_or_default();
        self.folder.put_new(&target, &bytes, "save").map_err(self.io("write", &target))?;
        Ok(loaded.manifest)
    }
}

fn folder_of(epoch: u64) -> String {
    format!("{epoch:0width$}", width = EPOCH_DIGITS)
}

fn epoch_of(name: &str) -> Option<u64> {
    let digits = name.len() >= EPOCH_DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

/// Names become folders.
fn check_name(name: &str) -> Result<(), StoreError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let refuse = |reason| Err(StoreError::Name { name: name.to_owned(), reason });
    if name.is_empty() || !name.chars().all(fine) {
        return refuse("write letters, digits, `-`, `_` and `.`");
    }
    if name.starts_with('.') { refuse("write a letter or digit first") } else { Ok(()) }
}

fn unknown(what: &'static str, name: &str, known: Vec<String>) -> StoreError {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    StoreError::Unknown { what, name: name.to_owned(), known }
}
