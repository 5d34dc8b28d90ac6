//! Between Arrow's bitmaps (one bit a row, lowest first) and the contract's bytes (one byte a row, 0 or 1).

use arrow_buffer::{BooleanBuffer, Buffer};

/// For each byte of a bitmap its eight rows as bytes.
const SPREAD: [[u8; 8]; 256] = spread_table();

const fn spread_table() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = ((byte >> bit) & 1) as u8;
            bit += 1;
        }
        byte += 1;
    }
    table
}

/// Writes one byte a row to `bytes`, replacing what it held.
pub(super) fn bytes_from_bits(bits: &BooleanBuffer, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.reserve(bits.len() + 64);
    for word in bits.bit_chunks().iter_padded() {
        for byte in word.to_le_bytes() {
            bytes.extend_from_slice(&SPREAD[usize::from(byte)]);
        }
    }
    bytes.truncate(bits.len());
}

/// One bit a row. Every byte is expected to be 0 or 1.
pub(super) fn bits_from_bytes(bytes: &[u8]) -> BooleanBuffer {
    // eight bytes of 0 or 1 to eight bits in one multiplication: byte i is moved to bit 56 + i
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bits = Vec::with_capacity(bytes.len().div_ceil(8));
    let (chunks, rest) = bytes.as_chunks::<8>();
    bits.extend(chunks.iter().map(|chunk| (u64::from_le_bytes(*chunk).wrapping_mul(GATHER) >> 56) as u8));
    if !rest.is_empty() {
        bits.push(rest.iter().enumerate().fold(0, |byte, (i, bit)| byte | (bit << i)));
    }
    BooleanBuffer::new(Buffer::from_vec(bits), 0, bytes.len())
}

/// The first row whose byte is neither 0 nor 1.
pub(super) fn first_not_boolean(bytes: &[u8]) -> Option<usize> {
    let all_bits = bytes.iter().fold(0, |bits, byte| bits | byte);
    if all_bits <= 1 { None } else { bytes.iter().position(|byte| *byte > 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_and_bytes_are_two_forms_of_the_same_rows(rows in prop::collection::vec(any::<bool>(), 0..300), skip in 0usize..70) {
            let bytes: Vec<u8> = rows.iter().map(|row| u8::from(*row)).collect();
            let bits = bits_from_bytes(&bytes);
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), rows.clone());
            let skip = skip.min(rows.len());
            let mut back = vec![7; 3];
            bytes_from_bits(&bits.slice(skip, rows.len() - skip), &mut back);
            prop_assert_eq!(&back[..], &bytes[skip..]);
        }
    }

    #[test]
    fn a_byte_that_is_no_boolean_is_found() {
        assert_eq!(first_not_boolean(&[0, 1, 1, 0]), None);
        assert_eq!(first_not_boolean(&[0, 1, 2, 0]), Some(2));
        assert_eq!(first_not_boolean(&[]), None);
    }
}
