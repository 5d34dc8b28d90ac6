//! `millstream run`

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream::control::socket::{ControlSocket, run_dir};
use millstream::control::{Handle, RestartStatus, Restored, RunError, Running, StartFrom, Status};
use millstream::pipeline::build::{ComponentChoice, RunOptions};
use millstream::pipeline::duration;
use millstream::pipeline::resolve::Resolution;
use millstream::sink::SinkKind;
use millstream::wasm::Sandbox;
use serde::Serialize;

use crate::console::{self, StatusLine, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::{Interrupts, Request};
use crate::{figures, report, summary, watch};

/// How often the status line is renewed, unless the user says otherwise.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Run a pipeline until its input ends. Ctrl-C or SIGTERM takes nothing more in, finishes what is in the pipeline and
/// ends with 0; a second Ctrl-C aborts with 130.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline file, .toml or .json
    pub(crate) pipeline: PathBuf,
    /// Swap a step's component whenever its .wasm file changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// Status, swaps and errors as JSON lines on stderr
    #[arg(long)]
    pub(crate) json: bool,
    /// Tell the status this often, also where stderr is no terminal
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) status_interval: Option<Duration>,
    /// Cut batches at random places with this seed; results must not change
    #[arg(long, value_name = "SEED")]
    pub(crate) shuffle_batches: Option<u64>,
    /// Tasks of each source and step, in place of the pipeline's own `parallelism`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) parallelism: Option<u16>,
    /// Go on from this savepoint, or the checkpoint of this epoch, in place of the newest checkpoint
    #[arg(long, value_name = "NAME", conflicts_with = "fresh")]
    pub(crate) from_savepoint: Option<String>,
    /// Start anew though there are checkpoints; output that is there already stays beside the new
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Where a checkpoint knows components that were swapped in: `kept` goes on with them, unless the pipeline file has
    /// changed since; `declared` runs what the pipeline file names
    #[arg(long, value_enum, default_value = "kept", value_name = "WHICH")]
    pub(crate) components: Components,
    /// Do not open a socket for `status`, `swap` and their kin
    #[arg(long)]
    pub(crate) no_control: bool,
}

/// Which components a start runs that goes on from a checkpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Components {
    Kept,
    Declared,
}

impl From<Components> for ComponentChoice {
    fn from(which: Components) -> Self {
        match which {
            Components::Kept => Self::Kept,
            Components::Declared => Self::Declared,
        }
    }
}

/// `1s`, `500ms`; not shorter than 10 ms.
fn interval(text: &str) -> Result<Duration, String> {
    let ms = duration::parse_ms(text).map_err(|error| format!("{error}; write a duration such as 1s or 500ms"))?;
    if ms < 10 { Err("shorter than 10ms".to_owned()) } else { Ok(Duration::from_millis(ms)) }
}

impl Run {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let sandbox = super::sandbox()?;
        let resolution = super::resolve(&self.pipeline, self.parallelism.map(usize::from), &sandbox)?;
        let runtime = super::runtime()?;
        let exit = runtime.block_on(self.start(resolution, sandbox));
        // threads that still wait for a blocking read must not keep the process
        runtime.shutdown_background();
        exit
    }

    async fn start(self, resolution: Resolution, sandbox: Sandbox) -> Result<Exit, Failure> {
        // before anything starts: a signal that comes meanwhile is not lost
        let mut interrupts = Interrupts::listen()?;
        let components = if self.watch { Some(watch::Watched::new(&resolution, |_: &Path| true)?) } else { None };
        let shown = Shown::of(&resolution, self.json, self.status_interval);
        let start_from = match self.from_savepoint {
            Some(name) => name.parse().map_or(StartFrom::Savepoint(name), StartFrom::Checkpoint),
            None if self.fresh => StartFrom::Fresh,
            None => StartFrom::Latest,
        };
        let options = RunOptions {
            shuffle_batches: self.shuffle_batches,
            components: self.components.into(),
            capsules: super::capsule::root(),
            ..RunOptions::default()
        };
        let running = Running::start_from(resolution, sandbox, &options, &start_from).await?;
        shown.started(&running.handle().status());
        let control = if self.no_control { None } else { serve(&running.handle()) };
        let helper =
            components.map(|watched| tokio::spawn(watch::swap_on_change(watched, running.handle(), self.json)));
        let exit = attend(running, &mut interrupts, shown).await;
        for helper in helper.into_iter().chain(control) {
            helper.abort();
            // the socket's file goes with it
            let _ = helper.await;
        }
        exit
    }
}

/// Opens the socket for `status`, `swap` and their kin. A pipeline runs as well without.
pub(crate) fn serve(handle: &Handle) -> Option<tokio::task::JoinHandle<()>> {
    match ControlSocket::open(&run_dir(), handle.name()) {
        Ok(socket) => Some(tokio::spawn(socket.serve(handle.clone()))),
        Err(error) => {
            tracing::warn!(%error, "no control socket: `status`, `swap` and their kin do not reach this process");
            None
        }
    }
}

/// What is told while a pipeline runs and at its end.
#[derive(Debug)]
pub(crate) struct Shown {
    json: bool,
    interval: Duration,
    line: Option<StatusLine>,
    /// lines at every interval though there is no terminal
    periodic: bool,
}

impl Shown {
    /// A status line where a person looks and it does not get in the way of results; else what was asked for.
    pub(crate) fn of(resolution: &Resolution, json: bool, interval: Option<Duration>) -> Self {
        let prints = resolution.plan.spec.sinks.iter().any(|sink| sink.kind.value == SinkKind::Print);
        let alone = !(prints && Stream::Stdout.is_terminal());
        let line = (!json && alone && Stream::Stderr.is_terminal()).then(StatusLine::open);
        let periodic = line.is_none() && interval.is_some();
        Self { json, interval: interval.unwrap_or(STATUS_INTERVAL), line, periodic }
    }

    fn status(&self, status: &Status, before: Option<&Status>) {
        if let Some(line) = &self.line {
            line.show(summary::line(status, before));
        } else if self.periodic && self.json {
            console::say(report::json_line(&StatusLineJson { event: "status", status }));
        } else if self.periodic {
            console::say(summary::line(status, before));
        }
    }

    fn end(self, status: &Status) {
        let Self { json, line, .. } = self;
        drop(line);
        if json {
            console::say(report::json_line(&StatusLineJson { event: "ended", status }));
        } else {
            console::say(summary::table(status, Stream::Stderr.paint()));
        }
    }

    /// What the run goes on from, where it does not begin.
    fn started(&self, status: &Status) {
        let Some(restored) = status.checkpoints.as_ref().and_then(|checkpoints| checkpoints.restored.as_ref()) else {
            return;
        };
        if self.json {
            console::say(report::json_line(&RestoredJson { event: "restored", restored }));
            return;
        }
        for note in &restored.notes {
            self.note(&format!("note: {note}"));
        }
        let what = match &restored.savepoint {
            Some(name) => format!("savepoint `{name}` (epoch {})", restored.epoch),
            None => format!("checkpoint {}", restored.epoch),
        };
        let ended = if restored.finished { ": all input that there was had been read" } else { "" };
        console::say(format!("restored from {what}{ended}"));
    }

    /// The pipeline has failed and waits for its next start, or runs again.
    fn restart(&self, restarts: &RestartStatus, status: impl FnOnce() -> Status) {
        let (waits, reason) = (restarts.next_try_ms.is_some(), restarts.reason.as_deref().unwrap_or_default());
        if self.json {
            let event = if waits { "failed" } else { "restarted" };
            console::say(report::json_line(&RestartJson { event, restarts }));
        } else if waits {
            let pause = figures::duration(Duration::from_millis(restarts.pause_ms));
            let text = format!("failed: {reason}; restart {} in {pause}", restarts.count);
            console::say(Stream::Stderr.paint().yellow(text));
        }
        if !waits {
            self.started(&status());
        }
    }

    fn note(&self, text: &str) {
        if !self.json {
            console::say(Stream::Stderr.paint().yellow(text));
        }
    }
}

#[derive(Serialize)]
struct StatusLineJson<'a> {
    event: &'static str,
    #[serde(flatten)]
    status: &'a Status,
}

#[derive(Serialize)]
struct RestoredJson<'a> {
    event: &'static str,
    #[serde(flatten)]
    restored: &'a Restored,
}

#[derive(Serialize)]
struct RestartJson<'a> {
    event: &'static str,
    #[serde(flatten)]
    restarts: &'a RestartStatus,
}

/// Stays with a running pipeline to its end, and tells about it.
pub(crate) async fn attend(running: Running, interrupts: &mut Interrupts, shown: Shown) -> Result<Exit, Failure> {
    let handle = running.handle();
    let mut restarts = handle.restarts();
    let mut ended = pin!(running.wait());
    let mut ticks = tokio::time::interval(shown.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.reset();
    let mut last: Option<Status> = None;
    let result = loop {
        tokio::select! {
            result = &mut ended => break result,
            request = interrupts.next() => match request {
                Request::Stop => {
                    let kept = handle.status().checkpoints.is_some();
                    let how = if kept { "a last checkpoint is taken" } else { "what is in the pipeline is finished" };
                    shown.note(&format!("stopping: {how}; Ctrl-C again aborts"));
                    stop(&handle);
                }
                Request::Abort => {
                    let kept = handle.status().checkpoints.is_some();
                    let lost = if kept { "the next start goes on from the last checkpoint" } else { "what was in the pipeline is lost" };
                    shown.note(&format!("aborted: {lost}"));
                    shown.end(&handle.status());
                    return Ok(Exit::Interrupted);
                }
            },
            Ok(()) = restarts.changed() => {
                let now = restarts.borrow_and_update().clone();
                shown.restart(&now, || handle.status());
            }
            _ = ticks.tick() => {
                let status = handle.status();
                shown.status(&status, last.as_ref());
                last = Some(status);
            }
        }
    };
    // the table also tells how far a run came that failed
    shown.end(&handle.status());
    match result {
        // whoever read our output has what it wanted, as with `| head`
        Ok(_) | Err(RunError::OutputClosed) => Ok(Exit::Done),
        Err(error) => Err(error.into()),
    }
}

/// Asks to stop without waiting: a source that is busy takes the request when it can.
fn stop(handle: &Handle) {
    let handle = handle.clone();
    tokio::spawn(async move { handle.stop().await });
}
