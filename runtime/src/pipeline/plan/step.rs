//! Steps: what reaches them against what they read, and what they put out.

use super::{Node, NodeIndex, NodeKind, Planner, SlotId};
use crate::error::{Span, Spanned};
use crate::operator::result_field;
use crate::pipeline::problems::{code, listed};
use crate::pipeline::spec::{AggregateSpec, Keep, SelectedColumn, StepKind, StepSpec};
use crate::record::{Field, Kind, Schema};
use crate::source;
use crate::wasm::OperatorKind;
use crate::window::WindowSpec;

impl Planner<'_> {
    pub(super) fn step(&mut self, index: usize, step: &StepSpec, inputs: Vec<NodeIndex>) -> Option<Node> {
        let mut ports: Vec<usize> = step.inputs().map(|(port, _)| port).collect();
        let (from, with) = inputs.split_at_checked(step.from.len())?;
        let input = self.united(&step.name, &step.from, from)?;
        let (kind, schema) = match &step.kind.value {
            StepKind::Map(_) => self.guest(index, step, &input, OperatorKind::Mapper)?,
            StepKind::Filter(_) => self.guest(index, step, &input, OperatorKind::Filter)?,
            StepKind::FlatMap(_) => self.guest(index, step, &input, OperatorKind::FlatMapper)?,
            StepKind::Select(columns) => self.select(index, step, columns, &input)?,
            StepKind::Aggregate { .. } => self.aggregate(index, step, &inputs, &input)?,
            StepKind::Process { .. } => self.process(index, step, with, &input)?,
            StepKind::Top(top) => self.top(index, step, top, &inputs, &input)?,
            StepKind::Join(_) => self.join(index, step, &input, from, with)?,
        };
        let parallelism = self.parallelism(step.parallelism.as_ref());
        let partition = self.partition(step, &input, from)?;
        let mut inputs = inputs.clone();
        if let Some(route) = self.route(index, step, &input, from)? {
            inputs.splice(..step.from.len(), [route]);
            ports.drain(1..step.from.len());
        }
        Some(Node { name: step.name.value.clone(), kind, inputs, ports, schema, parallelism, partition })
    }

    /// Columns of another output of `step`, which is node `of`.
    pub(super) fn side_schema(&self, of: NodeIndex, step: &StepSpec, output: usize) -> Option<Schema> {
        match step.kind.value {
            // late rows leave as they came
            StepKind::Aggregate { .. } | StepKind::Top(_) => {
                let input = self.nodes.get(of)?.inputs.first()?;
                Some(self.nodes.get(*input)?.schema.clone())
            }
            StepKind::Process { .. } => self.process_side_schema(step, output),
            StepKind::Join(ref join) => {
                let side = join.late.iter().position(|late| *late == Some(output))?;
                let node = self.nodes.get(of)?;
                let at = node.ports.iter().position(|port| *port == side)?;
                Some(self.nodes.get(*node.inputs.get(at)?)?.schema.clone())
            }
            StepKind::Map(_) | StepKind::Filter(_) | StepKind::FlatMap(_) | StepKind::Select(_) => None,
        }
    }

    /// Columns of `input` that a component of the step reads, each of the right kind.
    pub(super) fn guest_inputs(
        &mut self,
        step: &StepSpec,
        span: Span,
        wanted: &Schema,
        input: &Schema,
    ) -> Option<Vec<usize>> {
        let of = format!("step `{}`", step.name.value);
        self.component_inputs(&of, &format!("the input of {of}"), span, wanted, input)
    }

    /// Columns of `input` (called `place`) that the component of `of` reads, each of the right kind.
    pub(super) fn component_inputs(
        &mut self,
        of: &str,
        place: &str,
        span: Span,
        wanted: &Schema,
        input: &Schema,
    ) -> Option<Vec<usize>> {
        let mut found = Vec::with_capacity(wanted.fields().len());
        let before = self.diagnostics.len();
        for field in wanted.fields() {
            let name = Spanned::new(field.name.clone(), span);
            let Some(index) = self.column(place, &name, input) else { continue };
            let Some(got) = input.fields().get(index) else { continue };
            if got.kind != field.kind {
                let message = format!("{of} reads `{}` as {}", field.name, field.kind);
                let label = format!("expected {}, found {}", field.kind, got.kind);
                let help = format!(
                    "make the column {} where it comes from (`schema` of its source, or the operator that makes it), or \
                     change the field of the component",
                    field.kind
                );
                self.report(code::WRONG_TYPE, span, message, label, Some(help));
            } else if got.nullable && !field.nullable {
                let message = format!("{of} does not accept nulls in `{}`", field.name);
                let label = format!("expected {field}, found {got}");
                let help =
                    "make the field optional in the component, or take the `?` off the column where it comes from"
                        .to_owned();
                self.report(code::NULLABLE, span, message, label, Some(help));
            }
            found.push(index);
        }
        (self.diagnostics.len() == before).then_some(found)
    }

    fn guest(
        &mut self,
        index: usize,
        step: &StepSpec,
        input: &Schema,
        operator: OperatorKind,
    ) -> Option<(NodeKind, Schema)> {
        let signature = self.signatures.get(&SlotId { step: step.name.value.clone(), slot: 0 })?.clone();
        let inputs = self.guest_inputs(step, step.kind.span, &signature.inputs, input)?;
        if operator == OperatorKind::Filter {
            if let Some(keep) = &step.keep {
                let message = format!("step `{}` is a filter: it keeps all columns", step.name.value);
                self.report(code::CONFLICT, keep.span, message, String::new(), Some("remove `keep`".to_owned()));
            }
            return Some((NodeKind::Guest { index, operator, inputs, keep: Vec::new() }, input.clone()));
        }
        let keep = self.kept(step, input, &signature.outputs)?;
        let mut fields: Vec<Field> = keep.iter().filter_map(|&column| input.fields().get(column).cloned()).collect();
        fields.extend(signature.outputs.fields().iter().cloned());
        Some((NodeKind::Guest { index, operator, inputs, keep }, Schema::new(fields)))
    }

    fn select(
        &mut self,
        index: usize,
        step: &StepSpec,
        selected: &[SelectedColumn],
        input: &Schema,
    ) -> Option<(NodeKind, Schema)> {
        let place = format!("the input of step `{}`", step.name.value);
        // all of them before any is given up: every mistake is told at once
        let found: Vec<_> = selected.iter().map(|selected| self.column(&place, &selected.column, input)).collect();
        let columns = found.into_iter().collect::<Option<Vec<_>>>()?;
        let fields = selected.iter().zip(&columns).filter_map(|(selected, column)| {
            let field = input.fields().get(*column)?.clone();
            Some(Field { name: selected.output.value.clone(), ..field })
        });
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Some((NodeKind::Select { index, columns }, schema))
    }

    fn kept(&mut self, step: &StepSpec, input: &Schema, outputs: &Schema) -> Option<Vec<usize>> {
        match step.keep.as_ref().map(|keep| &keep.value) {
            None => Some(Vec::new()),
            Some(Keep::All) => Some(
                (0..input.fields().len())
                    .filter(|&i| input.fields().get(i).is_some_and(|field| outputs.index_of(&field.name).is_none()))
                    .collect(),
            ),
            Some(Keep::Columns(columns)) => {
                let place = format!("the input of step `{}`", step.name.value);
                let mut kept = Vec::new();
                let found: Vec<Option<usize>> = columns.iter().map(|name| self.column(&place, name, input)).collect();
                for (name, index) in columns.iter().zip(found) {
                    let index = index?;
                    if outputs.index_of(&name.value).is_some() {
                        let message = format!("step `{}` keeps `{}` and produces it too", step.name.value, name.value);
                        let help = "remove it from `keep`; the operator's column replaces it".to_owned();
                        self.report(code::DUPLICATE_COLUMN, name.span, message, String::new(), Some(help));
                        return None;
                    }
                    kept.push(index);
                }
                Some(kept)
            }
        }
    }

    fn aggregate(
        &mut self,
        index: usize,
        step: &StepSpec,
        from: &[NodeIndex],
        input: &Schema,
    ) -> Option<(NodeKind, Schema)> {
        let StepKind::Aggregate { key_by, aggregates, window, gap, .. } = &step.kind.value else { return None };
        let has_bounds = window.value.has_bounds();
        let timeless = window.value.is_counted() || window.value == WindowSpec::Global;
        if has_bounds && !timeless {
            self.check_has_event_time(step, "has a window", window.span, from);
        }
        let place = format!("the input of step `{}`", step.name.value);
        // all of them before any is given up: every mistake is told at once
        let keys: Vec<Option<usize>> = key_by.iter().map(|name| self.column(&place, name, input)).collect();
        let entries =
            aggregates.iter().enumerate().map(|(slot, aggregate)| self.aggregate_entry(step, slot, aggregate, input));
        let entries: Vec<Option<(Vec<usize>, Vec<Field>)>> = entries.collect();
        gap.as_ref().map_or(Some(()), |gap| self.check_gap(step, gap, input))?;
        let keys = keys.into_iter().collect::<Option<Vec<_>>>()?;
        let mut fields: Vec<Field> = keys.iter().filter_map(|&key| input.fields().get(key).cloned()).collect();
        let bounds = ["window_start", "window_end"].into_iter().filter(|_| has_bounds);
        fields.extend(bounds.map(|name| Field::new(name, Kind::TimestampMs)));
        let mut inputs = Vec::with_capacity(aggregates.len());
        for (aggregate, entry) in aggregates.iter().zip(entries) {
            let (read, outputs) = entry?;
            for output in outputs {
                if fields.iter().any(|field| field.name == output.name) {
                    let span = aggregate.output().span;
                    let message = format!("step `{}` puts out the column `{}` twice", step.name.value, output.name);
                    let help = "names of keys, `window_start`, `window_end` and aggregates must differ".to_owned();
                    self.report(code::DUPLICATE_COLUMN, span, message, String::new(), Some(help));
                    return None;
                }
                fields.push(output);
            }
            inputs.push(read);
        }
        Some((NodeKind::Aggregate { index, keys, inputs }, Schema::new(fields)))
    }

    /// The gap of sessions is a column of whole numbers.
    fn check_gap(&mut self, step: &StepSpec, gap: &Spanned<String>, input: &Schema) -> Option<()> {
        let column = self.column(&format!("the input of step `{}`", step.name.value), gap, input)?;
        let found = input.fields().get(column)?.kind;
        if found == Kind::Int64 {
            return Some(());
        }
        let message = format!("step `{}` takes the gap of its sessions from `{}`", step.name.value, gap.value);
        let help = "the gap is a number of milliseconds: make the column int64 where it comes from".to_owned();
        self.report(code::WRONG_TYPE, gap.span, message, format!("expected int64, found {found}"), Some(help));
        None
    }

    fn aggregate_entry(
        &mut self,
        step: &StepSpec,
        slot: usize,
        aggregate: &AggregateSpec,
        input: &Schema,
    ) -> Option<(Vec<usize>, Vec<Field>)> {
        match aggregate {
            AggregateSpec::BuiltIn { output, function, column } => {
                let place = format!("the input of step `{}`", step.name.value);
                let column = match column {
                    Some(column) => Some((self.column(&place, column, input)?, column.span)),
                    None => None,
                };
                let read = column.map(|(column, _)| column);
                match result_field(input, &output.value, function.value, read) {
                    Ok(output) => Some((column.map(|(column, _)| column).into_iter().collect(), vec![output])),
                    Err(label) => {
                        let span = column.map_or(function.span, |(_, span)| span);
                        let message =
                            format!("{} cannot be computed in step `{}`", function.value.name(), step.name.value);
                        let fits = |index| result_field(input, &output.value, function.value, Some(index)).is_ok();
                        let fitting = input.fields().iter().enumerate().filter(|(index, _)| fits(*index));
                        let fitting: Vec<&str> = fitting.map(|(_, field)| field.name.as_str()).collect();
                        let help = if fitting.is_empty() {
                            "no column of the input is of such a kind; `count()` needs none".to_owned()
                        } else {
                            format!("columns of such a kind: {}", listed(&fitting))
                        };
                        self.report(code::WRONG_TYPE, span, message, label, Some(help));
                        None
                    }
                }
            }
            AggregateSpec::Rows { component } => {
                let signature = self.signatures.get(&SlotId { step: step.name.value.clone(), slot })?.clone();
                let read = self.guest_inputs(step, component.path.span, &signature.inputs, input)?;
                Some((read, signature.outputs.fields().to_vec()))
            }
            AggregateSpec::Component { output, component } => {
                let signature = self.signatures.get(&SlotId { step: step.name.value.clone(), slot })?.clone();
                let read = self.guest_inputs(step, component.path.span, &signature.inputs, input)?;
                let mut outputs = signature.outputs.fields().to_vec();
                if let [only] = outputs.as_mut_slice() {
                    only.name.clone_from(&output.value);
                }
                Some((read, outputs))
            }
        }
    }

    /// Event-time windows over rows without event times would never fire in a way anybody expects.
    pub(super) fn check_has_event_time(&mut self, step: &StepSpec, why: &str, span: Span, from: &[NodeIndex]) {
        for source in self.sources_behind(from) {
            let Some(spec) = self.spec.sources.get(source) else { continue };
            if spec.event_time.is_none() && spec.assigner.is_none() && !source::has_event_time(&spec.kind.value) {
                let name = &spec.name.value;
                let message =
                    format!("step `{}` {why}, but rows of source `{name}` have no event time", step.name.value);
                let help = format!("add `event_time = \"<column>\"` to [source.{name}]");
                self.report(code::NO_EVENT_TIME, span, message, "needs event time".to_owned(), Some(help));
            }
        }
    }

    /// Whether an aggregating step has windows.
    fn has_bounds(&self, step: usize) -> bool {
        let step = self.spec.steps.get(step).map(|step| &step.kind.value);
        !matches!(step, Some(StepKind::Aggregate { window, .. }) if !window.value.has_bounds())
    }

    fn sources_behind(&self, from: &[NodeIndex]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = from.to_vec();
        let mut seen = vec![false; self.nodes.len()];
        while let Some(index) = open.pop() {
            let (Some(node), Some(seen)) = (self.nodes.get(index), seen.get_mut(index)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            match node.kind {
                NodeKind::Source { index, .. } => found.push(index),
                // results of a window carry a time of their own
                NodeKind::Aggregate { index, .. } if self.has_bounds(index) => {}
                NodeKind::Side { of, .. } => open.extend(self.nodes.get(of).iter().flat_map(|node| &node.inputs)),
                _ => open.extend(Self::timed_inputs(node)),
            }
        }
        found.sort_unstable();
        found
    }
}
