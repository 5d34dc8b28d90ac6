//! Running the built binary: a folder of its own for each test, its output as it comes, signals to it.

#![allow(dead_code, unreachable_pub)] // each test program uses a part

pub mod numbers;
pub mod visits;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take that should come soon.
pub const SOON: Duration = Duration::from_secs(60);

/// The component `name` that `cargo xtask guests` built.
pub fn guest(name: &str) -> PathBuf {
    let file = guests().join(name);
    assert!(file.is_file(), "{} is missing: run `cargo xtask guests` first", file.display());
    file
}

fn guests() -> PathBuf {
    if let Some(folder) = std::env::var_os("MILLSTREAM_GUESTS") {
        return PathBuf::from(folder);
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests")
}

/// What a finished process said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its exit code, with all it said in the message where it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// stderr contains all of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in:\n{}", self.stderr);
        }
        self
    }
}

/// A folder with a pipeline in it, gone at the end of the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.path(name), content).unwrap();
        self
    }

    /// Puts a component there under another name, by a rename as build tools do.
    pub fn install(&self, component: &str, name: &str) -> &Self {
        let part = self.path("part");
        std::fs::copy(guest(component), &part).unwrap();
        std::fs::rename(&part, self.path(name)).unwrap();
        self
    }

    /// `millstream` in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("MILLSTREAM_LOG").env_remove("NO_COLOR").env("XDG_CACHE_HOME", self.0.path().join("cache"));
        command.env("MILLSTREAM_RUN_DIR", self.0.path().join("run"));
        command.env("XDG_STATE_HOME", self.0.path().join("state-home"));
        command
    }

    /// Runs `millstream` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts `millstream`.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments))
    }
}

/// What `millstream` answers in JSON, once it has ended well.
#[track_caller]
pub fn json(folder: &Folder, arguments: &[&str]) -> serde_json::Value {
    let output = folder.run(arguments).expect(0);
    serde_json::from_str(&output.stdout).unwrap()
}

/// Waits until the pipeline answers, and asks it: the answer in JSON.
#[track_caller]
pub fn wait_for_run(folder: &Folder, pipeline: &str, process: &mut Process, ask: &[&str]) -> serde_json::Value {
    let until = Instant::now() + SOON;
    while folder.run(&["status", pipeline]).code != Some(0) {
        assert!(Instant::now() < until && process.is_running(), "it does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    json(folder, ask)
}

/// A `millstream` that runs. Killed when dropped.
pub struct Process {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: [Receiver<String>; 2],
    seen: [String; 2],
}

/// Which of its outputs.
#[derive(Clone, Copy)]
pub enum From {
    Stdout,
    Stderr,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = [follow(child.stdout.take().unwrap()), follow(child.stderr.take().unwrap())];
        Self { stdin: child.stdin.take(), child, lines, seen: Default::default() }
    }

    /// Lines into its stdin.
    pub fn write(&mut self, lines: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits for a line that contains `part` and gives it back.
    #[track_caller]
    pub fn wait_for(&mut self, from: From, part: &str) -> String {
        self.wait_until(from, part, |line| line.contains(part))
    }

    /// Waits for a line that `is` the one and gives it back; `what` for the message.
    #[track_caller]
    pub fn wait_until(&mut self, from: From, what: &str, is: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + SOON;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines[from as usize].recv_timeout(left) {
                Ok(line) => {
                    self.seen[from as usize].push_str(&line);
                    self.seen[from as usize].push('\n');
                    if is(&line) {
                        return line;
                    }
                }
                Err(_) => {
                    let rest: Vec<String> = self.lines[1 - from as usize].try_iter().collect();
                    panic!("`{what}` did not come; seen: {:?}, and on the other side {rest:?}", self.seen);
                }
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        drop(self.stdin.take());
        let until = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                panic!("did not end; seen: {:?}", self.seen);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for side in 0..2 {
            for line in self.lines[side].iter() {
                self.seen[side].push_str(&line);
                self.seen[side].push('\n');
            }
        }
        let [stdout, stderr] = std::mem::take(&mut self.seen);
        Output { code: status.code(), stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they come, read by a thread.
fn follow(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("follow".to_owned())
        .spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .unwrap();
    receiver
}
