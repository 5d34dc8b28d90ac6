//! The folder of a pipeline's capsules, bounded in number and size: the oldest go first.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What files of capsules end with.
pub const EXTENSION: &str = "capsule";

/// What one that is being written ends with.
const PART: &str = "capsule-part";

/// Where capsules of one pipeline go.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: usize,
    bytes_max: u64,
    /// tasks write one after the other
    turn: Mutex<()>,
}

/// A capsule in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// the file
    pub path: PathBuf,
    /// its size
    pub bytes: u64,
}

impl Folder {
    /// At `path`, which is made with the first capsule: of the newest at most `keep`, and these of at most `bytes_max`
    /// together.
    pub fn new(path: PathBuf, keep: usize, bytes_max: u64) -> Self {
        Self { path, keep, bytes_max, turn: Mutex::new(()) }
    }

    /// The file of a capsule.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name).with_extension(EXTENSION)
    }

    /// Writes a capsule and removes those that are too many then. Only the user may read it: it holds rows.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() as u64 > self.bytes_max {
            let reason = format!("it has {} bytes, more than `max` of capsules, {}", bytes.len(), self.bytes_max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        make(&self.path)?;
        let (path, part) = (self.file(name), self.path.join(name).with_extension(PART));
        let written = create(&part).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            // what there is of it says nothing
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        self.drop_oldest(&path)?;
        Ok(path)
    }

    /// Removes the oldest beyond the bounds, never the `newest`.
    fn drop_oldest(&self, newest: &Path) -> io::Result<()> {
        let mut listed = list(&self.path)?;
        let mut bytes: u64 = listed.iter().map(|capsule| capsule.bytes).sum();
        listed.retain(|capsule| capsule.path != newest);
        let mut left = listed.len() + 1;
        for capsule in listed {
            if left <= self.keep && bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(&capsule.path).or_else(|error| if gone(&error) { Ok(()) } else { Err(error) })?;
            left -= 1;
            bytes -= capsule.bytes;
        }
        Ok(())
    }
}

/// The capsules in a folder, the oldest first; none where there is no folder.
pub fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) => listed.push(Listed { path, bytes: metadata.len() }),
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // names begin with the time
    listed.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(listed)
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |capsule: &Listed| capsule.path.file_stem().unwrap().to_string_lossy().into_owned();
        list(folder).unwrap().iter().map(name).collect()
    }

    #[test]
    fn the_oldest_go_beyond_the_bounds_of_number_and_size() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let folder = Folder::new(path.clone(), 3, 100);
        assert!(list(&path).unwrap().is_empty());
        for number in 1..=5 {
            folder.write(&format!("{number}-x.y"), b"0123456789").unwrap();
        }
        assert_eq!(names(&path).len(), 3);
        assert_eq!(names(&path)[0], "3-x");
        fs::write(path.join("note.txt"), "mine").unwrap();
        folder.write("6-x", &[0; 85]).unwrap();
        assert_eq!(names(&path), ["5-x", "6-x"]);
        assert_eq!(folder.write("7-x", &[0; 101]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!((names(&path).len(), path.join("note.txt").exists()), (2, true));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_may_read_what_rows_are_in_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("capsules");
        let file = Folder::new(path.clone(), 1, 10).write("x", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    }
}
