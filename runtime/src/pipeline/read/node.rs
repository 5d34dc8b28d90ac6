//! A pipeline as a tree, whichever language it was written in.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};

use crate::error::{Span, Spanned};

/// Tables and lists deeper than this are not looked into: no pipeline is half as deep, and the walk recurses.
const DEPTH_MAX: usize = 16;

/// A value and its place; JSON has no places.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    /// in file order
    Table(Vec<Entry>),
    /// what no key takes, as messages name it
    Other(&'static str),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Spanned<String>,
    pub(super) node: Node,
}

impl Value {
    /// As messages name it: `text`, `an integer`.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a floating-point number",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

pub(super) fn span(range: std::ops::Range<usize>) -> Span {
    Span { start: range.start, end: range.end }
}

/// The tree of a parsed TOML file.
pub(super) fn from_toml(table: DeTable<'_>, place: Span) -> Node {
    Node { value: from_toml_table(table, 0), span: place }
}

fn from_toml_table(table: DeTable<'_>, depth: usize) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let (key_span, value_span) = (span(key.span()), span(value.span()));
            Entry {
                key: Spanned::new(key.into_inner().into_owned(), key_span),
                node: Node { value: from_toml_value(value.into_inner(), depth + 1), span: value_span },
            }
        })
        .collect();
    entries.sort_by_key(|entry| entry.key.span.start);
    Value::Table(entries)
}

fn from_toml_value(value: DeValue<'_>, depth: usize) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other("an integer of more than 64 bits"), Value::Integer),
        DeValue::Float(float) => float.as_str().parse().map_or(Value::Other("a strange number"), Value::Float),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(_) | DeValue::Table(_) if depth > DEPTH_MAX => Value::Other("something nested too deep"),
        DeValue::Array(list) => {
            let nodes = list.into_iter().map(|value| {
                let place = span(value.span());
                Node { value: from_toml_value(value.into_inner(), depth + 1), span: place }
            });
            Value::List(nodes.collect())
        }
        DeValue::Table(table) => from_toml_table(table, depth),
    }
}

/// Keeps the order of keys and sees keys that come twice, which `serde_json::Value` does not. The depth is bounded by
/// `serde_json`'s own limit.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor)?;
        Ok(Self { value, span: Span::default() })
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pipeline")
    }

    fn visit_bool<E: de::Error>(self, boolean: bool) -> Result<Value, E> {
        Ok(Value::Boolean(boolean))
    }

    fn visit_i64<E: de::Error>(self, integer: i64) -> Result<Value, E> {
        Ok(Value::Integer(integer.into()))
    }

    fn visit_u64<E: de::Error>(self, integer: u64) -> Result<Value, E> {
        Ok(Value::Integer(integer.into()))
    }

    fn visit_f64<E: de::Error>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = table.next_entry::<String, Node>()? {
            entries.push(Entry { key: key.into(), node });
        }
        Ok(Value::Table(entries))
    }
}
