//! Files on a local disk, in S3 or in HDFS, behind one interface: written whole, listed, removed. Checkpoints and object
//! sinks stand on it.
//!
//! What holds everywhere: a file appears at once and whole or not at all; [`Objects::put_new`] makes a file only where there
//! is none, and of several processes that try at once one succeeds. On a local disk, files and the folders that name them
//! are flushed before a call returns.
//!
//! Settings of S3 and HDFS come from the environment (`AWS_*`, `HADOOP_*`), never from pipeline files: these are no place
//! for secrets.

mod location;
mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart};

pub use location::{Location, LocationError};

/// Files from this size on are written in parts, several at a time.
const MULTIPART_FROM_BYTES: usize = 16 << 20;

/// One part; S3 takes no less than 5 MiB.
pub const PART_BYTES: usize = 8 << 20;

/// Parts that S3 makes one object of.
const PARTS_MAX: u64 = 10_000;

/// What an object of an epoch must not exceed.
pub const OBJECT_BYTES_MAX: u64 = PARTS_MAX * PART_BYTES as u64;

/// What S3 copies in one request.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// Parts of a copy that are read ahead of those that are written.
const READ_AHEAD: usize = 4;

/// Parts or files that are on their way at once.
pub const CONCURRENT: usize = 8;

/// A store does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`: {source}")]
pub struct ObjectsError {
    /// `write`, `read`, ..
    pub action: &'static str,
    /// which file or folder
    pub path: String,
    /// what the store said
    pub source: object_store::Error,
}

impl ObjectsError {
    /// Whether the same may succeed later: the store did not say that it is wrong.
    pub fn is_passing(&self) -> bool {
        matches!(self.source, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
    }
}

/// A folder of files; names in it are relative, with `/` between parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// in `store`
    root: ObjectPath,
    /// as people know it
    shown: String,
    kind: Kind,
}

/// What differs between stores.
#[derive(Clone, Debug)]
enum Kind {
    /// folders must be removed, and the system locks files
    Folder(PathBuf),
    /// nothing can be renamed, and no more than so many bytes be copied at once
    S3 { copy_bytes_max: u64 },
    /// folders must be removed
    Hdfs,
    #[cfg(test)]
    Memory,
}

impl Objects {
    /// The files at `location`. A local folder is made if it is not there; others are not asked yet.
    pub fn open(location: &Location) -> Result<Self, ObjectsError> {
        open::open(location, &[])
    }

    /// As [`Objects::open`], with settings that count more than the environment's, by the same names: `AWS_REGION`, ..
    pub fn open_with(location: &Location, settings: &[(&str, String)]) -> Result<Self, ObjectsError> {
        open::open(location, settings)
    }

    /// Files that live as long as the result and its clones.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self {
            store: Arc::new(object_store::memory::InMemory::new()),
            root: ObjectPath::default(),
            shown: "memory".to_owned(),
            kind: Kind::Memory,
        }
    }

    /// The folder on a local disk, if it is one.
    pub fn local_folder(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    /// A file or folder as people know it.
    pub fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown.trim_end_matches('/')) }
    }

    fn path(&self, name: &str) -> ObjectPath {
        self.root.parts().chain(ObjectPath::from(name).parts().map(|part| part.as_ref().to_owned().into())).collect()
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(object_store::Error) -> ObjectsError {
        let path = self.shown(name);
        move |source| ObjectsError { action, path, source }
    }

    /// Writes a whole file, in place of one that is there.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        if bytes.len() < MULTIPART_FROM_BYTES {
            let put = self.store.put(&self.path(name), bytes.into()).await;
            return put.map(|_| ()).map_err(self.failed("write", name));
        }
        let upload = self.store.put_multipart(&self.path(name)).await.map_err(self.failed("write", name))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for part in bytes.chunks(PART_BYTES) {
            upload = with_room(upload).await.map_err(self.failed("write", name))?;
            upload.write(part);
        }
        upload.finish().await.map(|_| ()).map_err(self.failed("write", name))
    }

    /// As [`Objects::put`], for a file that nobody reads soon: the system is told that its memory has better uses than a copy of
    /// what is on the local disk now. Memory that each new file takes anew would be zeroed, charged and, on a virtual machine,
    /// fetched from its host while rows wait for a processor.
    pub async fn put_away(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        self.put(name, bytes).await?;
        if let Some(folder) = self.local_folder() {
            let path = folder.join(name);
            // only advice: a file that is gone, or a system that does not take it, changes nothing
            let _ = tokio::task::spawn_blocking(move || uncache(&path)).await;
        }
        Ok(())
    }

    /// Writes a whole file where there is none; `false` if there is one. It appears at once and whole.
    pub async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<bool, ObjectsError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.path(name), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", name)(error)),
        }
    }

    /// A file's bytes; none if there is no such file.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let got = match self.store.get(&self.path(name)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name)(error)),
        }
    }

    /// A file's size; none if there is no such file.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, ObjectsError> {
        match self.store.head(&self.path(name)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look at", name)(error)),
        }
    }

    /// Names of the folders and of the files in a folder, sorted; none if there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), ObjectsError> {
        let path = self.path(folder);
        let prefix = (path.parts().next().is_some()).then_some(&path);
        let listed = match self.store.list_with_delimiter(prefix).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => return Ok(Default::default()),
            Err(error) => return Err(self.failed("list", folder)(error)),
        };
        let sorted = |names: &mut dyn Iterator<Item = &ObjectPath>| {
            let mut names: Vec<String> = names.filter_map(|path| Some(path.filename()?.to_owned())).collect();
            names.sort();
            names
        };
        let folders = sorted(&mut listed.common_prefixes.iter());
        Ok((folders, sorted(&mut listed.objects.iter().map(|object| &object.location))))
    }

    /// Removes files; those that are gone already are fine.
    pub async fn remove(&self, names: Vec<String>) -> Result<(), ObjectsError> {
        let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
        let mut removed = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("remove", names.first().map_or("", String::as_str))(error)),
            }
        }
        Ok(())
    }

    /// Removes a folder and all in it.
    pub async fn remove_folder(&self, folder: &str) -> Result<(), ObjectsError> {
        if let Kind::Folder(root) = &self.kind {
            let path = root.join(folder);
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
            return match removed {
                Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    let source = object_store::Error::Generic { store: "folder", source: error.into() };
                    Err(self.failed("remove", folder)(source))
                }
                _ => Ok(()),
            };
        }
        let path = self.path(folder);
        let listed = self.store.list(Some(&path)).map_ok(|meta: ObjectMeta| meta.location).boxed();
        let removed: Result<Vec<_>, _> = self.store.delete_stream(listed).try_collect().await;
        match removed {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed("remove", folder)(error)),
        }
        if matches!(self.kind, Kind::Hdfs) {
            // an empty folder does no harm
            let _ = self.store.delete(&path).await;
        }
        Ok(())
    }

    /// Gives a file of so many bytes another name. S3 has no names to be changed: there the server copies and then removes it, so
    /// the new one is there before the old one is gone, and what was at the new name is replaced. More than the server copies at once
    /// goes through this process, part by part.
    pub async fn move_to(&self, from: &str, to: &str, bytes: u64) -> Result<(), ObjectsError> {
        let (source, target) = (self.path(from), self.path(to));
        if let Kind::S3 { copy_bytes_max } = self.kind {
            let copied = match bytes > copy_bytes_max {
                true => self.copy_in_parts(&source, &target, bytes).await,
                false => self.store.copy(&source, &target).await,
            };
            copied.map_err(self.failed("copy a pending object to", to))?;
            return self.remove(vec![from.to_owned()]).await;
        }
        let renamed = self.store.rename_if_not_exists(&source, &target).await;
        renamed.map_err(self.failed("rename a pending file to", to))
    }

    async fn copy_in_parts(
        &self,
        source: &ObjectPath,
        target: &ObjectPath,
        bytes: u64,
    ) -> Result<(), object_store::Error> {
        let starts = (0..bytes).step_by(PART_BYTES);
        let ranges: Vec<_> = starts.map(|start| start..bytes.min(start + PART_BYTES as u64)).collect();
        let parts = ranges.into_iter().map(|range| async move { self.store.get_range(source, range).await });
        let mut parts = futures_util::stream::iter(parts).buffered(READ_AHEAD).peekable();
        // nothing is begun where there is nothing to be copied
        if let Some(Err(_)) = std::pin::Pin::new(&mut parts).peek().await {
            return parts.next().await.transpose().map(drop);
        }
        let upload = self.store.put_multipart(target).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => {
                    upload = with_room(upload).await?;
                    upload.put(part);
                }
                Err(error) => {
                    // what stays of it the bucket's rule removes
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
        upload.finish().await.map(drop)
    }

    /// The same, where the server copies no more than so many bytes at once. S3 itself copies 5 GiB.
    #[must_use]
    pub fn copying_at_most(self, bytes: u64) -> Self {
        let kind = match self.kind {
            Kind::S3 { .. } => Kind::S3 { copy_bytes_max: bytes },
            other => other,
        };
        Self { kind, ..self }
    }

    /// That `name` cannot be made where it is in S3.
    pub fn too_large(&self, name: &str) -> ObjectsError {
        let most = OBJECT_BYTES_MAX >> 30;
        let reason = format!("an object of more than {most} GiB; a shorter `interval` makes smaller ones");
        let source = object_store::Error::NotSupported { source: reason.into() };
        ObjectsError { action: "write", path: self.shown(name), source }
    }

    /// Begins a file that appears when it is finished.
    pub async fn upload(&self, name: &str) -> Result<WriteMultipart, ObjectsError> {
        let upload = self.store.put_multipart(&self.path(name)).await.map_err(self.failed("write", name))?;
        Ok(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
    }
}

/// Waits until fewer than [`CONCURRENT`] parts are on their way. Where one has not arrived those that have are removed: nobody would
/// finish the file, and S3 keeps, and charges for, what is not finished.
pub async fn with_room(mut upload: WriteMultipart) -> Result<WriteMultipart, object_store::Error> {
    match upload.wait_for_capacity(CONCURRENT).await {
        Ok(()) => Ok(upload),
        Err(error) => {
            // what stays of it the bucket's rule removes
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

#[cfg(target_os = "linux")]
fn uncache(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::open(path)?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn uncache(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
