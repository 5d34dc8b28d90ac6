//! `process`: one or two inputs against what the component reads of them, its keys and its further outputs.

use super::{NodeIndex, NodeKind, Planner, SlotId};
use crate::error::Spanned;
use crate::pipeline::problems::{alternatives, code};
use crate::pipeline::spec::{StepKind, StepSpec};
use crate::record::{Field, Schema};
use crate::wasm::{ProcessSignature, Signature};

impl Planner<'_> {
    pub(super) fn process(
        &mut self,
        index: usize,
        step: &StepSpec,
        with: &[NodeIndex],
        input: &Schema,
    ) -> Option<(NodeKind, Schema)> {
        let StepKind::Process { key_by, with_key_by, .. } = &step.kind.value else { return None };
        let Signature { inputs, outputs, process, .. } =
            self.signatures.get(&SlotId { step: step.name.value.clone(), slot: 0 })?.clone();
        let process = process?;
        let second = self.second_input(step, with, &process);
        let reads = self.guest_inputs(step, step.kind.span, &inputs, input);
        let mut keys = vec![self.key_columns(step, "the input", key_by, input)];
        let mut key_fields = keys_of(input, keys.first());
        if let (Some(Some(other)), Some(wanted)) = (&second, &process.second) {
            self.guest_inputs(step, step.kind.span, wanted, other)?;
            keys.push(self.key_columns(step, "the second input", with_key_by, other));
            let others = keys_of(other, keys.last());
            self.same_keys(step, with_key_by, &key_fields, &others)?;
            for (field, other) in key_fields.iter_mut().zip(others) {
                field.nullable |= other.nullable;
            }
        }
        self.known_keys(step, &process.keys, &key_fields);
        let sides = self.sides(step, &process);
        let keys = keys.into_iter().collect::<Option<Vec<_>>>()?;
        let sides = sides?;
        second?;
        reads?;
        Some((NodeKind::Process { index, keys, sides }, outputs))
    }

    /// Columns of an output that `side_outputs` names.
    pub(super) fn process_side_schema(&self, step: &StepSpec, output: usize) -> Option<Schema> {
        let name = step.side_outputs.get(output)?;
        let signature = self.signatures.get(&SlotId { step: step.name.value.clone(), slot: 0 })?;
        let sides = &signature.process.as_ref()?.sides;
        sides.iter().find(|(side, _)| *side == name.value).map(|(_, schema)| schema.clone())
    }

    /// The columns of the second input, if there is one: the outer `None` is a mistake that was reported.
    fn second_input(
        &mut self,
        step: &StepSpec,
        with: &[NodeIndex],
        process: &ProcessSignature,
    ) -> Option<Option<Schema>> {
        let name = &step.name.value;
        match (step.with.first(), &process.second) {
            (None, None) => Some(None),
            (Some(_), Some(_)) => self.united(&step.name, &step.with, with).map(Some),
            (Some(first), None) => {
                let message = format!("step `{name}` has a second input, but its component reads only one");
                let label = "the component has one input".to_owned();
                let help = "remove `with`, or unite the streams: `from = [\"a\", \"b\"]`".to_owned();
                self.report(code::CONFLICT, first.span, message, label, Some(help));
                None
            }
            (None, Some(second)) => {
                let message = format!("the component of step `{name}` has a second input, but the step has none");
                let label = format!("expected `with`, whose columns it reads: {second}");
                let help =
                    "add `with = \"<source or step>\"`, and `with_key_by` where its key columns are called otherwise";
                self.report(code::MISSING_KEY, step.kind.span, message, label, Some(help.to_owned()));
                None
            }
        }
    }

    fn key_columns(
        &mut self,
        step: &StepSpec,
        which: &str,
        names: &[Spanned<String>],
        schema: &Schema,
    ) -> Option<Vec<usize>> {
        let place = format!("{which} of step `{}`", step.name.value);
        let found: Vec<Option<usize>> = names.iter().map(|name| self.column(&place, name, schema)).collect();
        found.into_iter().collect()
    }

    /// Keys of two inputs meet only if they are of the same kinds in the same order.
    fn same_keys(
        &mut self,
        step: &StepSpec,
        names: &[Spanned<String>],
        first: &[Field],
        second: &[Field],
    ) -> Option<()> {
        let differs = first.iter().zip(second).position(|(one, other)| one.kind != other.kind);
        if first.len() == second.len() && differs.is_none() {
            return Some(());
        }
        let at = differs.unwrap_or(first.len().min(second.len()));
        let span = names.get(at).or(names.last()).map_or(step.kind.span, |name| name.span);
        let kinds = |fields: &[Field]| fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("the inputs of step `{}` have different keys", step.name.value);
        let label = format!("expected {}, found {}", kinds(first), kinds(second));
        let help = "`key_by` and `with_key_by` must name as many columns, of the same kinds in the same order";
        self.report(code::WRONG_TYPE, span, message, label, Some(help.to_owned()));
        None
    }

    /// Whether the keys that the component wants to know are keys of the step, each of the right kind.
    fn known_keys(&mut self, step: &StepSpec, wanted: &Schema, keys: &[Field]) {
        let name = &step.name.value;
        for field in wanted.fields() {
            let key = keys.iter().find(|key| key.name == field.name);
            let fits = key.is_some_and(|key| key.kind == field.kind && (field.nullable || !key.nullable));
            if fits || keys.is_empty() {
                continue;
            }
            let message = format!("the component of step `{name}` wants to know the key `{}`", field.name);
            let (code, label) = match key {
                None => (code::MISSING_COLUMN, "no such key".to_owned()),
                Some(key) => (code::WRONG_TYPE, format!("expected {field}, found {key}")),
            };
            let known: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            self.report(code, step.kind.span, message, label, Some(alternatives("keys", &field.name, &known)));
        }
    }

    /// For each further output of the component the number of the step's output, where the pipeline names it.
    fn sides(&mut self, step: &StepSpec, process: &ProcessSignature) -> Option<Vec<Option<usize>>> {
        let names: Vec<&str> = process.sides.iter().map(|(name, _)| name.as_str()).collect();
        let mut found = Some(());
        for output in step.side_outputs.iter().filter(|output| !names.contains(&output.value.as_str())) {
            let message = format!("the component of step `{}` has no side output `{}`", step.name.value, output.value);
            let help = if names.is_empty() {
                "it has no side outputs: remove `side_outputs`".to_owned()
            } else {
                alternatives("side outputs", &output.value, &names)
            };
            self.report(code::MISSING_COLUMN, output.span, message, "no such output".to_owned(), Some(help));
            found = None;
        }
        found?;
        let number = |name: &&str| step.side_outputs.iter().position(|output| output.value == **name);
        Some(names.iter().map(number).collect())
    }
}

fn keys_of(schema: &Schema, keys: Option<&Option<Vec<usize>>>) -> Vec<Field> {
    let keys = keys.into_iter().flatten().flatten();
    keys.filter_map(|key| schema.fields().get(*key).cloned()).collect()
}
