//! Map: the text of `value` in upper case, letters beyond ASCII included.
//!
//! A batch that is all ASCII, which most are, is changed in place: whole columns at a time, 16 bytes an instruction.
//! Otherwise each line is converted, since letters may grow (`ß` becomes `SS`).

use millstream_sdk::{Columns, Row, Varlen};

/// A line of text.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Line {
    /// the text
    pub value: String,
}

/// Upper case, whole column.
#[millstream_sdk::map]
pub fn uppercase(mut lines: Columns<Line>) -> Result<Columns<Line>, String> {
    let text = lines.text_mut("value")?;
    if !uppercase_ascii(&mut text.bytes) {
        let line = |row| String::from_utf8_lossy(text.get(row).unwrap_or_default()).to_uppercase();
        *text = (0..text.rows()).map(line).collect::<Varlen>();
    }
    Ok(lines)
}

/// Changes the ASCII letters, and answers whether there was nothing else. One plain loop, which compiles to vector
/// instructions; the standard library's functions are compiled without them.
fn uppercase_ascii(bytes: &mut [u8]) -> bool {
    let mut all = 0;
    for byte in bytes {
        all |= *byte;
        *byte -= u8::from(byte.wrapping_sub(b'a') < 26) << 5;
    }
    all < 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    fn upper(lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|&value| Line { value: value.to_owned() });
        let upper = testing::map::<uppercase, _, Line>(&[], lines).unwrap();
        upper.to_rows().unwrap().into_iter().map(|line| line.value).collect()
    }

    #[test]
    fn ascii_is_changed_and_the_rest_stays() {
        assert_eq!(upper(&["hello, World 1", "", "z"]), ["HELLO, WORLD 1", "", "Z"]);
    }

    #[test]
    fn letters_that_grow_keep_to_their_rows() {
        assert_eq!(upper(&["straße", "ab", "été"]), ["STRASSE", "AB", "ÉTÉ"]);
    }
}
