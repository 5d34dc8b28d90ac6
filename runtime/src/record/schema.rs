//! The six kinds of column that cross every boundary, and their place in Arrow.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// What a column holds. The same six kinds as the operator contract's `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// true or false
    Boolean,
    /// signed 64-bit integer
    Int64,
    /// IEEE 754 double
    Float64,
    /// UTF-8 text
    Text,
    /// bytes
    Binary,
    /// milliseconds since the Unix epoch, may be negative
    TimestampMs,
}

impl Kind {
    /// All kinds, in the order of the contract.
    pub const ALL: [Self; 6] = [Self::Boolean, Self::Int64, Self::Float64, Self::Text, Self::Binary, Self::TimestampMs];

    /// The name used in pipeline files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::TimestampMs => "timestamp_ms",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How Arrow stores the kind.
    pub const fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::TimestampMs => DataType::Timestamp(TimeUnit::Millisecond, None),
        }
    }

    /// The kind that Arrow stores so, if it is one of ours.
    pub fn from_data_type(data_type: &DataType) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.data_type() == *data_type)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A named, typed column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// unique within a schema
    pub name: String,
    /// what the column holds
    pub kind: Kind,
    /// whether rows may be null
    pub nullable: bool,
}

impl Field {
    /// A column without nulls.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind, nullable: false }
    }

    /// The same column with nulls allowed.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.name, self.kind, if self.nullable { "?" } else { "" })
    }
}

/// The columns of a stream, fixed when the pipeline is planned. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    fields: Arc<[Field]>,
    arrow: arrow_schema::SchemaRef,
}

impl Schema {
    /// A schema of these columns. Names are expected to be unique: the planner checks what users write.
    pub fn new(fields: impl Into<Vec<Field>>) -> Self {
        let fields: Vec<Field> = fields.into();
        let arrow = fields
            .iter()
            .map(|field| arrow_schema::Field::new(&field.name, field.kind.data_type(), field.nullable))
            .collect::<Vec<_>>();
        Self { fields: fields.into(), arrow: Arc::new(arrow_schema::Schema::new(arrow)) }
    }

    /// The columns in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The same columns as Arrow describes them.
    pub fn arrow(&self) -> &arrow_schema::SchemaRef {
        &self.arrow
    }

    /// Position of the column `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The column `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields.iter().enumerate() {
            write!(f, "{}{field}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
