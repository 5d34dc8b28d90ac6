//! `join = { .. }` and `lookup = { .. }`

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use super::window::read_window;
use crate::error::Spanned;
use crate::operator::JoinKind;
use crate::pipeline::join::{BoundSpec, Exclusive, JoinKey, JoinSpec, JoinTime};
use crate::pipeline::problems::{Problems, code, quote};
use crate::window::WindowSpec;

/// What is known of a join, though parts of it may be wrong.
#[derive(Default)]
pub(super) struct ReadJoin {
    /// the other input
    pub(super) with: Option<Vec<Spanned<String>>>,
    /// unless anything in it is wrong
    pub(super) join: Option<JoinSpec>,
}

/// Reads `join` of a step, whose `window` goes with it.
pub(super) fn read(step: &mut Table, item: Item, problems: &mut Problems) -> ReadJoin {
    let window = optional(step.take("window"), |item| read_window(item, problems));
    let Some(mut table) = Table::open(item, &keys::JOIN, problems) else { return ReadJoin::default() };
    let with = table.required("with", problems).and_then(|item| item.texts(problems));
    let on = read_on(&mut table, problems);
    let kind = read_kind(&mut table, problems);
    let prefix = optional(table.take("prefix"), |item| item.text(problems));
    let select = optional(table.take("select"), |item| item.texts(problems));
    // sessions whose rows say their gap are refused with all windows that a join cannot have
    let window = window.map(|window| window.map(|(window, _)| window));
    let when = window.and_then(|window| read_when(&mut table, window, problems));
    let join =
        || Some(JoinSpec { on: on?, kind: kind?, prefix: prefix?, select: select?, when: when?, late: [None; 2] });
    ReadJoin { with, join: join() }
}

/// Reads `lookup` of a step.
pub(super) fn read_lookup(step: &mut Table, item: Item, problems: &mut Problems) -> ReadJoin {
    if let Some(window) = step.take("window") {
        let message = format!("`window` has no meaning in {} with `lookup`", step.what);
        let help = "remove `window`, or write `join` to meet rows of one window";
        problems.add(code::CONFLICT, window.key, message, "a row meets what is known when it comes", help);
    }
    let Some(mut table) = Table::open(item, &keys::LOOKUP, problems) else { return ReadJoin::default() };
    let with = table.required("with", problems).and_then(|item| item.texts(problems));
    let on = read_on(&mut table, problems);
    let kind = read_kind(&mut table, problems);
    let prefix = optional(table.take("prefix"), |item| item.text(problems));
    let select = optional(table.take("select"), |item| item.texts(problems));
    let join = || {
        Some(JoinSpec {
            on: on?,
            kind: kind?,
            prefix: prefix?,
            select: select?,
            when: JoinTime::Latest,
            late: [None; 2],
        })
    };
    ReadJoin { with, join: join() }
}

fn read_kind(table: &mut Table, problems: &mut Problems) -> Option<Spanned<JoinKind>> {
    let kinds = JoinKind::ALL.map(|kind| (kind.name(), kind));
    optional(table.take("kind"), |item| item.choice(&kinds, problems)).map(Option::unwrap_or_default)
}

/// Reads `["seller = id", "region"]`.
fn read_on(table: &mut Table, problems: &mut Problems) -> Option<Vec<JoinKey>> {
    let item = table.required("on", problems)?;
    let what = item.what.clone();
    let texts = item.texts(problems)?;
    let count = texts.len();
    let keys: Vec<JoinKey> = texts
        .into_iter()
        .filter_map(|text| {
            let Some((left, right)) = JoinKey::parse(&text.value) else {
                let message = format!("{} in {what} is no pair of columns", quote(&text.value));
                let label = "expected `left = right`";
                let help = "write the column of `from`, `=` and the column of `with`, like `\"seller = id\"`; one name \
                            where both have it";
                problems.add(code::BAD_VALUE, text.span, message, label, help);
                return None;
            };
            let name = |name: &str| Spanned::new(name.to_owned(), text.span);
            Some(JoinKey { left: name(left), right: name(right) })
        })
        .collect();
    (keys.len() == count).then_some(keys)
}

/// Which rows meet: `window` of the step, or `between`, `exclusive` and `state_ttl` of the join.
fn read_when(table: &mut Table, window: Option<Spanned<WindowSpec>>, problems: &mut Problems) -> Option<JoinTime> {
    let between = optional(table.take("between"), |item| read_between(item, problems));
    let words = [("lower", Exclusive::Lower), ("upper", Exclusive::Upper), ("both", Exclusive::Both)];
    let exclusive_at = table.key_of("exclusive");
    let exclusive = optional(table.take("exclusive"), |item| item.choice(&words, problems));
    let ttl_at = table.key_of("state_ttl");
    let state_ttl = optional(table.take("state_ttl"), |item| item.positive_duration(problems));
    let (between, exclusive, state_ttl) = (between?, exclusive?, state_ttl?);
    let mut refuse = |key: &str, place, label: &str, help: &str| {
        let message = format!("`{key}` has no meaning in {}", table.what);
        problems.add(code::CONFLICT, place, message, label, help);
    };
    if let (Some(place), None) = (exclusive_at, &between) {
        refuse(
            "exclusive",
            place,
            "there is no `between`",
            "add `between = [\"-10m\", \"10m\"]` or remove `exclusive`",
        );
        return None;
    }
    if let Some(place) = ttl_at.filter(|_| between.is_some() || window.is_some()) {
        let label = "rows are forgotten when their window or interval has passed";
        refuse("state_ttl", place, label, "remove `state_ttl`");
        return None;
    }
    match (between, window) {
        (Some((lower, _)), Some(_)) => {
            let label = "the step has a `window`";
            refuse(
                "between",
                lower.span,
                label,
                "keep one: rows of one window, or rows not further apart than so much",
            );
            None
        }
        (Some((lower, upper)), None) => {
            let exclusive = exclusive.map(|word| word.value).unwrap_or_default();
            Some(JoinTime::Between { lower, upper, exclusive })
        }
        (None, Some(window)) => Some(JoinTime::Window(window)),
        (None, None) => Some(JoinTime::Always { state_ttl }),
    }
}

/// Reads `["-10m", "expires"]`.
fn read_between(item: Item, problems: &mut Problems) -> Option<(Spanned<BoundSpec>, Spanned<BoundSpec>)> {
    const HELP: &str = "write the earliest and the latest time, like `[\"-10m\", \"10m\"]`, or columns of `from`";
    let (what, place) = (item.what.clone(), item.span());
    let texts = item.texts(problems)?;
    let Ok::<[_; 2], _>([lower, upper]) = <[Spanned<String>; 2]>::try_from(texts) else {
        problems.add(code::BAD_VALUE, place, format!("{what} does not have two ends"), "expected two", HELP);
        return None;
    };
    let mut end = |text: Spanned<String>| match BoundSpec::parse(&text.value) {
        Ok(bound) => Some(Spanned::new(bound, text.span)),
        Err(error) => {
            let message = format!("{} in {what} is no duration here", quote(&text.value));
            problems.add(code::BAD_DURATION, text.span, message, error.to_string(), HELP);
            None
        }
    };
    let (lower, upper) = (end(lower), end(upper));
    lower.zip(upper)
}
