//! Loads the components that a pipeline names and asks each for its signature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::partition::{PartitionSpec, route_name};
use super::plan::{Plan, Signatures, SlotId, plan};
use super::problems::{alternatives, code, quote};
use super::spec::{AggregateSpec, ComponentSpec, LimitsSpec, PipelineSpec, StepKind, StepSpec};
use crate::error::{Diagnostic, PipelineError, Span};
use crate::wasm::{
    Component, DescribeError, ExactVersion, LoadError, OperatorKind, Sandbox, SecretError, Settings, Signature,
    with_secrets,
};

/// A component in its place in a pipeline.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// the compiled component
    pub component: Component,
    /// which of its contracts the step uses
    pub kind: OperatorKind,
    /// what it says of itself under `settings`
    pub signature: Signature,
    /// the step's configuration
    pub settings: Settings,
    /// the file it came from
    pub path: PathBuf,
    /// bounds of its guests
    pub limits: LimitsSpec,
    /// number of this version in its place; 0 until a run gives it one
    pub number: u64,
}

impl Resolved {
    /// Exactly which version it is.
    pub fn version(&self) -> ExactVersion {
        ExactVersion { number: self.number, digest: *self.component.digest() }
    }

    /// Whether both are the same component under the same configuration and limits.
    pub fn is_like(&self, other: &Self) -> bool {
        let same = self.component.digest() == other.component.digest();
        same && self.settings == other.settings && self.limits == other.limits
    }
}

/// All components of a pipeline.
pub type Components = BTreeMap<SlotId, Resolved>;

/// A pipeline that can run.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// the checked pipeline
    pub plan: Plan,
    /// its components
    pub components: Components,
}

/// Loads all components of `spec` and checks the pipeline against them. Reports every mistake that it finds.
pub fn resolve(mut spec: PipelineSpec, sandbox: &Sandbox) -> Result<Resolution, PipelineError> {
    let mut components = Components::new();
    let mut diagnostics = Vec::new();
    for step in &spec.steps {
        for (slot, component, kind) in components_of(step) {
            let of = format!("step {}", quote(&step.name.value));
            match load(&spec, &of, (component, step.limits), kind, sandbox) {
                Ok(resolved) => {
                    components.insert(SlotId { step: step.name.value.clone(), slot }, resolved);
                }
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
    }
    for step in &spec.steps {
        let Some((name, component)) = partitioner_of(step) else { continue };
        let of = format!("`partition` of step {}", quote(&step.name.value));
        match load(&spec, &of, (component, step.limits), OperatorKind::Partitioner, sandbox) {
            Ok(resolved) => drop(components.insert(SlotId { step: name, slot: 0 }, resolved)),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    for source in &spec.sources {
        let Some(component) = &source.assigner else { continue };
        let of = format!("source {}", quote(&source.name.value));
        match load(&spec, &of, (component, LimitsSpec::default()), OperatorKind::Mapper, sandbox) {
            Ok(resolved) => drop(components.insert(SlotId { step: source.name.value.clone(), slot: 0 }, resolved)),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    diagnostics.extend(super::footers::add_schemas(&mut spec));
    let refused = |diagnostics| PipelineError { path: spec.path.clone(), text: spec.text.clone(), diagnostics };
    if !diagnostics.is_empty() {
        return Err(refused(diagnostics));
    }
    Resolution::of(spec, components)
}

impl Resolution {
    /// Checks `spec` against components that have been loaded, whichever it names.
    pub fn of(spec: PipelineSpec, components: Components) -> Result<Self, PipelineError> {
        let signatures: Signatures =
            components.iter().map(|(slot, resolved)| (slot.clone(), resolved.signature.clone())).collect();
        Ok(Self { plan: plan(spec, &signatures)?, components })
    }

    /// The pipeline with other components in it, which may read other columns.
    pub fn with(&self, components: Components) -> Result<Self, PipelineError> {
        Self::of(self.plan.spec.clone(), components)
    }
}

/// The components of a step with their slots and the contract that each must export.
pub fn components_of(step: &StepSpec) -> Vec<(usize, &ComponentSpec, OperatorKind)> {
    match &step.kind.value {
        StepKind::Map(component) => vec![(0, component, OperatorKind::Mapper)],
        StepKind::Filter(component) => vec![(0, component, OperatorKind::Filter)],
        StepKind::FlatMap(component) => vec![(0, component, OperatorKind::FlatMapper)],
        StepKind::Select(_) => Vec::new(),
        StepKind::Process { component, .. } => vec![(0, component, OperatorKind::Processor)],
        StepKind::Top(_) => Vec::new(),
        StepKind::Join(_) => Vec::new(),
        StepKind::Aggregate { aggregates, .. } => aggregates
            .iter()
            .enumerate()
            .filter_map(|(slot, aggregate)| match aggregate {
                AggregateSpec::Component { component, .. } => Some((slot, component, OperatorKind::Aggregator)),
                AggregateSpec::Rows { component } => Some((slot, component, OperatorKind::WindowProcessor)),
                AggregateSpec::BuiltIn { .. } => None,
            })
            .collect(),
    }
}

/// The component that spreads a step's rows, and the name of the node that it is.
pub fn partitioner_of(step: &StepSpec) -> Option<(String, &ComponentSpec)> {
    match step.partition.as_ref().map(|partition| &partition.value) {
        Some(PartitionSpec::Custom(component)) => Some((route_name(&step.name.value), component)),
        _ => None,
    }
}

fn load(
    spec: &PipelineSpec,
    of: &str,
    (component, limits): (&ComponentSpec, LimitsSpec),
    kind: OperatorKind,
    sandbox: &Sandbox,
) -> Result<Resolved, Diagnostic> {
    let path = spec.base.join(&component.path.value);
    let span = component.path.span;
    let environment = |variable: &str| std::env::var(variable).ok();
    let settings = with_secrets(&component.config, &environment).map_err(|error| not_set(&error, of, span))?;
    let loaded = sandbox.load(&path).map_err(|error| not_loaded(&error, &path, span))?;
    let signature = loaded.describe(kind, &settings).map_err(|error| not_described(&error, of, &loaded, kind, span))?;
    Ok(Resolved { component: loaded, kind, signature, settings, path, limits, number: 0 })
}

/// A secret that cannot be had.
fn not_set(error: &SecretError, of: &str, span: Span) -> Diagnostic {
    Diagnostic {
        code: code::BAD_CONFIG,
        message: format!("config of {of}: {error}"),
        span,
        label: "expected its secrets in the environment".to_owned(),
        help: Some(
            "set the variable before the start; `secret` names it, the value never stands in the file".to_owned(),
        ),
    }
}

/// What is wrong with a file.
fn not_loaded(error: &LoadError, path: &Path, span: Span) -> Diagnostic {
    let (code, label, help) = match error {
        LoadError::Read { .. } => (code::MISSING_COMPONENT, "no such file".to_owned(), missing_help(path)),
        LoadError::NotAFile { .. } => (code::MISSING_COMPONENT, "expected a file".to_owned(), None),
        LoadError::NotWasm { .. } => (code::BAD_COMPONENT, "expected a component, found another file".to_owned(), None),
        LoadError::CoreModule { .. } => {
            (code::BAD_COMPONENT, "expected a component, found a core module".to_owned(), None)
        }
        LoadError::Version { found, expected, .. } => {
            (code::BAD_COMPONENT, format!("expected `{expected}`, found `{found}`"), None)
        }
        LoadError::NoOperator { .. } => {
            let help = "build it with `millstream build`; `millstream new` makes a project that fits";
            (code::BAD_COMPONENT, "expected an operator, found none".to_owned(), Some(help.to_owned()))
        }
        _ => (code::BAD_COMPONENT, "not a component that can run".to_owned(), None),
    };
    Diagnostic { code, message: error.to_string(), span, label, help }
}

/// Why a component that was loaded cannot take its place in `of`, a step or source.
fn not_described(error: &DescribeError, of: &str, component: &Component, kind: OperatorKind, span: Span) -> Diagnostic {
    match error {
        DescribeError::Kind { name, .. } => {
            let found: Vec<&str> = component.kinds().into_iter().map(noun).collect();
            let keys: Vec<String> = component.kinds().into_iter().map(|kind| format!("`{}`", key(kind))).collect();
            Diagnostic {
                code: code::WRONG_OPERATOR,
                message: format!("{of} uses {name} as {}", noun(kind)),
                span,
                label: format!("expected {}, found {}", noun(kind), found.join(" and ")),
                help: Some(format!("write {} for it, or name a component that is {}", keys.join(" or "), noun(kind))),
            }
        }
        DescribeError::Refused { reason, .. } => Diagnostic {
            code: code::BAD_CONFIG,
            message: error.to_string(),
            span,
            label: reason.clone(),
            help: Some(format!("set it by `config = {{ .. }}` of {of}; the component's author says what it reads")),
        },
        _ => {
            let label = "cannot say what it reads and produces".to_owned();
            Diagnostic { code: code::BAD_COMPONENT, message: error.to_string(), span, label, help: None }
        }
    }
}

/// The key of a step that takes components of this kind.
fn key(kind: OperatorKind) -> &'static str {
    match kind {
        OperatorKind::Mapper => "map",
        OperatorKind::Filter => "filter",
        OperatorKind::FlatMapper => "flat_map",
        OperatorKind::Aggregator => "aggregate",
        OperatorKind::Processor => "process",
        OperatorKind::WindowProcessor => "window_process",
        OperatorKind::Partitioner => "partition = { custom = .. }",
    }
}

fn noun(kind: OperatorKind) -> &'static str {
    match kind {
        OperatorKind::Mapper => "a mapper",
        OperatorKind::Filter => "a filter",
        OperatorKind::FlatMapper => "a flat-mapper",
        OperatorKind::Aggregator => "an aggregator",
        OperatorKind::Processor => "a processor",
        OperatorKind::WindowProcessor => "a window-processor",
        OperatorKind::Partitioner => "a partitioner",
    }
}

/// For a file that is not there: the files that are.
fn missing_help(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Some(format!(
            "there is no folder {}; paths are relative to the pipeline file, and `millstream build` makes components",
            folder.display()
        ));
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut there: Vec<String> = names.filter(|name| name.ends_with(".wasm")).collect();
    there.sort();
    if there.is_empty() {
        return Some(format!("{} holds no .wasm files; build one with `millstream build`", folder.display()));
    }
    let wanted = path.file_name()?.to_string_lossy().into_owned();
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    Some(alternatives(&format!("{} holds", folder.display()), &wanted, &there))
}
