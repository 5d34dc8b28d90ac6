//! The reference decoder: a serde seed that appends one row to growing columns.
//!
//! With serde_json and rmp-serde it reads both formats and words the errors. The scanners in front of it are quicker
//! and hand over whatever they do not expect, so this file alone decides which odd records are accepted.

use std::fmt;

use hashbrown::HashMap;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::base64;
use super::columns::{Column, Columns, Values};
use super::timestamp;
use crate::record::{Kind, Schema};

/// Position of each wanted column by name.
pub(super) struct Names(HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>);

impl Names {
    pub(super) fn new(wanted: &Schema) -> Self {
        let names = wanted.fields().iter().enumerate();
        Self(names.map(|(index, field)| (field.name.as_bytes().into(), index)).collect())
    }

    /// The wanted column called `name`.
    pub(super) fn get(&self, name: &[u8]) -> Option<usize> {
        self.0.get(name).copied()
    }
}

/// What bytes are to a format, and what a record may be.
#[derive(Clone, Copy)]
pub(super) enum Dialect<'a> {
    /// records are objects; binary is base64 text
    Json,
    /// records are maps, or arrays whose elements are these wanted columns; binary is bin, or str from old writers
    Msgpack(&'a [Option<usize>]),
}

/// Appends the cells of one record. Whoever runs it ends the row, or undoes it after an error.
pub(super) struct RowSeed<'a> {
    pub(super) columns: &'a mut Columns,
    pub(super) names: &'a Names,
    pub(super) dialect: Dialect<'a>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.dialect {
            Dialect::Json => "a JSON object as the record",
            Dialect::Msgpack(_) => "a MessagePack map or array as the record",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(self.names))? {
            match key {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(index) => {
                    let Some(column) = self.columns.open_cell(index) else {
                        let name = self.columns.name(index);
                        return Err(A::Error::custom(format_args!("column `{name}` occurs twice in the record")));
                    };
                    map.next_value_seed(CellSeed { column, dialect: self.dialect })?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Dialect::Msgpack(order) = self.dialect else {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        };
        for target in order {
            let more = match target.and_then(|index| self.columns.open_cell(index)) {
                Some(column) => seq.next_element_seed(CellSeed { column, dialect: self.dialect })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => {
                Err(A::Error::custom(format_args!("expected an array of {} columns, got more elements", order.len())))
            }
        }
    }
}

/// Reads a key; `None` is a column that nobody wants.
struct KeySeed<'a>(&'a Names);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text as a column's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name.as_bytes()))
    }
}

/// Appends one cell.
struct CellSeed<'a> {
    column: &'a mut Column,
    dialect: Dialect<'a>,
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl CellSeed<'_> {
    fn too_long<E: Error>(&self) -> E {
        E::custom(format_args!("column `{}`: one batch would hold more than 2 GiB of it", self.column.field.name))
    }

    /// The cell of a text or binary column, as it is.
    fn bytes<E: Error>(self, bytes: &[u8], got: Unexpected<'_>) -> Result<(), E> {
        let Values::Bytes(texts) = &mut self.column.values else { return Err(E::invalid_type(got, &self)) };
        texts.push(bytes).ok_or_else(|| self.too_long())
    }

    fn base64<E: Error>(self, text: &str) -> Result<(), E> {
        let Values::Bytes(texts) = &mut self.column.values else {
            return Err(E::invalid_type(Unexpected::Str(text), &self));
        };
        if base64::decode(text.as_bytes(), &mut texts.bytes).is_none() {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        texts.end_cell().ok_or_else(|| self.too_long())
    }
}

impl Visitor<'_> for CellSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.column.field.kind;
        let shape = match (kind, self.dialect) {
            (Kind::TimestampMs, _) => " (milliseconds, or a time like 2023-09-18T14:23:10Z)",
            (Kind::Binary, Dialect::Json) => " (base64 text)",
            _ => "",
        };
        write!(f, "{kind}{shape} for column `{}`", self.column.field.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match &mut self.column.values {
            Values::Boolean(values) => values.push(value),
            _ => return Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Int64(values) => values.push(value),
            Values::Float64(values) => values.push(value as f64),
            _ => return Err(E::invalid_type(Unexpected::Signed(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match (&mut self.column.values, i64::try_from(value)) {
            (Values::Int64(values), Ok(value)) => values.push(value),
            (Values::Float64(values), _) => values.push(value as f64),
            (Values::Int64(_), Err(_)) => return Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
            _ => return Err(E::invalid_type(Unexpected::Unsigned(value), &self)),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Float64(values) => values.push(value),
            _ => return Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match (self.column.field.kind, self.dialect) {
            (Kind::Binary, Dialect::Json) => self.base64(value),
            (Kind::TimestampMs, _) => {
                let (Some(time), Values::Int64(values)) = (timestamp::parse(value.as_bytes()), &mut self.column.values)
                else {
                    return Err(E::invalid_value(Unexpected::Str(value), &self));
                };
                values.push(time);
                Ok(())
            }
            _ => self.bytes(value.as_bytes(), Unexpected::Str(value)),
        }
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        if self.column.field.kind == Kind::Binary {
            return self.bytes(value, Unexpected::Bytes(value));
        }
        // not the bytes themselves: serde would write each as a number
        Err(E::invalid_type(Unexpected::Other("bytes"), &self))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.column.push_null().ok_or_else(|| E::invalid_type(Unexpected::Other("null"), &self))
    }
}
