//! Which columns anybody needs, so that sources decode those and no others.

use std::collections::{BTreeMap, BTreeSet};

use super::check::WINDOW_COLUMNS;
use super::join::JoinSpec;
use super::partition::{PartitionSpec, route_name};
use super::plan::{Signatures, SlotId};
use super::spec::{AggregateSpec, Keep, PipelineSpec, SourceSpec, StepKind, StepSpec};
use crate::error::Spanned;
use crate::record::{Field, Kind, Schema};

/// Columns of a stream that its readers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// whatever there is
    All,
    /// these
    Columns(BTreeSet<String>),
}

impl Needed {
    fn nothing() -> Self {
        Self::Columns(BTreeSet::new())
    }

    fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Columns(columns), Self::Columns(more)) => columns.extend(more),
        }
    }

    fn add_schema(&mut self, schema: &Schema) {
        self.add(Self::Columns(schema.fields().iter().map(|field| field.name.clone()).collect()));
    }
}

/// What the readers of each source and step need of it, by name. The pipeline has no cycles (checked before).
///
/// Sources whose rows meet in one step without having been made anew on the way need the same: the streams that a step
/// unites must have the same columns, though one of them may have passed a filter that reads more.
pub(super) fn needed<'a>(spec: &'a PipelineSpec, signatures: &Signatures) -> BTreeMap<&'a str, Needed> {
    let mut needed: BTreeMap<&str, Needed> = BTreeMap::new();
    let add = |needed: &mut BTreeMap<&'a str, Needed>, from: &'a [Spanned<String>], more: Needed| {
        for from in from {
            needed.entry(&from.value).or_insert_with(Needed::nothing).add(more.clone());
        }
    };
    for sink in &spec.sinks {
        add(&mut needed, &sink.from, Needed::All);
    }
    for step in readers_first(spec) {
        let beyond = needed.get(step.name.value.as_str()).cloned().unwrap_or_else(Needed::nothing);
        add(&mut needed, &step.from, needed_to_spread(step, signatures));
        if let StepKind::Join(join) = &step.kind.value {
            add(&mut needed, &step.from, needed_by_join(join, 0));
            add(&mut needed, &step.with, needed_by_join(join, 1));
            for (late, from) in join.late.iter().zip([&step.from, &step.with]) {
                let output = late.and_then(|output| step.side_outputs.get(output));
                if let Some(more) = output.and_then(|output| needed.get(output.value.as_str())).cloned() {
                    add(&mut needed, from, more);
                }
            }
            continue;
        }
        add(&mut needed, &step.from, needed_by(step, signatures, beyond));
        // late rows leave with the columns that came in
        for output in &step.side_outputs {
            if let Some(more) = needed.get(output.value.as_str()).filter(|_| passes_late(step)).cloned() {
                add(&mut needed, &step.from, more);
            }
        }
        add(&mut needed, &step.with, needed_of_second(step, signatures));
    }
    unite(spec, &mut needed);
    needed
}

/// What has to be known of rows to tell which task they go to.
fn needed_to_spread(step: &StepSpec, signatures: &Signatures) -> Needed {
    let Some(partition) = &step.partition else { return Needed::nothing() };
    match &partition.value {
        PartitionSpec::Custom(_) => {
            let signature = signatures.get(&SlotId { step: route_name(&step.name.value), slot: 0 });
            let fields = signature.iter().flat_map(|signature| signature.inputs.fields());
            Needed::Columns(fields.map(|field| field.name.clone()).collect())
        }
        PartitionSpec::Forward | PartitionSpec::Rebalance | PartitionSpec::Broadcast => Needed::nothing(),
        PartitionSpec::Row => Needed::All,
        PartitionSpec::Key(columns) => Needed::Columns(columns.iter().map(|column| column.value.clone()).collect()),
        PartitionSpec::Range { column, .. } | PartitionSpec::SampledRange { column, .. } => {
            Needed::Columns(BTreeSet::from([column.value.clone()]))
        }
    }
}

/// What a join needs of input `port`: all there is, unless `select` says what comes out. A name may stand for a column of
/// either side, and behind the prefix for one that both have.
fn needed_by_join(join: &JoinSpec, port: usize) -> Needed {
    let Some(select) = &join.select else { return Needed::All };
    let mut columns: BTreeSet<String> = join.keys(port).map(|key| key.value.clone()).collect();
    let prefix = join.prefix.as_ref().map(|prefix| prefix.value.as_str());
    for name in select {
        columns.insert(name.value.clone());
        columns.extend(prefix.and_then(|prefix| name.value.strip_prefix(prefix)).map(str::to_owned));
    }
    if port == 0 {
        columns.extend(join.bound_columns().map(|column| column.value));
    }
    Needed::Columns(columns)
}

/// What a step needs of its inputs; `beyond` is what is needed of its own rows.
fn needed_by(step: &StepSpec, signatures: &Signatures, beyond: Needed) -> Needed {
    let mut needed = Needed::nothing();
    for slot in 0..slots(step) {
        if let Some(signature) = signatures.get(&SlotId { step: step.name.value.clone(), slot }) {
            needed.add_schema(&signature.inputs);
        }
    }
    if let StepKind::Aggregate { key_by, gap, aggregates, .. } = &step.kind.value {
        let read = aggregates.iter().filter_map(|aggregate| match aggregate {
            AggregateSpec::BuiltIn { column, .. } => column.as_ref(),
            AggregateSpec::Component { .. } | AggregateSpec::Rows { .. } => None,
        });
        needed.add(Needed::Columns(key_by.iter().chain(gap).chain(read).map(|column| column.value.clone()).collect()));
    }
    if let StepKind::Select(columns) = &step.kind.value {
        needed.add(Needed::Columns(columns.iter().map(|selected| selected.column.value.clone()).collect()));
    }
    if let StepKind::Process { key_by, .. } = &step.kind.value {
        needed.add(Needed::Columns(key_by.iter().map(|column| column.value.clone()).collect()));
    }
    needed.add(Needed::Columns(read_by_top(step).map(|(column, _)| column.to_owned()).collect()));
    if passes(step) {
        needed.add(beyond);
    } else if let Some(Keep::Columns(columns)) = step.keep.as_ref().map(|keep| &keep.value) {
        needed.add(Needed::Columns(columns.iter().map(|column| column.value.clone()).collect()));
    }
    needed
}

/// What a step needs of its second input.
fn needed_of_second(step: &StepSpec, signatures: &Signatures) -> Needed {
    let StepKind::Process { with_key_by, .. } = &step.kind.value else { return Needed::All };
    let mut needed = Needed::Columns(with_key_by.iter().map(|column| column.value.clone()).collect());
    second_inputs(step, signatures).into_iter().for_each(|schema| needed.add_schema(schema));
    needed
}

/// What a component reads of the step's second input.
fn second_inputs<'a>(step: &StepSpec, signatures: &'a Signatures) -> Option<&'a Schema> {
    let signature = signatures.get(&SlotId { step: step.name.value.clone(), slot: 0 })?;
    signature.process.as_ref()?.second.as_ref()
}

/// Gives sources whose rows are united the needs of all of them.
fn unite<'a>(spec: &'a PipelineSpec, needed: &mut BTreeMap<&'a str, Needed>) {
    let unions = spec.steps.iter().flat_map(|step| [&step.from, &step.with]).filter(|names| names.len() > 1);
    let unions: Vec<BTreeSet<&str>> = unions.map(|names| origins(spec, names)).collect();
    loop {
        let before = needed.clone();
        for union in &unions {
            let mut together = Needed::nothing();
            union.iter().filter_map(|source| needed.get(source)).for_each(|more| together.add(more.clone()));
            union.iter().for_each(|source| drop(needed.insert(source, together.clone())));
        }
        // a source may be in several unions, so one may widen another; what is needed only grows
        if *needed == before {
            return;
        }
    }
}

/// The sources whose rows are those of `names`, with the columns that they came with.
fn origins<'a>(spec: &'a PipelineSpec, names: &'a [Spanned<String>]) -> BTreeSet<&'a str> {
    let steps: BTreeMap<&str, &StepSpec> = spec.steps.iter().map(|step| (step.name.value.as_str(), step)).collect();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = names.iter().map(|from| from.value.as_str()).collect();
    while let Some(name) = open.pop() {
        if seen.insert(name) {
            let upstream = steps.get(name).filter(|step| passes(step));
            open.extend(upstream.iter().flat_map(|step| &step.from).map(|from| from.value.as_str()));
        }
    }
    seen.retain(|name| !steps.contains_key(name));
    seen
}

/// Whether the columns of the input leave the step, beside those that it makes.
fn passes(step: &StepSpec) -> bool {
    matches!(step.kind.value, StepKind::Filter(_) | StepKind::Top(_))
        || matches!(step.keep.as_ref().map(|keep| &keep.value), Some(Keep::All))
}

/// Whether the step's other output has the columns of its input.
fn passes_late(step: &StepSpec) -> bool {
    matches!(step.kind.value, StepKind::Aggregate { .. } | StepKind::Top(_))
}

/// Columns that a top-N step reads; those with a kind are known to have it.
fn read_by_top(step: &StepSpec) -> impl Iterator<Item = (&str, Option<Kind>)> {
    let StepKind::Top(top) = &step.kind.value else { return Vec::new().into_iter() };
    let by = top.by.iter().map(|by| &by.column);
    let named = top.key_by.iter().chain(by).map(|column| (column.value.as_str(), None));
    let bounds = WINDOW_COLUMNS.iter().filter(|_| top.window.is_none()).map(|name| (*name, Some(Kind::TimestampMs)));
    named.chain(bounds).collect::<Vec<_>>().into_iter()
}

/// Columns of the results of a top-N step that it makes itself.
fn made_by_top(step: &StepSpec, name: &str) -> bool {
    let StepKind::Top(top) = &step.kind.value else { return false };
    top.rank.value == name || top.window.is_some() && WINDOW_COLUMNS.contains(&name)
}

/// Numbers of components that a step can have.
fn slots(step: &StepSpec) -> usize {
    match &step.kind.value {
        StepKind::Aggregate { aggregates, .. } => aggregates.len(),
        StepKind::Map(_) | StepKind::Filter(_) | StepKind::FlatMap(_) | StepKind::Process { .. } => 1,
        StepKind::Select(_) => 0,
        StepKind::Top(_) => 0,
        StepKind::Join(_) => 0,
    }
}

/// All steps, each after the steps that read it.
fn readers_first(spec: &PipelineSpec) -> Vec<&StepSpec> {
    let index: BTreeMap<&str, usize> =
        spec.steps.iter().zip(0..).map(|(step, i)| (step.name.value.as_str(), i)).collect();
    let side = |name: &str| spec.steps.iter().position(|step| step.side_outputs.iter().any(|out| out.value == name));
    let inputs = |step: &StepSpec| -> Vec<usize> {
        let of = |name: &str| index.get(name).copied().or_else(|| side(name));
        step.inputs().filter_map(|(_, from)| of(from.value.as_str())).collect()
    };
    let mut readers = vec![0_usize; spec.steps.len()];
    for input in spec.steps.iter().flat_map(inputs) {
        readers.get_mut(input).into_iter().for_each(|count| *count += 1);
    }
    let mut ready: Vec<usize> = (0..spec.steps.len()).filter(|&step| readers.get(step) == Some(&0)).collect();
    let mut order = Vec::with_capacity(spec.steps.len());
    while let Some(step) = ready.pop().and_then(|step| spec.steps.get(step)) {
        order.push(step);
        for input in inputs(step) {
            if let Some(count) = readers.get_mut(input) {
                *count -= 1;
                if *count == 0 {
                    ready.push(input);
                }
            }
        }
    }
    order
}

/// Columns that readers declare, and those that they use without saying of which kind, with who does.
#[derive(Clone, Debug, Default)]
struct Declared {
    fields: Vec<Field>,
    untyped: Vec<(String, String)>,
}

/// Why the columns of a source cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// in words
    pub reason: String,
    /// names and kinds that a schema could have, guessed where nobody says
    pub columns: Vec<(String, String)>,
}

/// The columns that operators declare to read from `source`, for a source without a schema.
pub(super) fn inferred(
    spec: &PipelineSpec,
    signatures: &Signatures,
    source: &SourceSpec,
) -> Result<Vec<Field>, Unknown> {
    let mut by_step: BTreeMap<(&str, usize), Result<Declared, String>> = BTreeMap::new();
    for step in readers_first(spec) {
        let declared = declared_by(spec, signatures, step, &by_step);
        by_step.insert((&step.name.value, 0), declared);
        by_step.insert((&step.name.value, 1), declared_of_second(signatures, step));
    }
    let declared = declared(spec, &source.name.value, &by_step);
    let Declared { fields, mut untyped } = declared.map_err(|reason| Unknown { reason, columns: Vec::new() })?;
    let fields = with_assigner(fields, source, signatures).map_err(|reason| Unknown { reason, columns: Vec::new() })?;
    let watermark = source.watermark_column.as_ref().map(|column| column.value.as_str());
    untyped.extend(watermark.map(|column| (column.to_owned(), "watermark".to_owned())));
    let event_time = source.event_time.as_ref().map(|column| column.value.as_str());
    untyped.extend(event_time.map(|column| (column.to_owned(), "event_time".to_owned())));
    untyped.retain(|(column, _)| !fields.iter().any(|field| field.name == *column));
    let Some((column, user)) = untyped.first() else { return Ok(fields) };
    let reason = format!("nothing says what kind `{column}` (used by {user}) is");
    let known =
        |field: &Field| (field.name.clone(), format!("{}{}", field.kind, if field.nullable { "?" } else { "" }));
    let mut columns: Vec<_> = fields.iter().map(known).collect();
    for (column, _) in &untyped {
        if !columns.iter().any(|(known, _)| known == column) {
            let is_time = event_time == Some(column) || watermark == Some(column);
            let kind = if is_time { Kind::TimestampMs } else { Kind::Text };
            columns.push((column.clone(), kind.to_string()));
        }
    }
    Err(Unknown { reason, columns })
}

/// The columns that operators read, and those that the source's watermark assigner reads.
fn with_assigner(mut fields: Vec<Field>, source: &SourceSpec, signatures: &Signatures) -> Result<Vec<Field>, String> {
    let slot = SlotId { step: source.name.value.clone(), slot: 0 };
    let read = signatures.get(&slot).filter(|_| source.assigner.is_some()).map(|signature| signature.inputs.fields());
    for field in read.unwrap_or_default() {
        match fields.iter_mut().find(|known| known.name == field.name) {
            None => fields.push(field.clone()),
            Some(known) if known.kind == field.kind => known.nullable &= field.nullable,
            Some(known) => {
                let (name, source) = (&field.name, &source.name.value);
                return Err(format!(
                    "operators disagree about `{name}`: the watermark assigner of `{source}` reads it as {}, a step as {}",
                    field.kind, known.kind
                ));
            }
        }
    }
    Ok(fields)
}

/// What all readers of `name` declare.
fn declared(
    spec: &PipelineSpec,
    name: &str,
    by_step: &BTreeMap<(&str, usize), Result<Declared, String>>,
) -> Result<Declared, String> {
    let mut all = Declared::default();
    for step in spec.steps.iter().filter(|step| step.inputs().any(|(_, from)| from.value == name)) {
        if let StepKind::Join(join) = &step.kind.value {
            let user = format!("step `{}`", step.name.value);
            let ports = step.inputs().filter(|(_, from)| from.value == name).map(|(port, _)| port);
            all.untyped.extend(ports.flat_map(|port| join.keys(port)).map(|key| (key.value.clone(), user.clone())));
            continue;
        }
        for port in step.inputs().filter(|(_, from)| from.value == name).map(|(port, _)| port) {
            let Some(step_declares) = by_step.get(&(step.name.value.as_str(), port)) else { continue };
            let Declared { fields, untyped } = step_declares.clone()?;
            fields.iter().try_for_each(|field| merge(&mut all.fields, field, step))?;
            all.untyped.extend(untyped);
        }
    }
    Ok(all)
}

/// What `step` declares of its input: columns that it reads, keeps, or lets pass to its readers.
fn declared_by(
    spec: &PipelineSpec,
    signatures: &Signatures,
    step: &StepSpec,
    by_step: &BTreeMap<(&str, usize), Result<Declared, String>>,
) -> Result<Declared, String> {
    let user = || format!("step `{}`", step.name.value);
    let signature = |slot| signatures.get(&SlotId { step: step.name.value.clone(), slot });
    let mut all = Declared::default();
    for signature in (0..slots(step)).filter_map(signature) {
        signature.inputs.fields().iter().try_for_each(|field| merge(&mut all.fields, field, step))?;
    }
    if let StepKind::Aggregate { key_by, gap, aggregates, .. } = &step.kind.value {
        let gap = gap.as_ref().map(|gap| Field::new(gap.value.as_str(), Kind::Int64).nullable());
        gap.iter().try_for_each(|field| merge(&mut all.fields, field, step))?;
        all.untyped.extend(key_by.iter().map(|key| (key.value.clone(), user())));
        all.untyped.extend(aggregates.iter().filter_map(|aggregate| match aggregate {
            AggregateSpec::BuiltIn { column: Some(column), .. } => Some((column.value.clone(), user())),
            _ => None,
        }));
    }
    if let StepKind::Select(columns) = &step.kind.value {
        all.untyped.extend(columns.iter().map(|selected| (selected.column.value.clone(), user())));
    }
    if let StepKind::Process { key_by, .. } = &step.kind.value {
        all.untyped.extend(key_by.iter().map(|key| (key.value.clone(), user())));
    }
    for (column, kind) in read_by_top(step) {
        match kind {
            Some(kind) => merge(&mut all.fields, &Field::new(column, kind), step)?,
            None => all.untyped.push((column.to_owned(), user())),
        }
    }
    if let Some(signature) = signatures.get(&SlotId { step: route_name(&step.name.value), slot: 0 }) {
        signature.inputs.fields().iter().try_for_each(|field| merge(&mut all.fields, field, step))?;
    } else if let Needed::Columns(columns) = needed_to_spread(step, signatures) {
        all.untyped.extend(columns.into_iter().map(|column| (column, user())));
    }
    if let Some(Keep::Columns(columns)) = step.keep.as_ref().map(|keep| &keep.value) {
        all.untyped.extend(columns.iter().map(|column| (column.value.clone(), user())));
    }
    if passes(step) {
        let beyond = declared(spec, &step.name.value, by_step)?;
        // what this step makes itself does not come from the source
        let made = |name: &str| {
            made_by_top(step, name) || signature(0).is_some_and(|signature| signature.outputs.index_of(name).is_some())
        };
        beyond.fields.iter().filter(|field| !made(&field.name)).try_for_each(|f| merge(&mut all.fields, f, step))?;
        all.untyped.extend(beyond.untyped.into_iter().filter(|(column, _)| !made(column)));
    }
    Ok(all)
}

/// As [`declared_by`], of the second input.
fn declared_of_second(signatures: &Signatures, step: &StepSpec) -> Result<Declared, String> {
    let mut all = Declared::default();
    let fields = second_inputs(step, signatures).into_iter().flat_map(|schema| schema.fields());
    for field in fields {
        merge(&mut all.fields, field, step)?;
    }
    if let StepKind::Process { with_key_by, .. } = &step.kind.value {
        all.untyped.extend(with_key_by.iter().map(|key| (key.value.clone(), format!("step `{}`", step.name.value))));
    }
    Ok(all)
}

/// One column read by several operators: same kind, and null only if all of them accept it.
fn merge(fields: &mut Vec<Field>, field: &Field, step: &StepSpec) -> Result<(), String> {
    let Some(known) = fields.iter_mut().find(|known| known.name == field.name) else {
        fields.push(field.clone());
        return Ok(());
    };
    if known.kind != field.kind {
        return Err(format!(
            "operators disagree about `{}`: step `{}` reads it as {}, another as {}",
            field.name, step.name.value, field.kind, known.kind
        ));
    }
    known.nullable &= field.nullable;
    Ok(())
}

impl Needed {
    /// Whether the column `name` is among them.
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Columns(columns) => columns.contains(name),
        }
    }
}
