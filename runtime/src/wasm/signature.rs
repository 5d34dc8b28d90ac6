//! What an operator reads, produces and remembers, checked and in the host's words.

use std::collections::HashSet;

use super::OperatorKind;
use super::abi::{FieldOut, KindOut, SignatureOut, StateSchemaOut};
use super::process_abi::{ProcessSignatureOut, SideOutputOut};
use crate::record::{Field, Kind, Schema};

/// Columns that a signature may name: beyond this it is a mistake, and every column costs a call 70 ns.
const COLUMNS_MAX: usize = 1_024;

/// Outputs that a processor may have beside its own.
const SIDES_MAX: usize = 64;

/// Versions whose state a component may take over.
const SOURCES_MAX: usize = 64;

/// Bytes of an output's name.
const OUTPUT_NAME_BYTES: usize = 64;

/// Bytes of a column's name.
const COLUMN_NAME_BYTES: usize = 256;

/// What an operator reads, produces and remembers under one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// columns read, in the order in which they cross the boundary
    pub inputs: Schema,
    /// columns produced; empty for filters and partitioners
    pub outputs: Schema,
    /// columns of an accumulator or of a key's state; present for aggregators and processors, and only for them
    pub state: Option<StateSchema>,
    /// what only processors have
    pub process: Option<ProcessSignature>,
    /// state of other versions that can be taken over, by version
    pub sources: Vec<StateSchema>,
}

/// What becomes of state that a component finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover<'a> {
    /// it is the component's own
    AsIs,
    /// the component turns it into its own
    Migrate,
    /// it does not know it; what it knows of this version, if anything
    Unknown(Option<&'a StateSchema>),
}

/// What a processor says beyond what all operators say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSignature {
    /// columns read from the second input; `None`: there is no second input
    pub second: Option<Schema>,
    /// key columns that it wants to know
    pub keys: Schema,
    /// further outputs by number: name and columns
    pub sides: Vec<(String, Schema)>,
}

/// What a guest said of itself.
#[derive(Debug)]
pub(super) enum Said {
    /// any operator but a processor
    Plain(SignatureOut),
    Process(ProcessSignatureOut),
}

impl From<SignatureOut> for Said {
    fn from(said: SignatureOut) -> Self {
        Self::Plain(said)
    }
}

impl From<ProcessSignatureOut> for Said {
    fn from(said: ProcessSignatureOut) -> Self {
        Self::Process(said)
    }
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
    pub(super) fn check(kind: OperatorKind, said: Said) -> Result<Self, String> {
        match said {
            Said::Plain(said) => Self::check_plain(kind, said),
            Said::Process(said) => Self::check_process(said),
        }
    }

    fn check_process(said: ProcessSignatureOut) -> Result<Self, String> {
        let mut sides: Vec<(String, Schema)> = Vec::with_capacity(said.sides.len());
        if said.sides.len() > SIDES_MAX {
            return Err(format!("sides: {} outputs, at most {SIDES_MAX} are accepted", said.sides.len()));
        }
        for SideOutputOut { name, fields } in said.sides {
            if !is_output_name(&name) {
                return Err(format!(
                    "sides: {name:?} is no name for an output: a lower-case letter first, then lower-case letters, \
                     digits, `_` and `-`, at most {OUTPUT_NAME_BYTES} bytes"
                ));
            }
            if sides.iter().any(|(known, _)| *known == name) {
                return Err(format!("sides: output `{name}` is named twice"));
            }
            let fields = schema(&format!("side output `{name}`"), fields)?;
            sides.push((name, fields));
        }
        let second = said.second_inputs.map(|fields| schema("second inputs", fields)).transpose()?;
        let process = ProcessSignature { second, keys: schema("keys", said.keys)?, sides };
        Ok(Self {
            inputs: schema("inputs", said.inputs)?,
            outputs: schema("outputs", said.outputs)?,
            state: Some(StateSchema::check(said.state)?),
            process: Some(process),
            sources: Vec::new(),
        })
    }

    fn check_plain(kind: OperatorKind, said: SignatureOut) -> Result<Self, String> {
        let inputs = schema("inputs", said.inputs)?;
        let outputs = schema("outputs", said.outputs)?;
        let state = said.state.map(StateSchema::check).transpose()?;
        if matches!(kind, OperatorKind::Filter | OperatorKind::Partitioner) && !outputs.fields().is_empty() {
            return Err(format!("outputs of a {kind} must be empty, found {outputs}"));
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
        Ok(Self { inputs, outputs, state, process: None, sources: Vec::new() })
    }
}

impl Signature {
    /// Takes what a guest said of the state that it takes over, or says what is wrong with it.
    pub(super) fn takes_over(&mut self, said: Vec<StateSchemaOut>) -> Result<(), String> {
        if said.len() > SOURCES_MAX {
            return Err(format!("sources: {} versions, at most {SOURCES_MAX} are accepted", said.len()));
        }
        for source in said {
            let source = StateSchema::check(source).map_err(|reason| format!("sources: {reason}"))?;
            if self.sources.iter().any(|known| known.version == source.version) {
                return Err(format!("sources: version {} is named twice", source.version));
            }
            self.sources.push(source);
        }
        self.sources.sort_by_key(|source| source.version);
        Ok(())
    }

    /// What becomes of `found`, state that some version of the component has left.
    pub fn takeover(&self, found: &StateSchema) -> Takeover<'_> {
        if self.state.as_ref() == Some(found) {
            return Takeover::AsIs;
        }
        match self.sources.iter().find(|source| source.version == found.version) {
            Some(source) if source == found => Takeover::Migrate,
            known => Takeover::Unknown(known),
        }
    }
}

impl StateSchema {
    fn check(said: StateSchemaOut) -> Result<Self, String> {
        if said.version == 0 {
            return Err("state: version is 0; versions start at 1".into());
        }
        Ok(Self { version: said.version, fields: schema("state", said.fields)? })
    }
}

/// As names of steps are: a pipeline reads the output by it.
fn is_output_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    name.len() <= OUTPUT_NAME_BYTES
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(allowed)
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
    use super::*;

    fn field(name: &str) -> FieldOut {
        FieldOut { name: name.into(), kind: KindOut::TimestampMs, nullable: true }
    }

    fn said(outputs: Vec<FieldOut>, version: Option<u32>) -> Said {
        let state = version.map(|version| StateSchemaOut { version, fields: vec![field("sum")] });
        Said::Plain(SignatureOut { inputs: vec![field("a")], outputs, state })
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
