//! The checkpoints of one pipeline in one store: listed, loaded, written, thrown away.

mod background;
mod components;
mod retain;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use background::Background;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::chunk;
use super::keys::{DecryptError, Keys, is_encrypted};
use super::lease::Lease;
use super::manifest::{Manifest, StateFile};
use super::protocol::{Candidate, Health};
use super::state_file;
use super::store_error::StoreError;
use crate::objects::{CONCURRENT, Location, Objects};
use crate::state::Snapshot;

#[cfg(test)]
mod tests;

const MANIFEST: &str = "manifest";
const COMMITTED: &str = "committed";
const SAVEPOINTS: &str = "savepoints";

/// Digits of an epoch in a folder's name, so that names sort as epochs do.
const EPOCH_DIGITS: usize = 10;

/// The checkpoints of one pipeline. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Objects,
    pipeline: String,
    keys: Option<Arc<Keys>>,
    /// state files of the checkpoint that was written or loaded last, by digest
    known: Arc<Mutex<HashMap<String, StateFile>>>,
    /// those of them that this process has made of frozen copies, by [`Later::id`](crate::state::Later::id)
    frozen: Arc<Mutex<HashMap<u128, StateFile>>>,
    /// what finished checkpoints name, as far as it has been read or written
    files: Arc<Mutex<HashMap<u64, Arc<Named>>>>,
    /// digests of the components that are here, once they have been listed
    components: Arc<Mutex<Option<BTreeSet<String>>>>,
    /// makes pieces of state into bytes, writes them to a local disk, and clears away
    background: Background,
    /// what retention has left in the folders of epochs that are gone
    left: Arc<Mutex<HashMap<u64, Vec<String>>>>,
}

/// A checkpoint before it is written: a manifest whose tasks have no state files yet, and the state.
#[derive(Clone, Debug)]
pub struct Draft {
    /// all but the state files
    pub manifest: Manifest,
    /// by step and task; what has no tables needs no file
    pub states: BTreeMap<(String, usize), Snapshot>,
    /// components that the manifest names, by digest; those that are in the store already are not written again
    pub components: BTreeMap<String, Arc<[u8]>>,
}

/// What a checkpoint names besides itself.
#[derive(Debug)]
struct Named {
    states: Vec<StateFile>,
    components: BTreeSet<String>,
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

/// What a start may go on from.
#[derive(Debug)]
pub struct Candidates {
    /// newest first, up to the first that is whole: older ones are not looked at
    pub all: Vec<Candidate>,
    /// the one that is whole
    pub whole: Option<Loaded>,
}

impl Store {
    /// The checkpoints of `pipeline` at `location`; with keys, all that is written is encrypted.
    pub fn open(location: &Location, pipeline: &str, keys: Option<Keys>) -> Result<Self, StoreError> {
        Ok(Self::new(Objects::open(&location.join(pipeline))?, pipeline, keys))
    }

    fn new(objects: Objects, pipeline: &str, keys: Option<Keys>) -> Self {
        let pipeline = pipeline.to_owned();
        let keys = keys.map(Arc::new);
        Self {
            objects,
            pipeline,
            keys,
            known: Arc::default(),
            frozen: Arc::default(),
            files: Arc::default(),
            background: Background::default(),
            components: Arc::default(),
            left: Arc::default(),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.objects.shown("")
    }

    /// Makes sure that nobody else writes here; `says` is told to whoever tries meanwhile.
    pub async fn lease(&self, says: &str) -> Result<Lease, StoreError> {
        Lease::take(&self.objects, says).await
    }

    /// Epochs that have a folder, newest first, whole or not.
    async fn epochs(&self) -> Result<Vec<u64>, StoreError> {
        let (folders, _) = self.objects.list("").await?;
        let mut epochs: Vec<u64> = folders.iter().filter_map(|name| epoch_of(name)).collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// The newest epoch that has a manifest, whole or not, or has had one. Two processes that both believe to own the store begin the
    /// one after it, and only one of them can finish that. Nobody begins one anew that all sinks have shown once.
    pub async fn newest_epoch(&self) -> Result<Option<u64>, StoreError> {
        for epoch in self.epochs().await? {
            let folder = folder_of(epoch);
            let is_made = self.objects.size(&format!("{folder}/{MANIFEST}")).await?.is_some();
            if is_made || self.is_committed(&folder).await? {
                return Ok(Some(epoch));
            }
        }
        Ok(None)
    }

    /// All checkpoints that were made, newest first.
    pub async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let listed = self.epochs().await?.into_iter().map(|epoch| (self.clone(), epoch));
        let listed = stream::iter(listed.collect::<Vec<_>>());
        let listed = listed.map(|(store, epoch)| async move { store.look(epoch).await }).buffered(CONCURRENT);
        let listed = listed.try_filter_map(|listed| std::future::ready(Ok(listed)));
        let listed: Vec<(Listed, bool)> = listed.try_collect().await?;
        // what retention was about to remove when its process died is no loss
        let oldest = listed.iter().rev().find(|(listed, _)| listed.manifest.is_ok());
        let oldest = oldest.map_or(0, |(oldest, _)| oldest.epoch);
        let told = listed.into_iter().filter(|(listed, has_manifest)| *has_manifest || listed.epoch >= oldest);
        Ok(told.map(|(listed, _)| listed).collect())
    }

    /// A checkpoint, and whether it has a manifest.
    async fn look(&self, epoch: u64) -> Result<Option<(Listed, bool)>, StoreError> {
        let (folder, name) = (folder_of(epoch), epoch.to_string());
        let committed = self.is_committed(&folder).await?;
        let (manifest, has_manifest) = match self.manifest(&folder, &name).await {
            Ok(None) if committed => (Err(self.without_manifest(epoch)), false),
            Ok(None) => return Ok(None), // never finished
            Ok(Some(manifest)) => (Ok(manifest), true),
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => (Err(error), true),
        };
        Ok(Some((Listed { epoch, committed, manifest }, has_manifest)))
    }

    /// That the manifest of a checkpoint has gone which was whole once: all sinks had shown it.
    fn without_manifest(&self, epoch: u64) -> StoreError {
        let manifest = self.objects.shown(&format!("{}/{MANIFEST}", folder_of(epoch)));
        let reason = format!("its manifest `{manifest}` is missing, and was there, as all sinks show it");
        StoreError::Damaged { name: epoch.to_string(), reason }
    }

    /// What is known of each checkpoint.
    pub async fn candidates(&self) -> Result<Candidates, StoreError> {
        let mut all = Vec::new();
        for epoch in self.epochs().await? {
            match self.load_epoch(epoch).await {
                Ok(None) => {}
                Ok(Some(loaded)) => {
                    all.push(Candidate { epoch, health: Health::Whole });
                    return Ok(Candidates { all, whole: Some(loaded) });
                }
                Err(StoreError::Damaged { reason, .. }) => {
                    all.push(Candidate { epoch, health: Health::Damaged(reason) });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Candidates { all, whole: None })
    }

    /// Reads a checkpoint and checks every file of it.
    pub async fn load(&self, epoch: u64) -> Result<Loaded, StoreError> {
        match self.load_epoch(epoch).await? {
            Some(loaded) => Ok(loaded),
            None => {
                let known = self.list().await?.iter().map(|listed| listed.epoch.to_string()).collect();
                Err(unknown("checkpoint", &epoch.to_string(), known))
            }
        }
    }

    /// None where it was never finished.
    async fn load_epoch(&self, epoch: u64) -> Result<Option<Loaded>, StoreError> {
        let folder = folder_of(epoch);
        match self.load_folder(&folder, &epoch.to_string()).await? {
            None if self.is_committed(&folder).await? => Err(self.without_manifest(epoch)),
            found => Ok(found),
        }
    }

    /// Reads a savepoint and checks every file of it.
    pub async fn load_savepoint(&self, name: &str) -> Result<Loaded, StoreError> {
        let loaded = match check_name(name) {
            Ok(()) => self.load_folder(&savepoint_folder(name), name).await?,
            Err(_) => None,
        };
        match loaded {
            Some(loaded) => Ok(loaded),
            None => {
                let known = self.savepoints().await?.into_iter().map(|savepoint| savepoint.name).collect();
                Err(unknown("savepoint", name, known))
            }
        }
    }

    async fn load_folder(&self, folder: &str, name: &str) -> Result<Option<Loaded>, StoreError> {
        let Some(manifest) = self.manifest(folder, name).await? else { return Ok(None) };
        let states = self.states(&manifest, name).await?;
        self.remember(&manifest, HashMap::new());
        Ok(Some(Loaded { committed: self.is_committed(folder).await?, manifest, states }))
    }

    /// Later checkpoints need not write these files again.
    fn remember(&self, manifest: &Manifest, frozen: HashMap<u128, StateFile>) {
        let files = manifest.state_files().map(|(.., file)| (file.digest.clone(), file.clone())).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = files;
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = frozen;
    }

    async fn manifest(&self, folder: &str, name: &str) -> Result<Option<Manifest>, StoreError> {
        let Some(bytes) = self.get(&format!("{folder}/{MANIFEST}"), name).await? else { return Ok(None) };
        let damaged = |reason| StoreError::Damaged { name: name.to_owned(), reason: format!("its manifest: {reason}") };
        Manifest::decode(&bytes).map(Some).map_err(damaged)
    }

    /// A file's content; `name` is the checkpoint's, for messages.
    async fn get(&self, file: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bytes) = self.objects.get(file).await? else { return Ok(None) };
        let (name, bound_to) = (name.to_owned(), self.bound_to(file));
        let Some(keys) = self.keys.clone() else {
            return if is_encrypted(&bytes) {
                Err(StoreError::Key { name, reason: format!("`{}` is encrypted", self.objects.shown(file)) })
            } else {
                Ok(Some(bytes))
            };
        };
        match blocking(move || keys.decrypt(&bound_to, &bytes)).await? {
            Ok(content) => Ok(Some(content)),
            Err(error) => {
                let reason = format!("`{}`: {error}", self.objects.shown(file));
                Err(match error {
                    DecryptError::UnknownKey { .. } => StoreError::Key { name, reason },
                    _ => StoreError::Damaged { name, reason },
                })
            }
        }
    }

    /// What an encrypted file is bound to.
    fn bound_to(&self, file: &str) -> String {
        format!("{}/{file}", self.pipeline)
    }

    async fn states(&self, manifest: &Manifest, name: &str) -> Result<BTreeMap<(String, usize), Snapshot>, StoreError> {
        let files = manifest
            .state_files()
            .map(|(step, subtask, file)| ((step.to_owned(), subtask), (self.clone(), file.clone(), name.to_owned())));
        let read = stream::iter(files.collect::<Vec<_>>()).map(|(task, (store, file, name))| async move {
            let whose = format!("the state of step `{}`, task {}", task.0, task.1);
            Ok::<_, StoreError>((task, store.state(&file, &name, &whose).await?))
        });
        let pieces: Vec<_> = read.buffered(CONCURRENT).try_collect().await?;
        let mut states: BTreeMap<(String, usize), Vec<Snapshot>> = BTreeMap::new();
        for (task, piece) in pieces {
            states.entry(task).or_default().push(piece);
        }
        Ok(states.into_iter().map(|(task, pieces)| (task, chunk::join(pieces))).collect())
    }

    async fn state(&self, file: &StateFile, name: &str, whose: &str) -> Result<Snapshot, StoreError> {
        let damaged = |reason: String| StoreError::Damaged {
            name: name.to_owned(),
            reason: format!("{whose} (`{}`): {reason}", self.objects.shown(&path_of(file))),
        };
        let content = self.get(&path_of(file), name).await?;
        let content = content.ok_or_else(|| damaged("the file is missing".to_owned()))?;
        let (bytes, crc32) = (file.bytes, file.crc32);
        let decoded = blocking(move || {
            let found = (content.len() as u64, crc32fast::hash(&content));
            if found != (bytes, crc32) {
                let (found_bytes, found_crc32) = found;
                let expected = format!("{bytes} bytes with the checksum {crc32:08x}");
                return Err(format!("expected {expected}, got {found_bytes} bytes with {found_crc32:08x}"));
            }
            state_file::decode(&content).map_err(|error| error.to_string())
        });
        decoded.await?.map_err(damaged)
    }

    /// Notes that all sinks show the epoch.
    pub async fn mark_committed(&self, epoch: u64) -> Result<(), StoreError> {
        Ok(self.objects.put(&format!("{}/{COMMITTED}", folder_of(epoch)), Vec::new()).await?)
    }

    async fn is_committed(&self, folder: &str) -> Result<bool, StoreError> {
        Ok(self.objects.size(&format!("{folder}/{COMMITTED}")).await?.is_some())
    }

    /// All savepoints, by name.
    pub async fn savepoints(&self) -> Result<Vec<Savepoint>, StoreError> {
        let (names, _) = self.objects.list(SAVEPOINTS).await?;
        let mut savepoints = Vec::new();
        for name in names {
            match self.manifest(&savepoint_folder(&name), &name).await {
                Ok(None) => {}
                Ok(Some(manifest)) => savepoints.push(Savepoint { name, manifest: Ok(manifest) }),
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => savepoints.push(Savepoint { name, manifest: Err(error) }),
            }
        }
        Ok(savepoints)
    }
}

fn folder_of(epoch: u64) -> String {
    format!("{epoch:0width$}", width = EPOCH_DIGITS)
}

fn savepoint_folder(name: &str) -> String {
    format!("{SAVEPOINTS}/{name}")
}

fn path_of(file: &StateFile) -> String {
    format!("{}/{}", folder_of(file.epoch), file.name)
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
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("a number alone is a checkpoint's epoch; write a letter too");
    }
    if name.starts_with('.') { refuse("write a letter or digit first") } else { Ok(()) }
}

fn unknown(what: &'static str, name: &str, known: Vec<String>) -> StoreError {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    StoreError::Unknown { what, name: name.to_owned(), known }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Ending(error.to_string()))
}
