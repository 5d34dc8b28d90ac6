//! Reading: a row group after the other, some thousand rows at a time, only the columns that are wanted. What is held is
//! a page of each of them.

use std::fs::File;
use std::sync::Arc;

use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_select::filter::filter_record_batch;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use super::leaf::{self, Cells, Leaf};
use super::{ParquetError, contained};
use crate::format::{BadRecord, Encoder, Format, Frames};
use crate::limits::{BATCH_BYTES, BATCH_ROWS};
use crate::record::{Field, Kind, Schema};

/// Rows of the first batch of a file, before it is known how large they are.
const FIRST_ROWS: usize = 1_024;

const DAY_MS: i64 = 86_400_000;

/// A file whose footer has been read.
pub struct ParquetFile {
    file: SerializedFileReader<File>,
    leaves: Vec<Result<Leaf, ParquetError>>,
}

/// Rows of a file.
#[derive(Debug)]
pub struct ParquetRows {
    /// the rows that are as declared, with the columns that were wanted
    pub columns: RecordBatch,
    /// those that are null where no null is allowed: their number in the file (from 0) as offset, as JSON
    pub bad: Vec<BadRecord>,
}

/// Reads a file from its start.
pub struct ParquetReader {
    file: SerializedFileReader<File>,
    leaves: Vec<Leaf>,
    wanted: Schema,
    /// a column that must not be null, though declared so
    event_time: Option<usize>,
    /// the row group to open next
    next_group: usize,
    columns: Vec<ColumnReader>,
    left_in_group: usize,
    rows_at_once: usize,
    /// rows read so far
    row: u64,
}

impl ParquetFile {
    /// Reads the footer.
    pub fn open(file: File) -> Result<Self, ParquetError> {
        contained(|| {
            let file = SerializedFileReader::new(file)
                .map_err(|error| ParquetError::File(format!("not a whole Parquet file: {error}")))?;
            let leaves = leaf::leaves(file.metadata().file_metadata().schema_descr());
            Ok(Self { file, leaves })
        })
    }

    /// All columns, if all are of kinds that a stream can have.
    pub fn schema(&self) -> Result<Schema, ParquetError> {
        let fields: Result<Vec<Field>, ParquetError> =
            self.leaves.iter().map(|leaf| leaf.clone().map(|leaf| leaf.field)).collect();
        Ok(Schema::new(fields?))
    }

    /// Reads the columns `wanted`. Rows that are null where `wanted` allows no null, or in the column `event_time` of it,
    /// come as bad records.
    pub fn read(self, wanted: &Schema, event_time: Option<usize>) -> Result<ParquetReader, ParquetError> {
        let leaves = wanted.fields().iter().map(|field| leaf::find(&self.leaves, field));
        let leaves = leaves.collect::<Result<Vec<Leaf>, ParquetError>>()?;
        check_codecs(&self.file, &leaves)?;
        Ok(ParquetReader {
            file: self.file,
            leaves,
            wanted: wanted.clone(),
            event_time,
            next_group: 0,
            columns: Vec::new(),
            left_in_group: 0,
            rows_at_once: FIRST_ROWS,
            row: 0,
        })
    }
}

/// Told before the first row is read: the crate would say so in the middle, and in other words.
fn check_codecs(file: &SerializedFileReader<File>, leaves: &[Leaf]) -> Result<(), ParquetError> {
    for group in file.metadata().row_groups() {
        for leaf in leaves {
            let codec = group.columns().get(leaf.index).map(|chunk| chunk.compression());
            match codec {
                None
                | Some(
                    Compression::UNCOMPRESSED
                    | Compression::SNAPPY
                    | Compression::GZIP(_)
                    | Compression::LZ4
                    | Compression::LZ4_RAW,
                ) => {}
                Some(codec) => {
                    let name = codec.to_string().to_ascii_lowercase();
                    let codec = name.split('(').next().unwrap_or_default().to_owned();
                    return Err(ParquetError::Codec { column: leaf.field.name.clone(), codec });
                }
            }
        }
    }
    Ok(())
}

impl ParquetReader {
    /// The next rows; `None` after the last.
    pub fn next_rows(&mut self) -> Result<Option<ParquetRows>, ParquetError> {
        contained(|| {
            while self.left_in_group == 0 {
                if !self.open_group()? {
                    return Ok(None);
                }
            }
            let rows = self.left_in_group.min(self.rows_at_once);
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.leaves.len());
            for (leaf, reader) in self.leaves.iter().zip(&mut self.columns) {
                columns.push(column(leaf, reader, rows)?);
            }
            self.left_in_group -= rows;
            let first = self.row;
            self.row += rows as u64;
            let bytes: usize = columns.iter().map(|column| column.get_array_memory_size()).sum();
            self.rows_at_once = (BATCH_BYTES.saturating_mul(rows) / bytes.max(1)).clamp(1, BATCH_ROWS);
            self.checked(columns, rows, first).map(Some)
        })
    }

    /// Opens the next row group; `false` after the last.
    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        self.left_in_group = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::File(format!("row group {} has a negative size", self.next_group - 1)))?;
        self.columns.clear();
        for leaf in &self.leaves {
            self.columns.push(group.get_column_reader(leaf.index)?);
        }
        Ok(true)
    }

    /// Takes out the rows that are null where they must not be.
    fn checked(&self, columns: Vec<ArrayRef>, rows: usize, first: u64) -> Result<ParquetRows, ParquetError> {
        let fields = self.wanted.fields();
        let must = |index: usize, field: &Field| !field.nullable || self.event_time == Some(index);
        let mut present: Option<BooleanBuffer> = None;
        for (index, (field, column)) in fields.iter().zip(&columns).enumerate() {
            if must(index, field)
                && let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0)
            {
                present = Some(present.map_or_else(|| nulls.inner().clone(), |present| &present & nulls.inner()));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let internal = |error: arrow_schema::ArrowError| ParquetError::File(error.to_string());
        let Some(present) = present else {
            let columns = RecordBatch::try_new_with_options(Arc::clone(self.wanted.arrow()), columns, &options);
            return Ok(ParquetRows { columns: columns.map_err(internal)?, bad: Vec::new() });
        };
        let loose = Schema::new(fields.iter().map(|field| field.clone().nullable()).collect::<Vec<_>>());
        let all = RecordBatch::try_new_with_options(Arc::clone(loose.arrow()), columns, &options).map_err(internal)?;
        let mut bad = Vec::new();
        for row in (0..rows).filter(|row| !present.value(*row)) {
            let null = fields.iter().enumerate().find(|(index, field)| {
                must(*index, field) && all.columns().get(*index).is_some_and(|c| c.is_null(row))
            });
            let reason =
                null.map_or_else(String::new, |(index, field)| null_reason(field, self.event_time == Some(index)));
            bad.push(BadRecord::new(row, first.saturating_add(row as u64), &json(&all, &loose, row), reason));
        }
        let kept = filter_record_batch(&all, &BooleanArray::new(present, None)).map_err(internal)?;
        let kept = RecordBatch::try_new(Arc::clone(self.wanted.arrow()), kept.columns().to_vec()).map_err(internal)?;
        Ok(ParquetRows { columns: kept, bad })
    }
}

fn null_reason(field: &Field, is_event_time: bool) -> String {
    if is_event_time {
        return format!("event time `{}` is missing or null; expected milliseconds since 1970", field.name);
    }
    format!(
        "column `{}`: expected {}, got null; declare it as `{}?` to allow nulls",
        field.name, field.kind, field.kind
    )
}

/// One row as people read it.
fn json(rows: &RecordBatch, schema: &Schema, row: usize) -> Vec<u8> {
    let mut frames = Frames::default();
    let encoded = Encoder::new(Format::Json, schema).and_then(|mut json| json.encode(&rows.slice(row, 1), &mut frames));
    encoded.map(|()| frames.bytes).unwrap_or_default()
}

/// The next `rows` values of a column.
fn column(leaf: &Leaf, reader: &mut ColumnReader, rows: usize) -> Result<ArrayRef, ParquetError> {
    let name = &leaf.field.name;
    Ok(match (leaf.cells, reader) {
        (Cells::Boolean, ColumnReader::BoolColumnReader(reader)) => {
            let (values, nulls) = values(name, reader, rows)?;
            Arc::new(BooleanArray::new(spread(values.into_iter(), nulls.as_ref(), rows).collect(), nulls))
        }
        (Cells::Int32 { unsigned }, ColumnReader::Int32ColumnReader(reader)) => {
            let number = move |value: i32| if unsigned { i64::from(value as u32) } else { i64::from(value) };
            integers(leaf, values(name, reader, rows)?, rows, number)
        }
        (Cells::Days, ColumnReader::Int32ColumnReader(reader)) => {
            integers(leaf, values(name, reader, rows)?, rows, |days| i64::from(days) * DAY_MS)
        }
        (Cells::Int64, ColumnReader::Int64ColumnReader(reader)) => {
            integers(leaf, values(name, reader, rows)?, rows, |value| value)
        }
        (Cells::Timestamp { per_ms }, ColumnReader::Int64ColumnReader(reader)) => {
            integers(leaf, values(name, reader, rows)?, rows, move |value| value.div_euclid(per_ms))
        }
        (Cells::Int96, ColumnReader::Int96ColumnReader(reader)) => {
            integers(leaf, values(name, reader, rows)?, rows, |value| value.to_millis())
        }
        (Cells::Float, ColumnReader::FloatColumnReader(reader)) => floats(values(name, reader, rows)?, rows),
        (Cells::Double, ColumnReader::DoubleColumnReader(reader)) => floats(values(name, reader, rows)?, rows),
        (Cells::Bytes, ColumnReader::ByteArrayColumnReader(reader)) => {
            let (values, nulls) = values(name, reader, rows)?;
            bytes(leaf, values.iter().map(|value| value.data()), nulls, rows)?
        }
        (Cells::FixedBytes, ColumnReader::FixedLenByteArrayColumnReader(reader)) => {
            let (values, nulls) = values(name, reader, rows)?;
            bytes(leaf, values.iter().map(|value| value.data()), nulls, rows)?
        }
        _ => return Err(ParquetError::File(format!("column `{name}` is of another type than the file's footer says"))),
    })
}

/// The values that are there, and which rows have one; `None`: all.
fn values<T: DataType>(
    name: &str,
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
) -> Result<(Vec<T::T>, Option<NullBuffer>), ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    let (records, _, _) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if records != rows || (!levels.is_empty() && levels.len() != rows) || (levels.is_empty() && values.len() != rows) {
        return Err(ParquetError::File(format!("column `{name}` has fewer values than its row group has rows")));
    }
    let nulls = (values.len() < rows).then(|| NullBuffer::new(levels.iter().map(|level| *level > 0).collect()));
    if nulls.as_ref().is_some_and(|nulls| nulls.len() - nulls.null_count() != values.len()) {
        return Err(ParquetError::File(format!("column `{name}` has another number of values than it says")));
    }
    Ok((values, nulls))
}

/// The values at their rows, any value between them.
fn spread<T: Default>(
    mut values: impl Iterator<Item = T>,
    nulls: Option<&NullBuffer>,
    rows: usize,
) -> impl Iterator<Item = T> {
    (0..rows).map(move |row| {
        let there = nulls.is_none_or(|nulls| nulls.is_valid(row));
        there.then(|| values.next()).flatten().unwrap_or_default()
    })
}

fn integers<T>(
    leaf: &Leaf,
    (values, nulls): (Vec<T>, Option<NullBuffer>),
    rows: usize,
    number: impl Fn(T) -> i64,
) -> ArrayRef {
    let numbers: ScalarBuffer<i64> = spread(values.into_iter().map(number), nulls.as_ref(), rows).collect();
    match leaf.field.kind {
        Kind::TimestampMs => Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(numbers, nulls)),
        _ => Arc::new(PrimitiveArray::<Int64Type>::new(numbers, nulls)),
    }
}

fn floats<T: Into<f64>>((values, nulls): (Vec<T>, Option<NullBuffer>), rows: usize) -> ArrayRef {
    let numbers: ScalarBuffer<f64> = spread(values.into_iter().map(Into::into), nulls.as_ref(), rows).collect();
    let array: Float64Array = PrimitiveArray::<Float64Type>::new(numbers, nulls);
    Arc::new(array)
}

fn bytes<'a>(
    leaf: &Leaf,
    values: impl Iterator<Item = &'a [u8]>,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> Result<ArrayRef, ParquetError> {
    let name = &leaf.field.name;
    let mut data = Vec::new();
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0_i32);
    for value in spread(values, nulls.as_ref(), rows) {
        data.extend_from_slice(value);
        let end = i32::try_from(data.len());
        offsets.push(end.map_err(|_| ParquetError::File(format!("{rows} rows of column `{name}` exceed 2 GiB")))?);
    }
    let (offsets, data) = (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(data));
    let wrong = |error: arrow_schema::ArrowError| ParquetError::File(format!("column `{name}`: {error}"));
    Ok(match leaf.field.kind {
        Kind::Text => Arc::new(StringArray::try_new(offsets, data, nulls).map_err(wrong)?),
        _ => Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(wrong)?),
    })
}
