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
    /// Parquet files; a file cannot be cut into records, so it has no decoder of frames
    Parquet,
}

impl Format {
    /// The name used in pipeline files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Raw => "raw",
            Self::Parquet => "parquet",
        }
    }
}

/// How records are told apart in a byte stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `lines`: by `\n` (a `\r` before it is dropped); csv: by records, so quoted line breaks are kept;
    /// msgpack: values follow each other without anything between
    #[default]
    Lines,
    /// `length`: a 4-byte big-endian length before each record
    Length,
}
