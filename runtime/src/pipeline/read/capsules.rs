//! `capsules = { .. }`, `capsules = "off"`

use super::item::{Item, Table};
use super::keys;
use super::node::Value;
use super::source::optional;
use crate::error::Spanned;
use crate::pipeline::problems::Problems;
use crate::pipeline::spec::CapsulesSpec;

/// The one word in place of a table.
const WORDS: [(&str, ()); 1] = [("off", ())];

/// Where calls that fail are kept; what the values may be is checked later.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<CapsulesSpec> {
    if matches!(item.node.value, Value::Text(_)) {
        return item.choice(&WORDS, problems).map(|_| CapsulesSpec::off());
    }
    let mut table = Table::open(item, &keys::CAPSULES, problems)?;
    let folder = optional(table.take("folder"), |item| item.text(problems));
    let keep = optional(table.take("keep"), |item| item.integer(problems));
    let bytes_max = optional(table.take("max"), |item| {
        let place = item.span();
        item.bytes(problems).map(|bytes| Spanned::new(bytes, place))
    });
    let mut capsules = CapsulesSpec { folder: folder?, ..CapsulesSpec::default() };
    capsules.keep = keep?.unwrap_or(capsules.keep);
    capsules.bytes_max = bytes_max?.unwrap_or(capsules.bytes_max);
    Some(capsules)
}
