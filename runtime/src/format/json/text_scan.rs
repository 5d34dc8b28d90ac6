//! The end of plain text inside JSON, 16 bytes at a time.

use wide::u8x16;

/// The first place from `at` on that holds `"`, `\` or a control character (under 0x20).
#[inline]
pub(super) fn find_special(bytes: &[u8], mut at: usize) -> Option<usize> {
    let (quote, backslash, control) = (u8x16::splat(b'"'), u8x16::splat(b'\\'), u8x16::splat(0x1f));
    while let Some(chunk) = bytes.get(at..)?.first_chunk::<16>() {
        let lanes = u8x16::new(*chunk);
        let special = lanes.simd_eq(quote) | lanes.simd_eq(backslash) | lanes.min(control).simd_eq(lanes);
        let mask = special.to_bitmask();
        if mask != 0 {
            return Some(at + mask.trailing_zeros() as usize);
        }
        at += 16;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20).map(|place| at + place)
}

#[cfg(test)]
mod tests {
    use super::find_special;

    #[test]
    fn every_byte_is_found_at_every_place_or_passed_over() {
        for byte in 0..=u8::MAX {
            for place in 0..40 {
                let mut text = [b'x'; 40];
                text[place] = byte;
                let special = byte == b'"' || byte == b'\\' || byte < 0x20;
                for start in 0..=place {
                    assert_eq!(find_special(&text, start), special.then_some(place), "{byte} at {place} from {start}");
                }
            }
        }
    }
}
