//! What is told of a trial: while it goes on, and as its report.

use arrow_array::RecordBatch;
use serde::Serialize;

use super::budget::{Breach, CostFacts, Facts, share};
use crate::format::{Encoder, Format, Frames};
use crate::operator::{Example, Side, TaskFigures};
use crate::record::{EventTime, Field, Kind, NO_EVENT_TIME, Schema};
use crate::wasm::ExactVersion;

/// How a trial stands, or how it ended.
#[derive(Clone, Debug, Serialize)]
pub struct TrialStatus {
    /// where the candidate's rows come from and go to
    pub mode: TrialMode,
    /// part of the key groups that are the candidate's, in percent; of a canary
    pub share_percent: Option<f64>,
    /// whether it goes on
    pub state: TrialState,
    /// why it ended, for people
    pub reason: Option<String>,
    /// the budget that ended it
    pub breach: Option<Breach>,
    /// how long it has gone on, or went on, ms
    pub elapsed_ms: u64,
    /// until it ends by itself, ms
    pub remaining_ms: Option<u64>,
    /// what takes the candidate back
    pub rollback_on: Vec<String>,
    /// by step
    pub steps: Vec<TriedStepStatus>,
}

/// `shadow`, `canary` or `watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialMode {
    /// the candidate gets all rows, and its output is compared and dropped
    Shadow,
    /// the candidate gets a share of the keys, and its output goes on
    Canary,
    /// the candidate has taken the place of the running version
    Watch,
}

/// Whether a trial goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// it is being put in place, or its figures before the swap are taken
    Starting,
    /// it goes on
    Running,
    /// it is being taken away
    Ending,
    /// its time is over; a watched version stays, the candidate of a shadow is gone
    Finished,
    /// the candidate is the step's version
    Promoted,
    /// the running version of before goes on alone
    RolledBack,
    /// the pipeline ended, or failed and was started again, without the candidate
    PipelineEnded,
}

impl TrialState {
    /// Whether nothing more will be seen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Promoted | Self::RolledBack | Self::PipelineEnded)
    }
}

/// One step of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct TriedStepStatus {
    /// its name
    pub step: String,
    /// digests of the components that run, or ran before
    pub from: Vec<String>,
    /// numbers of their versions
    pub from_versions: Vec<u64>,
    /// digests of the candidates
    pub to: Vec<String>,
    /// numbers of their versions, which they keep if they are promoted and nobody gets if they are not
    pub to_versions: Vec<u64>,
    /// what the running version has done
    pub running: SideStatus,
    /// what the candidate has done
    pub candidate: SideStatus,
    /// rows compared; of a shadow
    pub compared: u64,
    /// rows that differ
    pub differing: u64,
    /// the same in percent of those compared
    pub differing_percent: f64,
    /// rows that only the running version put out
    pub only_running: u64,
    /// rows that only the candidate put out
    pub only_candidate: u64,
    /// a few of them
    pub examples: Vec<ExampleStatus>,
    /// why the candidate could not go on
    pub failed: Option<String>,
}

/// One version of a step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideStatus {
    /// rows handed to it
    pub rows_in: u64,
    /// rows that it put out
    pub rows_out: u64,
    /// rows that it could not handle
    pub dead: u64,
    /// rows that came too late for it
    pub late: u64,
    /// calls that trapped, overran their deadline, wanted too much memory or broke the contract
    pub traps: u64,
    /// what a row cost: half of them at most, ns
    pub p50_ns: Option<f64>,
    /// what a row cost: 99 of 100 at most, ns
    pub p99_ns: Option<f64>,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExampleStatus {
    /// 0 for the step's output, n for its n-th other output
    pub output: usize,
    /// of the running version, as JSON; none: it put no such row out
    pub running: Option<String>,
    /// of the candidate
    pub candidate: Option<String>,
}

/// Calls that went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traps {
    pub(super) running: u64,
    pub(super) candidate: u64,
}

impl TriedStepStatus {
    pub(super) fn new(
        step: &str,
        (from, to): (&[ExactVersion], &[ExactVersion]),
        figures: &TaskFigures,
        traps: Traps,
    ) -> Self {
        let digests = |of: &[ExactVersion]| of.iter().map(|version| version.digest.to_string()).collect();
        let numbers = |of: &[ExactVersion]| of.iter().map(|version| version.number).collect();
        let difference = &figures.difference;
        Self {
            step: step.to_owned(),
            from: digests(from),
            from_versions: numbers(from),
            to: digests(to),
            to_versions: numbers(to),
            running: side(&figures.running, traps.running),
            candidate: side(&figures.candidate, traps.candidate),
            compared: difference.compared,
            differing: difference.differing,
            differing_percent: share(difference.differing, difference.compared),
            only_running: difference.only_running,
            only_candidate: difference.only_candidate,
            examples: difference.examples.iter().map(example).collect(),
            failed: figures.failed.clone(),
        }
    }
}

pub(super) fn facts(figures: &TaskFigures, traps: Traps) -> Facts {
    let cost =
        |side: &Side| CostFacts { rows: side.cost.rows, calls: side.cost.calls, p99_ns: side.cost.quantile_ns(0.99) };
    Facts {
        traps: traps.candidate + u64::from(figures.failed.is_some()),
        dead: figures.candidate.dead,
        compared: figures.difference.compared,
        differing: figures.difference.differing,
        running: cost(&figures.running),
        candidate: cost(&figures.candidate),
    }
}

fn side(side: &Side, traps: u64) -> SideStatus {
    SideStatus {
        rows_in: side.rows_in,
        rows_out: side.rows_out,
        dead: side.dead,
        late: side.late,
        traps,
        p50_ns: side.cost.quantile_ns(0.5),
        p99_ns: side.cost.quantile_ns(0.99),
    }
}

fn example(example: &Example) -> ExampleStatus {
    let text = |row: &Option<(RecordBatch, EventTime)>| row.as_ref().map(|(row, time)| row_text(row, *time));
    ExampleStatus { output: example.output, running: text(&example.running), candidate: text(&example.candidate) }
}

/// A row as JSON, with its time behind it.
fn row_text(row: &RecordBatch, time: EventTime) -> String {
    let arrow = row.schema();
    let fields = arrow.fields().iter().map(|field| {
        let kind = Kind::from_data_type(field.data_type())?;
        Some(Field { name: field.name().clone(), kind, nullable: field.is_nullable() })
    });
    let encoded = fields.collect::<Option<Vec<Field>>>().and_then(|fields| {
        let mut frames = Frames::default();
        Encoder::new(Format::Json, &Schema::new(fields)).ok()?.encode(row, &mut frames).ok()?;
        (!frames.is_empty()).then(|| String::from_utf8_lossy(frames.get(0)).into_owned())
    });
    let text = encoded.unwrap_or_else(|| "{..}".to_owned());
    if time == NO_EVENT_TIME { text } else { format!("{text} at {time}") }
}
