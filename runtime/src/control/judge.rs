//! Whether one component may take the place of another in a running pipeline. Pure: two signatures and the columns at
//! hand in, a verdict out, before anything is touched.

use serde::Serialize;

use crate::record::{Field, Schema};
use crate::wasm::Signature;

/// What a swap would mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// same inputs, outputs and state
    Identical,
    /// reads other columns, all of which are there; results and state stay as they are
    Compatible,
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
}

/// Judges `offered` in the place of `running`; `available` are the columns that reach the step.
pub fn judge(running: &Signature, offered: &Signature, available: &Schema) -> Verdict {
    if let Some(refusal) = difference("output", &running.outputs, &offered.outputs) {
        return Verdict::Refused(refusal);
    }
    let state = |signature: &Signature| signature.state.as_ref().map(|state| (state.version, state.fields.clone()));
    match (state(running), state(offered)) {
        (None, None) => {}
        (Some((version, fields)), Some((new_version, new_fields))) => {
            if let Some(refusal) = difference("state", &fields, &new_fields) {
                return Verdict::Refused(refusal);
            }
            if version != new_version {
                return Verdict::Refused(Refusal {
                    what: "state",
                    field: "version".to_owned(),
                    running: version.to_string(),
                    offered: new_version.to_string(),
                });
            }
        }
        (running, offered) => {
            let word = |state: bool| if state { "an accumulator" } else { "none" }.to_owned();
            return Verdict::Refused(Refusal {
                what: "state",
                field: "accumulator".to_owned(),
                running: word(running.is_some()),
                offered: word(offered.is_some()),
            });
        }
    }
    if let Some(refusal) = lacking("input", &offered.inputs, available) {
        return Verdict::Refused(refusal);
    }
    if running.inputs == offered.inputs { Verdict::Identical } else { Verdict::Compatible }
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
        Refusal { what, field: field.to_owned(), running: word(running), offered: word(offered) }
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
            Refusal { what, field, running: name(old), offered: name(new) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;
    use crate::wasm::{ProcessSignature, StateSchema};

    fn signature(inputs: &[Field], outputs: &[Field], state: Option<(u32, &[Field])>) -> Signature {
        Signature {
            inputs: Schema::new(inputs),
            outputs: Schema::new(outputs),
            state: state.map(|(version, fields)| StateSchema { version, fields: Schema::new(fields) }),
            process: None,
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
}
