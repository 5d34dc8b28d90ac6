//! Sources: the columns of a record, those that are decoded, and which of them is the event time.

use super::{Node, NodeKind, Planner, View};
use crate::error::Spanned;
use crate::format::Format;
use crate::pipeline::columns;
use crate::pipeline::problems::code;
use crate::pipeline::spec::SourceSpec;
use crate::record::{Field, Kind, Schema};
use crate::source;

impl Planner<'_> {
    pub(super) fn source(
        &mut self,
        index: usize,
        source: &SourceSpec,
        needed: Option<&columns::Needed>,
    ) -> Option<Node> {
        let full = self.source_schema(source)?;
        let event_time = source.event_time.as_ref();
        if let Some(column) = event_time {
            self.check_event_time(source, column, &full)?;
        }
        let wanted: Vec<Field> = full
            .fields()
            .iter()
            .filter(|field| {
                matches!(self.view, View::All { .. })
                    || needed.is_some_and(|needed| needed.contains(&field.name))
                    || event_time.is_some_and(|column| column.value == field.name)
                    || self.is_mark(source, &field.name)
            })
            .cloned()
            .collect();
        let schema = Schema::new(wanted);
        let event_time = event_time.and_then(|column| schema.index_of(&column.value));
        let parallelism = self.parallelism(source.parallelism.as_ref());
        let marks = self.marks(source, &full, &schema)?;
        let kind = NodeKind::Source { index, full, event_time, marks };
        Some(Node {
            name: source.name.value.clone(),
            kind,
            inputs: Vec::new(),
            ports: Vec::new(),
            schema,
            parallelism,
            partition: None,
        })
    }

    fn source_schema(&mut self, source: &SourceSpec) -> Option<Schema> {
        let format = source.format.as_ref().map(|format| format.value);
        let fixed = source::schema_of(&source.kind.value, format);
        if let (Some(fixed), Some(declared)) = (&fixed, &source.schema)
            && *fixed != declared.value
        {
            let message = format!("source `{}` has its own schema", source.name.value);
            let label = format!("expected {fixed}, found {}", declared.value);
            self.report(code::CONFLICT, declared.span, message, label, Some("remove `schema`".to_owned()));
            return None;
        }
        if fixed.is_some() {
            return fixed;
        }
        if let Some(declared) = &source.schema {
            return Some(declared.value.clone());
        }
        self.inferred_schema(source)
    }

    /// What operators declare, where the pipeline says nothing.
    fn inferred_schema(&mut self, source: &SourceSpec) -> Option<Schema> {
        let name = &source.name.value;
        let span = source.name.span;
        let help = |columns: &[(String, String)]| {
            let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} = \"{kind}\"")).collect();
            let columns = if columns.is_empty() { "column = \"int64\"".to_owned() } else { columns.join(", ") };
            Some(format!("add `schema = {{ {columns} }}`, with the right kinds, to [source.{name}]"))
        };
        let label = || "no `schema` here".to_owned();
        if source.format.as_ref().is_some_and(|format| format.value == Format::Csv) {
            let message = format!("source `{name}` needs a schema: csv columns are told apart by their order");
            self.report(code::SCHEMA_NEEDED, span, message, label(), help(&[]));
            return None;
        }
        match columns::inferred(self.spec, self.signatures, source) {
            Ok(fields) if fields.is_empty() => {
                let message = format!("source `{name}` needs a schema: no operator that reads it declares columns");
                self.report(code::SCHEMA_NEEDED, span, message, label(), help(&[]));
                None
            }
            Ok(fields) => Some(Schema::new(fields)),
            Err(columns::Unknown { reason, columns }) => {
                let message = format!("source `{name}` needs a schema: {reason}");
                self.report(code::SCHEMA_NEEDED, span, message, label(), help(&columns));
                None
            }
        }
    }

    fn check_event_time(&mut self, source: &SourceSpec, column: &Spanned<String>, full: &Schema) -> Option<()> {
        let place = format!("source `{}`", source.name.value);
        let field = self.column(&place, column, full)?;
        if matches!(full.fields().get(field)?.kind, Kind::Int64 | Kind::TimestampMs) {
            return Some(());
        }
        let found = full.fields().get(field)?.kind;
        let message = format!("event time `{}` of {place} is not a time", column.value);
        let help = format!("declare it as `{} = \"timestamp_ms\"` in `schema`", column.value);
        let label = format!("expected timestamp_ms or int64 (milliseconds), found {found}");
        self.report(code::WRONG_TYPE, column.span, message, label, Some(help));
        None
    }
}
