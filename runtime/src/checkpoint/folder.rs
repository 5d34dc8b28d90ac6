//! The store's folder on a local disk: files that are whole and on the disk when a call returns.
//!
//! Everything that a store on another medium (S3, HDFS) would have to offer is here and nowhere else: whole files written
//! once, a file that can be made only if it is not there, listing, removal, and a lock that dies with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder; names in it are relative, with `/` between parts.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a whole file. One that is there is replaced at once: what is written again after an error may belong to a
    /// manifest already.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, part) = (self.path(name), self.path(&format!("{name}.new")));
        std::fs::create_dir_all(parent(&path))?;
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)
    }

    /// Writes a whole file where there is none; `false` if there is one. It appears at once and whole.
    pub(super) fn put_new(&self, name: &str, bytes: &[u8], attempt: &str) -> io::Result<bool> {
        let part = format!("{name}.{attempt}.part");
        self.put(&part, bytes)?;
        let made = match std::fs::hard_link(self.path(&part), self.path(name)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        std::fs::remove_file(self.path(&part))?;
        let path = self.path(name);
        let folder = parent(&path);
        File::open(folder)?.sync_all()?;
        File::open(parent(folder))?.sync_all()?;
        Ok(made)
    }

    /// A file's bytes; none if there is no such file.
    pub(super) fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names in a folder, sorted; none if there is no such folder.
    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// Removes a folder and all in it.
    pub(super) fn remove_all(&self, folder: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Locks a file for as long as the result lives, at most until the process ends, however it ends. `Err` holds what
    /// the file says where another process has it.
    pub(super) fn lock(&self, name: &str, says: &str) -> io::Result<Result<File, String>> {
        let path = self.path(name);
        std::fs::create_dir_all(parent(&path))?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(says.as_bytes())?;
                Ok(Ok(file))
            }
            Err(TryLockError::WouldBlock) => Ok(Err(std::fs::read_to_string(&path).unwrap_or_default())),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
