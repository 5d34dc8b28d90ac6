//! Folders and the names in them, on the disk and not only in memory: a power cut forgets a file whose folder was not
//! flushed, however well the file itself was.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Makes a folder and those above it. Every folder that got a new one is flushed; these are returned.
pub(crate) fn make_folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    let mut at = path;
    // one that cannot be looked at is left to the call below, which says why
    while at.try_exists().is_ok_and(|exists| !exists) {
        at = folder_of(at);
        changed.push(at.to_owned());
    }
    std::fs::create_dir_all(path)?;
    for folder in &changed {
        flush_folder(folder)?;
    }
    Ok(changed)
}

/// Flushes the names in a folder to the disk.
pub(crate) fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder of a file or folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_a_new_one_is_flushed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        assert_eq!(make_folder(&path("a/b/c")).unwrap(), [path("a/b"), path("a"), path("")]);
        assert!(path("a/b/c").is_dir());
        assert!(make_folder(&path("a/b/c")).unwrap().is_empty());
        assert_eq!(make_folder(&path("a/d")).unwrap(), [path("a")]);
        std::fs::write(path("file"), "").unwrap();
        assert!(make_folder(&path("file/x")).is_err());
    }

    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("rows.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("out/rows.json")), Path::new("out"));
    }
}
