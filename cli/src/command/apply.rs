//! `millstream apply|rescale|set`: changes the shape of a pipeline that runs in another process on this machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream::control::{Request, Value};
use serde::Deserialize;

use super::control::{Answered, Target, ask, read};
use crate::console::{self, Paint, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Make a running pipeline what its file says now: tells what is different, then does it at one cut, or none of it.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The pipeline file, .toml or .json
    file: PathBuf,
    /// The process that runs it, where several run a pipeline of this name
    #[arg(long, value_name = "PID")]
    process: Option<u32>,
    /// Only tell what is different and what it takes
    #[arg(long)]
    dry_run: bool,
    /// Give up what this step remembers, or what this source has read ahead; can be given several times
    #[arg(long, value_name = "NAME")]
    approve: Vec<String>,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Give the sources and steps of a running pipeline another number of tasks.
#[derive(Debug, Args)]
pub(crate) struct Rescale {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Tasks of each
    #[arg(value_parser = clap::value_parser!(u16).range(1..=128))]
    tasks: u16,
    /// Only these sources, steps and sinks; without, all that do not say otherwise in the file
    names: Vec<String>,
}

/// Set values of the steps of a running pipeline, all at one cut.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) target: Target,
    /// `step.key=value`: configuration, `limits.memory`, `limits.deadline`, `parallelism`
    #[arg(required = true, value_parser = value)]
    values: Vec<Value>,
}

fn value(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some((name, value)) if name.contains('.') => Ok(Value { name: name.to_owned(), value: value.to_owned() }),
        _ => Err("expected `step.key=value`".to_owned()),
    }
}

impl Apply {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        // mistakes are told with their places in the file, and before anything is asked
        let resolution = super::resolve(&self.file, None, &super::sandbox()?)?;
        let name = resolution.plan.spec.name.value.clone();
        let pipeline = self.process.map_or(name, |process| process.to_string());
        let target = Target { pipeline, json: self.json };
        let file = self.file.clone();
        let file = file.canonicalize().map_err(|source| Failure::File { what: "read", path: file, source })?;
        let approve = self.approve.clone();
        let found = target.find()?;
        let mut request = Request::Apply { file: file.clone(), approve, dry_run: self.dry_run };
        let mut answer = ask(&found, &request)?;
        if let (Answered::Refused { code, .. }, true) = (read(&answer)?, self.may_ask())
            && code == "unapproved"
        {
            let plan = Request::Apply { file: file.clone(), approve: Vec::new(), dry_run: true };
            if let Answered::ApplyPlan(told) = read(&ask(&found, &plan)?)?
                && told.is_approved()
            {
                request = Request::Apply { file, approve: told.to_approve, dry_run: false };
                answer = ask(&found, &request)?;
            }
        }
        let exit = target.show(&found, &request, &answer)?;
        if !self.dry_run || exit != Exit::Done {
            return Ok(exit);
        }
        let told: Differences = serde_json::from_str(&answer)
            .map_err(|error| Failure::Control(format!("an answer that cannot be read: {error}")))?;
        let is_open = told.to_approve.iter().any(|name| !self.approve.contains(name));
        Ok(if is_open || told.effect.as_deref() == Some("restart") { Exit::Refused } else { Exit::Done })
    }
}

impl Apply {
    /// Whether a person is there who can approve what drops state.
    fn may_ask(&self) -> bool {
        !self.json && std::io::stdin().is_terminal() && Stream::Stderr.is_terminal()
    }
}

impl Rescale {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        self.target.ask(&Request::Rescale { tasks: usize::from(self.tasks), names: self.names })
    }
}

impl Set {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        self.target.ask(&Request::Set { values: self.values })
    }
}

/// What is different, and what came of it.
#[derive(Debug, Deserialize)]
pub(super) struct Differences {
    differences: Vec<Difference>,
    effect: Option<String>,
    to_approve: Vec<String>,
    generation: Option<u64>,
    gap_ms: f64,
    total_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Difference {
    part: String,
    name: String,
    key: Option<String>,
    from: Option<String>,
    to: Option<String>,
    effect: String,
    note: Option<String>,
}

impl Differences {
    /// Whether the person at the terminal gives up what has to be given up.
    fn is_approved(&self) -> bool {
        let paint = Stream::Stderr.paint();
        console::say(self.table(paint));
        let names = self.to_approve.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        console::is_agreed(paint.yellow(format!("give up what {names} remembers?")))
    }

    /// A line for each, and what has been done.
    pub(super) fn applied(&self, paint: Paint) -> String {
        let Some(effect) = &self.effect else { return "nothing is different".to_owned() };
        let time = |ms: f64| figures::duration(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default());
        let (gap, total) = (time(self.gap_ms), time(self.total_ms));
        let how = match (effect.as_str(), self.generation) {
            ("swap", _) => format!("longest pause of a task {gap}"),
            (_, Some(generation)) => format!("generation {generation} · no row moved for {gap}"),
            (_, None) => format!("no row moved for {gap}"),
        };
        format!("{}\n{} in {total} · {how}", self.table(paint), paint.green("applied"))
    }

    /// A line for each, and what it takes.
    pub(super) fn planned(&self, paint: Paint) -> String {
        let what = match self.effect.as_deref() {
            None => return "nothing is different".to_owned(),
            Some("swap") => "components and configuration change at a barrier, tasks go on".to_owned(),
            Some("rebuild") => "tasks end at a barrier, others begin there with all state".to_owned(),
            Some("drops_state") => {
                format!("state would be lost: say `--approve {}` if that is meant", self.to_approve.join(" --approve "))
            }
            Some(_) => "cannot be done while the pipeline runs".to_owned(),
        };
        format!("{}\nnothing has changed; {what}", self.table(paint))
    }

    fn table(&self, paint: Paint) -> String {
        let part = |one: &Difference| format!("{} {}", one.part, one.name);
        let width = |of: &dyn Fn(&Difference) -> usize| self.differences.iter().map(of).max().unwrap_or(0);
        let parts = width(&|one| part(one).chars().count());
        let keys = width(&|one| one.key.as_ref().map_or(0, |key| key.chars().count()));
        let line = |one: &Difference| {
            let key = one.key.as_deref().unwrap_or_default();
            let none = || "none".to_owned();
            let values = match &one.key {
                Some(_) => {
                    format!("{} → {}", one.from.clone().unwrap_or_else(none), one.to.clone().unwrap_or_else(none))
                }
                None => one.to.clone().or_else(|| one.from.clone()).unwrap_or_default(),
            };
            let effect = match one.effect.as_str() {
                "swap" => paint.green("swap"),
                "rebuild" => paint.cyan("rebuild"),
                "drops_state" => paint.yellow("drops state"),
                _ => paint.red("needs a restart"),
            };
            let note = one.note.as_ref().map(|note| paint.dim(format!(" · {note}"))).unwrap_or_default();
            format!("{:<parts$}  {key:<keys$}  {values}  {effect}{note}", part(one))
        };
        self.differences.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
