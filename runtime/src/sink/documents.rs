//! Rows for stores that keep one document an id, as Elasticsearch, HBase or an HTTP service with PUT do: **effectively once**.
//!
//! Such a store cannot take part in a checkpoint, but it does not matter how often it is told the same. So every row gets
//! an id that depends on the row alone, by the columns that say which document it is: after a failure the rows since the
//! last checkpoint come again, under the ids that they had, and replace themselves. A checkpoint waits until all rows before
//! it are stored.
//!
//! The columns must tell rows apart: keys and bounds of windows, a number that the producer gave. Of rows that are alike in
//! them one document remains, the last. A position in the stream would not do as an id: the rows of several tasks come in
//! another order after a failure.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use sha2::{Digest, Sha256};

use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::record::{Batch, Schema};

/// Names one document of one pipeline's sink, in all processes and versions: 32 hexadecimal digits.
///
/// ```text
///   the first 16 bytes of SHA-256 over
///     text "millstream document 1", text pipeline, text sink, then by column: text its name, cell
///   text   length in bytes: u64, bytes
///   cell   0: null   1: boolean, u8   2: int64, its bits   3: float64, its bits (-0.0 as 0.0, every NaN as 0x7ff8000000000000)
///          4: timestamp, its ms: i64   5: a text   6: binary, as a text
/// ```
///
/// All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId([u8; 16]);

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A connection to a store of documents; each task of a sink has its own.
pub trait DocumentStore: Send {
    /// Puts each row in the place of what has its id; of rows with the same id the last counts. Returns once all are stored
    /// for good, so that no later failure of the store can lose them. May be called again with the same rows, also by
    /// another process, also after it has failed half way.
    ///
    /// # Errors
    /// Why not, for people. The pipeline fails, and goes on from its last checkpoint.
    fn put<'a>(&'a mut self, ids: &'a [DocumentId], rows: &'a Batch) -> BoxFuture<'a, Result<(), String>>;
}

type Connect = dyn Fn(usize) -> BoxFuture<'static, Result<Box<dyn DocumentStore>, String>> + Send + Sync;

/// Where documents go, and which columns make their ids.
#[derive(Clone)]
pub struct DocumentSink {
    pipeline: String,
    columns: Vec<String>,
    connect: Arc<Connect>,
}

impl DocumentSink {
    /// Ids are made of `pipeline` (a name that is the pipeline's alone), the sink's name and the values of `columns`;
    /// `connect` makes the connection of a task, given its number.
    pub fn new(
        pipeline: impl Into<String>,
        columns: impl IntoIterator<Item = impl Into<String>>,
        connect: impl Fn(usize) -> BoxFuture<'static, Result<Box<dyn DocumentStore>, String>> + Send + Sync + 'static,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { pipeline: pipeline.into(), columns, connect: Arc::new(connect) }
    }
}

impl fmt::Debug for DocumentSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentSink").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl PartialEq for DocumentSink {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns && Arc::ptr_eq(&self.connect, &other.connect)
    }
}

impl Eq for DocumentSink {}

/// Makes the ids of rows.
#[derive(Clone, Debug)]
pub struct DocumentIds {
    /// of what all ids have in common
    start: Sha256,
    columns: Vec<(usize, String)>,
}

impl DocumentIds {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// There are no columns, or there is no such column.
    pub fn new(pipeline: &str, sink: &str, schema: &Schema, columns: &[String]) -> Result<Self, SinkError> {
        let refused = |reason: String| SinkError::DocumentIds { sink_name: sink.to_owned(), reason };
        if columns.is_empty() {
            return Err(refused("ids need columns that tell rows apart, got none".to_owned()));
        }
        let column = |name: &String| match schema.index_of(name) {
            Some(index) => Ok((index, name.clone())),
            None => Err(refused(format!("there is no column `{name}` for ids; expected some of {schema}"))),
        };
        let columns = columns.iter().map(column).collect::<Result<_, _>>()?;
        let mut start = Sha256::new();
        ["millstream document 1", pipeline, sink].into_iter().for_each(|part| text(&mut start, part.as_bytes()));
        Ok(Self { start, columns })
    }

    /// The id of each row.
    pub fn of(&self, rows: &Batch) -> Vec<DocumentId> {
        let id = |row: usize| {
            let mut hash = self.start.clone();
            for (index, name) in &self.columns {
                text(&mut hash, name.as_bytes());
                cell(&mut hash, rows.column(*index), row);
            }
            DocumentId(hash.finalize().first_chunk().copied().unwrap_or_default())
        };
        (0..rows.rows()).map(id).collect()
    }
}

fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn cell(hash: &mut Sha256, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        hash.update([0]);
    } else if let Some(values) = column.as_boolean_opt() {
        hash.update([1, u8::from(values.value(row))]);
    } else if let Some(values) = column.as_primitive_opt::<Int64Type>() {
        hash.update([2]);
        hash.update(values.value(row).to_le_bytes());
    } else if let Some(values) = column.as_primitive_opt::<Float64Type>() {
        let value = values.value(row);
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
        hash.update([3]);
        hash.update(bits.to_le_bytes());
    } else if let Some(values) = column.as_primitive_opt::<TimestampMillisecondType>() {
        hash.update([4]);
        hash.update(values.value(row).to_le_bytes());
    } else if let Some(values) = column.as_string_opt::<i32>() {
        hash.update([5]);
        text(hash, values.value(row).as_bytes());
    } else if let Some(values) = column.as_binary_opt::<i32>() {
        hash.update([6]);
        text(hash, values.value(row));
    }
}

/// One task's connection.
pub(super) struct Documents {
    sink_name: String,
    ids: DocumentIds,
    store: Box<dyn DocumentStore>,
}

impl Documents {
    pub(super) async fn open(sink: &DocumentSink, context: SinkContext) -> Result<Self, SinkError> {
        let ids = DocumentIds::new(&sink.pipeline, &context.name, &context.schema, &sink.columns)?;
        let store = (sink.connect)(context.subtask).await;
        let store = store.map_err(|reason| SinkError::Documents { sink_name: context.name.clone(), reason })?;
        Ok(Self { sink_name: context.name, ids, store })
    }
}

impl Sink for Documents {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async {
            let ids = self.ids.of(batch);
            let failed = |reason| SinkError::Documents { sink_name: self.sink_name.clone(), reason };
            self.store.put(&ids, batch).await.map_err(failed)
        })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        // all that was written is stored
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, text_batch};
    use super::*;

    #[test]
    fn an_id_is_the_same_for_ever_and_of_one_row_of_one_sink_of_one_pipeline() {
        let schema = context("text").schema;
        let of = |pipeline: &str, sink: &str, value: &str| {
            let ids = DocumentIds::new(pipeline, sink, &schema, &["value".to_owned()]).unwrap();
            ids.of(&text_batch(&["x", value]))[1].to_string()
        };
        // stores hold these: they must never change
        assert_eq!(of("orders", "out", "a"), KNOWN);
        let others =
            [of("order", "sout", "a"), of("orders", "out2", "a"), of("orders", "out", "b"), of("orders", "out", "")];
        assert!(others.iter().all(|id| id != KNOWN && id.len() == 32), "{others:?}");
    }

    const KNOWN: &str = "1ee1ccbaf2d5d52f730b16d78140a3b8";

    #[test]
    fn an_id_is_made_of_the_bytes_that_its_layout_says_for_every_kind_of_column() {
        use arrow_array::{
            BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
        };

        use crate::record::{Field, Kind};
        let kinds = [Kind::Boolean, Kind::Int64, Kind::Float64, Kind::TimestampMs, Kind::Text, Kind::Binary];
        let names = ["b", "i", "f", "t", "s", "x"].map(str::to_owned);
        let fields = names.iter().zip(kinds).map(|(name, kind)| Field::new(name, kind).nullable());
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let columns: [ArrayRef; 6] = [
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(Int64Array::from(vec![Some(-2), None])),
            Arc::new(Float64Array::from(vec![Some(1.5), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(9), None])),
            Arc::new(StringArray::from(vec![Some("ab"), None])),
            Arc::new(BinaryArray::from(vec![Some(b"c".as_slice()), None])),
        ];
        let rows = RecordBatch::try_new(schema.arrow().clone(), columns.into()).unwrap();
        let ids =
            DocumentIds::new("p", "o", &schema, &names).unwrap().of(&Batch::new(rows, vec![0; 2].into()).unwrap());
        let long = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
        let cells: [Vec<u8>; 6] = [
            vec![1, 1],
            [&[2_u8], (-2_i64).to_le_bytes().as_slice()].concat(),
            [&[3_u8], 1.5_f64.to_bits().to_le_bytes().as_slice()].concat(),
            [&[4_u8], 9_i64.to_le_bytes().as_slice()].concat(),
            [vec![5], long(b"ab")].concat(),
            [vec![6], long(b"c")].concat(),
        ];
        let expected = |cells: &dyn Fn(usize) -> Vec<u8>| {
            let mut bytes = [b"millstream document 1".as_slice(), b"p", b"o"].map(long).concat();
            for (number, name) in names.iter().enumerate() {
                bytes.extend(long(name.as_bytes()));
                bytes.extend(cells(number));
            }
            Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(ids[0].to_string(), expected(&|number| cells[number].clone()));
        assert_eq!(ids[1].to_string(), expected(&|_| vec![0]));
    }

    #[test]
    fn zeros_and_nans_are_one_value_each_and_null_is_none() {
        use arrow_array::Float64Array;
        let column = Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None, Some(1.0)]);
        let column: ArrayRef = Arc::new(column);
        let hashes: Vec<_> = (0..6)
            .map(|row| {
                let mut hash = Sha256::new();
                cell(&mut hash, &column, row);
                hash.finalize()
            })
            .collect();
        assert!(hashes[0] == hashes[1] && hashes[2] == hashes[3]);
        let different: std::collections::BTreeSet<_> = hashes.iter().map(|hash| hash.to_vec()).collect();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn columns_that_are_not_there_are_refused_by_name() {
        let refused = |columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
            DocumentIds::new("orders", "out", &context("text").schema, &columns).unwrap_err().to_string()
        };
        assert_eq!(refused(&[]), "sink `out`: ids need columns that tell rows apart, got none");
        assert_eq!(refused(&["key"]), "sink `out`: there is no column `key` for ids; expected some of value: text");
    }
}
