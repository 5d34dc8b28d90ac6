//! Map: the text of `value` in upper case with `!` behind it. Fits in the place of `uppercase`, and shows that it is there.

use millstream_sdk::Row;

/// A line of text.
#[derive(Clone, Debug, Row)]
pub struct Line<'a> {
    /// the text
    pub value: &'a str,
}

/// The line as it comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Tagged {
    /// in upper case, with the mark
    pub value: String,
}

/// Upper case and a mark.
#[millstream_sdk::map]
pub fn uppercase_tagged(line: Line<'_>) -> Tagged {
    let mut value = line.value.to_uppercase();
    value.push('!');
    Tagged { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn every_line_is_marked_also_an_empty_one() {
        let lines = ["straße", ""].map(|value| Line { value });
        let tagged = testing::map::<uppercase_tagged, _, Tagged>(&[], lines).unwrap();
        assert_eq!(
            tagged.to_rows().unwrap().iter().map(|row| row.value.as_str()).collect::<Vec<_>>(),
            ["STRASSE!", "!"]
        );
    }
}
