//! `aggregate = { name = "function(column)" }`

use super::item::Item;
use super::node::Value;
use super::step::read_component;
use crate::error::Spanned;
use crate::operator::AggregateFunction;
use crate::pipeline::problems::{Problems, alternatives, code, quote};
use crate::pipeline::spec::AggregateSpec;

const HELP: &str =
    "write `count()`, `sum(column)`, avg, min, max, first, last or count_distinct, or a path that ends in `.wasm`";

/// Reads all entries; `None` if one is wrong.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<Vec<AggregateSpec>> {
    let entries = item.entries("give each result a name: `aggregate = { count = \"count()\" }`", problems)?;
    let count = entries.len();
    let aggregates: Vec<_> =
        entries.into_iter().filter_map(|(output, item)| read_entry(output, item, problems)).collect();
    (aggregates.len() == count).then_some(aggregates)
}

fn read_entry(output: Spanned<String>, item: Item, problems: &mut Problems) -> Option<AggregateSpec> {
    let component = match &item.node.value {
        Value::Text(text) => text.ends_with(".wasm"),
        Value::Table(_) => true,
        _ => false,
    };
    if component {
        let component = read_component(item, None, problems)?;
        return Some(AggregateSpec::Component { output, component });
    }
    let what = item.what.clone();
    let text = item.text(problems)?;
    match parse(&text.value) {
        Ok((function, column)) => Some(AggregateSpec::BuiltIn {
            output,
            function: Spanned::new(function, text.span),
            column: column.map(|column| Spanned::new(column.to_owned(), text.span)),
        }),
        Err(Refusal { reason, help }) => {
            let message = format!("{what} is {}, which is no aggregate", quote(&text.value));
            problems.add(code::BAD_AGGREGATE, text.span, message, reason, help);
            None
        }
    }
}

/// Why a text is no aggregate, and what to write instead.
struct Refusal {
    reason: String,
    help: String,
}

/// Takes `function ( column )` apart. The column is all between the first and the last parenthesis.
fn parse(text: &str) -> Result<(AggregateFunction, Option<&str>), Refusal> {
    let refuse = |reason: String| Refusal { reason, help: HELP.to_owned() };
    let Some((name, rest)) = text.split_once('(') else {
        return Err(refuse("expected `function(column)`".to_owned()));
    };
    let Some(column) = rest.trim_end().strip_suffix(')') else {
        return Err(refuse("expected `)` at the end".to_owned()));
    };
    let (name, column) = (name.trim(), column.trim());
    let Some(function) = AggregateFunction::ALL.iter().find(|known| known.name() == name) else {
        let names = AggregateFunction::ALL.map(AggregateFunction::name);
        let reason = format!("no function is called {}", quote(name));
        return Err(Refusal { reason, help: alternatives("functions", name, &names) });
    };
    if column == "*" {
        return Err(Refusal {
            reason: "`*` is no column".to_owned(),
            help: "write `count()` to count all rows".to_owned(),
        });
    }
    if column.contains(['(', ')', ',']) {
        return Err(refuse("expected one column, not an expression".to_owned()));
    }
    match (function, column.is_empty()) {
        (AggregateFunction::Count, true) => Ok((AggregateFunction::Count, None)),
        (_, true) => Err(refuse(format!("`{name}` needs a column"))),
        (function, false) => Ok((*function, Some(column))),
    }
}
