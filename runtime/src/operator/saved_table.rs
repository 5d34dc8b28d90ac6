//! Tables of a snapshot: what is in them, and what operators check before they take one over.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef};

use super::OperatorError;
use crate::record::Field;
use crate::state::Snapshot;

/// A table's name and columns, the first of which are the step's keys.
pub(super) struct SavedTable {
    name: &'static str,
    keys: usize,
    /// every task has all rows, whatever their keys
    everywhere: bool,
    schema: SchemaRef,
}

impl SavedTable {
    /// `rest` are the columns after the keys.
    pub(super) fn new(name: &'static str, keys: &[Field], rest: impl IntoIterator<Item = ArrowField>) -> Self {
        let key = |field: &Field| ArrowField::new(&field.name, field.kind.data_type(), field.nullable);
        let fields: Fields = keys.iter().map(key).chain(rest).collect();
        Self { name, keys: keys.len(), everywhere: false, schema: ArrowSchema::new(fields).into() }
    }

    /// The same, of which every task has all rows.
    pub(super) fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    /// What its rows are.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// How many columns there are before those of `rest`.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// All columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of this table, the only one that there may be. An error names what differs from what was planned.
    pub(super) fn rows<'a>(&self, of: &'a Snapshot) -> Result<&'a [RecordBatch], OperatorError> {
        self.rows_beside(of, &[])
    }

    /// As [`SavedTable::rows`], of a snapshot that may have `others` too.
    pub(super) fn rows_beside<'a>(
        &self,
        of: &'a Snapshot,
        others: &[&SavedTable],
    ) -> Result<&'a [RecordBatch], OperatorError> {
        let misfit = |reason: String| Err(OperatorError::State { reason });
        let known = |name: &str| name == self.name || others.iter().any(|other| name == other.name);
        if let Some(unknown) = of.tables.iter().find(|table| !known(&table.name)) {
            let kept: Vec<String> = std::iter::once(self).chain(others.iter().copied()).map(Self::quoted).collect();
            return misfit(format!("it has a table `{}`, this step keeps {}", unknown.name, kept.join(" and ")));
        }
        let Some(table) = of.tables.iter().find(|table| table.name == self.name) else { return Ok(&[]) };
        let expected = (!self.everywhere).then_some(self.keys);
        if table.keys != expected {
            let show = |keys: Option<usize>| keys.map_or_else(|| "none".to_owned(), |keys| keys.to_string());
            let (expected, found) = (show(expected), show(table.keys));
            return misfit(format!("table `{}`: expected {expected} key columns, found {found}", self.name));
        }
        for batch in &table.rows {
            self.check(batch)?;
        }
        Ok(&table.rows)
    }

    fn quoted(&self) -> String {
        format!("`{}`", self.name)
    }

    /// Whether names and types are as planned; and nulls only where they may be.
    fn check(&self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let schema = batch.schema();
        let (expected, found) = (self.schema.fields(), schema.fields());
        let show = |field: &ArrowField| format!("`{}` {}", field.name(), field.data_type());
        for at in 0..expected.len().max(found.len()) {
            let reason = match (expected.get(at), found.get(at), batch.columns().get(at)) {
                (Some(e), Some(f), Some(rows)) if e.name() == f.name() && e.data_type() == f.data_type() => {
                    if e.is_nullable() || rows.null_count() == 0 {
                        continue;
                    }
                    format!("`{}` has nulls, expected none", e.name())
                }
                (Some(expected), Some(found), _) => format!("expected {}, found {}", show(expected), show(found)),
                (Some(expected), None, _) => format!("expected {}, found no more columns", show(expected)),
                (None, Some(found), _) => format!("expected no more columns, found {}", show(found)),
                (None, None, _) => continue,
            };
            let reason = format!("table `{}`, column {}: {reason}", self.name, at + 1);
            return Err(OperatorError::State { reason });
        }
        Ok(())
    }
}
