//! Whole columns, for operators that need no row loop.

use std::fmt;
use std::marker::PhantomData;

use crate::contract::{Batch, Column, Field, Kind, Values, Varlen, offset};
use crate::row::{ReadRow, Row};

/// A batch whose columns are the fields of `R`.
///
/// An operator over columns changes them in place, or takes them apart, and hands them back: no row is copied.
///
/// ```
/// use millstream_sdk::{Columns, Row};
///
/// #[derive(Row)]
/// struct Line {
///     value: String,
/// }
///
/// #[millstream_sdk::map]
/// fn uppercase(mut lines: Columns<Line>) -> Result<Columns<Line>, String> {
///     lines.text_mut("value")?.bytes.make_ascii_uppercase();
///     Ok(lines)
/// }
/// ```
pub struct Columns<R> {
    batch: Batch,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Columns<R> {
    /// From columns in the order of the fields of `R`, each with `rows` rows; the error names the column that does not fit.
    pub fn new(rows: usize, columns: Vec<Column>) -> Result<Self, String> {
        Self::from_batch(Batch { rows: offset(rows), columns })
    }

    /// From a batch; the error names the column that does not fit.
    pub fn from_batch(batch: Batch) -> Result<Self, String> {
        let fields = R::fields();
        if fields.len() != batch.columns.len() {
            return Err(format!("expected {} columns, got {}", fields.len(), batch.columns.len()));
        }
        for (field, column) in fields.iter().zip(&batch.columns) {
            fits(field, column, batch.rows as usize).map_err(|what| format!("column \"{}\": {what}", field.name))?;
        }
        Ok(Columns { batch, row: PhantomData })
    }

    /// From rows.
    pub fn from_rows(rows: impl IntoIterator<Item = R>) -> Self {
        let mut writer = R::writer(0, 0);
        let mut count = 0;
        for row in rows {
            row.push(&mut writer);
            count += 1;
        }
        Columns { batch: Batch { rows: offset(count), columns: R::finish(writer) }, row: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.rows as usize
    }

    /// The columns as they cross the boundary.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The columns as they cross the boundary, to take apart.
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// The rows, in order. The error is what could not be read.
    pub fn to_rows<'b>(&'b self) -> Result<Vec<R>, String>
    where
        R: ReadRow<'b>,
    {
        let reader = R::open(&self.batch)?;
        (0..self.rows()).map(|row| R::read(&reader, row)).collect()
    }

    /// The column `name`.
    pub fn column(&self, name: &str) -> Result<&Column, String> {
        let index = index::<R>(name)?;
        self.batch.columns.get(index).ok_or_else(|| unknown::<R>(name))
    }

    /// The column `name`, to change. Its kind and number of rows must stay as they are.
    pub fn column_mut(&mut self, name: &str) -> Result<&mut Column, String> {
        let index = index::<R>(name)?;
        self.batch.columns.get_mut(index).ok_or_else(|| unknown::<R>(name))
    }

    /// The integers of column `name`.
    pub fn int64(&self, name: &str) -> Result<&[i64], String> {
        match &self.column(name)?.values {
            Values::Int64(values) => Ok(values),
            other => Err(other_kind(name, Kind::Int64, other)),
        }
    }

    /// The floating point numbers of column `name`.
    pub fn float64(&self, name: &str) -> Result<&[f64], String> {
        match &self.column(name)?.values {
            Values::Float64(values) => Ok(values),
            other => Err(other_kind(name, Kind::Float64, other)),
        }
    }

    /// The milliseconds of column `name`.
    pub fn timestamp_ms(&self, name: &str) -> Result<&[i64], String> {
        match &self.column(name)?.values {
            Values::TimestampMs(values) => Ok(values),
            other => Err(other_kind(name, Kind::TimestampMs, other)),
        }
    }

    /// The text of column `name`.
    pub fn text(&self, name: &str) -> Result<&Varlen, String> {
        match &self.column(name)?.values {
            Values::Text(values) => Ok(values),
            other => Err(other_kind(name, Kind::Text, other)),
        }
    }

    /// The text of column `name`, to change. Each row must stay UTF-8: the host checks it.
    pub fn text_mut(&mut self, name: &str) -> Result<&mut Varlen, String> {
        match &mut self.column_mut(name)?.values {
            Values::Text(values) => Ok(values),
            other => Err(other_kind(name, Kind::Text, other)),
        }
    }
}

impl<R> fmt::Debug for Columns<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Columns").field(&self.batch).finish()
    }
}

fn fits(field: &Field, column: &Column, rows: usize) -> Result<(), String> {
    if column.values.kind() != field.kind {
        return Err(format!("expected {}, got {}", field.kind, column.values.kind()));
    }
    if column.values.rows() != rows {
        return Err(format!("expected {rows} rows, got {}", column.values.rows()));
    }
    match &column.validity {
        Some(validity) if validity.len() != rows => {
            Err(format!("expected {rows} entries of validity, got {}", validity.len()))
        }
        Some(validity) if !field.nullable && validity.contains(&0) => {
            Err("holds a null, but is declared without; make the field an Option".to_owned())
        }
        _ => Ok(()),
    }
}

fn index<R: Row>(name: &str) -> Result<usize, String> {
    R::fields().iter().position(|field| field.name == name).ok_or_else(|| unknown::<R>(name))
}

fn unknown<R: Row>(name: &str) -> String {
    let known: Vec<String> = R::fields().into_iter().map(|field| field.name).collect();
    format!("no column \"{name}\"; there are: {}", known.join(", "))
}

fn other_kind(name: &str, asked: Kind, values: &Values) -> String {
    format!("column \"{name}\" was asked for as {asked}, but is {}", values.kind())
}
