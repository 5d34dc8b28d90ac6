//! `trigger = { .. }` and `firing`

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use crate::error::Spanned;
use crate::pipeline::problems::{Problems, code};
use crate::window::{Firing, Trigger};

/// Reads a trigger; `None` if anything in it is wrong.
pub(super) fn read_trigger(item: Item, problems: &mut Problems) -> Option<Spanned<Trigger>> {
    let mut table = Table::open(item, &keys::TRIGGER, problems)?;
    let (kind, item) = table.take_kind(&keys::TRIGGER_KINDS, "what it waits for", problems)?;
    let trigger = match kind {
        "count" => {
            let rows = item.integer(problems);
            let at_end = optional(table.take("at_end"), |item| item.boolean(problems));
            Trigger::Count { rows: rows?.value, at_end: at_end?.unwrap_or_default() }
        }
        "every" => Trigger::Every { interval: item.positive_duration(problems)? },
        _ => Trigger::ProcessingTime { interval: item.positive_duration(problems)? },
    };
    if let Some(item) = table.take("at_end") {
        let message = format!("`at_end` has no meaning in {} with `{kind}`", table.what);
        let label = "belongs to `count`: other triggers fire at the window's end anyway";
        problems.add(code::CONFLICT, item.key, message, label, "remove `at_end`");
        return None;
    }
    Some(Spanned::new(trigger, table.span))
}

/// Reads `firing`.
pub(super) fn read_firing(item: Item, problems: &mut Problems) -> Option<Spanned<Firing>> {
    item.choice(&[("accumulating", Firing::Accumulating), ("discarding", Firing::Discarding)], problems)
}
