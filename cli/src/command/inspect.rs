//! `millstream inspect`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream::record::{Field, Schema};
use millstream::wasm::{Component, OperatorKind, Origin, Setting, Settings, Signature};
use serde::Serialize;

use crate::console::{self, Paint, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{figures, report};

/// Show what a component is: its operators with what each reads, produces and remembers; size, digest and imports.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The component
    component: PathBuf,
    /// A setting as the step's `config` would give it; integers, numbers, true and false are taken as such
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = setting)]
    config: Vec<(String, Setting)>,
    /// The same as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `key=value`
fn setting(text: &str) -> Result<(String, Setting), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty; expected KEY=VALUE".to_owned());
    }
    let value = match value {
        "true" => Setting::Boolean(true),
        "false" => Setting::Boolean(false),
        number => match (number.parse(), number.parse()) {
            (Ok(integer), _) => Setting::Int64(integer),
            (_, Ok(float)) => Setting::Float64(float),
            _ => Setting::Text(number.to_owned()),
        },
    };
    Ok((key.to_owned(), value))
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let component = super::sandbox()?.load(&self.component)?;
        let settings: Settings = Arc::new(self.config.into_iter().collect::<BTreeMap<_, _>>());
        let mut operators = Vec::new();
        for kind in component.kinds() {
            operators.push((kind, component.describe(kind, &settings)?));
        }
        let text = if self.json { json(&component, &operators) } else { table(&component, &operators) };
        console::result(text);
        Ok(Exit::Done)
    }
}

fn table(component: &Component, operators: &[(OperatorKind, Signature)]) -> String {
    let paint = Stream::Stdout.paint();
    let mut lines = vec![paint.bold(component.name())];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<9} {value}"));
    line("size", figures::size(component.size_bytes()));
    line("sha256", component.digest().to_string());
    line("compiled", compiled(component.origin()));
    let imports = component.imports();
    line("imports", if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") });
    for (kind, signature) in operators {
        lines.push(operator(*kind, signature, paint));
    }
    lines.join("\n")
}

fn compiled(origin: Origin) -> String {
    match origin {
        Origin::Compiled { took } => format!("in {}", figures::duration(took)),
        Origin::Cached { took } => format!("before; read from the cache in {}", figures::duration(took)),
    }
}

fn operator(kind: OperatorKind, signature: &Signature, paint: Paint) -> String {
    let list = |fields: &[Field]| {
        if fields.is_empty() {
            return "nothing".to_owned();
        }
        fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{}\n  {:<9} {}", paint.bold(kind), "reads", list(signature.inputs.fields()));
    match kind {
        OperatorKind::Filter => text.push_str(&format!("\n  {:<9} or drops whole rows", "keeps")),
        _ => text.push_str(&format!("\n  {:<9} {}", "produces", list(signature.outputs.fields()))),
    }
    if let Some(process) = &signature.process {
        if let Some(second) = &process.second {
            text.push_str(&format!("\n  {:<9} {}", "second", list(second.fields())));
        }
        if !process.keys.fields().is_empty() {
            text.push_str(&format!("\n  {:<9} {}", "keys", list(process.keys.fields())));
        }
        for (name, schema) in &process.sides {
            text.push_str(&format!("\n  {:<9} {name}: {}", "beside", list(schema.fields())));
        }
    }
    if let Some(state) = &signature.state {
        text.push_str(&format!("\n  {:<9} {} (version {})", "state", list(state.fields.fields()), state.version));
    }
    text
}

#[derive(Serialize)]
struct ComponentJson<'a> {
    name: &'a str,
    size_bytes: u64,
    sha256: String,
    compiled_ms: f64,
    cached: bool,
    imports: &'a [String],
    operators: Vec<OperatorJson<'a>>,
}

#[derive(Serialize)]
struct OperatorJson<'a> {
    kind: String,
    inputs: &'a [Field],
    outputs: &'a [Field],
    state_version: Option<u32>,
    state: &'a [Field],
    #[serde(skip_serializing_if = "Option::is_none")]
    second_inputs: Option<&'a [Field]>,
    #[serde(skip_serializing_if = "<[Field]>::is_empty")]
    keys: &'a [Field],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    side_outputs: BTreeMap<&'a str, &'a [Field]>,
}

fn side((name, schema): &(String, Schema)) -> (&str, &[Field]) {
    (name, schema.fields())
}

fn json(component: &Component, operators: &[(OperatorKind, Signature)]) -> String {
    let (cached, took): (bool, Duration) = match component.origin() {
        Origin::Compiled { took } => (false, took),
        Origin::Cached { took } => (true, took),
    };
    let operators = operators.iter().map(|(kind, signature)| OperatorJson {
        kind: kind.to_string(),
        inputs: signature.inputs.fields(),
        outputs: signature.outputs.fields(),
        state_version: signature.state.as_ref().map(|state| state.version),
        state: signature.state.as_ref().map(|state| state.fields.fields()).unwrap_or_default(),
        second_inputs: signature.process.as_ref().and_then(|process| process.second.as_ref()).map(Schema::fields),
        keys: signature.process.as_ref().map(|process| process.keys.fields()).unwrap_or_default(),
        side_outputs: signature.process.iter().flat_map(|process| &process.sides).map(side).collect(),
    });
    report::json_line(&ComponentJson {
        name: component.name(),
        size_bytes: component.size_bytes(),
        sha256: component.digest().to_string(),
        compiled_ms: took.as_secs_f64() * 1e3,
        cached,
        imports: component.imports(),
        operators: operators.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_take_the_type_they_look_like() {
        let value = |text: &str| setting(text).map(|(_, value)| value);
        assert_eq!(value("a=true"), Ok(Setting::Boolean(true)));
        assert_eq!(value("a=-3"), Ok(Setting::Int64(-3)));
        assert_eq!(value("a=0.5"), Ok(Setting::Float64(0.5)));
        assert_eq!(value("a=b=c"), Ok(Setting::Text("b=c".to_owned())));
        assert_eq!(value("a="), Ok(Setting::Text(String::new())));
        assert!(value("a").is_err() && value("=a").is_err());
    }
}
