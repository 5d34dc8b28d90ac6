//! `checkpoint = { .. }`

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use crate::error::Spanned;
use crate::pipeline::problems::Problems;
use crate::pipeline::spec::{CheckpointSpec, KeySource};

/// How a pipeline's state is kept; what the values may be is checked later.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<CheckpointSpec> {
    let mut table = Table::open(item, &keys::CHECKPOINT, problems)?;
    let store = table.required("store", problems).and_then(|item| item.text(problems));
    let interval = optional(table.take("interval"), |item| {
        let place = item.span();
        item.positive_duration(problems).map(|interval| Spanned::new(interval, place))
    });
    let retain = optional(table.take("retain"), |item| item.integer(problems));
    let encrypt = optional(table.take("encrypt"), |item| read_keys(item, problems));
    let transactional_id = optional(table.take("transactional_id"), |item| item.text(problems));
    let transaction_timeout = optional(table.take("transaction_timeout"), |item| {
        let place = item.span();
        item.positive_duration(problems).map(|timeout| Spanned::new(timeout, place))
    });
    let (store, interval, retain, encrypt) = (store?, interval?, retain?, encrypt?);
    let mut checkpoint = CheckpointSpec::new(store);
    checkpoint.interval = interval.unwrap_or(checkpoint.interval);
    checkpoint.retain = retain.unwrap_or(checkpoint.retain);
    checkpoint.transactional_id = transactional_id?;
    checkpoint.transaction_timeout = transaction_timeout?.unwrap_or(checkpoint.transaction_timeout);
    checkpoint.encrypt = encrypt;
    Some(checkpoint)
}

fn read_keys(item: Item, problems: &mut Problems) -> Option<KeySource> {
    let mut table = Table::open(item, &keys::ENCRYPT, problems)?;
    let (key, item) = table.take_kind(&keys::KEY_SOURCES, "where the keys are", problems)?;
    let text = item.text(problems)?.value;
    Some(if key == "key_file" { KeySource::File(text) } else { KeySource::Variable(text) })
}
