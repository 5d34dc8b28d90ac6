//! Columns of text and bytes: collected row by row, and read as slices.

use crate::cell::{no_row, too_short};
use crate::contract::{Varlen, offset};

/// Appends a value. Most are short, and for those a call of `memory.copy`, which is the host's, takes longer than copying:
/// they go as two pieces of fixed size, which overlap.
#[inline]
fn append(bytes: &mut Vec<u8>, value: &[u8]) {
    match value.len() {
        0..=3 => {
            for byte in value {
                bytes.push(*byte);
            }
        }
        4..=8 => append_ends::<4>(bytes, value),
        9..=16 => append_ends::<8>(bytes, value),
        17..=32 => append_ends::<16>(bytes, value),
        _ => bytes.extend_from_slice(value),
    }
}

/// Appends a value of `N` to `2 * N` bytes.
#[inline]
fn append_ends<const N: usize>(bytes: &mut Vec<u8>, value: &[u8]) {
    let (Some(head), Some(tail)) = (value.first_chunk::<N>(), value.last_chunk::<N>()) else { return };
    let end = bytes.len() + value.len();
    bytes.extend_from_slice(head);
    bytes.truncate(end - N);
    bytes.extend_from_slice(tail);
}

/// Collects a column of text or bytes.
pub struct VarlenWriter {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl VarlenWriter {
    #[inline]
    pub(crate) fn new(rows: usize, bytes: usize) -> Self {
        VarlenWriter { offsets: vec![0; rows + 1], bytes: Vec::with_capacity(bytes) }
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline]
    pub(crate) fn set(&mut self, row: usize, value: &[u8]) {
        append(&mut self.bytes, value);
        if let Some(slot) = self.offsets.get_mut(row + 1) {
            *slot = offset(self.bytes.len());
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) {
        append(&mut self.bytes, value);
        self.offsets.push(offset(self.bytes.len()));
    }

    #[inline]
    pub(crate) fn finish(self) -> Varlen {
        Varlen { offsets: self.offsets, bytes: self.bytes }
    }
}

/// A column of text or bytes as slices; `offsets` has one entry more than there are rows.
#[derive(Clone, Copy)]
pub struct VarlenReader<'b> {
    offsets: &'b [u32],
    bytes: &'b [u8],
}

impl<'b> VarlenReader<'b> {
    pub(crate) fn open(values: &'b Varlen, rows: usize) -> Result<Self, String> {
        let offsets = values.offsets.get(..=rows).ok_or_else(|| too_short(rows, values.rows()))?;
        Ok(VarlenReader { offsets, bytes: &values.bytes })
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline]
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let start = *self.offsets.get(row)?;
        let end = *self.offsets.get(row + 1)?;
        Some(start as usize..end as usize)
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Result<&'b [u8], String> {
        self.range(row).and_then(|range| self.bytes.get(range)).ok_or_else(no_row)
    }
}

/// A column of text. UTF-8 is checked once for all rows, which costs a tenth of checking row by row.
#[derive(Clone, Copy)]
pub struct TextReader<'b> {
    values: VarlenReader<'b>,
    /// all rows as one; `None` if some row is not UTF-8: then each is checked by itself
    whole: Option<&'b str>,
}

impl<'b> TextReader<'b> {
    pub(crate) fn open(values: &'b Varlen, rows: usize) -> Result<Self, String> {
        let values = VarlenReader::open(values, rows)?;
        Ok(TextReader { values, whole: simdutf8::basic::from_utf8(values.bytes).ok() })
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.values.rows()
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Result<&'b str, String> {
        // `get` of a str is checked too: a row must begin and end with a character
        match self.whole.zip(self.values.range(row)).and_then(|(whole, range)| whole.get(range)) {
            Some(text) => Ok(text),
            None => self.get_checked(row),
        }
    }

    #[cold]
    fn get_checked(&self, row: usize) -> Result<&'b str, String> {
        std::str::from_utf8(self.values.get(row)?).map_err(|error| format!("text is not UTF-8: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadCell;
    use crate::contract::{Column, Values};

    fn read(bytes: &[u8], offsets: &[u32]) -> Vec<Result<String, String>> {
        let varlen = Varlen { offsets: offsets.to_vec(), bytes: bytes.to_vec() };
        let column = Column::from(Values::Text(varlen));
        let rows = offsets.len() - 1;
        let reader = <&str>::open(&column, rows).unwrap();
        (0..rows).map(|row| <&str>::read(&reader, row).map(str::to_owned)).collect()
    }

    #[test]
    fn a_row_that_is_not_text_fails_alone() {
        let rows = read(b"ab\xffcd", &[0, 2, 3, 5]);
        assert_eq!((rows[0].as_deref(), rows[2].as_deref()), (Ok("ab"), Ok("cd")));
        assert!(rows[1].as_ref().unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn rows_that_share_a_character_are_not_text() {
        let rows = read("aß".as_bytes(), &[0, 2, 3]);
        assert!(rows.iter().all(Result::is_err), "{rows:?}");
    }

    #[test]
    fn values_of_every_length_are_appended_whole() {
        let value: Vec<u8> = (1..=40).collect();
        for length in 0..=value.len() {
            let mut bytes = vec![77; 3];
            append(&mut bytes, &value[..length]);
            append(&mut bytes, b"|");
            assert_eq!(bytes, [&[77; 3], &value[..length], b"|"].concat());
        }
    }

    #[test]
    fn offsets_beyond_the_bytes_are_a_failure() {
        assert_eq!(read(b"ab", &[0, 2, 9])[1], Err(no_row()));
    }
}
