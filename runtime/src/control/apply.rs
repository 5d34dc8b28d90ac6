//! Changing a running pipeline's shape: what is different is told first, then made true, all of it at one cut or none.
//!
//! ```text
//!   wanted pipeline ─▶ resolved, checked ─▶ diff (pure) ─▶ refused, or unapproved: nothing happens
//!                                             ├▶ only components and configuration: guests change at a barrier (swap.rs)
//!                                             └▶ else: another life from a barrier on (rebuild.rs)
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::diff::{Difference, Effect, Part, Shape, diff, to_approve};
use super::rebuild::NotDone;
use super::run::Life;
use super::supervise::Handle;
use super::swap::SwapError;
use crate::clock::Stopwatch;
use crate::error::{PipelineError, near_match};
use crate::pipeline::check_structure;
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Resolution, Resolved, components_of, partitioner_of, resolve};
use crate::pipeline::spec::{LimitsSpec, PipelineSpec, StepSpec};
use crate::wasm::{Sandbox, Setting, Settings};

/// What a change of shape comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplyReport {
    /// what is different
    pub differences: Vec<Difference>,
    /// what all of them together take; none where nothing is different
    pub effect: Option<Effect>,
    /// names whose state is given up: sources and steps
    pub to_approve: Vec<String>,
    /// how often the shape has been changed since the process began; none where nothing has been changed now
    pub generation: Option<u64>,
    /// how long no row moved, ms; 0 where nothing has been changed
    pub gap_ms: f64,
    /// all of it, checking and compiling too, ms
    pub total_ms: f64,
}

/// A change of shape was refused, or could not be carried out. Unless it says otherwise the pipeline runs as it did.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// the pipeline that is wanted is wrong in itself
    #[error("{0}")]
    Wrong(Box<PipelineError>),
    /// no part has this name
    #[error("pipeline has no {what} `{name}`; there are {known}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// what was looked for
        what: &'static str,
        /// its name
        name: String,
        /// what there is
        known: String,
        /// the closest
        near: Option<String>,
    },
    /// a value cannot be what it is to be
    #[error("`{name}` cannot be `{value}`: {reason}")]
    Value {
        /// what was to be set
        name: String,
        /// to what
        value: String,
        /// why not
        reason: String,
    },
    /// it cannot be done in a running pipeline
    #[error("{} cannot change while the pipeline runs; stop it and start it with the new file, or leave these as they are", shown(.0))]
    Restart(Vec<Difference>),
    /// state would be lost
    #[error("state would be lost: {}; approve {} if that is meant (`--approve {}`)", shown(.differences), .names.join(", "), .names.join(" --approve "))]
    Unapproved {
        /// what is to be approved
        names: Vec<String>,
        /// because of what
        differences: Vec<Difference>,
    },
    /// a component does not fit
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// it could not be started in its new shape; it goes on in the old one, from the same cut
    #[error("it cannot start as it is wanted: {0}; nothing is lost")]
    Failed(String),
    /// nor could it go on in the old one
    #[error("{0}")]
    Lost(String),
    /// the pipeline has ended, or failed meanwhile
    #[error("the pipeline has ended, or has failed meanwhile; nothing has changed")]
    Ended,
}

impl ApplyError {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "wrong_pipeline",
            Self::Unknown { .. } => "unknown_name",
            Self::Value { .. } => "wrong_value",
            Self::Restart(_) => "needs_restart",
            Self::Unapproved { .. } => "unapproved",
            Self::Swap(error) => error.code(),
            Self::Failed(_) => "cannot_start",
            Self::Lost(_) => "lost",
            Self::Ended => "ended",
        }
    }

    /// What is different, where that is the reason.
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Restart(differences) | Self::Unapproved { differences, .. } => differences,
            _ => &[],
        }
    }
}

fn shown(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Handle {
    /// Makes the pipeline that runs the one that `wanted` describes, at one cut through all tasks. Sources and steps whose
    /// state would be lost must be named in `approved`.
    ///
    /// Names are what state hangs on: a step with another name is another step. Where the new shape cannot be started the old
    /// one goes on from the same cut. Once begun, it goes on to its end also when the future is dropped.
    pub async fn apply(&self, wanted: PipelineSpec, approved: &[String]) -> Result<ApplyReport, ApplyError> {
        let sandbox = self.run.sandbox.clone();
        self.change(approved, move |running| read(running, wanted, &sandbox)).await
    }

    /// What [`Handle::apply`] would do, without doing it.
    pub async fn plan_apply(&self, wanted: PipelineSpec) -> Result<ApplyReport, ApplyError> {
        let watch = Stopwatch::start();
        let sandbox = self.run.sandbox.clone();
        let running = self.run.running(&self.life()).await.map_err(|error| ApplyError::Lost(error.to_string()))?;
        let compared = tokio::task::spawn_blocking(move || {
            let wanted = read(&running, wanted, &sandbox)?;
            Ok::<_, ApplyError>(diff(&Shape::from(&running), &Shape::from(&wanted)))
        });
        let differences = compared.await.map_err(|_| ApplyError::Ended)??;
        Ok(report(differences, &watch))
    }

    /// Gives all sources and steps that do not say otherwise, or only those that are named, `tasks` tasks each.
    pub async fn rescale(&self, tasks: usize, names: &[String]) -> Result<ApplyReport, ApplyError> {
        let names = names.to_vec();
        self.change(&[], move |running| {
            let mut spec = running.plan.spec.clone();
            super::edit::rescale(&mut spec, tasks, &names)?;
            edited(running, spec)
        })
        .await
    }

    /// Sets values of steps, each named `step.key`: configuration, `limits.memory`, `limits.deadline`, `parallelism`.
    pub async fn set(&self, values: &[(String, String)]) -> Result<ApplyReport, ApplyError> {
        let values = values.to_vec();
        self.change(&[], move |running| {
            let mut spec = running.plan.spec.clone();
            for (name, value) in &values {
                super::edit::set(&mut spec, name, value)?;
            }
            edited(running, spec)
        })
        .await
    }

    /// Makes the pipeline what `wanted` makes of the one that runs.
    async fn change(
        &self,
        approved: &[String],
        wanted: impl FnOnce(&Resolution) -> Result<Resolution, ApplyError> + Send + 'static,
    ) -> Result<ApplyReport, ApplyError> {
        let (handle, approved) = (self.clone(), approved.to_vec());
        let change = async move {
            let watch = Stopwatch::start();
            let _turn = handle.run.changes.turn.lock().await;
            let life = handle.life();
            life.no_trial_runs()?;
            let running = handle.run.running(&life).await.map_err(|error| ApplyError::Lost(error.to_string()))?;
            let running = Arc::new(running);
            let made = tokio::task::spawn_blocking({
                let running = Arc::clone(&running);
                // compiles, off the threads that run the pipeline
                move || wanted(&running)
            });
            let wanted = made.await.map_err(|_| ApplyError::Ended)??;
            let mut report = report(diff(&Shape::from(&*running), &Shape::from(&wanted)), &watch);
            permitted(&report, &approved)?;
            match report.effect {
                // what is read from another file is the same all the same
                None => handle.run.runs_now(wanted, &life),
                Some(Effect::Swap) => report.gap_ms = handle.exchange(&life, &running, wanted).await?,
                Some(_) => {
                    let done = handle.rebuilt(wanted, &report.differences).await?;
                    (report.generation, report.gap_ms) = (Some(done.generation), done.gap_ms);
                }
            }
            report.total_ms = watch.elapsed().as_secs_f64() * 1e3;
            Ok(report)
        };
        tokio::spawn(change).await.map_err(|_| ApplyError::Ended)?
    }

    /// Only guests change: at a barrier, tasks go on. How long the longest of them stood still, ms.
    async fn exchange(&self, life: &Life, running: &Resolution, wanted: Resolution) -> Result<f64, ApplyError> {
        let changed = |slot: &SlotId, resolved: &Resolved| {
            running.components.get(slot).is_none_or(|before| !before.is_like(resolved))
        };
        let offers = wanted.components.iter().filter(|(slot, resolved)| changed(slot, resolved));
        // under another configuration, or other limits, it is another version
        let anew = |resolved: &Resolved| Resolved { number: 0, ..resolved.clone() };
        let report = life.exchange(offers.map(|(slot, resolved)| (slot.clone(), anew(resolved))).collect()).await?;
        self.run.runs_now(wanted, life);
        #[allow(clippy::cast_precision_loss)] // shown to people
        Ok(report.pause_ns as f64 / 1e6)
    }

    async fn rebuilt(&self, wanted: Resolution, all: &[Difference]) -> Result<super::rebuild::Done, ApplyError> {
        let dropped = all.iter().filter(|one| one.part == Part::Step && one.effect == Effect::DropsState);
        let dropped: BTreeSet<String> = dropped.map(|difference| difference.name.clone()).collect();
        match self.run.changes.ask(wanted, dropped).await {
            None | Some(Err(NotDone::Ended)) => Err(ApplyError::Ended),
            Some(Err(NotDone::Failed(error))) => Err(ApplyError::Failed(error.to_string())),
            Some(Err(NotDone::Lost(reason))) => Err(ApplyError::Lost(reason)),
            Some(Ok(done)) => Ok(done),
        }
    }
}

fn report(differences: Vec<Difference>, watch: &Stopwatch) -> ApplyReport {
    let effect = differences.iter().map(|difference| difference.effect).max();
    let to_approve = to_approve(&differences);
    let total_ms = watch.elapsed().as_secs_f64() * 1e3;
    ApplyReport { differences, effect, to_approve, generation: None, gap_ms: 0.0, total_ms }
}

fn permitted(report: &ApplyReport, approved: &[String]) -> Result<(), ApplyError> {
    let of = |effect| report.differences.iter().filter(move |one| one.effect == effect).cloned();
    let refused: Vec<Difference> = of(Effect::Restart).collect();
    if !refused.is_empty() {
        return Err(ApplyError::Restart(refused));
    }
    let names: Vec<String> = report.to_approve.iter().filter(|name| !approved.contains(name)).cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let differences = of(Effect::DropsState).filter(|difference| names.contains(&difference.name)).collect();
    Err(ApplyError::Unapproved { names, differences })
}

/// Loads and checks what is wanted. A folder that is named in another way is the same folder.
fn read(running: &Resolution, mut wanted: PipelineSpec, sandbox: &Sandbox) -> Result<Resolution, ApplyError> {
    let real = |base: &Path| if base.as_os_str().is_empty() { Path::new(".") } else { base }.canonicalize().ok();
    let base = &running.plan.spec.base;
    if real(base).is_some_and(|base| real(&wanted.base) == Some(base)) {
        wanted.base.clone_from(base);
    }
    resolve(sound(wanted)?, sandbox).map_err(|error| ApplyError::Wrong(Box::new(error)))
}

/// A specification that can be planned; what was not read from a file may never have been looked at.
fn sound(spec: PipelineSpec) -> Result<PipelineSpec, ApplyError> {
    let diagnostics = check_structure(&spec);
    if diagnostics.is_empty() {
        return Ok(spec);
    }
    let wrong = PipelineError { path: spec.path, text: spec.text, diagnostics };
    Err(ApplyError::Wrong(Box::new(wrong)))
}

/// The pipeline that runs with another specification, and the components that run, swapped in or not, under its configuration.
fn edited(running: &Resolution, spec: PipelineSpec) -> Result<Resolution, ApplyError> {
    let mut components = running.components.clone();
    for (slot, resolved) in &mut components {
        if let Some(limits) = limits(&spec, slot).filter(|limits| *limits != resolved.limits) {
            // a version of its own
            (resolved.limits, resolved.number) = (limits, 0);
        }
        let (before, after) = (config(&running.plan.spec, slot), config(&spec, slot));
        let Some(after) = after.filter(|after| Some(*after) != before) else { continue };
        let mut settings = after.as_ref().clone();
        for (name, setting) in settings.iter_mut().filter(|(_, setting)| matches!(setting, Setting::Secret(_))) {
            // with its value, which the specification does not have
            resolved.settings.get(name).into_iter().for_each(|known| setting.clone_from(known));
        }
        let settings = Arc::new(settings);
        let described = resolved.component.describe(resolved.kind, &settings);
        let path = resolved.path.clone();
        resolved.signature = described.map_err(|source| SwapError::Describe { path, source })?;
        (resolved.settings, resolved.number) = (settings, 0);
    }
    Resolution::of(sound(spec)?, components).map_err(|error| ApplyError::Wrong(Box::new(error)))
}

/// What a specification says to the component of a slot; none for a source's assigner.
fn config<'a>(spec: &'a PipelineSpec, slot: &SlotId) -> Option<&'a Settings> {
    if let Some(step) = spec.steps.iter().find(|step| step.name.value == slot.step) {
        let found = components_of(step).into_iter().find(|(number, ..)| *number == slot.slot);
        return found.map(|(_, component, _)| &component.config);
    }
    let mut routes = spec.steps.iter().filter_map(partitioner_of);
    routes.find(|(name, _)| *name == slot.step).map(|(_, component)| &component.config)
}

/// The limits that a specification gives the component of a slot; none for a source's assigner.
fn limits(spec: &PipelineSpec, slot: &SlotId) -> Option<LimitsSpec> {
    let spreads = |step: &StepSpec| partitioner_of(step).is_some_and(|(name, _)| name == slot.step);
    let step = spec.steps.iter().find(|step| step.name.value == slot.step || spreads(step));
    step.map(|step| step.limits)
}

/// The error that names what there is.
pub(super) fn unknown(what: &'static str, name: &str, known: &[&str]) -> ApplyError {
    let near = near_match(name, known.iter().copied()).map(ToOwned::to_owned);
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    ApplyError::Unknown { what, name: name.to_owned(), known, near }
}
