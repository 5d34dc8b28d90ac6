//! The step's `config = { .. }`.

use std::collections::BTreeMap;

use serde::de::value::{Error, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// A scalar as written in the pipeline.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// true or false
    Boolean(bool),
    /// integer
    Int64(i64),
    /// floating point
    Float64(f64),
    /// string
    Text(String),
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Setting::Boolean(value)
    }
}

impl From<i64> for Setting {
    fn from(value: i64) -> Self {
        Setting::Int64(value)
    }
}

impl From<f64> for Setting {
    fn from(value: f64) -> Self {
        Setting::Float64(value)
    }
}

impl From<&str> for Setting {
    fn from(value: &str) -> Self {
        Setting::Text(value.to_owned())
    }
}

/// All settings of a step, by name. A function may take these as they are, or any struct that implements `Deserialize`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// The value of `name`, if the pipeline sets it.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &str, value: impl Into<Setting>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// All settings, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// As a struct; the error says which setting is missing or does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let settings = MapDeserializer::new(self.0.iter().map(|(name, value)| (name.as_str(), Scalar(value))));
        T::deserialize(settings).map_err(|error: Error| format!("config: {error}"))
    }
}

/// A [`Setting`] as serde reads it.
struct Scalar<'a>(&'a Setting);

impl<'a> IntoDeserializer<'a> for Scalar<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Scalar<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Setting::Boolean(value) => visitor.visit_bool(*value),
            Setting::Int64(value) => visitor.visit_i64(*value),
            Setting::Float64(value) => visitor.visit_f64(*value),
            Setting::Text(value) => visitor.visit_str(value),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Setting::Text(value) => {
                IntoDeserializer::<Error>::into_deserializer(value.as_str()).deserialize_enum(name, variants, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
