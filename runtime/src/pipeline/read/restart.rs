//! `restart = { .. }`, `restart = "off"`

use super::item::{Item, Table};
use super::keys;
use super::node::Value;
use super::source::optional;
use crate::error::Spanned;
use crate::pipeline::problems::Problems;
use crate::pipeline::spec::RestartSpec;

/// The one word in place of a table.
const WORDS: [(&str, ()); 1] = [("off", ())];

/// How a pipeline that has failed is started again; what the values may be is checked later.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<Spanned<RestartSpec>> {
    let place = item.key;
    if matches!(item.node.value, Value::Text(_)) {
        return item.choice(&WORDS, problems).map(|_| Spanned::new(RestartSpec::off(), place));
    }
    let mut table = Table::open(item, &keys::RESTART, problems)?;
    let attempts = optional(table.take("attempts"), |item| item.integer(problems));
    let mut duration = |name| {
        optional(table.take(name), |item| {
            let place = item.span();
            item.positive_duration(problems).map(|duration| Spanned::new(duration, place))
        })
    };
    let (within, first, max) = (duration("within"), duration("first"), duration("max"));
    let mut restart = RestartSpec::default();
    restart.attempts = attempts?.unwrap_or(restart.attempts);
    restart.within = within?.unwrap_or(restart.within);
    restart.max = max?.unwrap_or(restart.max);
    restart.first = first?.unwrap_or_else(|| restart.first.value.min(restart.max.value).into());
    Some(Spanned::new(restart, place))
}
