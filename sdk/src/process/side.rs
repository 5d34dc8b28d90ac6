//! Further outputs of a processor, each with a row type of its own.

use std::any::Any;
use std::marker::PhantomData;

use super::contract::{SideOutput, SideRows};
use crate::contract::{Batch, Column, Field, offset};
use crate::row::Row;

/// A further output: a constant that `#[process(sides(..))]` and [`Context::emit_to`](super::Context::emit_to) name.
///
/// ```
/// use millstream_sdk::{Row, Side};
///
/// #[derive(Row)]
/// struct Alert {
///     reason: String,
/// }
///
/// const ALERTS: Side<Alert> = Side::new("alerts");
/// ```
pub struct Side<R> {
    name: &'static str,
    row: PhantomData<fn() -> R>,
}

impl<R> Side<R> {
    /// An output that pipelines read as `name`: lower-case letters, digits, `_` and `-`, a letter first.
    pub const fn new(name: &'static str) -> Self {
        Side { name, row: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<R: Row> Side<R>
where
    R::Writer: 'static,
{
    /// A writer without rows.
    #[doc(hidden)]
    pub fn writer(&self) -> SideWriter {
        SideWriter {
            name: self.name,
            fields: R::fields(),
            writer: Box::new(R::writer(0, 0)),
            finish: |writer| match writer.downcast::<R::Writer>() {
                Ok(writer) => R::finish(*writer),
                Err(_) => Vec::new(),
            },
            origin: Vec::new(),
        }
    }
}

/// Collects the rows of one further output.
#[doc(hidden)]
pub struct SideWriter {
    name: &'static str,
    fields: Vec<Field>,
    writer: Box<dyn Any>,
    finish: fn(Box<dyn Any>) -> Vec<Column>,
    origin: Vec<u32>,
}

impl SideWriter {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// False where the output has another row type.
    pub(super) fn push<R>(&mut self, row: R, from: u32) -> bool
    where
        R: Row,
        R::Writer: 'static,
    {
        let Some(writer) = self.writer.downcast_mut::<R::Writer>() else { return false };
        row.push(writer);
        self.origin.push(from);
        true
    }

    /// What the signature says of it.
    pub(super) fn declared(&self) -> SideOutput {
        SideOutput { name: self.name.to_owned(), fields: self.fields.clone() }
    }

    /// The rows, as output `side`; `None` where there are none.
    pub(super) fn finish(self, side: u32) -> Option<SideRows> {
        if self.origin.is_empty() {
            return None;
        }
        let output = Batch { rows: offset(self.origin.len()), columns: (self.finish)(self.writer) };
        Some(SideRows { side, origin: self.origin, output })
    }
}
