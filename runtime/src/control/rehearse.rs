//! A candidate tried beside a running version that runs here and now, on input that is read again: nothing of a pipeline in
//! production is touched.
//!
//! ```text
//!   checkpoint (read only) ─▶ state, positions ─▶ the pipeline, its sinks discarding ─▶ candidate in shadow ─▶ report
//!   sources, read again ──────────────────────────▲
//! ```
//!
//! No sink is opened, no store is written to, no lease is taken. What is compared is what the tried steps put out, row by row,
//! as in a shadow of production.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::checkpoints::{CheckpointError, cut_of};
use super::kept::{self, Runs};
use super::kinds::{self, Noted};
use super::run::{OpenError, RunError};
use super::status::NodeRole;
use super::supervise::Running;
use super::swap::SwapError;
use super::trial::{Breach, Budget, Mode, TrialSpec, TrialState, TrialStatus};
use crate::checkpoint::{Loaded, Store};
use crate::clock::Stopwatch;
use crate::format::Format;
use crate::pipeline::build::{ComponentChoice, RunOptions};
use crate::pipeline::cut::Cut;
use crate::pipeline::enough::Enough;
use crate::pipeline::resolve::Resolution;
use crate::pipeline::spec::PipelineSpec;
use crate::sink::SinkKind;
use crate::source::{KafkaStart, SourceKind, is_rewindable};
use crate::wasm::Sandbox;

/// Between two looks at how far it has come.
const LOOK: Duration = Duration::from_millis(10);

/// What a rehearsal is.
#[derive(Clone, Debug)]
pub struct RehearsalSpec {
    /// components by step, named as for a swap
    pub offers: Vec<(String, PathBuf)>,
    /// ends at the first batch after so many rows have been read from all sources together
    pub rows: Option<u64>,
    /// ends after so long
    pub during: Option<Duration>,
    /// what the candidate may cost; without any, nothing may differ
    pub budgets: Vec<Budget>,
    /// state and positions to begin with
    pub from: Option<Cut>,
}

/// What a rehearsal has found.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// whether the candidate may take the place of what runs
    pub passed: bool,
    /// the budget that is used up
    pub breach: Option<Breach>,
    /// rows read from sources
    pub rows_read: u64,
    /// the figures
    pub trial: TrialStatus,
}

/// A rehearsal cannot take place.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// a source gives each row once
    #[error(
        "source `{source_name}` ({kind}) cannot be read again; give recorded rows, a JSON object a line, with --input {source_name}=rows.jsonl"
    )]
    OnceOnly {
        /// which
        source_name: String,
        /// what it is
        kind: &'static str,
    },
    /// recorded input for a source that there is not
    #[error("pipeline has no source `{found}` for recorded input; there are {known}")]
    UnknownSource {
        /// as named
        found: String,
        /// what there is
        known: String,
    },
    /// it cannot be opened
    #[error(transparent)]
    Open(#[from] OpenError),
    /// the candidate cannot be tried
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// the checkpoint cannot be gone on from
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// it failed on the way
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Makes of a pipeline one that touches nothing: `recorded` input, by source, in the place of what cannot or should not be read.
/// A name can be left away where there is one source.
pub fn fork(mut spec: PipelineSpec, recorded: &[(Option<String>, PathBuf)]) -> Result<PipelineSpec, RehearsalError> {
    for sink in &mut spec.sinks {
        (sink.kind.value, sink.format) = (SinkKind::Discard, None);
    }
    (spec.dead_letter, spec.checkpoint, spec.restart) = (None, None, None);
    for (name, path) in recorded {
        let known = spec.sources.iter().map(|source| format!("`{}`", source.name.value)).collect::<Vec<_>>().join(", ");
        let only =
            if spec.sources.len() == 1 { spec.sources.first().map(|source| source.name.value.clone()) } else { None };
        let wanted = name.clone().or(only);
        let found = spec.sources.iter_mut().find(|source| Some(&source.name.value) == wanted.as_ref());
        let source = found.ok_or_else(|| RehearsalError::UnknownSource {
            found: name.clone().unwrap_or_else(|| "(none named)".to_owned()),
            known,
        })?;
        source.kind.value = SourceKind::File { path: path.to_string_lossy().into_owned(), header: false };
        source.format = Some(Format::Json.into());
    }
    for source in &mut spec.sources {
        if !is_rewindable(&source.kind.value) {
            let (source_name, kind) = (source.name.value.clone(), kind_name(&source.kind.value));
            return Err(RehearsalError::OnceOnly { source_name, kind });
        }
        match &mut source.kind.value {
            SourceKind::Generator(generator) => generator.rate = None,
            // what is there, from where the checkpoint stands, and no waiting for more
            SourceKind::Kafka(kafka) => (kafka.start, kafka.bounded) = (KafkaStart::Earliest, true),
            SourceKind::File { .. } | SourceKind::Stdin | SourceKind::Tcp { .. } | SourceKind::Channel(_) => {}
        }
    }
    Ok(spec)
}

fn kind_name(kind: &SourceKind) -> &'static str {
    match kind {
        SourceKind::Generator(_) => "generator",
        SourceKind::File { .. } => "file",
        SourceKind::Stdin => "stdin",
        SourceKind::Tcp { .. } => "tcp",
        SourceKind::Kafka(_) => "kafka",
        SourceKind::Channel(_) => "channel",
    }
}

/// Leaves out where `source` stood: its input is another.
pub fn without_positions(cut: &mut Cut, source: Option<&str>) {
    match source {
        Some(source) => drop(cut.sources.remove(source)),
        None => cut.sources.clear(),
    }
}

/// A pipeline with the components that a start would run that goes on from a checkpoint, and the cut to begin with.
#[derive(Debug)]
pub struct Forked {
    /// what runs
    pub resolution: Resolution,
    /// state and positions
    pub from: Cut,
    /// one for each component that is not the pipeline file's
    pub notes: Vec<String>,
}

/// Makes `resolution` go on from a checkpoint as `millstream run` would: with the versions that ran there where the pipeline file
/// names what it named then, and with state migrated where another component is to read it. The store is only read.
pub async fn go_on(
    resolution: Resolution,
    sandbox: &Sandbox,
    store: &Store,
    mut loaded: Loaded,
) -> Result<Forked, CheckpointError> {
    let known = std::mem::take(&mut loaded.manifest.versions);
    let (epoch, noted) = (loaded.manifest.epoch, Noted::from(&loaded.manifest));
    let mut from = Cut { kept_by: kept::states(&known), ..cut_of(loaded) };
    let runs = (Runs::Start(ComponentChoice::Kept), None);
    let gone_on = kept::go_on(resolution, sandbox, kept::From { store, epoch, known: &known }, runs, 0).await?;
    let Resolution { plan, components } = &gone_on.resolution;
    let mut notes = gone_on.notes;
    notes.extend(noted.settle(epoch, &kinds::of(plan, components), plan, &mut from)?);
    kept::check_states(epoch, &from, components)?;
    Ok(Forked { resolution: gone_on.resolution, from, notes })
}

/// Runs a [`fork`]ed pipeline with candidates in shadow, until its input ends or it has seen enough.
pub async fn rehearse(
    resolution: Resolution,
    sandbox: Sandbox,
    spec: RehearsalSpec,
) -> Result<Rehearsal, RehearsalError> {
    let restore = spec.from.map(std::sync::Arc::new);
    let enough = spec.rows.map(Enough::rows);
    let options = RunOptions { restore, paused: true, enough, ..RunOptions::default() };
    let running = Running::start(resolution, sandbox, &options).await?;
    let handle = running.handle();
    let trial = TrialSpec { mode: Mode::Shadow { during: None }, by: Vec::new(), budgets: spec.budgets.clone() };
    handle.try_out(&spec.offers, trial).await?;
    handle.resume().await;
    let watch = Stopwatch::start();
    loop {
        let is_over = handle.trial().is_none_or(|trial| trial.state.is_over());
        let is_late = spec.during.is_some_and(|during| watch.elapsed() >= during);
        if is_over || is_late {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    handle.stop().await;
    let ended = running.wait().await?;
    let rows_read = ended.total(NodeRole::Source, |counts| counts.rows_out);
    let trial = handle.trial().ok_or(SwapError::NoTrial)?;
    let breach = trial.breach.clone().or_else(|| handle.final_breach());
    let passed = match (&breach, spec.budgets.is_empty()) {
        (Some(_), _) => false,
        (None, true) => is_same(&trial),
        (None, false) => trial.steps.iter().all(|step| step.failed.is_none()),
    };
    Ok(Rehearsal { passed: passed && trial.state != TrialState::RolledBack, breach, rows_read, trial })
}

/// Whether nothing tells the versions apart but their cost.
fn is_same(trial: &TrialStatus) -> bool {
    trial.steps.iter().all(|step| {
        step.differing == 0
            && step.failed.is_none()
            && step.candidate.dead == step.running.dead
            && step.candidate.traps <= step.running.traps
    })
}

/// `source=rows.jsonl`, or `rows.jsonl` where there is one source.
pub fn recorded(text: &str) -> (Option<String>, PathBuf) {
    match text.split_once('=') {
        Some((source, path)) if !source.is_empty() && !source.contains(std::path::MAIN_SEPARATOR) => {
            (Some(source.to_owned()), Path::new(path).to_owned())
        }
        _ => (None, Path::new(text).to_owned()),
    }
}
