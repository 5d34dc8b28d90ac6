//! `[step.<name>]`

use std::sync::Arc;

use super::aggregate;
use super::item::{Item, Table};
use super::join;
use super::keys;
use super::node::Value;
use super::partition;
use super::process;
use super::source::{optional, read_on_error};
use super::trigger::{read_firing, read_trigger};
use super::window::read_window;
use crate::error::{Span, Spanned};
use crate::pipeline::problems::{Problems, code, quote};
use crate::pipeline::spec::{AggregateSpec, ComponentSpec, Keep, LimitsSpec, SelectedColumn, StepKind, StepSpec};
use crate::wasm::Settings;
use crate::window::{Emit, WindowSpec};

/// `config` of the step itself and where it stands.
pub(super) type StepConfig = Option<(Settings, Span)>;

/// What is known of a step, though parts of it may be wrong.
#[derive(Default)]
pub(super) struct ReadStep {
    /// all that it reads
    pub(super) from: Option<Vec<Spanned<String>>>,
    /// names of its outputs beside its own
    pub(super) outputs: Vec<Spanned<String>>,
    /// unless anything in it is wrong
    pub(super) step: Option<StepSpec>,
}

/// Reads one step.
pub(super) fn read(name: Spanned<String>, item: Item, problems: &mut Problems) -> ReadStep {
    let Some(mut table) = Table::open(item, &keys::STEP, problems) else { return ReadStep::default() };
    let from = table.required("from", problems).and_then(|item| item.texts(problems));
    let with_late = ["aggregate", "top", "window_process", "join"];
    let late = if keys::OPERATIONS.iter().any(|key| !with_late.contains(key) && table.has(key)) {
        Some(None) // refused beside the operation
    } else {
        optional(table.take("late"), |item| item.text(problems))
    };
    let [mut with, sides] = process::read_names(&mut table, problems);
    let late = late.zip(read_late_with(&mut table, problems));
    let join_late = late
        .as_ref()
        .map(|(late, with)| [late.as_ref().map(|_| 0), with.as_ref().map(|_| usize::from(late.is_some()))]);
    let side_outputs: Option<Vec<Spanned<String>>> =
        late.zip(sides).map(|((late, with), sides)| late.into_iter().chain(with).chain(sides).collect());
    let mut kind = read_kind(&mut table, &mut with, problems);
    if let Some(StepKind::Join(join)) = kind.as_mut().map(|kind| &mut kind.value) {
        join.late = join_late.unwrap_or_default();
    }
    let parallelism = optional(table.take("parallelism"), |item| item.integer(problems));
    let keep = optional(table.take("keep"), |item| read_keep(item, problems));
    let on_error = optional(table.take("on_error"), |item| read_on_error(item, problems));
    let limits = optional(table.take("limits"), |item| read_limits(item, problems));
    let partition = optional(table.take("partition"), |item| partition::read(item, problems));
    let step = || {
        Some(StepSpec {
            name,
            from: from.clone()?,
            with: with.clone()?,
            side_outputs: side_outputs.clone()?,
            kind: kind?,
            parallelism: parallelism?,
            keep: keep?,
            on_error: on_error?.unwrap_or_default(),
            limits: limits?.unwrap_or_default(),
            partition: partition?,
        })
    };
    let step = step();
    let from = from.zip(with).map(|(from, with)| {
        // one stream may be both inputs
        let with: Vec<_> = with.into_iter().filter(|with| !from.iter().any(|from| from.value == with.value)).collect();
        from.into_iter().chain(with).collect()
    });
    ReadStep { from, outputs: side_outputs.unwrap_or_default(), step }
}

/// `late_with`, which only joins have.
fn read_late_with(table: &mut Table, problems: &mut Problems) -> Option<Option<Spanned<String>>> {
    let is_join = table.has("join");
    let item = table.take("late_with");
    if let Some(item) = item.as_ref().filter(|_| !is_join) {
        let message = format!("`late_with` has no meaning in {} without `join`", table.what);
        let help = "remove it; `late` names the rows of `from` that come too late";
        problems.add(code::CONFLICT, item.key, message, "belongs to `join`", help);
        return None;
    }
    optional(item, |item| item.text(problems))
}

fn read_kind(
    table: &mut Table,
    with: &mut Option<Vec<Spanned<String>>>,
    problems: &mut Problems,
) -> Option<Spanned<StepKind>> {
    let config = optional(table.take("config"), |item| {
        let place = item.key;
        item.settings(problems).map(|settings| (settings, place))
    });
    let keyed = KEYED.into_iter().find(|key| table.has(key));
    if let Some(key) = keyed.filter(|_| !keys::OPERATIONS.iter().any(|operation| table.has(operation))) {
        // a keyed step without its aggregate: say that rather than list all operations
        let item = table.take(key)?;
        let label = format!("{} needs `aggregate`", quote(key));
        let message = format!("{} has `{key}` and no operation", table.what);
        problems.add(code::NO_KIND, item.key, message, label, "add `aggregate = { count = \"count()\" }`");
        return None;
    }
    let (key, item) = table.take_kind(&keys::OPERATIONS, "what to do", problems)?;
    let place = item.span();
    if key == "process" {
        return process::read(table, item, config, problems).map(|kind| Spanned::new(kind, place));
    }
    process::refuse_beside(table, key, problems);
    if key == "aggregate" {
        return read_aggregate(table, item, config, problems).map(|kind| Spanned::new(kind, place));
    }
    if key == "window_process" {
        return read_window_process(table, item, config, problems).map(|kind| Spanned::new(kind, place));
    }
    if key == "top" {
        if let Some((_, place)) = config? {
            let message = format!("`config` has no meaning in {} with `top`", table.what);
            problems.add(code::CONFLICT, place, message, "there is no component to read it", "remove `config`");
        }
        return super::top::read(table, item, problems).map(|top| Spanned::new(StepKind::Top(top), place));
    }
    if matches!(key, "join" | "lookup") {
        let read =
            if key == "join" { join::read(table, item, problems) } else { join::read_lookup(table, item, problems) };
        refuse_keyed(table, key, problems);
        *with = read.with;
        if let Some((_, place)) = config? {
            let message = format!("{} has `config` and no component", table.what);
            problems.add(code::CONFLICT, place, message, "a join takes none", "remove `config`");
            return None;
        }
        return Some(Spanned::new(StepKind::Join(Box::new(read.join?)), place));
    }
    refuse_keyed(table, key, problems);
    if key == "select" {
        if let Some((_, place)) = config? {
            let message = format!("`config` has no meaning in {} with `select`", table.what);
            problems.add(code::CONFLICT, place, message, "there is no component to read it", "remove `config`");
        }
        return read_select(item, problems).map(|columns| Spanned::new(StepKind::Select(columns), place));
    }
    let component = read_component(item, config?, problems)?;
    let kind = match key {
        "map" => StepKind::Map(component),
        "filter" => StepKind::Filter(component),
        _ => StepKind::FlatMap(component),
    };
    Some(Spanned::new(kind, place))
}

/// The keys that only `aggregate` has a use for.
const KEYED: [&str; 7] = ["key_by", "window", "allowed_lateness", "trigger", "firing", "late", "emit"];

/// These keys beside an operation that has no use for them.
fn refuse_keyed(table: &mut Table, operation: &str, problems: &mut Problems) {
    for key in KEYED {
        if let Some(item) = table.take(key) {
            let message = format!("`{key}` has no meaning in {} with `{operation}`", table.what);
            let label = "belongs to `aggregate`";
            let help = "aggregate in a step of its own that reads from this one";
            problems.add(code::CONFLICT, item.key, message, label, help);
        }
    }
}

/// An aggregate whose only entry takes all rows.
fn read_window_process(
    table: &mut Table,
    item: Item,
    config: Option<StepConfig>,
    problems: &mut Problems,
) -> Option<StepKind> {
    if !table.has("window") {
        let message = format!("{} has `window_process` and no `window`", table.what);
        let help = "add `window = { tumbling = \"1m\" }`; `process` handles rows one by one, without a window";
        problems.add(code::MISSING_KEY, item.key, message, "it takes all rows of a window", help);
        table.take("emit");
        return None;
    }
    let place = item.key;
    let entry = |item: Item, problems: &mut Problems| {
        let component = read_component(item, config?, problems)?;
        Some(vec![AggregateSpec::Rows { component }])
    };
    read_windowed(table, place, item, problems, entry)
}

fn read_aggregate(
    table: &mut Table,
    item: Item,
    config: Option<StepConfig>,
    problems: &mut Problems,
) -> Option<StepKind> {
    let what = table.what.clone();
    let place = item.span();
    let entries = |item: Item, problems: &mut Problems| {
        let aggregates = aggregate::read(item, problems);
        let mut aggregates = aggregates?;
        if let Some((settings, place)) = config? {
            give_config(&what, &mut aggregates, &settings, place, problems)?;
        }
        Some(aggregates)
    };
    read_windowed(table, place, item, problems, entries)
}

/// Keys, windows and what is made of them.
fn read_windowed(
    table: &mut Table,
    place: Span,
    item: Item,
    problems: &mut Problems,
    entries: impl FnOnce(Item, &mut Problems) -> Option<Vec<AggregateSpec>>,
) -> Option<StepKind> {
    let key_by = optional(table.take("key_by"), |item| item.texts(problems));
    let window = read_window_or_none(table, place, problems);
    let trigger = optional(table.take("trigger"), |item| read_trigger(item, problems));
    let firing = optional(table.take("firing"), |item| read_firing(item, problems));
    let allowed_lateness = optional(table.take("allowed_lateness"), |item| item.duration(problems));
    let aggregates = entries(item, problems)?;
    let allowed_lateness = allowed_lateness?.unwrap_or_default();
    let (window, gap) = window?;
    Some(StepKind::Aggregate {
        key_by: key_by?.unwrap_or_default(),
        window,
        allowed_lateness,
        gap,
        trigger: trigger?,
        firing: firing?,
        aggregates,
    })
}

/// `["a", "b"]` or `{ new = "old" }`
fn read_select(item: Item, problems: &mut Problems) -> Option<Vec<SelectedColumn>> {
    if !matches!(&item.node.value, Value::Table(_)) {
        let columns = item.texts(problems)?.into_iter();
        return Some(columns.map(|column| SelectedColumn { output: column.clone(), column }).collect());
    }
    let entries = item.entries("name columns: `select = { price = \"price\", seller = \"id\" }`", problems)?;
    let count = entries.len();
    let read = |(output, item): (Spanned<String>, Item)| Some(SelectedColumn { output, column: item.text(problems)? });
    let columns: Vec<_> = entries.into_iter().filter_map(read).collect();
    (columns.len() == count).then_some(columns)
}

/// `window`, or without one `emit`.
fn read_window_or_none(
    table: &mut Table,
    place: Span,
    problems: &mut Problems,
) -> Option<(Spanned<WindowSpec>, Option<Spanned<String>>)> {
    const EMITS: [(&str, Emit); 2] = [("changes", Emit::Changes), ("latest", Emit::Latest)];
    let window = optional(table.take("window"), |item| read_window(item, problems));
    let emit = table.take("emit");
    match (window?, emit) {
        (Some(window), None) => Some(window),
        (Some(_), Some(emit)) => {
            let message = format!("`emit` has no meaning in {} with `window`", table.what);
            let label = "a window puts its results out when it fires";
            problems.add(code::CONFLICT, emit.key, message, label, "remove `emit` or `window`");
            None
        }
        (None, emit) => {
            let emit = optional(emit, |item| item.choice(&EMITS, problems))?;
            let emit = emit.map(|emit| emit.value).unwrap_or_default();
            Some((Spanned::new(WindowSpec::Rolling { emit }, place), None))
        }
    }
}

/// `config` of an aggregating step is that of all its components.
fn give_config(
    what: &str,
    aggregates: &mut [AggregateSpec],
    settings: &Settings,
    place: Span,
    problems: &mut Problems,
) -> Option<()> {
    let mut readers = 0;
    for aggregate in aggregates {
        if let AggregateSpec::Component { component, .. } = aggregate {
            readers += 1;
            if !component.config.is_empty() {
                return config_twice(what, place, problems);
            }
            component.config = Arc::clone(settings);
        }
    }
    if readers > 0 {
        return Some(());
    }
    let message = format!("{what} has `config` and no component");
    problems.add(code::CONFLICT, place, message, "built-in aggregates take none", "remove `config`");
    None
}

fn config_twice<T>(what: &str, place: Span, problems: &mut Problems) -> Option<T> {
    problems.add(
        code::CONFLICT,
        place,
        format!("{what} has `config` twice"),
        "the component has its own `config`",
        "keep one: `config` of the step, or `{ component = \"..\", config = { .. } }`",
    );
    None
}

/// `"x.wasm"` or `{ component = "x.wasm", config = { .. } }`
pub(super) fn read_component(item: Item, config: StepConfig, problems: &mut Problems) -> Option<ComponentSpec> {
    if matches!(item.node.value, Value::Text(_)) {
        let path = item.text(problems)?;
        return Some(ComponentSpec { path, config: config.map(|(settings, _)| settings).unwrap_or_default() });
    }
    let mut table = Table::open(item, &keys::COMPONENT, problems)?;
    let path = table.required("component", problems).and_then(|item| item.text(problems));
    let own = optional(table.take("config"), |item| item.settings(problems));
    let config = match (own?, config) {
        (Some(_), Some((_, place))) => return config_twice(&table.what, place, problems),
        (Some(own), None) => own,
        (None, config) => config.map(|(settings, _)| settings).unwrap_or_default(),
    };
    Some(ComponentSpec { path: path?, config })
}

fn read_keep(item: Item, problems: &mut Problems) -> Option<Spanned<Keep>> {
    let place = item.span();
    if matches!(&item.node.value, Value::List(_)) {
        return item.texts(problems).map(|columns| Spanned::new(Keep::Columns(columns), place));
    }
    if let Value::Text(text) = &item.node.value
        && text != "all"
    {
        problems.add(
            code::UNKNOWN_VALUE,
            place,
            format!("{} is {}", item.what, quote(text)),
            "expected `\"all\"` or a list of columns",
            format!("write `keep = \"all\"` or `keep = [{text:?}]`"),
        );
        return None;
    }
    item.choice(&[("all", ())], problems).map(|_| Spanned::new(Keep::All, place))
}

fn read_limits(item: Item, problems: &mut Problems) -> Option<LimitsSpec> {
    let mut table = Table::open(item, &keys::LIMITS, problems)?;
    let memory = optional(table.take("memory"), |item| item.bytes(problems));
    let deadline = optional(table.take("deadline"), |item| item.positive_duration(problems));
    let default = LimitsSpec::default();
    Some(LimitsSpec {
        memory_bytes: memory?.unwrap_or(default.memory_bytes),
        deadline: deadline?.unwrap_or(default.deadline),
    })
}
