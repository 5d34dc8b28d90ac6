//! The formats by name.

/// How bytes become columns and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// one JSON object a record
    Json,
    /// one MessagePack map (or array, in the schema's order) a record
    Msgpack,
    /// one CSV record, without a header, columns in the schema's order; a file's first line is a header with `csv_header`
    Csv,
    /// the record is the one column `value: text`
    Text,
    /// the record is the one column `value: binary`
    Raw,
}
