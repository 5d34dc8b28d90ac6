//! Single values of a pipeline's specification, set by their names. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::apply::{ApplyError, unknown};
use crate::error::near_match;
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
        let reason = format!(
            "of a source or sink only `{part}.parallelism` can be set; for all else change the pipeline file and `millstream \
             apply` it"
        );
        return Err(wrong(name, value, reason));
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
        _ if key.starts_with("limits.") => {
            return Err(wrong(name, value, format!("there are `{part}.limits.memory` and `{part}.limits.deadline`")));
        }
        _ => configure(step, name, key, value)?,
    }
    Ok(())
}

/// What can be set of every step, beside its configuration.
const OF_STEPS: [&str; 3] = ["parallelism", "limits.memory", "limits.deadline"];

fn configure(step: &mut StepSpec, name: &str, key: &str, value: &str) -> Result<(), ApplyError> {
    let part = step.name.value.clone();
    let (is_config, key) = key.strip_prefix("config.").map_or((false, key), |key| (true, key));
    let mut components = components(step);
    let entries: Vec<String> = components.iter().map(|(entry, _)| entry.clone()).collect();
    let component = match (components.len(), key.split_once('.')) {
        (1, _) => components.pop().map(|(_, component)| (component, key)),
        (_, Some((entry, key))) => {
            components.into_iter().find(|(known, _)| known == entry).map(|(_, component)| (component, key))
        }
        _ => None,
    };
    let Some((component, key)) = component else {
        let reason = match entries.as_slice() {
            [] => format!("the step has no component to configure; of it `{part}.parallelism` can be set"),
            several => format!(
                "the step has the components {}; name one, as in `{part}.{}.{key}`",
                several.join(", "),
                several.first().map_or("", String::as_str)
            ),
        };
        return Err(wrong(name, value, reason));
    };
    let is_new = !is_config && !component.config.contains_key(key);
    if let Some(meant) = near_match(key, OF_STEPS).filter(|_| is_new) {
        let reason = format!("did you mean `{part}.{meant}`? `{part}.config.{key}` gives it to the component");
        return Err(wrong(name, value, reason));
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pipeline::parse;

    const PIPELINE: &str = r#"
name = "p"
[source.numbers]
generator = { kind = "sequence" }
[step.large]
from = "numbers"
filter = { component = "large.wasm", config = { minimum = 1.5, memory = 3 } }
[step.counts]
from = "large"
key_by = ["key"]
aggregate = { rows = "count()" }
[step.sums]
from = "large"
key_by = ["key"]
aggregate = { a = "a.wasm", b = "b.wasm" }
[sink.out]
from = "sums"
discard = {}
[sink.counts]
from = "counts"
discard = {}
"#;

    /// The specification once a value is set, or why it cannot be.
    fn after(name: &str, value: &str) -> Result<PipelineSpec, String> {
        let mut spec = parse(PIPELINE, Path::new("p.toml"), Path::new("")).unwrap();
        set(&mut spec, name, value).map(|()| spec).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_set_is_where_it_belongs() {
        let settings = |name: &str, value: &str| {
            let mut spec = after(name, value).unwrap();
            let of = |step: &mut StepSpec| components(step).into_iter().map(|(_, one)| (*one.config).clone()).collect();
            spec.steps.iter_mut().flat_map(|step| -> Vec<_> { of(step) }).collect::<Vec<_>>()
        };
        assert_eq!(settings("large.minimum", "2")[0]["minimum"], Setting::Float64(2.0), "of the kind that it had");
        assert_eq!(settings("large.memory", "4")[0]["memory"], Setting::Int64(4), "a key of its own, not the limit");
        assert_eq!(settings("large.config.paralelism", "4")[0]["paralelism"], Setting::Int64(4));
        assert_eq!(settings("sums.b.note", "x")[2]["note"], Setting::Text("x".into()));
        let spec = after("large.limits.memory", "1MiB").unwrap();
        assert_eq!(spec.steps[0].limits.memory_bytes, 1 << 20);
        assert_eq!(after("large.limits.deadline", "20ms").unwrap().steps[0].limits.deadline, Duration::from_millis(20));
        assert_eq!(
            after("out.parallelism", "3").unwrap().sinks[0].parallelism.as_ref().map(|tasks| tasks.value),
            Some(3)
        );
    }

    #[test]
    fn what_cannot_be_set_is_told_with_what_can() {
        for (name, why) in [
            (
                "large.paralelism",
                "did you mean `large.parallelism`? `large.config.paralelism` gives it to the component",
            ),
            ("large.limit.memory", "did you mean `large.limits.memory`?"),
            ("large.limits.memori", "there are `large.limits.memory` and `large.limits.deadline`"),
            ("counts.foo", "the step has no component to configure; of it `counts.parallelism` can be set"),
            ("sums.foo", "the step has the components a, b; name one, as in `sums.a.foo`"),
            ("numbers.rate", "of a source or sink only `numbers.parallelism` can be set"),
            ("lrge.minimum", "did you mean `large`?"),
            ("large", "expected `step.key`"),
            ("large.parallelism", "expected a whole number"),
        ] {
            let refused = after(name, "x").unwrap_err();
            assert!(refused.contains(why), "{name}: {refused}");
        }
    }
}
