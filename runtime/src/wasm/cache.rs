//! Compiled code on disk, so that a component is compiled once for each machine and engine.
//!
//! A file is named after the component's digest and the engine's compatibility hash; it holds the SHA-256 of the rest,
//! then what wasmtime serialized. It appears by rename, so readers see all of it or nothing. Whatever does not check
//! out (cut short, flipped bits, another wasmtime) is ignored and written anew.
//!
//! All files together stay below a bound: whoever writes one removes those that were not used for longest, of any engine. A file's
//! modification time says when it was last used. Several processes may share the folder: a file that is gone is compiled again,
//! one that is being read stays readable until it is closed.
//!
//! The hash finds damage, not malice: who can write to the folder can run code in this process. So the folder is made
//! for this user alone, and one that others may write to is not used.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Digest;
use crate::clock::Clock;
use crate::limits::COMPILED_BYTES_MAX;

const HASH_BYTES: usize = 32;

/// Compiled code of the largest component stays below this; a larger file is none of ours.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A temporary file that is older was left behind by a process that died.
const TEMPORARY_FOR: Duration = Duration::from_secs(24 * 3600);

/// A folder of compiled components.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// what compiled code depends on besides the component
    engine_hash: u64,
    /// temporary files of this process so far
    temporary_files: AtomicU64,
}

impl Cache {
    /// Opens the folder, making it if needed.
    pub(super) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        create_private_folder(folder)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_owned(), engine_hash: hasher.finish(), temporary_files: AtomicU64::new(0) })
    }

    /// The compiled component, if it is there and sound.
    pub(super) fn get(&self, digest: &Digest, engine: &Engine) -> Option<Component> {
        let path = self.path(digest);
        let code = match read_checked(&path) {
            Ok(code) => code?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read compiled component, compiling again");
                return None;
            }
        };
        match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "compiled for another engine, compiling again");
                None
            }
        }
    }

    /// Keeps a compiled component. A failure costs time at the next start, nothing else, and is only logged.
    pub(super) fn put(&self, digest: &Digest, component: &Component) {
        let path = self.path(digest);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| self.write(&path, &code));
        match written {
            Ok(()) => self.make_room(&path, COMPILED_BYTES_MAX),
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot keep compiled component"),
        }
    }

    /// Removes the files that were not used for longest until no more than `most` bytes are left, but never `newest`, which
    /// was just written.
    pub(super) fn make_room(&self, newest: &Path, most: u64) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let (path, Ok(known)) = (entry.path(), entry.metadata()) else { continue };
            let used = known.modified().unwrap_or(UNIX_EPOCH);
            match path.extension().and_then(|end| end.to_str()) {
                Some("cwasm") => files.push((used, known.len(), path)),
                // best effort, and of nobody who still writes
                Some("tmp") if now().duration_since(used).is_ok_and(|age| age > TEMPORARY_FOR) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files.into_iter().filter(|(.., path)| path != newest) {
            if total <= most {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => tracing::debug!(path = %path.display(), "compiled component removed to make room"),
                // another process was quicker
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove compiled component");
                    continue;
                }
            }
            total = total.saturating_sub(bytes);
        }
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let number = self.temporary_files.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!(".{}-{number}.tmp", process::id()));
        let written = write_private(&temporary, code).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // the first error is the one to report; a file left behind does no harm
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.cwasm", self.engine_hash))
    }
}

/// The serialized code of a file; `None` where its hash does not fit.
fn read_checked(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // a folder that cannot be written to has no order of use
    let _ = file.set_modified(now());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let Some((hash, code)) = bytes.split_at_checked(HASH_BYTES) else { return Ok(None) };
    if Sha256::digest(code).as_slice() != hash {
        tracing::warn!(path = %path.display(), "compiled component is damaged, compiling again");
        return Ok(None);
    }
    bytes.drain(..HASH_BYTES);
    Ok(Some(bytes))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(Clock::system().now_ms()).unwrap_or_default())
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` must come from `Component::serialize`. It was written by `Cache::write` of this user into a folder
    // that only this user may write to, and its hash shows that it is whole. wasmtime checks the version and settings.
    unsafe { Component::deserialize(engine, code) }
}

fn write_private(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    // before the rename: after a crash the name must not lead to half a file
    file.sync_data()
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    {
        let known = fs::symlink_metadata(folder)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&known);
        // a process's own entry belongs to the user it runs as; where there is none, nothing is trusted
        let user = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
        if owner != user || !known.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it is not a folder of user {user}, who runs this; compiled code of others is not loaded"),
            ));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&known.permissions());
        if mode & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("others may write to it (mode {:o}); compiled code must be private: chmod go-w", mode & 0o777),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_not_used_for_longest_go_first_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache"), &Engine::default()).unwrap();
        let file = |name: &str, used_s: u64, bytes: usize| {
            let path = cache.folder.join(name);
            fs::write(&path, vec![0; bytes]).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(used_s)).unwrap();
            path
        };
        let (old, newer, newest) = (file("a.cwasm", 1, 40), file("b.cwasm", 3, 40), file("c.cwasm", 2, 40));
        let (left, others) = (file(".1-0.tmp", 1, 40), file("note.txt", 0, 400));
        cache.make_room(&newest, 120);
        assert!(!left.exists() && [&old, &newer, &newest, &others].iter().all(|path| path.exists()));
        cache.make_room(&newest, 80);
        assert!(!old.exists() && newer.exists());
        // read since: what is used counts, not what was written
        assert!(read_checked(&newest).unwrap().is_none());
        cache.make_room(&newer, 50);
        assert!(!newest.exists() && newer.exists(), "the one just written stays whatever the order");
        cache.make_room(&newer, 1);
        assert!(newer.exists() && others.exists());
    }

    #[test]
    fn what_is_read_counts_as_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cwasm");
        write_private(&path, b"code").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(read_checked(&path).unwrap().unwrap(), b"code");
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > UNIX_EPOCH);
    }
}
