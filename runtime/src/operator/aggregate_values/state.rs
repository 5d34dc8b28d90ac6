//! Kept values as Arrow columns, and back.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field as ArrowField;

use super::{Distinct, Timed, value_of};
use crate::record::{EventTime, Field, Kind};
use crate::state::{Chunked, ColumnBuilder, StateError, varlen, words};

impl Timed {
    /// Value and time of `slots`, both null where there is none.
    pub(in crate::operator) fn save(&self, read: &Field, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        let mut value = ColumnBuilder::new(&read.clone().nullable(), slots.len());
        let mut time = ColumnBuilder::new(&Field::new("time", Kind::TimestampMs).nullable(), slots.len());
        match self {
            Self::Words(cells) => {
                for slot in slots {
                    match cells.get(*slot) {
                        Some(Some((at, word))) => {
                            value.push_word(*word);
                            time.push_word(*at as u64);
                        }
                        _ => value.push_null().and_then(|()| time.push_null())?,
                    }
                }
            }
            Self::Bytes(cells) => {
                for slot in slots {
                    match cells.get(*slot) {
                        Some(Some((at, bytes))) => {
                            value.push_bytes(bytes)?;
                            time.push_word(*at as u64);
                        }
                        _ => value.push_null().and_then(|()| time.push_null())?,
                    }
                }
            }
        }
        Ok(vec![value.finish()?, time.finish()?])
    }

    /// What [`Timed::save`] gave.
    pub(in crate::operator) fn load(
        &mut self,
        read: &Field,
        slots: &[u32],
        value: &ArrayRef,
        time: &ArrayRef,
    ) -> Result<(), StateError> {
        let times = words(&Field::new("time", Kind::TimestampMs), time)?;
        let rows = slots.iter().zip(times.iter()).enumerate();
        let rows = rows.filter(|(row, _)| value.is_valid(*row) && time.is_valid(*row));
        match self {
            Self::Words(cells) => {
                let words = words(read, value)?;
                for (row, (slot, time)) in rows {
                    put(cells, *slot, *time, words.get(row).copied());
                }
            }
            Self::Bytes(cells) => {
                let (offsets, bytes) = varlen(read, value)?;
                for (row, (slot, time)) in rows {
                    put(cells, *slot, *time, Some(value_of(offsets, bytes, row).to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn put<T: Clone>(cells: &mut Chunked<Option<(EventTime, T)>>, slot: u32, time: u64, value: Option<T>) {
    cells.get_mut(slot).into_iter().for_each(|cell| *cell = value.clone().map(|value| (time as EventTime, value)));
}

impl Distinct {
    /// The values of `slots` as lists. They are in order: the same state is the same bytes.
    pub(in crate::operator) fn save(&self, read: &Field, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let mut items = ColumnBuilder::new(&Field::new("item", read.kind), slots.len());
        let mut lengths = Vec::with_capacity(slots.len());
        match self {
            Self::Words(cells) => {
                for slot in slots {
                    let mut values: Vec<u64> = cells.get(*slot).into_iter().flatten().copied().collect();
                    values.sort_unstable();
                    lengths.push(values.len());
                    values.into_iter().for_each(|word| items.push_word(word));
                }
            }
            Self::Bytes(cells) => {
                for slot in slots {
                    let mut values: Vec<&[u8]> = cells.get(*slot).into_iter().flatten().map(Vec::as_slice).collect();
                    values.sort_unstable();
                    lengths.push(values.len());
                    values.into_iter().try_for_each(|bytes| items.push_bytes(bytes))?;
                }
            }
        }
        let total = lengths.iter().try_fold(0_i32, |sum, length| sum.checked_add(i32::try_from(*length).ok()?));
        total.ok_or(StateError::TooManyBytes { rows: slots.len() })?;
        let item = Arc::new(ArrowField::new_list_field(read.kind.data_type(), false));
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items.finish()?, None)?))
    }

    /// What [`Distinct::save`] gave.
    pub(in crate::operator) fn load(
        &mut self,
        read: &Field,
        slots: &[u32],
        saved: &ArrayRef,
    ) -> Result<(), StateError> {
        let Some(lists) = saved.as_list_opt::<i32>() else { return Ok(()) };
        let ranges = lists.value_offsets().windows(2).filter_map(|pair| match pair {
            [start, end] => Some(*start as usize..*end as usize),
            _ => None,
        });
        match self {
            Self::Words(cells) => {
                let words = words(read, lists.values())?;
                for (slot, range) in slots.iter().zip(ranges) {
                    let values = words.get(range).unwrap_or_default();
                    cells.get_mut(*slot).into_iter().for_each(|cell| cell.extend(values));
                }
            }
            Self::Bytes(cells) => {
                let (offsets, bytes) = varlen(read, lists.values())?;
                for (slot, range) in slots.iter().zip(ranges) {
                    let Some(cell) = cells.get_mut(*slot) else { continue };
                    cell.extend(range.map(|row| value_of(offsets, bytes, row).to_vec()));
                }
            }
        }
        Ok(())
    }
}
