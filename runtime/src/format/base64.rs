//! Base64 with the standard alphabet and padding (RFC 4648, section 4): how binary columns appear in JSON and CSV.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Value of each byte of the alphabet, 255 for all others.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

fn letter(bits: u32) -> u8 {
    ALPHABET[(bits & 63) as usize]
}

/// Appends `bytes` as base64.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (groups, rest) = bytes.as_chunks::<3>();
    for &[a, b, c] in groups {
        let bits = u32::from_be_bytes([0, a, b, c]);
        out.extend([letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)]);
    }
    match *rest {
        [a] => out.extend([letter(u32::from(a) >> 2), letter(u32::from(a) << 4), b'=', b'=']),
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            out.extend([letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), b'=']);
        }
        _ => {}
    }
}

/// Appends what `text` encodes. `None`, with `out` in an unknown state, where it is not canonical base64: each value
/// has exactly one text, so what was read is written back the same.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let Some((last, groups)) = groups.split_last() else { return Some(()) };
    for group in groups {
        out.extend(three_bytes(group)?);
    }
    let (kept, padded) = match *last {
        [a, b, b'=', b'='] => (1, [a, b, b'A', b'A']),
        [a, b, c, b'='] => (2, [a, b, c, b'A']),
        all => (3, all),
    };
    let bytes = three_bytes(&padded)?;
    let (kept, dropped) = bytes.split_at(kept);
    out.extend_from_slice(kept);
    dropped.iter().all(|&byte| byte == 0).then_some(())
}

fn three_bytes(group: &[u8; 4]) -> Option<[u8; 3]> {
    let mut bits = 0;
    for &letter in group {
        let value = VALUES[letter as usize];
        if value > 63 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
    }
    let [_, a, b, c] = bits.to_be_bytes();
    Some([a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4648_hold_both_ways() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{3ff}\u{7ff}", "z7/fvw=="),
        ] {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            let mut back = Vec::new();
            assert_eq!(decode(text.as_bytes(), &mut back), Some(()));
            assert_eq!(back, plain.as_bytes());
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for text in ["Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=Zg=", "Z===", "Zg==Zg==", "Zm-_", "Zm9v\n", "Zm 9"] {
            assert_eq!(decode(text.as_bytes(), &mut Vec::new()), None, "{text}");
        }
    }
}
