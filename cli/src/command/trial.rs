//! `millstream swap --shadow|--canary|--watch`: a candidate that is tried, followed to its end, and what people are shown of it.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use millstream::control::socket::Found;
use millstream::control::{Offer, Request, TrialRequest};
use serde::Deserialize;

use super::control::{Answered, Target, ask, read};
use crate::console::{self, Paint, StatusLine, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Between two looks at a trial.
const LOOK: Duration = Duration::from_millis(250);

/// How components are to be tried; none of it: a plain swap.
#[derive(Debug, Args)]
pub(crate) struct TrialFlags {
    /// Run them beside what runs for so long; their output is compared and dropped
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["canary", "watch"])]
    shadow: Option<String>,
    /// Give them a share of the keys, such as 10%, until `promote` or `rollback`
    #[arg(long, value_name = "SHARE", conflicts_with = "watch")]
    canary: Option<String>,
    /// Swap, and watch what runs then for so long
    #[arg(long, value_name = "DURATION")]
    watch: Option<String>,
    /// Columns whose values say which rows of a step without keys are the canary's [default: all]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    by: Vec<String>,
    /// What takes them back, such as traps>0,dead>10,p99>2x,diff>0.1%
    #[arg(long, value_name = "BUDGETS")]
    rollback_on: Option<String>,
    /// Do not wait for the end of the trial
    #[arg(long)]
    pub(crate) detach: bool,
}

impl TrialFlags {
    /// The trial that is asked for, if one is.
    pub(crate) fn request(&self) -> Result<Option<TrialRequest>, Failure> {
        let Self { shadow, canary, watch, by, rollback_on, .. } = self;
        let request = TrialRequest {
            shadow: shadow.clone(),
            canary: canary.clone(),
            watch: watch.clone(),
            by: by.clone(),
            rollback_on: rollback_on.clone(),
        };
        if request.is_none() {
            if self.detach {
                return Err(Failure::Usage(
                    "--detach does not wait for the end of a trial, and this is none; begin one with --shadow 30s, \
                     --canary 10% or --watch 30s, or leave --detach away"
                        .to_owned(),
                ));
            }
            return Ok(None);
        }
        // before anything is asked of a pipeline
        request.read().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Some(request))
    }
}

/// Begins a trial and waits for its end, if it has one of its own.
pub(super) fn follow(
    target: &Target,
    offers: Vec<Offer>,
    trial: TrialRequest,
    is_detached: bool,
) -> Result<Exit, Failure> {
    let found = target.find()?;
    let has_end = trial.canary.is_none() && !is_detached;
    let request = Request::Try { offers, trial };
    if !has_end {
        return target.ask(&request);
    }
    let mut answer = ask(&found, &request)?;
    let mut begun = false;
    let line = (!target.json && Stream::Stderr.is_terminal()).then(StatusLine::open);
    let end = loop {
        let trial = match read(&answer)? {
            Answered::Trial(trial) => trial,
            // another life of the pipeline knows nothing of it
            Answered::Refused { code, .. } if begun && code == "no_trial" => return Err(lost(&found, "it has failed")),
            _ => break None,
        };
        if trial.is_over() {
            break Some(trial.exit());
        }
        if !begun {
            begun = true;
            note(target, &found.name, &trial);
        }
        if let Some(line) = &line {
            line.show(trial.line(Stream::Stderr.paint()));
        }
        std::thread::sleep(LOOK);
        answer = ask(&found, &Request::Trial).map_err(|_| lost(&found, "it has ended"))?;
    };
    drop(line);
    let shown = target.show(&found, &request, &answer)?;
    Ok(end.unwrap_or(shown))
}

/// Who waits is told that the trial does not hang on it.
fn note(target: &Target, pipeline: &str, trial: &Trial) {
    if target.json {
        return;
    }
    let left = trial.remaining_ms.map(|ms| figures::duration(Duration::from_millis(ms))).unwrap_or_default();
    let text = format!(
        "{} has begun, {left} left; it goes on without this command, and `millstream rollback {pipeline}` ends it",
        trial.what()
    );
    console::say(Stream::Stderr.paint().dim(text));
}

fn lost(found: &Found, why: &str) -> Failure {
    Failure::TrialLost(format!(
        "the trial has ended without a result: pipeline `{}` (process {}) runs it no more, {why}; `millstream status {}` \
         tells what runs now",
        found.name, found.pid, found.name
    ))
}

/// A trial as it is told.
#[derive(Debug, Deserialize)]
pub(super) struct Trial {
    mode: String,
    share_percent: Option<f64>,
    state: String,
    reason: Option<String>,
    breach: Option<Breach>,
    elapsed_ms: u64,
    remaining_ms: Option<u64>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Breach {
    budget: String,
    measured: String,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    from: Vec<String>,
    from_versions: Vec<u64>,
    to: Vec<String>,
    to_versions: Vec<u64>,
    running: Side,
    candidate: Side,
    compared: u64,
    differing: u64,
    differing_percent: f64,
    examples: Vec<Example>,
    failed: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Side {
    rows_in: u64,
    rows_out: u64,
    dead: u64,
    late: u64,
    traps: u64,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Example {
    running: Option<String>,
    candidate: Option<String>,
}

impl Trial {
    fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "starting" | "running" | "ending")
    }

    /// Whether the candidate got through: taken back by a budget, a failure or by hand, it did not.
    fn exit(&self) -> Exit {
        match self.state.as_str() {
            "rolled_back" => Exit::NotVerified,
            "pipeline_ended" => Exit::RunFailed,
            _ => Exit::Done,
        }
    }

    fn what(&self) -> String {
        match self.share_percent {
            Some(percent) => format!("canary of {percent:.1}%"),
            None => self.mode.clone(),
        }
    }

    /// Why it was taken back, if it was.
    fn why(&self) -> Option<String> {
        let breach = self.breach.as_ref().map(|breach| format!("{}: {}", breach.budget, breach.measured));
        breach.or_else(|| self.reason.clone())
    }

    /// How it stands, for the status of a pipeline.
    pub(super) fn line(&self, paint: Paint) -> String {
        let state = self.state.replace('_', " ");
        let elapsed = figures::duration(Duration::from_millis(self.elapsed_ms));
        let left = self.remaining_ms.map(|ms| format!(", {} left", figures::duration(Duration::from_millis(ms))));
        let mut text = format!("{} {state}, {elapsed}{}", paint.bold(self.what()), left.unwrap_or_default());
        if let Some(why) = self.why() {
            let _ = write!(text, "\n  {why}");
        }
        for step in &self.steps {
            let _ = write!(text, "\n  {}: {} rows", step.step, figures::count(step.candidate.rows_in));
            if step.compared > 0 {
                let (compared, differing) = (figures::count(step.compared), figures::count(step.differing));
                let _ = write!(text, ", {compared} compared, {differing} differ");
            }
            let _ = write!(text, ", {} traps", step.candidate.traps);
            if let (Some(running), Some(candidate)) = (step.running.p99_ns, step.candidate.p99_ns) {
                let _ = write!(text, ", p99 of a row {} → {}", cost(Some(running)), cost(Some(candidate)));
            }
        }
        text
    }

    /// All that is known of it.
    pub(super) fn report(&self, pipeline: &str, paint: Paint) -> String {
        let state = self.state.replace('_', " ");
        let state = if self.state == "rolled_back" { paint.red(&state) } else { paint.green(&state) };
        let elapsed = figures::duration(Duration::from_millis(self.elapsed_ms));
        let how = if self.is_over() {
            format!("{state} after {elapsed}")
        } else {
            format!(
                "{state}; `millstream promote {pipeline}` keeps the candidate, `millstream rollback {pipeline}` takes it \
                 back, `millstream status {pipeline}` tells how it goes"
            )
        };
        self.found(&format!("{} of {}: {how}", self.what(), paint.bold(self.names())), paint)
    }

    fn names(&self) -> String {
        self.steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// What was found, below a heading.
    fn found(&self, heading: &str, paint: Paint) -> String {
        let mut text = heading.to_owned();
        if let Some(why) = self.why() {
            let _ = write!(text, "\n{}", paint.red(why));
        }
        for step in &self.steps {
            text.push_str(&step.report(paint));
        }
        text
    }
}

impl Step {
    fn report(&self, paint: Paint) -> String {
        let versions = |digests: &[String], numbers: &[u64]| {
            let each = digests.iter().zip(numbers).map(|(digest, number)| figures::version(Some(*number), digest));
            each.collect::<Vec<_>>().join(", ")
        };
        let (from, to) = (versions(&self.from, &self.from_versions), versions(&self.to, &self.to_versions));
        let mut text = format!("\n{} {from} → {}", paint.bold(&self.step), paint.cyan(&to));
        let heading = format!(
            "  {:<9}  {:>13}  {:>13}  {:>7}  {:>7}  {:>7}  {:>9}  {:>9}",
            "", "rows in", "rows out", "dead", "late", "traps", "p50 a row", "p99 a row"
        );
        let _ = write!(text, "\n{}", paint.dim(&heading));
        for (name, side) in [("running", &self.running), ("candidate", &self.candidate)] {
            let count = figures::count;
            let _ = write!(
                text,
                "\n  {name:<9}  {:>13}  {:>13}  {:>7}  {:>7}  {:>7}  {:>9}  {:>9}",
                count(side.rows_in),
                count(side.rows_out),
                count(side.dead),
                count(side.late),
                count(side.traps),
                cost(side.p50_ns),
                cost(side.p99_ns)
            );
        }
        if self.compared > 0 {
            let (compared, differing) = (figures::count(self.compared), figures::count(self.differing));
            let _ = write!(text, "\n  {compared} rows compared, {differing} differ ({:.3}%)", self.differing_percent);
        }
        for example in &self.examples {
            for (sign, row) in [(paint.red("-"), &example.running), (paint.green("+"), &example.candidate)] {
                if let Some(row) = row {
                    let _ = write!(text, "\n    {sign} {row}");
                }
            }
        }
        if let Some(failed) = &self.failed {
            let _ = write!(text, "\n  {}", paint.red(format!("the candidate could not go on: {failed}")));
        }
        text
    }
}

fn cost(ns: Option<f64>) -> String {
    match ns {
        None => "-".to_owned(),
        Some(ns) if ns < 10_000.0 => format!("{ns:.0} ns"),
        Some(ns) => format!("{:.1} µs", ns / 1e3),
    }
}

/// A report of a trial that took place in this process.
pub(super) fn told(trial: &millstream::control::TrialStatus) -> Result<String, Failure> {
    let unreadable = |error: serde_json::Error| Failure::Control(format!("a report that cannot be read: {error}"));
    let trial: Trial = serde_json::to_value(trial).and_then(serde_json::from_value).map_err(unreadable)?;
    let paint = Stream::Stdout.paint();
    let elapsed = figures::duration(Duration::from_millis(trial.elapsed_ms));
    Ok(trial.found(&format!("rehearsal of {}, {elapsed}", paint.bold(trial.names())), paint))
}
