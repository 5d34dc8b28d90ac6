//! Configuration of a step as its guest sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A scalar of `config = { .. }`.
#[derive(Clone, Debug, PartialEq)]
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

/// All settings of a step, by name. Cheap to clone.
pub type Settings = Arc<BTreeMap<String, Setting>>;
