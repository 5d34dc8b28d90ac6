//! State on its way to a checkpoint and back: plain tables, so that a restore can give every row to the task that owns
//! its key, and tools can read state without the guest that made it.

use arrow_array::RecordBatch;

/// All that one operator in one task remembers, at one cut.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// in the operator's own order; names differ
    pub tables: Vec<Table>,
}

/// Rows of one kind.
#[derive(Clone, Debug)]
pub struct Table {
    /// what the rows are, e.g. `windows`
    pub name: String,
    /// `Some(n)`: the first n columns are the step's key columns, in their order, and a row goes to the task that owns
    /// this key. `None`: all tasks get all rows of all tasks.
    pub keys: Option<usize>,
    /// batches of one schema
    pub rows: Vec<RecordBatch>,
}

impl Snapshot {
    /// Adds a table.
    #[must_use]
    pub fn with(mut self, name: &str, keys: Option<usize>, rows: Vec<RecordBatch>) -> Self {
        self.tables.push(Table { name: name.to_owned(), keys, rows });
        self
    }

    /// The rows of a table; none if there is no such table.
    pub fn rows(&self, name: &str) -> &[RecordBatch] {
        self.tables.iter().find(|table| table.name == name).map(|table| table.rows.as_slice()).unwrap_or_default()
    }
}
