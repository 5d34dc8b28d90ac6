//! How rows get to the tasks of a step that says so itself.

use super::{Exchange, Node, NodeIndex, NodeKind, Planner, SlotId};
use crate::error::Spanned;
use crate::partition::{Sampler, SplitPoints};
use crate::pipeline::partition::{PartitionSpec, route_name};
use crate::pipeline::problems::{code, listed};
use crate::pipeline::spec::StepSpec;
use crate::record::{Kind, Schema};

impl Planner<'_> {
    /// What `partition` of a step means for rows of `input`; `None` if something in it is wrong, `Some(None)` where the step
    /// says nothing.
    pub(super) fn partition(
        &mut self,
        step: &StepSpec,
        input: &Schema,
        from: &[NodeIndex],
    ) -> Option<Option<Exchange>> {
        let Some(partition) = &step.partition else { return Some(None) };
        let place = format!("the input of step `{}`", step.name.value);
        let exchange = match &partition.value {
            PartitionSpec::Custom(_) => Exchange::Addressed,
            PartitionSpec::Rebalance => Exchange::Rebalance,
            PartitionSpec::Broadcast => Exchange::Broadcast,
            PartitionSpec::Row => Exchange::Key((0..input.fields().len()).collect()),
            PartitionSpec::Key(columns) => {
                let found: Vec<_> = columns.iter().map(|name| self.column(&place, name, input)).collect();
                Exchange::Key(found.into_iter().collect::<Option<_>>()?)
            }
            PartitionSpec::Range { column, splits } => {
                let found = self.column(&place, column, input)?;
                self.check_splits(step, column, splits, input.fields().get(found)?.kind, input)?;
                let splits = match (&splits.value, input.fields().get(found)?.kind) {
                    (points, kind) if points.fits(kind) => points.clone(),
                    #[allow(clippy::cast_precision_loss)] // as one writes an integer where a number belongs
                    (SplitPoints::Integers(points), _) => {
                        SplitPoints::Floats(points.iter().map(|point| *point as f64).collect())
                    }
                    (points, _) => points.clone(),
                };
                Exchange::Range { column: found, splits }
            }
            PartitionSpec::SampledRange { column, values, every } => {
                let found = self.column(&place, column, input)?;
                let kind = input.fields().get(found)?.kind;
                self.check_sampled(step, column, kind, input)?;
                Exchange::SampledRange { column: found, kind, values: values.value, every: *every }
            }
            PartitionSpec::Forward => self.forward(step, partition, from)?,
        };
        Some(Some(exchange))
    }

    /// Puts the step's partitioner, if it has one, between it and what it reads. It runs in the tasks that send: where all
    /// have one parallelism rows keep the order in which a task sends them.
    pub(super) fn route(
        &mut self,
        index: usize,
        step: &StepSpec,
        input: &Schema,
        from: &[NodeIndex],
    ) -> Option<Option<NodeIndex>> {
        let Some(PartitionSpec::Custom(component)) = step.partition.as_ref().map(|partition| &partition.value) else {
            return Some(None);
        };
        let name = route_name(&step.name.value);
        let signature = self.signatures.get(&SlotId { step: name.clone(), slot: 0 })?.clone();
        let inputs = self.guest_inputs(step, component.path.span, &signature.inputs, input)?;
        let targets = self.parallelism(step.parallelism.as_ref());
        let parallelism = from.iter().filter_map(|&from| self.nodes.get(from)).map(|from| from.parallelism).max()?;
        let kind = NodeKind::Route { index, inputs, targets };
        let (ports, schema) = (vec![0; from.len()], input.clone());
        let node = Node { name, kind, inputs: from.to_vec(), ports, schema, parallelism, partition: None };
        self.nodes.push(node);
        Some(Some(self.nodes.len() - 1))
    }

    fn check_sampled(&mut self, step: &StepSpec, column: &Spanned<String>, kind: Kind, input: &Schema) -> Option<()> {
        if Sampler::fits(kind) {
            return Some(());
        }
        let message = format!("column `{}` of step `{}` cannot be cut into ranges", column.value, step.name.value);
        let label = format!("it is {kind}; int64, float64, timestamp_ms and text can");
        let fitting = input.fields().iter().filter(|field| Sampler::fits(field.kind));
        let fitting: Vec<&str> = fitting.map(|field| field.name.as_str()).collect();
        let help = match fitting.as_slice() {
            [] => "no column of the input can; write `partition = \"rebalance\"`".to_owned(),
            fitting => format!("columns that can: {}", listed(fitting)),
        };
        self.report(code::WRONG_TYPE, column.span, message, label, Some(help));
        None
    }

    fn check_splits(
        &mut self,
        step: &StepSpec,
        column: &Spanned<String>,
        splits: &Spanned<SplitPoints>,
        kind: Kind,
        input: &Schema,
    ) -> Option<()> {
        let whole_floats = matches!(splits.value, SplitPoints::Integers(_)) && kind == Kind::Float64;
        if splits.value.fits(kind) || whole_floats {
            return Some(());
        }
        let message = format!("`splits` of step `{}` do not fit the column `{}`", step.name.value, column.value);
        let (what, label) = match splits.value {
            SplitPoints::Integers(_) => ("integers", "integers cut int64, float64 and timestamp_ms"),
            SplitPoints::Floats(_) => ("numbers", "numbers with a fraction cut float64"),
            SplitPoints::Texts(_) => ("texts", "texts cut text"),
        };
        let fitting = input.fields().iter().filter(|field| splits.value.fits(field.kind));
        let fitting: Vec<&str> = fitting.map(|field| field.name.as_str()).collect();
        let help = if fitting.is_empty() {
            format!("the column is {kind}, and no column of the input is cut by {what}")
        } else {
            format!("the column is {kind}; columns that {what} cut: {}", listed(&fitting))
        };
        self.report(code::WRONG_TYPE, splits.span, message, label.to_owned(), Some(help));
        None
    }

    fn forward(&mut self, step: &StepSpec, partition: &Spanned<PartitionSpec>, from: &[NodeIndex]) -> Option<Exchange> {
        let own = self.parallelism(step.parallelism.as_ref());
        let other = from.iter().filter_map(|&input| self.nodes.get(input)).find(|input| input.parallelism != own);
        let Some((name, tasks)) = other.map(|input| (input.name.clone(), input.parallelism)) else {
            return Some(Exchange::Forward);
        };
        let message = format!("rows of `{name}` cannot go forward to step `{}`", step.name.value);
        let label = format!("`{name}` has {tasks} tasks, the step {own}");
        let help = format!("write `parallelism = {tasks}` for the step, or `partition = \"rebalance\"`");
        self.report(code::CONFLICT, partition.span, message, label, Some(help));
        None
    }
}
