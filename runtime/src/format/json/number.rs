//! Decimal digits eight at a time, and the numbers of JSON.

/// 10 to the power of the index.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Digits of which every number fits an `i64` and a `u64`.
const SAFE_DIGITS: usize = 18;

/// Decimal digits whose every number a double holds exactly.
const EXACT_DIGITS: usize = 15;

/// Value and count of the digits at `at`. The value means nothing beyond [`SAFE_DIGITS`].
///
/// Eight digits are one load: a byte is a digit if, less `0`, it is under ten, and neighbours are combined to pairs,
/// fours, eight by multiplication (SIMD within a register).
#[inline]
fn digits(bytes: &[u8], at: usize) -> (u64, usize) {
    let mut value = 0_u64;
    let mut count = 0;
    while let Some(chunk) = bytes.get(at + count..).and_then(|rest| rest.first_chunk::<8>()) {
        let lanes = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (((lanes & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | lanes) & 0x8080_8080_8080_8080;
        let here = others.trailing_zeros() as usize / 8;
        if here == 0 {
            return (value, count);
        }
        value = value.wrapping_mul(POWERS[here]).wrapping_add(eight_digits(lanes << (64 - 8 * here)));
        count += here;
        if here < 8 {
            return (value, count);
        }
    }
    while let Some(digit) = bytes.get(at + count).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    (value, count)
}

/// The number of eight digits, the first of them in the lowest byte.
#[inline]
fn eight_digits(lanes: u64) -> u64 {
    let pairs = (lanes * 10 + (lanes >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

/// The integer at `at` and where it ends. `None` for anything that is not plainly one, `-0` and what overflows included.
/// Reads on beyond the record if the record ends in a number: compare the end with the record's.
#[inline]
pub(super) fn integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (value, count) = digits(bytes, start);
    let end = start + count;
    let leading_zero = bytes.get(start) == Some(&b'0') && (count > 1 || negative);
    if count == 0 || leading_zero {
        return None;
    }
    if count > SAFE_DIGITS {
        let text = std::str::from_utf8(bytes.get(at..end)?).ok()?;
        return Some((text.parse().ok()?, end));
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, end))
}

/// Where the JSON number at `at` ends; `None` if there is none.
pub(super) fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = skip_digits(bytes, start)?;
    if bytes.get(start) == Some(&b'0') && end > start + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = skip_digits(bytes, end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = skip_digits(bytes, end + 1 + usize::from(signed))?;
    }
    Some(end)
}

/// Where the digits at `at` end; `None` if there are none.
fn skip_digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

/// The number at `at` as the nearest double, and where it ends. `None` if there is none or it is out of range.
pub(super) fn float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    if let Some(found) = short_float(bytes, at) {
        return Some(found);
    }
    let end = skip(bytes, at)?;
    let value: f64 = std::str::from_utf8(bytes.get(at..end)?).ok()?.parse().ok()?;
    value.is_finite().then_some((value, end))
}

/// A number of few digits and no exponent: digits and power of ten are exact, so one division rounds correctly
/// (Clinger, "How to Read Floating Point Numbers Accurately", the fast path).
#[inline]
fn short_float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (whole, whole_count) = digits(bytes, start);
    let mut end = start + whole_count;
    if whole_count == 0 || whole_count > EXACT_DIGITS || bytes.get(start) == Some(&b'0') && whole_count > 1 {
        return None;
    }
    let mut value = whole as f64;
    if bytes.get(end) == Some(&b'.') {
        let (fraction, fraction_count) = digits(bytes, end + 1);
        if fraction_count == 0 || whole_count + fraction_count > EXACT_DIGITS {
            return None;
        }
        let shift = EXACT_POWERS.get(fraction_count)?;
        value = (whole as f64 * shift + fraction as f64) / shift;
        end += 1 + fraction_count;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        return None;
    }
    Some((if negative { -value } else { value }, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_at_the_edges_are_exact_or_refused() {
        for text in ["0", "7", "-1", "12345678", "123456789", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer(text.as_bytes(), 0), Some((text.parse().unwrap(), text.len())), "{text}");
            let long = format!("{text},        ");
            assert_eq!(integer(long.as_bytes(), 0), Some((text.parse().unwrap(), text.len())), "{text}");
        }
        for text in ["", "-", "-0", "00", "012", "-01", "x", "9223372036854775808", "-9223372036854775809", "+1"] {
            assert_eq!(integer(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn only_the_numbers_of_json_are_skipped() {
        for text in ["0", "-0", "10", "1.5", "1e5", "1E+5", "-1.25e-10", "1e400"] {
            assert_eq!(skip(text.as_bytes(), 0), Some(text.len()), "{text}");
        }
        for text in ["", "-", "01", "1.", "1.e5", ".5", "1e", "1e+", "-a"] {
            assert_eq!(skip(text.as_bytes(), 0), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_are_the_nearest_double(text in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?(e-?[0-9]{1,2})?") {
            let expected: f64 = text.parse().unwrap();
            let (value, end) = float(text.as_bytes(), 0).unwrap();
            prop_assert_eq!(value.to_bits(), expected.to_bits());
            prop_assert_eq!(end, text.len());
        }

        #[test]
        fn integers_are_what_the_standard_library_reads(value: i64, tail in "[,} a-z]{0,12}") {
            let text = format!("{value}{tail}");
            prop_assert_eq!(integer(text.as_bytes(), 0), Some((value, value.to_string().len())));
        }
    }
}
