//! The scratch store: one ordered map from bytes to bytes, an LSM tree, cut in areas by a number in front of the keys.
//!
//! ```text
//!   <spill>/<pipeline>/lock        held while folders are looked through and made
//!   <spill>/<pipeline>/<n>/lock    held as long as the store is open
//!   <spill>/<pipeline>/<n>/store   the tree
//! ```
//!
//! At a start every `<n>` whose owner is gone is removed. Two processes, or a pipeline that begins anew while the tasks of
//! its last attempt still end, have folders of their own.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable};

use super::SpillError;

/// A value that was read.
pub(crate) type Value = fjall::UserValue;

/// Writes of at least so much become tables of the tree at once; smaller ones pass its log and its memory.
const BULK_BYTES: usize = 4 << 20;

/// Bytes of small writes that are taken in together.
const BATCH_BYTES: usize = 256 << 10;

/// Least bytes of the tree's write buffer.
const BUFFER_BYTES_MIN: u64 = 256 << 10;

/// Most bytes of the tree's write buffer and of its cache: more gains nothing.
const BUFFER_BYTES_MAX: u64 = 64 << 20;

/// A scratch store of one pipeline.
pub struct SpillStore {
    keyspace: Keyspace,
    database: Database,
    areas: AtomicU32,
    /// dropped last
    folder: Owned,
}

/// A folder that is removed when it is dropped; until then no other process does.
struct Owned {
    path: PathBuf,
    _lock: File,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // what stays is removed by the next start
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl std::fmt::Debug for SpillStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpillStore").field("folder", &self.folder.path).finish_non_exhaustive()
    }
}

impl SpillStore {
    /// An empty store of `pipeline` in `root`, for which it takes about `memory_bytes` itself.
    pub fn open(root: &Path, pipeline: &str, memory_bytes: usize) -> Result<Arc<Self>, SpillError> {
        let home = root.join(pipeline);
        fs::create_dir_all(&home).map_err(folder("make", &home))?;
        let looking = open_lock(&home)?;
        looking.lock().map_err(folder("lock", &home))?;
        remove_abandoned(&home)?;
        let folder = make_folder(&home)?;
        drop(looking);
        let failed = |error: fjall::Error| SpillError::Store {
            action: "keep",
            path: folder.path.clone(),
            reason: reason(&error),
        };
        let half = (memory_bytes as u64 / 2).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let builder = Database::builder(folder.path.join("store")).cache_size(half).worker_threads(1).temporary(true);
        let database = builder.open().map_err(failed)?;
        // indexes and filters pass the cache like all else: what is pinned grows with the state
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(half)
                .index_block_pinning_policy(PinningPolicy::all(false))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        };
        let keyspace = database.keyspace("state", options).map_err(failed)?;
        Ok(Arc::new(Self { keyspace, database, areas: AtomicU32::new(0), folder }))
    }

    /// A place of its own for one operator in one task.
    pub fn area(self: &Arc<Self>) -> Area {
        let number = self.areas.fetch_add(1, Ordering::Relaxed);
        Area { store: Arc::clone(self), prefix: number.to_be_bytes() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    fn failed(&self, action: &'static str) -> impl Fn(fjall::Error) -> SpillError + '_ {
        move |error| SpillError::Store { action, path: self.folder.path.clone(), reason: reason(&error) }
    }
}

/// What the tree said, without the names of its types where it passes on what the system said.
fn reason(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write to it failed".to_owned(),
        other => format!("{other:?}"),
    }
}

fn folder(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> SpillError {
    move |source| SpillError::Folder { action, path: path.to_owned(), source }
}

fn open_lock(folder_path: &Path) -> Result<File, SpillError> {
    let path = folder_path.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    file.map_err(folder("lock", &path))
}

/// Removes the folders of processes that are gone. Nothing else that may lie here is touched.
fn remove_abandoned(home: &Path) -> Result<(), SpillError> {
    for entry in fs::read_dir(home).map_err(folder("empty", home))? {
        let path = entry.map_err(folder("empty", home))?.path();
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok());
        if !ours || !path.join("lock").is_file() {
            continue;
        }
        match open_lock(&path)?.try_lock() {
            Ok(()) => fs::remove_dir_all(&path).map_err(folder("empty", &path))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(folder("lock", &path)(source)),
        }
    }
    Ok(())
}

fn make_folder(home: &Path) -> Result<Owned, SpillError> {
    let mut number = 0_u32;
    loop {
        let path = home.join(number.to_string());
        match fs::create_dir(&path) {
            Ok(()) => {
                let lock = open_lock(&path)?;
                lock.lock().map_err(folder("lock", &path))?;
                return Ok(Owned { path, _lock: lock });
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            Err(source) => return Err(folder("make", &path)(source)),
        }
    }
}

/// The part of a store that one operator in one task has. Keys are ordered as bytes.
#[derive(Clone, Debug)]
pub struct Area {
    store: Arc<SpillStore>,
    prefix: [u8; 4],
}

/// Takes a key, and its value or that it is to be removed.
pub(crate) type Put<'a, E> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), E> + 'a;

impl Area {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.prefix.len() + key.len());
        whole.extend_from_slice(&self.prefix);
        whole.extend_from_slice(key);
        whole
    }

    /// Writes what `fill` puts, keys ascending and each once; `about_bytes` in all.
    pub(crate) fn write<E: From<SpillError>>(
        &self,
        about_bytes: usize,
        fill: impl FnOnce(&mut Put<'_, E>) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = &self.store;
        let failed = store.failed("write");
        let mut last: Vec<u8> = Vec::new();
        let mut rising = |key: &[u8]| {
            let key = self.key(key);
            if key <= last {
                let reason = "keys do not ascend".to_owned();
                return Err(SpillError::Store { action: "write", path: store.folder.path.clone(), reason });
            }
            last.clone_from(&key);
            Ok(key)
        };
        if about_bytes >= BULK_BYTES {
            let mut bulk = store.keyspace.start_ingestion().map_err(&failed)?;
            fill(&mut |key, value| {
                let key = rising(key)?;
                let done = match value {
                    Some(value) => bulk.write(key, value),
                    None => bulk.write_tombstone(key),
                };
                Ok(done.map_err(&failed)?)
            })?;
            return Ok(bulk.finish().map_err(&failed)?);
        }
        let (mut batch, mut bytes) = (store.database.batch(), 0);
        fill(&mut |key, value| {
            let key = rising(key)?;
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            match value {
                Some(value) => batch.insert(&store.keyspace, key, value),
                None => batch.remove(&store.keyspace, key),
            }
            if bytes >= BATCH_BYTES {
                bytes = 0;
                std::mem::replace(&mut batch, store.database.batch()).commit().map_err(&failed)?;
            }
            Ok(())
        })?;
        Ok(batch.commit().map_err(&failed)?)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>, SpillError> {
        self.store.keyspace.get(self.key(key)).map_err(self.store.failed("read"))
    }

    /// Keys from `from` on and before `to`, without the area's number, and their values, in order.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Value), SpillError>> + use<'_> {
        self.store.keyspace.range(self.key(from)..self.key(to)).map(|entry| {
            let (key, value) = entry.into_inner().map_err(self.store.failed("read"))?;
            Ok((key.get(self.prefix.len()..).unwrap_or_default().to_vec(), value))
        })
    }

    /// All of it as it is now, whatever is written later.
    pub(crate) fn freeze(&self) -> FrozenArea {
        FrozenArea { snapshot: self.store.database.snapshot(), area: self.clone() }
    }

    /// What was read is not what was written.
    pub(crate) fn damaged(&self, reason: impl Into<String>) -> SpillError {
        SpillError::Damaged { path: self.store.folder.path.clone(), reason: reason.into() }
    }
}

/// An area as it was.
pub(crate) struct FrozenArea {
    /// dropped before the store
    snapshot: fjall::Snapshot,
    area: Area,
}

impl FrozenArea {
    /// As [`Area::range`].
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Value), SpillError>> + use<'_> {
        let area = &self.area;
        self.snapshot.range(&area.store.keyspace, area.key(from)..area.key(to)).map(|entry| {
            let (key, value) = entry.into_inner().map_err(area.store.failed("read"))?;
            Ok((key.get(area.prefix.len()..).unwrap_or_default().to_vec(), value))
        })
    }

    /// As [`Area::damaged`].
    pub(crate) fn damaged(&self, reason: impl Into<String>) -> SpillError {
        self.area.damaged(reason)
    }
}
