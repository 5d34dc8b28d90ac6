//! `partition = ..`

use std::time::Duration;

use super::item::{Item, Table};
use super::keys;
use super::node::{Node, Value};
use crate::error::Spanned;
use crate::partition::SplitPoints;
use crate::pipeline::partition::PartitionSpec;
use crate::pipeline::problems::{Problems, code};

/// Reads how rows get to a step.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<Spanned<PartitionSpec>> {
    let place = item.span();
    if !matches!(item.node.value, Value::Table(_)) {
        let words = [("forward", Word::Forward), ("rebalance", Word::Rebalance), ("broadcast", Word::Broadcast)];
        let partition = match item.choice(&words, problems)?.value {
            Word::Forward => PartitionSpec::Forward,
            Word::Rebalance => PartitionSpec::Rebalance,
            Word::Broadcast => PartitionSpec::Broadcast,
        };
        return Some(Spanned::new(partition, place));
    }
    let mut table = Table::open(item, &keys::PARTITION, problems)?;
    let (kind, item) = table.take_kind(&["key", "hash", "range", "custom"], "by what rows are spread", problems)?;
    let partition = match kind {
        "key" => PartitionSpec::Key(item.texts(problems)?),
        "hash" => item.choice(&[("row", ())], problems).map(|_| PartitionSpec::Row)?,
        "custom" => PartitionSpec::Custom(super::step::read_component(item, None, problems)?),
        _ => read_range(item, problems)?,
    };
    Some(Spanned::new(partition, place))
}

/// How long ranges that are cut from a sample stay, unless the file says.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum Word {
    Forward,
    Rebalance,
    Broadcast,
}

fn read_range(item: Item, problems: &mut Problems) -> Option<PartitionSpec> {
    let mut table = Table::open(item, &keys::RANGE, problems)?;
    let column = table.required("column", problems).and_then(|item| item.text(problems));
    let every = table.take("every");
    let Some(sample) = table.take("sample") else {
        if let Some(every) = every {
            let message = "`every` has no meaning where `splits` are given";
            let help = "remove `every`, or write `sample` in place of `splits`";
            problems.add(code::CONFLICT, every.span(), message, "given ranges stay as they are", help);
        }
        let splits = table.required("splits", problems).and_then(|item| read_splits(item, problems));
        return Some(PartitionSpec::Range { column: column?, splits: splits? });
    };
    if let Some(splits) = table.take("splits") {
        let message = "ranges are either given by `splits` or cut from a `sample`";
        problems.add(code::CONFLICT, splits.span(), message, "not both", "remove one of them");
        return None;
    }
    let values = sample.integer(problems);
    let every = every.map_or(Some(EVERY), |every| every.positive_duration(problems));
    Some(PartitionSpec::SampledRange { column: column?, values: values?, every: every? })
}

/// Numbers, of which one with a fraction makes all of them floats, or texts.
fn read_splits(item: Item, problems: &mut Problems) -> Option<Spanned<SplitPoints>> {
    let (place, what) = (item.span(), item.what);
    let points = match &item.node.value {
        Value::List(nodes) => integers(nodes).or_else(|| floats(nodes)).or_else(|| texts(nodes)),
        _ => None,
    };
    if points.is_none() {
        let help = "write where ranges begin, ascending: `splits = [10, 100]` makes three";
        let message = format!("{what} is no list of values of one kind");
        problems.add(code::WRONG_TYPE, place, message, "expected integers, numbers or texts", help);
    }
    points.map(|points| Spanned::new(points, place))
}

fn integers(nodes: &[Node]) -> Option<SplitPoints> {
    let integer = |node: &Node| match node.value {
        Value::Integer(value) => i64::try_from(value).ok(),
        _ => None,
    };
    nodes.iter().map(integer).collect::<Option<_>>().map(SplitPoints::Integers)
}

fn floats(nodes: &[Node]) -> Option<SplitPoints> {
    #[allow(clippy::cast_precision_loss)] // as one writes an integer where a number belongs
    let float = |node: &Node| match node.value {
        Value::Integer(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        _ => None,
    };
    nodes.iter().map(float).collect::<Option<_>>().map(SplitPoints::Floats)
}

fn texts(nodes: &[Node]) -> Option<SplitPoints> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    nodes.iter().map(text).collect::<Option<_>>().map(SplitPoints::Texts)
}
