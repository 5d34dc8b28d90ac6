//! State on its way to a checkpoint and back: plain tables, so that a restore can give every row to the task that owns
//! its key, and tools can read state without the guest that made it.
//!
//! Large state is not made into rows while the stream waits: an operator hands over a frozen copy ([`Later`]), which shares
//! its memory with what the operator goes on with, and rows are made of it elsewhere, or not at all if they are known.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::StateError;

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
    /// more of them, before those of `rows`, of the same schema
    pub later: Vec<Later>,
}

/// Rows of a frozen copy. Cheap to clone.
#[derive(Clone)]
pub struct Later {
    id: Arc<dyn Fn() -> u128 + Send + Sync>,
    rows: Arc<dyn Fn() -> Result<RecordBatch, StateError> + Send + Sync>,
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl Later {
    /// `rows` makes the rows, and `id` what [`Later::id`] says; both are called off the stream's threads.
    pub fn new(
        id: impl Fn() -> u128 + Send + Sync + 'static,
        rows: impl Fn() -> Result<RecordBatch, StateError> + Send + Sync + 'static,
    ) -> Self {
        Self { id: Arc::new(id), rows: Arc::new(rows) }
    }

    /// Tells these rows from all others of this process: the same number, the same rows.
    pub fn id(&self) -> u128 {
        (self.id)()
    }

    /// The rows. Takes time by their number.
    pub fn rows(&self) -> Result<RecordBatch, StateError> {
        (self.rows)()
    }
}

impl Table {
    /// The batches, those of frozen copies first.
    pub fn batches(&self) -> Result<Vec<RecordBatch>, StateError> {
        let later = self.later.iter().map(Later::rows);
        later.chain(self.rows.iter().cloned().map(Ok)).collect()
    }
}

impl Snapshot {
    /// Adds a table.
    #[must_use]
    pub fn with(mut self, name: &str, keys: Option<usize>, rows: Vec<RecordBatch>) -> Self {
        self.tables.push(Table { name: name.to_owned(), keys, rows, later: Vec::new() });
        self
    }

    /// Gives the table that was added last rows of a frozen copy.
    #[must_use]
    pub fn with_later(mut self, later: Vec<Later>) -> Self {
        self.tables.last_mut().into_iter().for_each(|table| table.later = later.clone());
        self
    }

    /// The same with all rows made.
    pub fn made(mut self) -> Result<Self, StateError> {
        for table in self.tables.iter_mut().filter(|table| !table.later.is_empty()) {
            table.rows = table.batches()?;
            table.later.clear();
        }
        Ok(self)
    }

    /// The rows of a table that are made; none if there is no such table.
    pub fn rows(&self, name: &str) -> &[RecordBatch] {
        self.tables.iter().find(|table| table.name == name).map(|table| table.rows.as_slice()).unwrap_or_default()
    }
}
