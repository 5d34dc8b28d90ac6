//! The way into a running pipeline from another process on the same machine: a Unix socket that only its owner can open,
//! one JSON line for a request and one for its answer.
//!
//! Sockets lie in one folder of the user, `name.pid.sock` each, so that tools find what runs. A file that its process left
//! behind when it was killed answers nobody; who finds it removes it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};

use super::request::{Answer, Request};
use super::supervise::Handle;

/// No request is longer.
const REQUEST_BYTES: u64 = 1 << 20;
/// A client that says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// A socket path must fit into a `sockaddr_un`: longer names of pipelines are shortened.
const NAME_CHARS: usize = 40;
/// What a shortened name ends in, so that it is of one pipeline only.
const HASH_CHARS: usize = 8;

/// Where sockets of this user lie: `MILLSTREAM_RUN_DIR`, else below `XDG_RUNTIME_DIR`, else a folder of the user's own in the
/// folder for temporary files.
pub fn run_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("MILLSTREAM_RUN_DIR") {
        return dir;
    }
    if let Some(dir) = set("XDG_RUNTIME_DIR") {
        return dir.join("millstream");
    }
    // whose folder it is, is checked when it is used
    let user = fs::metadata("/proc/self").map_or(0, |metadata| metadata.uid());
    std::env::temp_dir().join(format!("millstream-{user}"))
}

/// A pipeline's open socket. Its file goes when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Opens the socket of pipeline `name` in `dir`, which is made if it is missing and must belong to this user alone.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        own_folder(dir)?;
        let path = dir.join(format!("{}.{}.sock", called(name), std::process::id()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until dropped, each client in a task of its own.
    pub async fn serve(self, handle: Handle) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    tokio::spawn(async move {
                        if let Err(error) = attend(stream, &handle).await {
                            tracing::debug!(%error, "a control client has gone");
                        }
                    });
                }
                Err(error) => {
                    // out of descriptors, perhaps: not a reason to become unreachable for good
                    tracing::warn!(%error, "cannot take in a control client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder that nobody else can enter.
fn own_folder(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::symlink_metadata(dir)?;
    let mine = fs::metadata("/proc/self").map_or(metadata.uid(), |me| me.uid());
    if !metadata.is_dir() || metadata.uid() != mine || metadata.mode() & 0o022 != 0 {
        let text = format!("{} must be a folder of this user that nobody else can write to", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

async fn attend(stream: UnixStream, handle: &Handle) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = AsyncReader::new(read.take(REQUEST_BYTES));
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await;
        match read {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => handle.answer(request).await,
            Err(error) => {
                Answer::Refused { code: "request".to_owned(), message: format!("no such request: {error}"), stub: None }
            }
        };
        let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        lines.get_mut().set_limit(REQUEST_BYTES);
    }
}

/// What pipeline `name` is called where it is [found](running): by its name, or by the beginning of a long one and its hash.
pub fn called(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    let beginning: String = name.chars().take(NAME_CHARS - HASH_CHARS - 1).collect();
    let hash: String = blake3::hash(name.as_bytes()).to_hex().chars().take(HASH_CHARS).collect();
    format!("{beginning}-{hash}")
}

/// A running pipeline as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// what it is [called]
    pub name: String,
    /// its process
    pub pid: u32,
    /// its socket
    pub path: PathBuf,
}

/// All pipelines of this user that answer, by name. What dead processes left behind is removed.
pub fn running(dir: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some((name, pid)) = path.file_name().and_then(|name| parts(name.to_str()?)) else { continue };
        match StdStream::connect(&path) {
            Ok(_) => found.push(Found { name, pid, path }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
    found.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
    Ok(found)
}

/// `name.pid.sock`
fn parts(file: &str) -> Option<(String, u32)> {
    let (name, pid) = file.strip_suffix(".sock")?.rsplit_once('.')?;
    Some((name.to_owned(), pid.parse().ok()?))
}

/// Asks the pipeline behind a socket and waits for its answer, a line of JSON. A swap answers when it has taken effect.
pub fn ask(socket: &Path, request: &Request) -> io::Result<String> {
    let mut stream = StdStream::connect(socket)?;
    let mut text = serde_json::to_vec(request).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the pipeline ended without an answer"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_so_that_a_path_has_room_and_they_stay_apart() {
        assert_eq!(called("visits"), "visits");
        let at_most = "a".repeat(NAME_CHARS);
        assert_eq!(called(&at_most), at_most);
        let [one, two] = ["one", "two"].map(|end| called(&format!("{}{end}", "a".repeat(60))));
        assert!(one != two && [&one, &two].iter().all(|name| name.len() == NAME_CHARS && name.starts_with("aaa")));
        assert_eq!(parts(&format!("{one}.7.sock")), Some((one, 7)));
    }
}
