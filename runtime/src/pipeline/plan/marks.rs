//! Watermarks that a source's rows bring: from a column, or from a component that gives rows their times.

use super::{Assigner, Marks, Planner, SlotId};
use crate::error::Spanned;
use crate::pipeline::problems::code;
use crate::pipeline::spec::SourceSpec;
use crate::record::{Field, Kind, Schema};
use crate::wasm::Signature;

/// What an assigner's columns are called.
const EVENT_TIME: &str = "event_time";
const WATERMARK: &str = "watermark";

impl Planner<'_> {
    fn assigner_signature(&self, source: &SourceSpec) -> Option<&Signature> {
        source.assigner.as_ref()?;
        self.signatures.get(&SlotId { step: source.name.value.clone(), slot: 0 })
    }

    /// Whether the column is read to find out about event time.
    pub(super) fn is_mark(&self, source: &SourceSpec, column: &str) -> bool {
        source.watermark_column.as_ref().is_some_and(|mark| mark.value == column)
            || self.assigner_signature(source).is_some_and(|signature| signature.inputs.index_of(column).is_some())
    }

    /// Finds the columns; `decoded` are those of `full` that are decoded.
    pub(super) fn marks(&mut self, source: &SourceSpec, full: &Schema, decoded: &Schema) -> Option<Marks> {
        let place = format!("source `{}`", source.name.value);
        let column = match &source.watermark_column {
            None => None,
            Some(name) => {
                let field = self.column(&place, name, full).and_then(|index| full.fields().get(index))?;
                self.is_time(&format!("watermark `{}` of {place}", name.value), name, field)?;
                decoded.index_of(&name.value)
            }
        };
        let signature = self.assigner_signature(source).cloned();
        let assigner = match (signature, &source.assigner) {
            (Some(signature), Some(component)) => {
                let of = format!("the watermark assigner of {place}");
                self.component_inputs(&of, &place, component.path.span, &signature.inputs, full)?;
                Some(self.assigner(source, &component.path, signature, decoded)?)
            }
            _ => None,
        };
        Some(Marks { column, assigner })
    }

    fn assigner(
        &mut self,
        source: &SourceSpec,
        path: &Spanned<String>,
        signature: Signature,
        decoded: &Schema,
    ) -> Option<Assigner> {
        let of = format!("the watermark assigner of source `{}`", source.name.value);
        let Signature { inputs, outputs, .. } = signature;
        let others = outputs.fields().iter().any(|field| field.name != EVENT_TIME && field.name != WATERMARK);
        let event_time = outputs.index_of(EVENT_TIME).filter(|_| !others);
        let Some(event_time) = event_time else {
            let label = format!("expected `{EVENT_TIME}` and at most `{WATERMARK}`, found {outputs}");
            let help = "an assigner is a mapper with these columns; other columns are the work of a `map` step";
            let message = format!("{of} puts out other columns than times");
            self.report(code::WRONG_OPERATOR, path.span, message, label, Some(help.to_owned()));
            return None;
        };
        for field in outputs.fields() {
            self.is_time(&format!("`{}` of {of}", field.name), path, field)?;
        }
        let watermark = outputs.index_of(WATERMARK);
        if watermark.is_some() && !source.watermark.max_out_of_orderness.is_zero() {
            let message = format!("{of} puts out watermarks, and the source has `max_out_of_orderness`");
            let help = "remove `max_out_of_orderness`, or let the assigner put out `event_time` only";
            let label = "watermarks come from one place".to_owned();
            self.report(code::CONFLICT, path.span, message, label, Some(help.to_owned()));
            return None;
        }
        let inputs = inputs.fields().iter().map(|field| decoded.index_of(&field.name)).collect::<Option<Vec<_>>>()?;
        Some(Assigner { inputs, outputs, event_time, watermark })
    }

    fn is_time(&mut self, what: &str, place: &Spanned<String>, field: &Field) -> Option<()> {
        if matches!(field.kind, Kind::Int64 | Kind::TimestampMs) {
            return Some(());
        }
        let label = format!("expected timestamp_ms or int64 (milliseconds), found {}", field.kind);
        let help = Some("times are milliseconds since 1970".to_owned());
        self.report(code::WRONG_TYPE, place.span, format!("{what} is not a time"), label, help);
        None
    }
}
