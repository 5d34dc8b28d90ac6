//! The hash that picks key groups, fixed for ever because checkpoints hold state by key group.
//!
//! Definition (all arithmetic modulo 2^64):
//!
//! ```text
//! mix(x)        x ^= x >> 30; x *= 0xbf58476d1ce4e5b9; x ^= x >> 27; x *= 0x94d049bb133111eb; x ^= x >> 31
//! step(h, w)    mix((h + 0x9e3779b97f4a7c15) ^ w)
//! word(value)   boolean                 0 or 1
//!               int64, timestamp_ms     its bits
//!               float64                 its bits; -0.0 as 0.0, every NaN as 0x7ff8000000000000
//!               text, binary            w = length in bytes; then w = step(w, c) for every 8 bytes c, little endian,
//!                                       the last ones filled up with zero bytes
//!               null of any kind        0x6c6c756e6c6c756e
//! hash(row)     h = 0; then h = step(h, word(value)) for every key column in order
//! group(row)    (hash >> 32) * KEY_GROUPS >> 32
//! task(group)   group * parallelism / KEY_GROUPS, so tasks own contiguous ranges of groups
//! ```
//!
//! `mix` is the finalizer of SplitMix64 (Steele, Lea, Flood 2014, with Stafford's constants). Hash tables within a task
//! use another, seeded hash: with this one, the keys of one task would crowd in a part of its table.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;

use super::PartitionError;
use crate::limits::KEY_GROUPS;
use crate::record::Kind;

const NULL_WORD: u64 = 0x6c6c_756e_6c6c_756e;
const NAN_WORD: u64 = 0x7ff8_0000_0000_0000;

/// Hashes the key `columns` of each row into `hashes` (cleared first). Offsets and slicing of arrays do not matter.
pub fn hash_rows(columns: &[&ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<(), PartitionError> {
    hashes.clear();
    hashes.resize(rows, 0);
    for column in columns {
        hash_column(column, hashes)?;
    }
    Ok(())
}

/// The key group of a row with this hash, below [`KEY_GROUPS`].
pub fn key_group(hash: u64) -> u32 {
    ((hash >> 32).wrapping_mul(u64::from(KEY_GROUPS)) >> 32) as u32
}

/// The task, of `parallelism`, that owns a key group. Contiguous groups go to one task.
pub fn task_of_group(group: u32, parallelism: usize) -> usize {
    group as usize * parallelism / KEY_GROUPS as usize
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), PartitionError> {
    let refused = || PartitionError::Kind { data_type: column.data_type().clone() };
    let nulls = column.logical_nulls();
    let nulls = nulls.as_ref();
    match Kind::from_data_type(column.data_type()).ok_or_else(refused)? {
        Kind::Boolean => {
            let values = column.as_boolean_opt().ok_or_else(refused)?.values();
            fold_words(hashes, values.iter().map(u64::from), nulls);
        }
        Kind::Int64 => {
            let values = column.as_primitive_opt::<Int64Type>().ok_or_else(refused)?.values();
            fold_words(hashes, values.iter().map(|value| *value as u64), nulls);
        }
        Kind::TimestampMs => {
            let values = column.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(refused)?.values();
            fold_words(hashes, values.iter().map(|value| *value as u64), nulls);
        }
        Kind::Float64 => {
            let values = column.as_primitive_opt::<Float64Type>().ok_or_else(refused)?.values();
            fold_words(hashes, values.iter().map(|value| float_word(*value)), nulls);
        }
        Kind::Text => {
            let values = column.as_string_opt::<i32>().ok_or_else(refused)?;
            fold_words(hashes, values.iter().map(|text| text.map_or(0, |text| bytes_word(text.as_bytes()))), nulls);
        }
        Kind::Binary => {
            let values = column.as_binary_opt::<i32>().ok_or_else(refused)?;
            fold_words(hashes, values.iter().map(|bytes| bytes.map_or(0, bytes_word)), nulls);
        }
    }
    Ok(())
}

fn fold_words(hashes: &mut [u64], words: impl Iterator<Item = u64>, nulls: Option<&NullBuffer>) {
    match nulls {
        None => hashes.iter_mut().zip(words).for_each(|(hash, word)| *hash = step(*hash, word)),
        Some(nulls) => {
            for ((hash, word), valid) in hashes.iter_mut().zip(words).zip(nulls.iter()) {
                *hash = step(*hash, if valid { word } else { NULL_WORD });
            }
        }
    }
}

fn float_word(value: f64) -> u64 {
    if value.is_nan() {
        NAN_WORD
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

fn bytes_word(bytes: &[u8]) -> u64 {
    let mut word = bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        word = step(word, u64::from_le_bytes(*chunk));
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
        word = step(word, last);
    }
    word
}

fn step(hash: u64, word: u64) -> u64 {
    mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ word)
}

fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests;
