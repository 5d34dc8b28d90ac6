//! `state = { .. }`

use super::item::{Item, Table};
use super::keys;
use crate::error::Spanned;
use crate::pipeline::problems::Problems;
use crate::pipeline::spec::StateSpec;

/// Where state goes that does not fit into memory; what the values may be is checked later.
pub(super) fn read(item: Item, problems: &mut Problems) -> Option<StateSpec> {
    let mut table = Table::open(item, &keys::STATE, problems)?;
    let memory = table.required("memory", problems).and_then(|item| {
        let place = item.span();
        item.bytes(problems).map(|bytes| Spanned::new(bytes, place))
    });
    let spill = table.required("spill", problems).and_then(|item| item.text(problems));
    Some(StateSpec { memory_bytes: memory?, spill: spill? })
}
