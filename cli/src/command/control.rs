//! `millstream status|swap|plan|promote|rollback|pause|resume|stop`: asks a pipeline that runs in another process on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use millstream::control::socket::{self, Found};
use millstream::control::{Offer, Request};
use millstream::error::near_match;
use serde::Deserialize;

use super::apply::Differences;
use super::trial::{self, Trial, TrialFlags};
use crate::console::{self, Paint, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Which pipeline.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The pipeline: its name, its file, or its process number
    pub(super) pipeline: String,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show a running pipeline: rows, versions of each step, checkpoints. Without a name: all that run.
#[derive(Debug, Args)]
pub(crate) struct StatusOf {
    /// The pipeline: its name, its file, or its process number
    pipeline: Option<String>,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Components for steps of a running pipeline.
#[derive(Debug, Args)]
pub(crate) struct Offered {
    #[command(flatten)]
    pub(crate) target: Target,
    /// `step=file.wasm`; `step.entry=file.wasm` where a step has several components
    #[arg(required = true, value_parser = offer)]
    offers: Vec<(String, PathBuf)>,
}

/// Put other components into a running pipeline, all at one cut, at once or to be tried.
#[derive(Debug, Args)]
pub(crate) struct Swap {
    #[command(flatten)]
    pub(crate) offered: Offered,
    #[command(flatten)]
    trial: TrialFlags,
}

/// Put back what steps ran before.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The steps; all that the last swap changed if none is named
    steps: Vec<String>,
}

pub(super) fn offer(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((step, file)) if !step.is_empty() && !file.is_empty() => Ok((step.to_owned(), file.into())),
        _ => Err("expected `step=file.wasm`".to_owned()),
    }
}

impl StatusOf {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if let Some(pipeline) = self.pipeline {
            return Target { pipeline, json: self.json }.ask(&Request::Status);
        }
        let found = all()?;
        if self.json {
            for one in &found {
                console::result(ask(one, &Request::Status)?.trim_end());
            }
            return Ok(Exit::Done);
        }
        if found.is_empty() {
            console::say("no pipeline runs here");
        }
        for one in &found {
            let answer = ask(one, &Request::Status)?;
            console::result(shown(&one.name, &Request::Status, &answer, Stream::Stdout.paint())?);
        }
        Ok(Exit::Done)
    }
}

impl Swap {
    pub(crate) fn swap(self) -> Result<Exit, Failure> {
        let trial = self.trial.request()?;
        let offers = self.offered.offers()?;
        match trial {
            None => self.offered.target.ask(&Request::Swap { offers }),
            Some(trial) => trial::follow(&self.offered.target, offers, trial, self.trial.detach),
        }
    }
}

impl Offered {
    pub(crate) fn plan(self) -> Result<Exit, Failure> {
        let offers = self.offers()?;
        self.target.ask(&Request::Plan { offers })
    }

    /// The process that runs the pipeline may stand in another folder: paths are made absolute.
    fn offers(&self) -> Result<Vec<Offer>, Failure> {
        let absolute = |(step, file): &(String, PathBuf)| {
            let found = file.canonicalize();
            let file = found.map_err(|source| Failure::File { what: "read", path: file.clone(), source })?;
            Ok(Offer { step: step.clone(), file })
        };
        self.offers.iter().map(absolute).collect()
    }
}

impl Rollback {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        self.target.ask(&Request::Rollback { steps: self.steps })
    }
}

impl Target {
    /// Asks and shows the answer.
    pub(crate) fn ask(&self, request: &Request) -> Result<Exit, Failure> {
        let found = self.find()?;
        let answer = ask(&found, request)?;
        self.show(&found, request, &answer)
    }

    /// Shows the answer to a request.
    pub(super) fn show(&self, found: &Found, request: &Request, answer: &str) -> Result<Exit, Failure> {
        if self.json {
            console::result(answer.trim_end());
            let refused = matches!(read(answer)?, Answered::Refused { .. });
            return Ok(if refused { Exit::Refused } else { Exit::Done });
        }
        console::result(shown(&found.name, request, answer, Stream::Stdout.paint())?);
        Ok(Exit::Done)
    }

    pub(super) fn find(&self) -> Result<Found, Failure> {
        let all = all()?;
        let file = Path::new(&self.pipeline);
        let name = if file.is_file() { name_in(file)? } else { self.pipeline.clone() };
        let pid: Option<u32> = name.parse().ok();
        let called = socket::called(&name);
        let matching: Vec<&Found> = all.iter().filter(|found| found.name == called || Some(found.pid) == pid).collect();
        match matching.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Failure::Control(absent(&name, &all))),
            several => {
                let pids = several.iter().map(|found| found.pid.to_string()).collect::<Vec<_>>().join(", ");
                Err(Failure::Control(format!(
                    "several processes run a pipeline `{name}`: {pids}; name one by its number"
                )))
            }
        }
    }
}

/// The name of the pipeline in a file. One that is being edited, and cannot be read just now, has a name all the same.
fn name_in(file: &Path) -> Result<String, Failure> {
    let refused = match millstream::pipeline::read::read(file) {
        Ok(spec) => return Ok(spec.name.value),
        Err(refused) => refused,
    };
    let named = |line: &str| {
        let (key, value) = line.trim().trim_end_matches(',').split_once(['=', ':'])?;
        let value = value.trim().strip_prefix('"')?.split_once('"')?.0;
        (key.trim().trim_matches('"') == "name").then(|| value.to_owned())
    };
    // behind the first section a `name` is that of something else
    let own = refused.text.lines().take_while(|line| !line.trim_start().starts_with('['));
    own.filter_map(named).next().ok_or_else(|| refused.clone().into())
}

/// Nothing of this name runs: what does, and what to do.
fn absent(name: &str, all: &[Found]) -> String {
    let is_file = Path::new(name).extension().is_some_and(|end| end == "toml" || end == "json");
    let what = if is_file { "there is no file" } else { "no pipeline" };
    let known: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    if known.is_empty() {
        return format!("{what} `{name}`, and no pipeline runs here; `millstream run FILE` starts one");
    }
    let near = near_match(name, known.iter().copied());
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let there = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let answers = if is_file { "" } else { " answers on this machine" };
    format!("{what} `{name}`{answers}; there run {there}{near}")
}

fn all() -> Result<Vec<Found>, Failure> {
    let dir = socket::run_dir();
    socket::running(&dir).map_err(|source| Failure::File { what: "read", path: dir, source })
}

pub(super) fn ask(found: &Found, request: &Request) -> Result<String, Failure> {
    socket::ask(&found.path, request)
        .map_err(|error| Failure::Control(format!("pipeline `{}` (process {}): {error}", found.name, found.pid)))
}

/// The parts of an answer that people are shown.
#[derive(Debug, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answered {
    Status { status: Running, versions: BTreeMap<String, Vec<Version>>, trial: Option<Box<Trial>>, pid: u32 },
    Trial(Box<Trial>),
    Swapped { swapped: Vec<Change>, pause_ns: u64, total_ms: f64, migrated: Option<Migrated> },
    Plan { planned: Vec<Planned>, expected_pause: Option<Pause> },
    Applied(Differences),
    ApplyPlan(Differences),
    Done,
    Refused { code: String, message: String, stub: Option<String> },
}

#[derive(Debug, Deserialize)]
pub(super) struct Running {
    pipeline: String,
    elapsed_ms: u64,
    paused: bool,
    generation: u64,
    restarts: Restarts,
    checkpoints: Option<Checkpoints>,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Restarts {
    count: u64,
    reason: Option<String>,
    /// while it is down
    next_try_ms: Option<i64>,
}

impl Restarts {
    /// ` · restarted 2 times, last because ..`, or that it is down; nothing for a run that has never failed.
    fn text(&self, paint: Paint) -> String {
        let Some(reason) = &self.reason else { return String::new() };
        if self.next_try_ms.is_some() {
            return format!(" · {}", paint.red(format!("down: {reason}; restart {} is due", self.count)));
        }
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        format!(" · {}", paint.yellow(format!("restarted {times}, last because: {reason}")))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Checkpoints {
    epoch: Option<u64>,
    failing: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Node {
    name: String,
    role: String,
    tasks: usize,
    counts: Counts,
    components: Vec<Component>,
}

/// What is shown of a node's counts. Others are left out here: a watermark, say, is null before the first one.
#[derive(Debug, Deserialize)]
struct Counts {
    rows_in: u64,
    rows_out: u64,
    dead_rows: u64,
    late_rows: u64,
}

/// A version as it runs.
#[derive(Debug, Deserialize)]
pub(super) struct Component {
    version: u64,
    digest: String,
    tasks: Vec<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    number: u64,
    digest: String,
    path: String,
    since_ms: i64,
    origin: String,
    current: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Planned {
    #[serde(flatten)]
    change: Change,
    keeps: Vec<String>,
    migrates: Vec<String>,
    drops: Vec<String>,
    migration: Option<String>,
}

/// Rows of state that were migrated.
#[derive(Debug, Deserialize)]
pub(super) struct Migrated {
    rounds: u64,
    rows_ahead: u64,
    rows_at_cut: u64,
}

impl Migrated {
    fn line(&self) -> String {
        let Self { rounds, rows_ahead, rows_at_cut } = self;
        if *rounds == 0 {
            return format!("{rows_at_cut} rows of state migrated at the cut");
        }
        format!("{rows_ahead} rows of state migrated ahead in {rounds} rounds, {rows_at_cut} at the cut")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Pause {
    pause_ns: u64,
    from: String,
    /// what of it is for state that is migrated at the cut
    #[serde(default)]
    migration: Option<MigrationPause>,
}

#[derive(Debug, Deserialize)]
struct MigrationPause {
    rows: u64,
    row_ns: f64,
    row_from: String,
    pause_ns: u64,
}

impl Pause {
    fn line(&self) -> String {
        let duration = |ns| figures::duration(Duration::from_nanos(ns));
        let from = if self.from == "probe" { "a barrier that changed nothing" } else { "the last change" };
        let Some(migration) = &self.migration else {
            return format!("a task would stand still for about {}, as for {from}\n", duration(self.pause_ns));
        };
        let MigrationPause { rows, row_ns, row_from, pause_ns } = migration;
        let row_from = match row_from.as_str() {
            "last_migration" => "as measured when state was last migrated at a cut",
            _ => "as stated for rows of a few numbers",
        };
        format!(
            "a task would stand still for about {}: {} as for {from}, and {} to migrate state at the cut, an estimate \
             of {rows} rows of state in the task with most of them at {row_ns:.0} ns each, {row_from}\n",
            duration(self.pause_ns),
            duration(self.pause_ns.saturating_sub(*pause_ns)),
            duration(*pause_ns)
        )
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Change {
    step: String,
    from: String,
    from_version: u64,
    to: String,
    /// none before it has one
    to_version: Option<u64>,
    verdict: serde_json::Value,
}

pub(super) fn read(answer: &str) -> Result<Answered, Failure> {
    serde_json::from_str(answer).map_err(|error| Failure::Control(format!("an answer that cannot be read: {error}")))
}

fn shown(pipeline: &str, request: &Request, answer: &str, paint: Paint) -> Result<String, Failure> {
    Ok(match read(answer)? {
        Answered::Status { status, versions, trial, pid } => {
            let mut text = status_table(&status, &versions, pid, paint);
            text.push_str(&history(&versions, paint));
            if let Some(trial) = trial {
                text.push_str(&format!("\n{}", trial.line(paint)));
            }
            text
        }
        Answered::Trial(trial) => trial.report(pipeline, paint),
        Answered::Swapped { swapped, pause_ns, total_ms, migrated } => {
            let (pause, total) = (Duration::from_nanos(pause_ns), Duration::try_from_secs_f64(total_ms / 1e3));
            let what = if matches!(request, Request::Rollback { .. }) { "rolled back" } else { "swapped" };
            let mut text = changes(what, &swapped, paint);
            let total = figures::duration(total.unwrap_or_default());
            text.push_str(&format!("\nin {total} · longest pause of a task {}", figures::duration(pause)));
            migrated.iter().for_each(|migrated| text.push_str(&format!("\n{}", migrated.line())));
            text
        }
        Answered::Plan { planned, expected_pause } => plan_text(&planned, expected_pause.as_ref(), paint),
        Answered::Done => match request {
            Request::Pause => format!("{pipeline}: paused; `millstream resume {pipeline}` lets it go on"),
            Request::Resume => format!("{pipeline}: goes on"),
            Request::Stop => format!("{pipeline}: stops"),
            _ => format!("{pipeline}: done"),
        },
        Answered::Applied(differences) => differences.applied(paint),
        Answered::ApplyPlan(differences) => differences.planned(paint),
        Answered::Refused { code, message, .. } if ["lost", "ended"].contains(&code.as_str()) => {
            return Err(Failure::Control(message));
        }
        Answered::Refused { message, stub, .. } => {
            let stub = stub.map(|stub| format!("\n\nit would migrate with\n\n{stub}")).unwrap_or_default();
            let offers = matches!(request, Request::Swap { .. } | Request::Plan { .. } | Request::Try { .. });
            let as_before = if offers { "the running version goes on" } else { "nothing has changed" };
            return Err(Failure::Control(format!("{message}; {as_before}{stub}")));
        }
    })
}

fn plan_text(planned: &[Planned], pause: Option<&Pause>, paint: Paint) -> String {
    let mut text = String::new();
    for one in planned {
        text.push_str(&change_line("would swap", &one.change, paint));
        text.push('\n');
        let parts = [("keeps", &one.keeps), ("migrates", &one.migrates), ("drops", &one.drops)];
        for (what, state) in parts.iter().filter(|(_, state)| !state.is_empty()) {
            let what = if *what == "drops" { paint.red(what) } else { paint.dim(what) };
            text.push_str(&format!("  {what}  {}\n", state.join(", ")));
        }
        match one.migration.as_deref() {
            Some("ahead") => text.push_str("  ahead of the cut, while tasks go on: it does not count as a pause\n"),
            Some(_) => text.push_str("  at the cut, while tasks stand still: the pause grows with the state\n"),
            None => {}
        }
        if parts.iter().all(|(_, state)| state.is_empty()) {
            text.push_str("  has no state\n");
        }
    }
    if let Some(pause) = pause {
        text.push_str(&pause.line());
    }
    text.push_str("nothing has changed");
    text
}

fn changes(what: &str, changes: &[Change], paint: Paint) -> String {
    changes.iter().map(|change| change_line(what, change, paint)).collect::<Vec<_>>().join("\n")
}

fn change_line(what: &str, change: &Change, paint: Paint) -> String {
    let migrate = &change.verdict["migrate"];
    let verdict = match (change.verdict.as_str(), migrate["from"].as_u64(), migrate["to"].as_u64()) {
        (Some(verdict), ..) => verdict.to_owned(),
        (None, Some(from), Some(to)) => format!("state migrates from version {from} to {to}"),
        _ => "changed".to_owned(),
    };
    let from = figures::version(Some(change.from_version), &change.from);
    let to = figures::version(change.to_version, &change.to);
    format!("{} {} {from} → {} ({verdict})", paint.green(what), paint.bold(&change.step), paint.cyan(to))
}

fn status_table(status: &Running, versions: &BTreeMap<String, Vec<Version>>, pid: u32, paint: Paint) -> String {
    let elapsed = figures::duration(Duration::from_millis(status.elapsed_ms));
    let mut text = format!("{} · process {pid} · up {elapsed}", paint.bold(&status.pipeline));
    if status.generation > 0 {
        text.push_str(&format!(" · generation {}", status.generation));
    }
    if status.paused {
        text.push_str(&format!(" · {}", paint.yellow("paused")));
    }
    text.push_str(&status.restarts.text(paint));
    if let Some(checkpoints) = &status.checkpoints {
        match (&checkpoints.failing, checkpoints.epoch) {
            (Some(reason), _) => text.push_str(&format!(" · {}", paint.red(format!("no checkpoint: {reason}")))),
            (None, Some(epoch)) => text.push_str(&format!(" · checkpoint {epoch}")),
            (None, None) => {}
        }
    }
    let width = status.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).max(4);
    let heading = format!(
        "{:<6}  {:<width$}  {:>5}  {:>13}  {:>13}  {:>7}  {:>7}  version",
        "", "name", "tasks", "rows in", "rows out", "dead", "late"
    );
    text.push_str(&format!("\n{}", paint.dim(&heading)));
    for node in &status.nodes {
        text.push_str(&format!(
            "\n{:<6}  {:<width$}  {:>5}  {:>13}  {:>13}  {:>7}  {:>7}  {}",
            node.role,
            node.name,
            node.tasks,
            figures::count(node.counts.rows_in),
            figures::count(node.counts.rows_out),
            figures::count(node.counts.dead_rows),
            figures::count(node.counts.late_rows),
            versions_of(node, versions)
        ));
    }
    text
}

/// Where a component has had several versions: all that are known, which can be gone back to from the one that runs.
fn history(versions: &BTreeMap<String, Vec<Version>>, paint: Paint) -> String {
    let mut text = String::new();
    for (name, known) in versions.iter().filter(|(_, known)| known.len() > 1) {
        text.push_str(&format!("\nversions of {}", paint.bold(name)));
        for version in known {
            let file = Path::new(&version.path).file_name().unwrap_or_default().to_string_lossy();
            let how = if version.origin == "swapped" { "put in place" } else { "started with" };
            let since = millstream::clock::utc_text(version.since_ms) + " UTC";
            let runs = if version.current { format!("  {}", paint.green("runs")) } else { String::new() };
            text.push_str(&format!(
                "\n  {}  {file}  {}{runs}",
                figures::version(Some(version.number), &version.digest),
                paint.dim(format!("{how} {since}"))
            ));
        }
    }
    text
}

/// `v3 1f2e3d4c5b6a upper.wasm` for each version that a node runs, with its tasks where they differ.
fn versions_of(node: &Node, known: &BTreeMap<String, Vec<Version>>) -> String {
    let of_node: Vec<&Version> = known
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix(node.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .flat_map(|(_, versions)| versions)
        .collect();
    let text = |runs: &Component| {
        let version = of_node.iter().find(|known| (known.number, &known.digest) == (runs.version, &runs.digest));
        let file = version.and_then(|version| Path::new(&version.path).file_name());
        let file = file.map(|name| format!(" {}", name.to_string_lossy())).unwrap_or_default();
        let tasks = runs.tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let tasks = if runs.tasks.len() < node.tasks { format!(" (tasks {tasks})") } else { String::new() };
        format!("{}{file}{tasks}", figures::version(Some(runs.version), &runs.digest))
    };
    node.components.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_has_not_seen_a_watermark_yet_has_a_status() {
        let counts =
            millstream::metrics::NodeCounts { rows_in: 7, watermark_ms: None, ..millstream::metrics::NodeCounts::ZERO };
        let said = serde_json::to_string(&counts).unwrap();
        assert!(said.contains(r#""watermark_ms":null"#), "{said}");
        assert_eq!(serde_json::from_str::<Counts>(&said).unwrap().rows_in, 7);
    }

    #[test]
    fn a_plan_says_what_of_the_pause_is_an_estimate_and_of_what() {
        let line = |text: &str| serde_json::from_str::<Pause>(text).unwrap().line();
        let plain = line(r#"{"pause_ns":400000,"from":"probe"}"#);
        assert_eq!(plain, "a task would stand still for about 400 µs, as for a barrier that changed nothing\n");
        let migrates = |row_from: &str| {
            line(&format!(
                r#"{{"pause_ns":2000000,"from":"last_change","migration":{{"rows":1000,"row_ns":1500.0,"row_from":"{row_from}","pause_ns":1500000}}}}"#
            ))
        };
        let stated = migrates("stated");
        for part in ["1000 rows of state", "an estimate", "1500 ns each", "as for the last change", "as stated"] {
            assert!(stated.contains(part), "{part}: {stated}");
        }
        assert!(migrates("last_migration").contains("as measured when state was last migrated at a cut"));
    }
}
