//! What a column of a Parquet file is to us: its kind, and how its values become cells.
//!
//! | in the file | kind |
//! |---|---|
//! | BOOLEAN | `boolean` |
//! | INT32, INT64, signed or not (no UINT_64) | `int64`; INT64 also as `timestamp_ms`, where that is declared |
//! | FLOAT, DOUBLE | `float64` |
//! | BYTE_ARRAY as UTF8, ENUM, JSON | `text` |
//! | BYTE_ARRAY without a meaning, or BSON | `binary`; also as `text`, where that is declared |
//! | FIXED_LEN_BYTE_ARRAY without a meaning, or UUID | `binary` |
//! | DATE | `timestamp_ms`, midnight |
//! | TIMESTAMP of ms, µs or ns, INT96 | `timestamp_ms`, rounded down |

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type as SchemaType};

use super::ParquetError;
use crate::record::{Field, Kind, Schema};

/// How values become cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cells {
    Boolean,
    /// `unsigned`: the 32 bits are to be read as a number without a sign
    Int32 {
        unsigned: bool,
    },
    /// days since 1970
    Days,
    Int64,
    /// so many of the file's units are a millisecond
    Timestamp {
        per_ms: i64,
    },
    Int96,
    Float,
    Double,
    Bytes,
    FixedBytes,
}

/// A column that can be read.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// its position among the file's columns
    pub(super) index: usize,
    pub(super) field: Field,
    pub(super) cells: Cells,
}

/// The columns of a file: those at the top that are of a kind of ours, and why the others are not.
pub(super) fn leaves(schema: &SchemaDescriptor) -> Vec<Result<Leaf, ParquetError>> {
    let roots = schema.root_schema().get_fields().iter().enumerate();
    let leaf = |(place, root): (usize, &std::sync::Arc<SchemaType>)| {
        let unsupported = |found: String| ParquetError::Unsupported { column: root.name().to_owned(), found };
        let index = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == place);
        let Some(index) = index.filter(|_| root.is_primitive()) else {
            return Err(unsupported("a group of columns".to_owned()));
        };
        let column = schema.column(index);
        if column.max_rep_level() > 0 {
            return Err(unsupported("a list".to_owned()));
        }
        let (kind, cells) = meaning(&column).ok_or_else(|| unsupported(type_name(&column)))?;
        let field = Field { name: root.name().to_owned(), kind, nullable: column.max_def_level() > 0 };
        Ok(Leaf { index, field, cells })
    };
    roots.map(leaf).collect()
}

fn meaning(column: &ColumnDescriptor) -> Option<(Kind, Cells)> {
    use ConvertedType as C;
    let nanoseconds = matches!(
        column.logical_type_ref(),
        Some(LogicalType::Timestamp(timestamp)) if timestamp.unit == TimeUnit::NANOS
    );
    let plain = matches!(column.logical_type_ref(), None | Some(LogicalType::Uuid));
    Some(match (column.physical_type(), column.converted_type()) {
        (Type::BOOLEAN, C::NONE) => (Kind::Boolean, Cells::Boolean),
        (Type::INT32, C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::UINT_8 | C::UINT_16) => {
            (Kind::Int64, Cells::Int32 { unsigned: false })
        }
        (Type::INT32, C::UINT_32) => (Kind::Int64, Cells::Int32 { unsigned: true }),
        (Type::INT32, C::DATE) => (Kind::TimestampMs, Cells::Days),
        (Type::INT64, C::TIMESTAMP_MILLIS) => (Kind::TimestampMs, Cells::Timestamp { per_ms: 1 }),
        (Type::INT64, C::TIMESTAMP_MICROS) => (Kind::TimestampMs, Cells::Timestamp { per_ms: 1_000 }),
        (Type::INT64, C::NONE) if nanoseconds => (Kind::TimestampMs, Cells::Timestamp { per_ms: 1_000_000 }),
        (Type::INT64, C::NONE) if plain => (Kind::Int64, Cells::Int64),
        (Type::INT64, C::INT_64) => (Kind::Int64, Cells::Int64),
        (Type::INT96, _) => (Kind::TimestampMs, Cells::Int96),
        (Type::FLOAT, C::NONE) => (Kind::Float64, Cells::Float),
        (Type::DOUBLE, C::NONE) => (Kind::Float64, Cells::Double),
        (Type::BYTE_ARRAY, C::UTF8 | C::ENUM | C::JSON) => (Kind::Text, Cells::Bytes),
        (Type::BYTE_ARRAY, C::NONE | C::BSON) if plain || column.converted_type() == C::BSON => {
            (Kind::Binary, Cells::Bytes)
        }
        (Type::FIXED_LEN_BYTE_ARRAY, C::NONE) if plain => (Kind::Binary, Cells::FixedBytes),
        _ => return None,
    })
}

/// The file's name for a type: `INT64 (UINT_64)`.
fn type_name(column: &ColumnDescriptor) -> String {
    let physical = column.physical_type();
    match (column.converted_type(), column.logical_type_ref()) {
        (ConvertedType::NONE, None) => physical.to_string(),
        (ConvertedType::NONE, Some(logical)) => format!("{physical} ({logical:?})"),
        (converted, _) => format!("{physical} ({converted})"),
    }
}

/// How the column `wanted` is to be read from a file with these columns.
pub(super) fn find(leaves: &[Result<Leaf, ParquetError>], wanted: &Field) -> Result<Leaf, ParquetError> {
    let named = |leaf: &&Result<Leaf, ParquetError>| match leaf {
        Ok(leaf) => leaf.field.name == wanted.name,
        Err(ParquetError::Unsupported { column, .. }) => *column == wanted.name,
        Err(_) => false,
    };
    let Some(leaf) = leaves.iter().find(named) else {
        let known = known(leaves);
        return Err(ParquetError::NoColumn { column: wanted.name.clone(), known });
    };
    let leaf = leaf.clone()?;
    let same = leaf.field.kind == wanted.kind
        || matches!(
            (leaf.cells, wanted.kind),
            (Cells::Int64, Kind::TimestampMs)
                | (Cells::Timestamp { per_ms: 1 }, Kind::Int64)
                | (Cells::Bytes, Kind::Binary)
        )
        || (leaf.cells == Cells::Bytes && leaf.field.kind == Kind::Binary && wanted.kind == Kind::Text);
    if !same {
        return Err(ParquetError::Kind { expected: wanted.clone(), found: leaf.field.kind.to_string() });
    }
    let field = Field { kind: wanted.kind, ..leaf.field };
    Ok(Leaf { field, ..leaf })
}

fn known(leaves: &[Result<Leaf, ParquetError>]) -> String {
    let fields: Vec<Field> = leaves.iter().flatten().map(|leaf| leaf.field.clone()).collect();
    Schema::new(fields).to_string()
}
