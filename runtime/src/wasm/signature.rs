//! What an operator reads, produces and remembers, checked and in the host's words.

use std::collections::HashSet;

use super::OperatorKind;
use super::abi::{FieldOut, KindOut, SignatureOut};
use crate::record::{Field, Kind, Schema};

/// Columns that a signature may name: beyond this it is a mistake, and every column costs a call 70 ns.
const COLUMNS_MAX: usize = 1_024;

/// Bytes of a column's name.
const COLUMN_NAME_BYTES: usize = 256;

/// What an operator reads, produces and remembers under one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// columns read, in the order in which they cross the boundary
    pub inputs: Schema,
    /// columns produced; empty for filters
    pub outputs: Schema,
    /// columns of an accumulator; present for aggregators, and only for them
    pub state: Option<StateSchema>,
}

/// The columns of an accumulator and their version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSchema {
    /// raised by the author with every change of the fields or their meaning; from 1
    pub version: u32,
    /// the columns
    pub fields: Schema,
}

impl Signature {
    /// Takes what a guest of `kind` said, or says what is wrong with it.
    pub(super) fn check(kind: OperatorKind, said: SignatureOut) -> Result<Self, String> {
        let inputs = schema("inputs", said.inputs)?;
        let outputs = schema("outputs", said.outputs)?;
        let state = match said.state {
            Some(state) if state.version == 0 => return Err("state: version is 0; versions start at 1".into()),
            Some(state) => Some(StateSchema { version: state.version, fields: schema("state", state.fields)? }),
            None => None,
        };
        if kind == OperatorKind::Filter && !outputs.fields().is_empty() {
            return Err(format!("outputs of a filter must be empty, found {outputs}"));
        }
        match (&state, kind) {
            (None, OperatorKind::Aggregator) => {
                return Err("state of an aggregator must name the accumulator's columns, found none".into());
            }
            (Some(_), kind) if kind != OperatorKind::Aggregator => {
                return Err(format!("state of a {kind} must be none: only aggregators have any"));
            }
            _ => {}
        }
        Ok(Self { inputs, outputs, state })
    }
}

fn schema(part: &str, fields: Vec<FieldOut>) -> Result<Schema, String> {
    if fields.len() > COLUMNS_MAX {
        return Err(format!("{part}: {} columns, at most {COLUMNS_MAX} are accepted", fields.len()));
    }
    let mut names = HashSet::new();
    let mut checked = Vec::with_capacity(fields.len());
    for (i, field) in fields.into_iter().enumerate() {
        if field.name.is_empty() || field.name.len() > COLUMN_NAME_BYTES || field.name.contains(char::is_control) {
            return Err(format!(
                "{part}: the name of column {i} must have 1 to {COLUMN_NAME_BYTES} bytes and no control characters, \
                 found {} bytes",
                field.name.len()
            ));
        }
        if !names.insert(field.name.clone()) {
            return Err(format!("{part}: column `{}` is named twice", field.name));
        }
        checked.push(Field { name: field.name, kind: field.kind.into(), nullable: field.nullable });
    }
    Ok(Schema::new(checked))
}

impl From<KindOut> for Kind {
    fn from(kind: KindOut) -> Self {
        match kind {
            KindOut::Boolean => Self::Boolean,
            KindOut::Int64 => Self::Int64,
            KindOut::Float64 => Self::Float64,
            KindOut::Text => Self::Text,
            KindOut::Binary => Self::Binary,
            KindOut::TimestampMs => Self::TimestampMs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::abi::StateSchemaOut;
    use super::*;

    fn field(name: &str) -> FieldOut {
        FieldOut { name: name.into(), kind: KindOut::TimestampMs, nullable: true }
    }

    fn said(outputs: Vec<FieldOut>, version: Option<u32>) -> SignatureOut {
        let state = version.map(|version| StateSchemaOut { version, fields: vec![field("sum")] });
        SignatureOut { inputs: vec![field("a")], outputs, state }
    }

    #[test]
    fn a_sound_signature_is_taken_over() {
        let signature = Signature::check(OperatorKind::Aggregator, said(vec![field("b")], Some(3))).unwrap();
        assert_eq!(signature.inputs.to_string(), "a: timestamp_ms?");
        assert_eq!(signature.state.unwrap().version, 3);
    }

    #[test]
    fn a_signature_that_makes_no_sense_is_refused() {
        let check = |kind, outputs, version| Signature::check(kind, said(outputs, version)).unwrap_err();
        assert_eq!(
            check(OperatorKind::Mapper, vec![field("b"), field("b")], None),
            "outputs: column `b` is named twice"
        );
        assert!(check(OperatorKind::Mapper, vec![field("")], None).contains("name of column 0"));
        assert!(check(OperatorKind::Filter, vec![field("b")], None).contains("filter must be empty"));
        assert!(check(OperatorKind::Aggregator, vec![], None).contains("found none"));
        assert!(check(OperatorKind::Aggregator, vec![], Some(0)).contains("start at 1"));
        assert!(check(OperatorKind::Mapper, vec![], Some(1)).contains("only aggregators"));
    }
}
