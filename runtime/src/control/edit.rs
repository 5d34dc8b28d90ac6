//! Single values of a pipeline's specification, set by their names. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::apply::{ApplyError, unknown};
use crate::pipeline::duration;
use crate::pipeline::partition::PartitionSpec;
use crate::pipeline::size::parse_bytes;
use crate::pipeline::spec::{AggregateSpec, ComponentSpec, PipelineSpec, StepKind, StepSpec};
use crate::wasm::Setting;

/// Tasks that a part can have at most.
const TASKS_MAX: usize = crate::limits::KEY_GROUPS as usize;

/// Sets the number of tasks of all parts that do not say otherwise, or of those that are named.
pub(super) fn rescale(spec: &mut PipelineSpec, tasks: usize, names: &[String]) -> Result<(), ApplyError> {
    if tasks == 0 || tasks > TASKS_MAX {
        return Err(wrong("parallelism", &tasks.to_string(), format!("expected 1 to {TASKS_MAX}")));
    }
    if names.is_empty() {
        spec.parallelism = Some(tasks.into());
    }
    for name in names {
        let sources = spec.sources.iter_mut().map(|part| (&part.name.value, &mut part.parallelism));
        let steps = spec.steps.iter_mut().map(|part| (&part.name.value, &mut part.parallelism));
        let sinks = spec.sinks.iter_mut().map(|part| (&part.name.value, &mut part.parallelism));
        match sources.chain(steps).chain(sinks).find(|(part, _)| *part == name) {
            Some((_, parallelism)) => *parallelism = Some(tasks.into()),
            None => return Err(unknown("source, step or sink", name, &parts(spec))),
        }
    }
    Ok(())
}

fn parts(spec: &PipelineSpec) -> Vec<&str> {
    let sources = spec.sources.iter().map(|part| part.name.value.as_str());
    let steps = spec.steps.iter().map(|part| part.name.value.as_str());
    sources.chain(steps).chain(spec.sinks.iter().map(|part| part.name.value.as_str())).collect()
}

/// Sets `step.key`, or `step.entry.key` where the step has several components.
pub(super) fn set(spec: &mut PipelineSpec, name: &str, value: &str) -> Result<(), ApplyError> {
    let known = parts(spec);
    let Some((part, key)) = name.split_once('.').filter(|(part, key)| !part.is_empty() && !key.is_empty()) else {
        return Err(wrong(name, value, "expected `step.key`, as in `segment.language` or `segment.limits.memory`"));
    };
    if !known.contains(&part) {
        return Err(unknown("source, step or sink", part, &known));
    }
    if key == "parallelism" {
        let tasks = value.parse().map_err(|_| wrong(name, value, "expected a whole number"))?;
        return rescale(spec, tasks, &[part.to_owned()]);
    }
    let Some(step) = spec.steps.iter_mut().find(|step| step.name.value == part) else {
        return Err(wrong(name, value, "only steps have configuration and limits"));
    };
    match key {
        "limits.memory" => {
            let bytes = parse_bytes(value).map_err(|error| wrong(name, value, error.to_string()))?;
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
            step.limits.memory_bytes = bytes.ok_or_else(|| wrong(name, value, "expected a size such as 64MiB"))?;
        }
        "limits.deadline" => {
            let ms = duration::parse_ms(value).map_err(|error| wrong(name, value, error.to_string()))?;
            if ms == 0 {
                return Err(wrong(name, value, "expected a duration such as 1s"));
            }
            step.limits.deadline = Duration::from_millis(ms);
        }
        _ => configure(step, name, key.strip_prefix("config.").unwrap_or(key), value)?,
    }
    Ok(())
}

fn configure(step: &mut StepSpec, name: &str, key: &str, value: &str) -> Result<(), ApplyError> {
    let mut components = components(step);
    let component = match (components.len(), key.split_once('.')) {
        (1, _) => components.pop().map(|(_, component)| (component, key)),
        (_, Some((entry, key))) => {
            components.into_iter().find(|(known, _)| known == entry).map(|(_, component)| (component, key))
        }
        _ => None,
    };
    let Some((component, key)) = component else {
        return Err(wrong(name, value, "the step has no such component; name it as `step.entry.key`"));
    };
    let mut settings = component.config.as_ref().clone();
    if let Some(Setting::Secret(secret)) = settings.get(key) {
        let reason =
            format!("it is the secret of environment variable `{}`: no command line may show it", secret.variable());
        return Err(wrong(name, "..", reason));
    }
    settings.insert(key.to_owned(), setting(value, settings.get(key)));
    component.config = Arc::new(settings);
    Ok(())
}

/// The components of a step that can be configured, by the names of their entries.
fn components(step: &mut StepSpec) -> Vec<(String, &mut ComponentSpec)> {
    let mut found = Vec::new();
    match &mut step.kind.value {
        StepKind::Map(component) | StepKind::Filter(component) | StepKind::FlatMap(component) => {
            found.push((String::new(), component));
        }
        StepKind::Process { component, .. } => found.push((String::new(), component)),
        StepKind::Aggregate { aggregates, .. } => {
            for aggregate in aggregates {
                match aggregate {
                    AggregateSpec::Component { output, component } => found.push((output.value.clone(), component)),
                    AggregateSpec::Rows { component } => found.push((String::new(), component)),
                    AggregateSpec::BuiltIn { .. } => {}
                }
            }
        }
        StepKind::Select(_) | StepKind::Top(_) | StepKind::Join(_) => {}
    }
    if let Some(PartitionSpec::Custom(component)) = step.partition.as_mut().map(|partition| &mut partition.value) {
        found.push(("partition".to_owned(), component));
    }
    found
}

/// A value of the kind that the setting has; of one that is new, of the kind that the text looks like.
fn setting(text: &str, before: Option<&Setting>) -> Setting {
    let boolean = || text.parse().ok().map(Setting::Boolean);
    let int64 = || text.parse().ok().map(Setting::Int64);
    let float64 = || text.parse().ok().filter(|value: &f64| value.is_finite()).map(Setting::Float64);
    let found = match before {
        Some(Setting::Text(_)) => None,
        Some(Setting::Float64(_)) => float64(),
        _ => boolean().or_else(int64).or_else(float64),
    };
    found.unwrap_or_else(|| Setting::Text(text.to_owned()))
}

fn wrong(name: &str, value: &str, reason: impl Into<String>) -> ApplyError {
    ApplyError::Value { name: name.to_owned(), value: value.to_owned(), reason: reason.into() }
}
