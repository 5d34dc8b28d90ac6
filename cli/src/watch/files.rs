//! Single files, watched through the folders that hold them: a file that is replaced by a rename is a new one, its
//! folder stays.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode};
use tokio::sync::mpsc;

use super::QUIET;
use crate::failure::Failure;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
}

impl Look {
    /// `None` while there is no such file.
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified_ns = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.size(), modified_ns })
    }
}

/// Watches files until dropped.
#[derive(Debug)]
pub(crate) struct FileWatch {
    _watcher: RecommendedWatcher,
    words: mpsc::Receiver<()>,
    seen: BTreeMap<PathBuf, Option<Look>>,
    /// there may be changes of which no other word will come
    has_heard: bool,
}

impl FileWatch {
    /// Watches `files` from their present state on. Their folders must exist, they themselves need not.
    pub(crate) fn new(files: impl IntoIterator<Item = PathBuf>) -> Result<Self, Failure> {
        let files: Vec<PathBuf> = files.into_iter().collect();
        let folder = |file: &PathBuf| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let folders: BTreeSet<PathBuf> = files.iter().map(folder).collect();
        let folders: Vec<(&Path, RecursiveMode)> =
            folders.iter().map(|folder| (folder.as_path(), RecursiveMode::NonRecursive)).collect();
        let (watcher, words) = super::watch(&folders, |_| true)?;
        let seen = files.into_iter().map(|file| (Look::at(&file), file)).map(|(look, file)| (file, look)).collect();
        Ok(Self { _watcher: watcher, words, seen, has_heard: false })
    }

    /// Of files that `before` watches too, what it has reported last counts: a change in between, of which it may have heard and
    /// not told, is reported at once. So are files that it does not watch.
    #[must_use]
    pub(crate) fn following(mut self, before: &Self) -> Self {
        for (file, look) in &mut self.seen {
            *look = before.seen.get(file).copied().flatten();
        }
        self.has_heard = true;
        self
    }

    /// Waits until some of the files have changed and are no longer being written. Never returns when the watcher is
    /// gone. A file that has been removed is not reported until it is back. What is dropped before it is ready loses no change:
    /// the next wait reports it.
    pub(crate) async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            if !self.has_heard {
                self.has_heard = self.words.recv().await.is_some();
                if !self.has_heard || !super::quiet(&mut self.words).await {
                    std::future::pending::<()>().await;
                }
            }
            let mut looks = Vec::new();
            for (file, seen) in &self.seen {
                if Look::at(file) != *seen {
                    looks.push((file.clone(), stable(file).await));
                }
            }
            self.has_heard = false;
            let mut changed = Vec::new();
            for (file, look) in looks {
                if look.is_some() {
                    changed.push(file.clone());
                }
                self.seen.insert(file, look);
            }
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// The state of a file once it has stayed the same, and not empty, for [`QUIET`]; a file that stays empty or away is
/// given up after a second.
async fn stable(file: &Path) -> Option<Look> {
    let mut last = Look::at(file);
    let mut unsettled = 0;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = Look::at(file);
        let written = now.is_some_and(|look| look.size > 0);
        if now == last && (written || unsettled >= 16) {
            return now;
        }
        unsettled += 1;
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const LATER: Duration = Duration::from_millis(400);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn a_file_replaced_by_a_rename_is_reported_once() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (file, next) = (folder.path().join("a.wasm"), folder.path().join("a.wasm.new"));
            std::fs::write(&file, "one").unwrap();
            let mut watch = FileWatch::new([file.clone()]).unwrap();
            for content in ["two", "three"] {
                std::fs::write(&next, content).unwrap();
                std::fs::rename(&next, &file).unwrap();
                assert_eq!(timeout(SOON, watch.changed()).await.unwrap(), std::slice::from_ref(&file));
            }
            assert!(timeout(LATER, watch.changed()).await.is_err(), "reported though nothing changed");
        });
    }

    #[test]
    fn a_file_that_grows_slowly_is_reported_when_it_is_whole() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a.wasm");
            std::fs::write(&file, "old").unwrap();
            let mut watch = FileWatch::new([file.clone()]).unwrap();
            let path = file.clone();
            let writer = std::thread::Builder::new().spawn(move || {
                for length in 1..=20 {
                    std::fs::write(&path, "x".repeat(length * 100)).unwrap();
                    std::thread::sleep(Duration::from_millis(15));
                }
            });
            assert_eq!(timeout(SOON, watch.changed()).await.unwrap(), std::slice::from_ref(&file));
            assert_eq!(std::fs::metadata(&file).unwrap().len(), 2_000);
            writer.unwrap().join().unwrap();
        });
    }

    #[test]
    fn a_change_that_was_heard_of_and_not_told_is_reported_by_the_watch_that_follows() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let files = ["a.wasm", "b.wasm", "c.wasm"].map(|name| folder.path().join(name));
            files.iter().for_each(|file| std::fs::write(file, "old").unwrap());
            // given up while it waits for quiet, while it looks whether the first is whole, and the second
            for wait_ms in [20, 90, 150] {
                let mut watch = FileWatch::new(files[..2].to_vec()).unwrap();
                files[..2].iter().for_each(|file| std::fs::write(file, format!("new {wait_ms}")).unwrap());
                assert!(timeout(Duration::from_millis(wait_ms), watch.changed()).await.is_err());
                let mut next = FileWatch::new(files.clone()).unwrap().following(&watch);
                assert_eq!(timeout(SOON, next.changed()).await.unwrap(), files, "{wait_ms} ms; the third is new to it");
                assert!(timeout(LATER, next.changed()).await.is_err(), "{wait_ms} ms: reported again");
                assert_eq!(timeout(SOON, watch.changed()).await.unwrap(), files[..2], "{wait_ms} ms");
            }
        });
    }

    #[test]
    fn neighbours_and_readers_are_not_reported() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a.wasm");
            std::fs::write(&file, "old").unwrap();
            let mut watch = FileWatch::new([file.clone()]).unwrap();
            std::fs::write(folder.path().join("b.wasm"), "other").unwrap();
            std::fs::read(&file).unwrap();
            assert!(timeout(LATER, watch.changed()).await.is_err());
        });
    }

    #[test]
    fn a_file_that_goes_and_comes_back_is_reported_when_it_is_back() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a.wasm");
            std::fs::write(&file, "old").unwrap();
            let mut watch = FileWatch::new([file.clone()]).unwrap();
            std::fs::remove_file(&file).unwrap();
            assert!(timeout(Duration::from_millis(1_500), watch.changed()).await.is_err());
            std::fs::write(&file, "new").unwrap();
            assert_eq!(timeout(SOON, watch.changed()).await.unwrap(), [file]);
        });
    }
}
