//! `top = { n = 3, by = "count" }`

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use super::window::read_window;
use crate::error::Spanned;
use crate::operator::Ties;
use crate::pipeline::problems::{Problems, code};
use crate::pipeline::spec::{OrderBySpec, TopStepSpec};

const TIES: [(&str, Ties); 2] = [("cut", Ties::Cut), ("keep", Ties::Keep)];

/// Reads `item`, the value of `top`, and what belongs to it in the step.
pub(super) fn read(step: &mut Table, item: Item, problems: &mut Problems) -> Option<TopStepSpec> {
    let key_by = optional(step.take("key_by"), |item| item.texts(problems));
    let window = optional(step.take("window"), |item| read_window(item, problems));
    if let Some(item) = step.take("allowed_lateness") {
        let message = format!("`allowed_lateness` has no meaning in {} with `top`", step.what);
        let label = "a window that has been put out takes no more rows";
        problems.add(code::CONFLICT, item.key, message, label, "remove `allowed_lateness`");
    }
    let mut table = Table::open(item, &keys::TOP, problems)?;
    let rows = table.required("n", problems).and_then(|item| item.integer(problems));
    let by = table.required("by", problems).and_then(|item| item.texts(problems));
    let ties = optional(table.take("ties"), |item| item.choice(&TIES, problems));
    let rank = optional(table.take("rank"), |item| item.text(problems));
    Some(TopStepSpec {
        key_by: key_by?.unwrap_or_default(),
        window: window?,
        rows: rows?,
        by: by?.into_iter().map(order_by).collect(),
        ties: ties?.map(|ties| ties.value).unwrap_or_default(),
        rank: rank?.unwrap_or_else(|| Spanned::new("rank".to_owned(), table.span)),
    })
}

/// `count`, `count desc`, `count asc`
fn order_by(text: Spanned<String>) -> OrderBySpec {
    let Spanned { value, span } = text;
    let (column, descending) = match value.trim().rsplit_once(' ') {
        Some((column, "asc")) => (column.trim_end(), false),
        Some((column, "desc")) => (column.trim_end(), true),
        _ => (value.as_str(), true),
    };
    OrderBySpec { column: Spanned::new(column.to_owned(), span), descending }
}
