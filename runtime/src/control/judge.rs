//! Whether one component may take the place of another in a running pipeline. Pure: two signatures and the columns at
//! hand in, a verdict out, before anything is touched.

use serde::Serialize;

use crate::record::{Field, Kind, Schema};
use crate::wasm::{Signature, StateSchema, Takeover};

/// What a swap would mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// same inputs, outputs and state
    Identical,
    /// reads other columns, all of which are there; results and state stay as they are
    Compatible,
    /// keeps other state, and turns that of the running version into its own, ahead of the cut or at it
    Migrate {
        /// version of the state as it runs
        from: u32,
        /// as offered
        to: u32,
    },
    /// would break the pipeline
    Refused(Refusal),
}

/// Why a swap is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what} `{field}`: running {running}, offered {offered}")]
pub struct Refusal {
    /// which part of the signature
    pub what: &'static str,
    /// the field
    pub field: String,
    /// as it runs (`none` where it is new)
    pub running: String,
    /// as offered (`none` where it is gone)
    pub offered: String,
    /// Rust for the component that would make it fit, to be filled in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<String>,
}

impl Refusal {
    /// What can be done about it, to be read behind the refusal.
    pub(super) fn way_on(&self) -> &'static str {
        match self.what {
            "output" | "side output" => {
                "; a component with other columns takes the place of this one where a pipeline file names it: `millstream apply FILE`"
            }
            "input" | "second input" | "key" => {
                "; a column reaches the step where the one before puts it out, or has it in `keep`: `millstream apply FILE`"
            }
            _ => "",
        }
    }
}

/// Judges `offered` in the place of `running`; `available` are the columns that reach the step.
pub fn judge(running: &Signature, offered: &Signature, available: &Schema) -> Verdict {
    if let Some(refusal) = difference("output", &running.outputs, &offered.outputs) {
        return Verdict::Refused(refusal);
    }
    let mut migrates = None;
    match (&running.state, &offered.state) {
        (None, None) => {}
        (Some(found), Some(_)) => match judge_state(found, offered) {
            Ok(migration) => migrates = migration,
            Err(refusal) => return Verdict::Refused(*refusal),
        },
        (running, offered) => {
            let word = |state: bool| if state { "an accumulator" } else { "none" }.to_owned();
            return Verdict::Refused(Refusal {
                what: "state",
                field: "accumulator".to_owned(),
                running: word(running.is_some()),
                offered: word(offered.is_some()),
                stub: None,
            });
        }
    }
    if let Some(refusal) = lacking("input", &offered.inputs, available) {
        return Verdict::Refused(refusal);
    }
    match migrates {
        Some((from, to)) => Verdict::Migrate { from, to },
        None if running.inputs == offered.inputs => Verdict::Identical,
        None => Verdict::Compatible,
    }
}

/// Judges `offered` where there is state `found`: the versions from and to which it migrates, none where it need not.
pub(super) fn judge_state(found: &StateSchema, offered: &Signature) -> Result<Option<(u32, u32)>, Box<Refusal>> {
    let Some(own) = &offered.state else { return Ok(None) };
    let (what, known) = match offered.takeover(found) {
        Takeover::AsIs => return Ok(None),
        Takeover::Migrate => return Ok(Some((found.version, own.version))),
        Takeover::Unknown(Some(source)) => ("state to migrate", source),
        Takeover::Unknown(None) => ("state", own),
    };
    let mut refusal = difference(what, &found.fields, &known.fields).unwrap_or_else(|| Refusal {
        what: "state",
        field: "version".to_owned(),
        running: found.version.to_string(),
        offered: own.version.to_string(),
        stub: None,
    });
    refusal.stub = Some(stub(found, own, offered.process.is_some()));
    Err(Box::new(refusal))
}

/// What an author has to write so that `own` can be made of `found`.
fn stub(found: &StateSchema, own: &StateSchema, process: bool) -> String {
    let (attribute, state) = if process { ("process", "State") } else { ("aggregate", "Accumulator") };
    let version = if own.version == found.version { found.version.saturating_add(1) } else { own.version };
    let old = format!("{state}V{}", found.version);
    let (renames, fields): (Vec<_>, Vec<_>) = found.fields.fields().iter().map(rust_field).unzip();
    let declared = renames.iter().zip(&fields).map(|(rename, (name, kind))| format!("{rename}    {name}: {kind},\n"));
    let declared: String = declared.collect();
    let given = own.fields.fields().iter().map(|field| {
        let (_, (name, kind)) = rust_field(field);
        match found.fields.field(&field.name) {
            Some(old) if old == field => format!("            {name}: old.{name},\n"),
            Some(old) => format!("            {name}: todo!(\"{} from old.{name}: {}\"),\n", kind, rust_field(old).1.1),
            None => format!("            {name}: todo!(\"{kind}, which version {} did not keep\"),\n", found.version),
        }
    });
    let given: String = given.collect();
    format!(
        "#[derive(Row)]\nstruct {old} {{\n{declared}}}\n\nimpl From<{old}> for /* your `type {state}` */ {{\n    \
         fn from(old: {old}) -> Self {{\n        Self {{\n{given}        }}\n    }}\n}}\n\n\
         // and on the operator:\n#[millstream_sdk::{attribute}(version = {version}, migrate({} = {old}))]\n",
        found.version
    )
}

/// A column as a field of a Rust struct: the attribute that it needs, its name, its type.
fn rust_field(field: &Field) -> (String, (String, String)) {
    let kind = match field.kind {
        Kind::Boolean => "bool",
        Kind::Int64 => "i64",
        Kind::Float64 => "f64",
        Kind::Text => "String",
        Kind::Binary => "Vec<u8>",
        Kind::TimestampMs => "Timestamp",
    };
    let kind = if field.nullable { format!("Option<{kind}>") } else { kind.to_owned() };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut name: String = field.name.chars().map(plain).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    let rename = format!("    #[column(name = {:?})]\n", field.name);
    (if name == field.name { String::new() } else { rename }, (name, kind))
}

/// What only processors have: further outputs as they are, and a second input and keys that are there. `second` are the
/// columns that reach the step as its second input, `keys` those of its keys.
pub(super) fn judge_process(
    running: &Signature,
    offered: &Signature,
    second: Option<&Schema>,
    keys: &Schema,
) -> Result<(), Refusal> {
    let (Some(running), Some(offered)) = (&running.process, &offered.process) else { return Ok(()) };
    let refused = |what, field: &str, running: Option<String>, offered: Option<String>| {
        let word = |said: Option<String>| said.unwrap_or_else(|| "none".to_owned());
        Refusal { what, field: field.to_owned(), running: word(running), offered: word(offered), stub: None }
    };
    for at in 0..running.sides.len().max(offered.sides.len()) {
        let (old, new) = (running.sides.get(at), offered.sides.get(at));
        if old != new {
            let said = |side: Option<&(String, Schema)>| side.map(|(name, schema)| format!("{name} ({schema})"));
            let name = old.or(new).map_or("", |(name, _)| name.as_str());
            return Err(refused("side output", name, said(old), said(new)));
        }
    }
    match (second, &offered.second) {
        (Some(second), Some(wanted)) => lacking("second input", wanted, second).map_or(Ok(()), Err)?,
        (None, None) => {}
        (there, wanted) => {
            let (there, wanted) = (there.map(ToString::to_string), wanted.as_ref().map(ToString::to_string));
            return Err(refused("input", "with", there, wanted));
        }
    }
    lacking("key", &offered.keys, keys).map_or(Ok(()), Err)
}

/// The first of the `wanted` columns that is not there.
fn lacking(what: &'static str, wanted: &Schema, available: &Schema) -> Option<Refusal> {
    wanted.fields().iter().find_map(|field| {
        let found = available.field(&field.name);
        let fits = found.is_some_and(|found| found.kind == field.kind && (field.nullable || !found.nullable));
        (!fits).then(|| Refusal {
            what,
            field: field.name.clone(),
            running: found.map_or_else(|| "none".to_owned(), ToString::to_string),
            offered: field.to_string(),
            stub: None,
        })
    })
}

/// The first field that differs.
fn difference(what: &'static str, running: &Schema, offered: &Schema) -> Option<Refusal> {
    let count = running.fields().len().max(offered.fields().len());
    (0..count).find_map(|index| {
        let (old, new) = (running.fields().get(index), offered.fields().get(index));
        (old != new).then(|| {
            let name = |field: Option<&Field>| field.map_or_else(|| "none".to_owned(), ToString::to_string);
            let field = old.or(new).map(|field| field.name.clone()).unwrap_or_default();
            Refusal { what, field, running: name(old), offered: name(new), stub: None }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::ProcessSignature;

    fn signature(inputs: &[Field], outputs: &[Field], state: Option<(u32, &[Field])>) -> Signature {
        Signature {
            inputs: Schema::new(inputs),
            outputs: Schema::new(outputs),
            state: state.map(|(version, fields)| StateSchema { version, fields: Schema::new(fields) }),
            process: None,
            sources: Vec::new(),
        }
    }

    #[test]
    fn the_table_of_swaps() {
        let text = || Field::new("value", Kind::Text);
        let int = || Field::new("value", Kind::Int64);
        let sum = || Field::new("sum", Kind::Int64);
        let available = Schema::new([text(), Field::new("user", Kind::Text).nullable()]);
        let map = signature(&[text()], &[text()], None);
        let fold = signature(&[text()], &[sum()], Some((1, &[sum()])));
        let refused = |verdict| match verdict {
            Verdict::Refused(refusal) => refusal.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(judge(&map, &map, &available), Verdict::Identical);
        let fewer = signature(&[], &[text()], None);
        assert_eq!(judge(&map, &fewer, &available), Verdict::Compatible);
        let output = signature(&[text()], &[int()], None);
        assert_eq!(
            refused(judge(&map, &output, &available)),
            "output `value`: running value: text, offered value: int64"
        );
        let more = signature(&[text()], &[text(), sum()], None);
        assert_eq!(refused(judge(&map, &more, &available)), "output `sum`: running none, offered sum: int64");
        let missing = signature(&[Field::new("price", Kind::Int64)], &[text()], None);
        assert_eq!(refused(judge(&map, &missing, &available)), "input `price`: running none, offered price: int64");
        let nulls = signature(&[Field::new("user", Kind::Text)], &[text()], None);
        assert_eq!(refused(judge(&map, &nulls, &available)), "input `user`: running user: text?, offered user: text");
        let version = signature(&[text()], &[sum()], Some((2, &[sum()])));
        assert_eq!(refused(judge(&fold, &version, &available)), "state `version`: running 1, offered 2");
        let state = signature(&[text()], &[sum()], Some((1, &[Field::new("sum", Kind::Float64)])));
        assert_eq!(refused(judge(&fold, &state, &available)), "state `sum`: running sum: int64, offered sum: float64");
        let none = signature(&[text()], &[sum()], None);
        assert_eq!(
            refused(judge(&fold, &none, &available)),
            "state `accumulator`: running an accumulator, offered none"
        );
    }

    #[test]
    fn what_only_processors_have_is_judged_too() {
        let text = |name: &str| Field::new(name, Kind::Text);
        let with = |second: Option<&str>, key: &str, side: &str| {
            let mut signature = signature(&[], &[], Some((1, &[])));
            signature.process = Some(ProcessSignature {
                second: second.map(|name| Schema::new([text(name)])),
                keys: Schema::new([text(key)]),
                sides: vec![(side.to_owned(), Schema::new([text("why")]))],
            });
            signature
        };
        let (second, keys) = (Schema::new([text("rule"), text("limit")]), Schema::new([text("user")]));
        let running = with(Some("rule"), "user", "alerts");
        let judged = |offered| judge_process(&running, &offered, Some(&second), &keys);
        assert_eq!(judged(with(Some("limit"), "user", "alerts")), Ok(()));
        let refused = |offered| judged(offered).unwrap_err().to_string();
        assert_eq!(
            refused(with(Some("rule"), "user", "alarms")),
            "side output `alerts`: running alerts (why: text), offered alarms (why: text)"
        );
        assert_eq!(
            refused(with(Some("level"), "user", "alerts")),
            "second input `level`: running none, offered level: text"
        );
        assert_eq!(
            refused(with(None, "user", "alerts")),
            "input `with`: running rule: text, limit: text, offered none"
        );
        assert_eq!(refused(with(Some("rule"), "id", "alerts")), "key `id`: running none, offered id: text");
    }

    #[test]
    fn what_can_be_migrated_is_and_what_cannot_says_how_it_could() {
        let int = |name: &str| Field::new(name, Kind::Int64);
        let source = |version, fields: &[Field]| StateSchema { version, fields: Schema::new(fields) };
        let offer = |version, fields: &[Field], sources: Vec<StateSchema>| {
            let mut offered = signature(&[], &[], Some((version, fields)));
            offered.sources = sources;
            offered
        };
        let running = signature(&[], &[], Some((1, &[int("sum")])));
        let judged = |offered: &Signature| judge(&running, offered, &Schema::new([]));
        let both = [int("sum"), int("rows")];
        // what is offered takes over, what it is judged to be
        type Case<'a> = (u32, &'a [Field], Vec<StateSchema>, Result<Verdict, &'a str>);
        let table: [Case<'_>; 7] = [
            (2, &both, vec![source(1, &[int("sum")])], Ok(Verdict::Migrate { from: 1, to: 2 })),
            (2, &[int("sum")], vec![source(1, &[int("sum")])], Ok(Verdict::Migrate { from: 1, to: 2 })),
            (1, &both, vec![source(1, &[int("sum")])], Ok(Verdict::Migrate { from: 1, to: 1 })),
            (1, &[int("sum")], vec![source(2, &both)], Ok(Verdict::Identical)),
            (3, &both, vec![source(2, &both)], Err("state `rows`: running none, offered rows: int64")),
            (2, &[int("sum")], vec![], Err("state `version`: running 1, offered 2")),
            (
                2,
                &both,
                vec![source(1, &[Field::new("sum", Kind::Float64)])],
                Err("state to migrate `sum`: running sum: int64, offered sum: float64"),
            ),
        ];
        for (version, fields, sources, expected) in table {
            let verdict = judged(&offer(version, fields, sources.clone()));
            match (verdict, expected) {
                (Verdict::Refused(refusal), Err(expected)) => {
                    assert_eq!(refusal.to_string(), expected);
                    assert!(refusal.stub.unwrap().contains("migrate(1 = AccumulatorV1)"), "{sources:?}");
                }
                (verdict, expected) => assert_eq!(Ok(verdict), expected, "{version} {fields:?} {sources:?}"),
            }
        }
    }

    #[test]
    fn the_stub_names_every_column_of_both_versions() {
        let found = StateSchema {
            version: 3,
            fields: Schema::new([
                Field::new("sum", Kind::Int64),
                Field::new("last seen", Kind::Text).nullable(),
                Field::new("rate", Kind::Int64),
            ]),
        };
        let own = StateSchema {
            version: 4,
            fields: Schema::new([
                Field::new("sum", Kind::Int64),
                Field::new("rate", Kind::Float64),
                Field::new("at", Kind::TimestampMs),
            ]),
        };
        let expected = r#"#[derive(Row)]
struct StateV3 {
    sum: i64,
    #[column(name = "last seen")]
    last_seen: Option<String>,
    rate: i64,
}

impl From<StateV3> for /* your `type State` */ {
    fn from(old: StateV3) -> Self {
        Self {
            sum: old.sum,
            rate: todo!("f64 from old.rate: i64"),
            at: todo!("Timestamp, which version 3 did not keep"),
        }
    }
}

// and on the operator:
#[millstream_sdk::process(version = 4, migrate(3 = StateV3))]
"#;
        assert_eq!(stub(&found, &own, true), expected);
        let same = stub(&found, &StateSchema { version: 3, ..own }, false);
        assert!(same.contains("#[millstream_sdk::aggregate(version = 4, migrate(3 = AccumulatorV3))]"), "{same}");
    }
}
