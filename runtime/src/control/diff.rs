//! What is different between a pipeline that runs and one that is wanted, and how the one becomes the other. Pure: two checked
//! pipelines in, a list of differences out, before anything is touched.
//!
//! | effect | what happens |
//! | --- | --- |
//! | swap | guests change at one barrier, tasks go on |
//! | rebuild | tasks end at one barrier, others begin there with their state |
//! | drops state | the same, and the step begins empty: only where it is approved by name |
//! | restart | not in a running pipeline |

mod facts;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::facts::{Fact, of_pipeline, of_sink, of_source, of_step};
use super::judge::{Verdict, judge};
use crate::pipeline::handover::same_source;
use crate::pipeline::plan::{Node, NodeKind, Plan, SlotId};
use crate::pipeline::resolve::{Components, Resolution};
use crate::record::Schema;
use crate::source::is_rewindable;
use crate::wasm::{OperatorKind, Settings, Signature};

/// Which part of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// the whole
    Pipeline,
    /// a source
    Source,
    /// a step
    Step,
    /// a sink
    Sink,
}

/// What it takes to make a difference true. The later ones take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// guests change at one barrier, tasks go on
    Swap,
    /// tasks end at one barrier, others begin there with their state
    Rebuild,
    /// as [`Effect::Rebuild`], and what the part has remembered, or read ahead, is given up: must be approved
    DropsState,
    /// cannot be done in a running pipeline
    Restart,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// what kind of part
    pub part: Part,
    /// its name
    pub name: String,
    /// the key that differs; none where the whole part is new or gone
    pub key: Option<String>,
    /// as it runs; none where it is new
    pub from: Option<String>,
    /// as it is wanted; none where it is gone
    pub to: Option<String>,
    /// what it takes
    pub effect: Effect,
    /// what to know about it
    pub note: Option<&'static str>,
}

/// A component, as far as differences go.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) digest: String,
    /// the name of its file
    pub(super) file: String,
    pub(super) kind: OperatorKind,
    pub(super) signature: Signature,
    pub(super) settings: Settings,
}

/// A pipeline, as far as differences go.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    pub(super) plan: &'a Plan,
    pub(super) components: BTreeMap<SlotId, Known>,
}

impl<'a> From<&'a Resolution> for Shape<'a> {
    fn from(resolution: &'a Resolution) -> Self {
        Self::of(&resolution.plan, &resolution.components)
    }
}

impl<'a> Shape<'a> {
    fn of(plan: &'a Plan, components: &Components) -> Self {
        let known = components.iter().map(|(slot, resolved)| {
            let digest = resolved.component.digest();
            let file = resolved.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let known = Known {
                digest: digest.to_string(),
                file: format!("{file} ({})", digest.short()),
                kind: resolved.kind,
                signature: resolved.signature.clone(),
                settings: resolved.settings.clone(),
            };
            (slot.clone(), known)
        });
        Self { plan, components: known.collect() }
    }
}

impl Shape<'_> {
    /// A source or step.
    fn node(&self, name: &str) -> Option<&Node> {
        self.plan.nodes.iter().find(|node| node.name == name && !matches!(node.kind, NodeKind::Sink { .. }))
    }

    /// A sink, which may have the name of a step.
    fn sink(&self, name: &str) -> Option<&Node> {
        self.plan.nodes.iter().find(|node| node.name == name && matches!(node.kind, NodeKind::Sink { .. }))
    }

    /// Whether a step remembers anything.
    fn is_stateful(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| {
            matches!(
                node.kind,
                NodeKind::Aggregate { .. } | NodeKind::Process { .. } | NodeKind::Top { .. } | NodeKind::Join { .. }
            )
        })
    }

    /// Columns that reach a step, or that a source's assigner can read.
    fn input(&self, name: &str) -> Option<&Schema> {
        let node = self.node(name)?;
        match node.kind {
            NodeKind::Source { .. } => Some(&node.schema),
            _ => Some(&self.plan.nodes.get(*node.inputs.first()?)?.schema),
        }
    }

    fn role(&self, name: &str) -> Part {
        let of_source = self.plan.spec.sources.iter().any(|source| source.name.value == name);
        if of_source { Part::Source } else { Part::Step }
    }
}

/// All differences, those of the pipeline as a whole first, then in the order of the wanted pipeline.
pub(super) fn diff(running: &Shape<'_>, wanted: &Shape<'_>) -> Vec<Difference> {
    let (old, new) = (&running.plan.spec, &wanted.plan.spec);
    let mut found = Vec::new();
    let name = &old.name.value;
    compare((Part::Pipeline, name), of_pipeline(old), of_pipeline(new), &mut found);
    let named = |name: &str| new.sources.iter().any(|source| source.name.value == name);
    for source in old.sources.iter().filter(|source| !named(&source.name.value)) {
        let gone = whole(Part::Source, &source.name.value, false, Effect::DropsState);
        found.push(Difference { note: Some("where it stands is forgotten"), ..gone });
    }
    for source in &new.sources {
        let name = &source.name.value;
        match old.sources.iter().find(|old| old.name.value == *name) {
            None => {
                let added = whole(Part::Source, name, true, Effect::Rebuild);
                found.push(Difference { note: Some("begins at its start"), ..added });
            }
            Some(before) => {
                let mut of = Vec::new();
                compare((Part::Source, name), of_source(before, running), of_source(source, wanted), &mut of);
                if !is_rewindable(&before.kind.value) {
                    reopened(running, wanted, name, &mut of);
                }
                found.append(&mut of);
            }
        }
    }
    let named = |name: &str| new.steps.iter().any(|step| step.name.value == name);
    for step in old.steps.iter().filter(|step| !named(&step.name.value)) {
        let name = &step.name.value;
        let effect = if running.is_stateful(name) { Effect::DropsState } else { Effect::Rebuild };
        found.push(whole(Part::Step, name, false, effect));
    }
    for step in &new.steps {
        let name = &step.name.value;
        match old.steps.iter().find(|old| old.name.value == *name) {
            None => found.push(whole(Part::Step, name, true, Effect::Rebuild)),
            Some(before) => {
                compare((Part::Step, name), of_step(before, running), of_step(step, wanted), &mut found);
            }
        }
    }
    for (slot, known) in &wanted.components {
        if let Some(before) = running.components.get(slot) {
            component(running, slot, before, known, &mut found);
        }
    }
    let named = |name: &str| new.sinks.iter().any(|sink| sink.name.value == name);
    for sink in old.sinks.iter().filter(|sink| !named(&sink.name.value)) {
        found.push(whole(Part::Sink, &sink.name.value, false, Effect::Rebuild));
    }
    for sink in &new.sinks {
        let name = &sink.name.value;
        match old.sinks.iter().find(|old| old.name.value == *name) {
            None => found.push(whole(Part::Sink, name, true, Effect::Rebuild)),
            Some(before) => compare((Part::Sink, name), of_sink(before, running), of_sink(sink, wanted), &mut found),
        }
    }
    found
}

/// A part that is new, or gone.
fn whole(part: Part, name: &str, is_new: bool, effect: Effect) -> Difference {
    let (from, to) = if is_new { (None, Some("added")) } else { (Some("removed"), None) };
    let text = |word: Option<&str>| word.map(str::to_owned);
    Difference { part, name: name.to_owned(), key: None, from: text(from), to: text(to), effect, note: None }
}

/// What of two lists of facts about one part differs. A key that is missing on one side has no value there.
fn compare((part, name): (Part, &str), old: Vec<Fact>, new: Vec<Fact>, found: &mut Vec<Difference>) {
    let mut keys: Vec<&'static str> = Vec::new();
    for fact in new.iter().chain(&old) {
        if !keys.contains(&fact.key) {
            keys.push(fact.key);
        }
    }
    for key in keys {
        let of = |facts: &'_ [Fact]| facts.iter().find(|fact| fact.key == key).cloned();
        let (before, after) = (of(&old), of(&new));
        if before.as_ref().map(|fact| &fact.value) == after.as_ref().map(|fact| &fact.value) {
            continue;
        }
        let effect = before.iter().chain(&after).map(|fact| fact.effect).max().unwrap_or(Effect::Rebuild);
        let note = before.iter().chain(&after).find_map(|fact| fact.note);
        let shown = |fact: Option<Fact>| fact.map(|fact| fact.shown);
        let (from, to) = (shown(before), shown(after));
        let (name, key) = (name.to_owned(), Some(key.to_owned()));
        found.push(Difference { part, name, key, from, to, effect, note });
    }
}

/// A source that cannot be read again keeps its open end, if what it gives out stays as it is.
fn reopened(running: &Shape<'_>, wanted: &Shape<'_>, name: &str, found: &mut Vec<Difference>) {
    if same_source(running.plan, wanted.plan, name) {
        return;
    }
    const NOTE: &str = "it cannot be read again and is opened anew: rows on their way to it are lost";
    if found.is_empty() {
        let columns = |shape: &Shape<'_>| shape.node(name).map(|node| node.schema.to_string());
        found.push(Difference {
            part: Part::Source,
            name: name.to_owned(),
            key: Some("columns".to_owned()),
            from: columns(running),
            to: columns(wanted),
            effect: Effect::DropsState,
            note: Some(NOTE),
        });
    }
    for difference in found.iter_mut().filter(|difference| difference.effect < Effect::DropsState) {
        (difference.effect, difference.note) = (Effect::DropsState, Some(NOTE));
    }
}

/// A component, or its configuration, that differs.
fn component(running: &Shape<'_>, slot: &SlotId, old: &Known, new: &Known, found: &mut Vec<Difference>) {
    let same_settings = old.settings == new.settings;
    if old.digest == new.digest && same_settings {
        return;
    }
    let (effect, note) = component_effect(running, slot, old, new);
    let add = |key: String, from: Option<String>, to: Option<String>| {
        let (part, name) = (running.role(&slot.step), slot.step.clone());
        Difference { part, name, key: Some(key), from, to, effect, note }
    };
    if old.digest != new.digest {
        found.push(add("component".to_owned(), Some(old.file.clone()), Some(new.file.clone())));
    }
    let names: BTreeSet<&String> = old.settings.keys().chain(new.settings.keys()).collect();
    for name in names {
        let (before, after) = (old.settings.get(name), new.settings.get(name));
        if before != after {
            let shown = |setting: Option<&crate::wasm::Setting>| setting.map(facts::setting);
            found.push(add(format!("config.{name}"), shown(before), shown(after)));
        }
    }
}

/// What it takes, and what to know about it.
fn component_effect(running: &Shape<'_>, slot: &SlotId, old: &Known, new: &Known) -> (Effect, Option<&'static str>) {
    let drops = (Effect::DropsState, Some("its state is of another kind"));
    let is_stateful = running.is_stateful(&slot.step);
    if old.kind != new.kind {
        return if is_stateful { drops } else { (Effect::Rebuild, None) };
    }
    let fits = running.input(&slot.step).map(|input| judge(&old.signature, &new.signature, input));
    let processes = old.signature.process == new.signature.process;
    match fits {
        Some(Verdict::Identical | Verdict::Compatible) if processes => (Effect::Swap, None),
        Some(Verdict::Migrate { .. }) if processes => (Effect::Swap, Some("its state is migrated")),
        // rows of open windows are kept as the component reads them
        _ if old.kind == OperatorKind::WindowProcessor && old.signature.inputs != new.signature.inputs => drops,
        _ if is_stateful && old.signature.state != new.signature.state => drops,
        _ => (Effect::Rebuild, None),
    }
}

/// What the state of each step with state hangs on: the facts a change of which gives it up, as a text to compare.
pub(super) fn kept_by_steps(plan: &Plan, components: &Components) -> BTreeMap<String, String> {
    let shape = Shape::of(plan, components);
    let steps = plan.spec.steps.iter().filter(|step| shape.is_stateful(&step.name.value));
    let kept = steps.map(|step| {
        let name = &step.name.value;
        let facts = of_step(step, &shape).into_iter().filter(|fact| fact.effect == Effect::DropsState);
        let mut text: Vec<String> = facts.map(|fact| format!("{} = {}", fact.key, fact.value)).collect();
        for (slot, known) in shape.components.iter().filter(|(slot, _)| slot.step == *name) {
            text.push(format!("component {} = {:?} of {}", slot.slot, known.signature.state, known.kind));
        }
        (name.clone(), text.join("\n"))
    });
    kept.collect()
}

/// Names that must be approved, each once.
pub(super) fn to_approve(differences: &[Difference]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for difference in differences.iter().filter(|difference| difference.effect == Effect::DropsState) {
        if !names.contains(&difference.name) {
            names.push(difference.name.clone());
        }
    }
    names
}

impl std::fmt::Display for Difference {
    /// `step `counts`: parallelism 1 → 3`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = match self.part {
            Part::Pipeline => "pipeline",
            Part::Source => "source",
            Part::Step => "step",
            Part::Sink => "sink",
        };
        write!(f, "{part} `{}`", self.name)?;
        match (&self.key, &self.from, &self.to) {
            (Some(key), from, to) => {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                write!(f, ": {key} {} → {}", text(from), text(to))?;
            }
            (None, from, to) => write!(f, " {}", from.as_ref().or(to.as_ref()).map_or("", String::as_str))?,
        }
        self.note.map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

#[cfg(test)]
mod tests;
