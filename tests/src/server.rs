//! What servers of tests share: a process that never outlives the tests, and saying what is missing for it.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream::clock::Stopwatch;

/// A machine under load starts a server slowly.
const READY_WITHIN: Duration = Duration::from_secs(120);

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Starts a program, tells its process id, waits for the end of the pipe and kills it.
const KEEPER: &str = r#"log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!; read -r _; kill -9 $!; wait $!"#;

/// A server that runs; dropping it kills it.
pub(crate) struct Server {
    keeper: Child,
    process: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts `program` in `folder`, where its log will be.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        variables: &[(&str, &str)],
        folder: &Path,
    ) -> Result<Self, String> {
        let log = folder.join("server.log");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&log)
            .arg(program)
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = keeper.stdout.take().ok_or("the server's keeper has no output")?;
        let mut process_id = String::new();
        let told = BufReader::new(stdout).read_line(&mut process_id);
        told.map_err(|error| format!("the server's keeper does not answer: {error}"))?;
        Ok(Self { keeper, process: Path::new("/proc").join(process_id.trim()), log })
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_until(&self, ready: impl Fn() -> bool) -> Result<(), String> {
        let watch = Stopwatch::start();
        while !ready() {
            let exited = Path::new("/proc/self").exists() && !self.process.join("exe").exists();
            if exited || watch.elapsed() > READY_WITHIN {
                let state = if exited { "exited" } else { "is not ready" };
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("the server {state} after {:?}; its log:\n{log}", watch.elapsed()));
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Whether `test` is to be left out, as `reason` says: prints `SKIPPED <test>: <reason>`, or fails where `CI=true` says that
/// nothing may be left out.
pub(crate) fn skip(test: &str, reason: Option<String>) -> Result<bool, String> {
    let Some(reason) = reason else { return Ok(false) };
    if std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1") {
        return Err(format!("{test} must run where CI is set, but {reason}"));
    }
    skipped(test, &reason);
    Ok(true)
}

/// Says what `cargo xtask test` looks for in the output of a test.
#[allow(clippy::print_stdout)] // through the test harness, which knows whose output it is
fn skipped(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
}

/// Why one of these programs cannot be run, each with an argument that does nothing.
pub(crate) fn missing(programs: &[(&str, &str)]) -> Result<Option<String>, String> {
    for (program, argument) in programs {
        match Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(format!("`{program}` is not installed")));
            }
            Err(error) => return Err(format!("cannot run `{program}`: {error}")),
        }
    }
    Ok(None)
}

/// What was fetched or built for servers: the folder `name` of `services` in the target folder, made by `make` where it is
/// not there yet. `MILLSTREAM_SERVICES` names another folder for `services`.
pub(crate) fn service(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let services = match (std::env::var_os("MILLSTREAM_SERVICES"), std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(services), _) => PathBuf::from(services),
        (None, Some(target)) => tests.with_file_name("").join(target).join("services"),
        (None, None) => tests.with_file_name("target").join("services"),
    };
    let folder = services.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&services).map_err(|error| format!("cannot create `{}`: {error}", services.display()))?;
    // several test processes may do so at once: each makes its own, the first to be done is taken
    let made = tempfile::tempdir_in(&services).map_err(|error| format!("cannot make a folder for {name}: {error}"))?;
    make(made.path())?;
    match fs::rename(made.path(), &folder) {
        Ok(()) => Ok(folder),
        Err(_) if folder.is_dir() => Ok(folder),
        Err(error) => Err(format!("cannot put {name} to `{}`: {error}", folder.display())),
    }
}

/// Runs a command to its end; what it said is in the error.
pub(crate) fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{:?} failed: {said}{complained}", command.get_program()))
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let no_port = |error| format!("no free port: {error}");
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(no_port)?;
        *port = listener.local_addr().map_err(no_port)?.port();
        // held until all are found, so that they differ
        listeners.push(listener);
    }
    Ok(ports)
}

/// A number for names that no other test uses.
pub(crate) fn number() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
