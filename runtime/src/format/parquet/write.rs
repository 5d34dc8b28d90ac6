//! Writing: rows are held until a row group is full, then written column by column, compressed with snappy.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type as ParquetInt64};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type as SchemaType, TypePtr};

use super::ParquetError;
use crate::record::{Field, Kind, Schema};

/// Rows of a row group. Readers hold a page of each column and skip whole groups by their statistics, so not too few.
const GROUP_ROWS: usize = 128 << 10;

/// Bytes of rows that wait for their row group to be full.
const GROUP_BYTES: usize = 32 << 20;

/// A file in the making.
pub struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: Schema,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// A file of these columns.
    pub fn new(out: W, schema: &Schema) -> Result<Self, ParquetError> {
        let columns = schema.fields().iter().map(column_type).collect::<Result<Vec<TypePtr>, ParquetError>>()?;
        let root = SchemaType::group_type_builder("rows").with_fields(columns).build()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(root), Arc::new(properties))?;
        Ok(Self { file, schema: schema.clone(), waiting: Vec::new(), rows: 0, bytes: 0 })
    }

    /// Takes rows in, and writes a row group if that makes one full.
    pub fn write(&mut self, rows: RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows();
        // batches may be slices of larger ones, whose memory counts whole: then groups are smaller, never larger
        self.bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Writes what waits and the footer.
    pub fn finish(mut self) -> Result<W, ParquetError> {
        if self.rows > 0 {
            self.write_group()?;
        }
        Ok(self.file.into_inner()?)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let batches = std::mem::take(&mut self.waiting);
        (self.rows, self.bytes) = (0, 0);
        let mut group = self.file.next_row_group()?;
        for (index, field) in self.schema.fields().iter().enumerate() {
            let Some(mut column) = group.next_column()? else { break };
            for batch in &batches {
                let array = batch.columns().get(index);
                let array =
                    array.ok_or_else(|| ParquetError::File(format!("no column `{}` in a batch", field.name)))?;
                write_column(&mut column, field, array)?;
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn column_type(field: &Field) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match field.kind {
        Kind::Boolean => (Type::BOOLEAN, None),
        Kind::Int64 => (Type::INT64, None),
        Kind::Float64 => (Type::DOUBLE, None),
        Kind::Text => (Type::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Binary => (Type::BYTE_ARRAY, None),
        Kind::TimestampMs => (Type::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
    };
    let repetition = if field.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let column = SchemaType::primitive_type_builder(&field.name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()?;
    Ok(Arc::new(column))
}

fn write_column(column: &mut SerializedColumnWriter<'_>, field: &Field, array: &dyn Array) -> Result<(), ParquetError> {
    let wrong = || ParquetError::File(format!("column `{}` is {}, not {}", field.name, array.data_type(), field.kind));
    match field.kind {
        Kind::Boolean => {
            let array = array.as_boolean_opt().ok_or_else(wrong)?;
            write_values::<BoolType>(column, field, array, array.iter().flatten().collect())
        }
        Kind::Int64 => {
            let array = array.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
            write_values::<ParquetInt64>(column, field, array, array.iter().flatten().collect())
        }
        Kind::TimestampMs => {
            let array = array.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(wrong)?;
            write_values::<ParquetInt64>(column, field, array, array.iter().flatten().collect())
        }
        Kind::Float64 => {
            let array = array.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
            write_values::<DoubleType>(column, field, array, array.iter().flatten().collect())
        }
        Kind::Text => {
            let array = array.as_string_opt::<i32>().ok_or_else(wrong)?;
            write_values::<ByteArrayType>(column, field, array, array.iter().flatten().map(ByteArray::from).collect())
        }
        Kind::Binary => {
            let array = array.as_binary_opt::<i32>().ok_or_else(wrong)?;
            let values = array.iter().flatten().map(|value| ByteArray::from(value.to_vec())).collect();
            write_values::<ByteArrayType>(column, field, array, values)
        }
    }
}

/// Writes the values that are there, and for a column with nulls which rows have one.
fn write_values<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    field: &Field,
    array: &dyn Array,
    values: Vec<T::T>,
) -> Result<(), ParquetError> {
    let levels: Option<Vec<i16>> =
        field.nullable.then(|| (0..array.len()).map(|row| i16::from(array.is_valid(row))).collect());
    column.typed::<T>().write_batch(&values, levels.as_deref(), None)?;
    Ok(())
}
