//! `window = { .. }`

use super::item::{Item, Table};
use super::keys;
use super::node::Value;
use super::source::optional;
use crate::error::Spanned;
use crate::pipeline::problems::{Problems, code};
use crate::window::WindowSpec;

/// A window, and the column with the gap of its sessions.
type ReadWindow = (Spanned<WindowSpec>, Option<Spanned<String>>);

/// Reads a window; `None` if anything in it is wrong.
pub(super) fn read_window(item: Item, problems: &mut Problems) -> Option<ReadWindow> {
    let mut table = Table::open(item, &keys::WINDOW, problems)?;
    let (kind, item) = table.take_kind(&keys::WINDOW_KINDS, "how long windows are", problems)?;
    let window = match kind {
        "tumbling" => {
            let size = item.positive_duration(problems);
            let offset = optional(table.take("offset"), |item| item.signed_duration_ms(problems));
            refuse_keys_of_others(&mut table, kind, &[EVERY], problems)?;
            WindowSpec::Tumbling { size: size?, offset_ms: offset?.unwrap_or_default() }
        }
        "sliding" => {
            let size = item.positive_duration(problems);
            let every = table.required("every", problems).and_then(|item| item.positive_duration(problems));
            let offset = optional(table.take("offset"), |item| item.signed_duration_ms(problems));
            WindowSpec::Sliding { size: size?, every: every?, offset_ms: offset?.unwrap_or_default() }
        }
        "session" if matches!(item.node.value, Value::Table(_)) => {
            refuse_keys_of_others(&mut table, kind, &[EVERY, OFFSET], problems)?;
            let mut session = Table::open(item, &keys::SESSION, problems)?;
            let gap = session.required("gap", problems)?.text(problems)?;
            return Some((Spanned::new(WindowSpec::SessionByColumn, table.span), Some(gap)));
        }
        "count" => {
            refuse_keys_of_others(&mut table, kind, &[OFFSET], problems)?;
            let rows = item.integer(problems);
            let every = optional(table.take("every"), |item| item.integer(problems));
            match (rows?.value, every?) {
                (rows, Some(every)) => WindowSpec::SlidingCount { rows, every: every.value },
                (rows, None) => WindowSpec::Count { rows },
            }
        }
        _ => {
            refuse_keys_of_others(&mut table, kind, &[EVERY, OFFSET], problems)?;
            read_keyed(kind, item, problems)?
        }
    };
    Some((Spanned::new(window, table.span), None))
}

/// Windows that lie differently for every key.
fn read_keyed(kind: &str, item: Item, problems: &mut Problems) -> Option<WindowSpec> {
    match kind {
        "session" => Some(WindowSpec::Session { gap: item.positive_duration(problems)? }),
        _ => {
            let (what, place) = (item.what.clone(), item.span());
            if item.boolean(problems)? {
                return Some(WindowSpec::Global);
            }
            problems.add(code::BAD_VALUE, place, format!("{what} is false"), "expected true", "write `global = true`");
            None
        }
    }
}

/// Keys that not all kinds have, and those that do.
const EVERY: (&str, &str) = ("every", "`sliding` and `count`");
const OFFSET: (&str, &str) = ("offset", "`tumbling` and `sliding`");

/// `others` are keys that have no meaning beside `kind`, and the kinds that they belong to.
fn refuse_keys_of_others(
    table: &mut Table,
    kind: &str,
    others: &[(&'static str, &str)],
    problems: &mut Problems,
) -> Option<()> {
    let mut right = Some(());
    for (key, owner) in others {
        if let Some(item) = table.take(key) {
            let message = format!("`{key}` has no meaning in {} with `{kind}`", table.what);
            problems.add(code::CONFLICT, item.key, message, format!("belongs to {owner}"), format!("remove `{key}`"));
            right = None;
        }
    }
    right
}
