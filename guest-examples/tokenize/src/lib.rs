//! Flat map: the words of a line, in lower case.
//!
//! A word is a run of letters and digits, of any script. The rows that come out carry `word` only; `keep` on the step
//! carries over columns of the line.

use millstream_sdk::Row;

/// A line of text, borrowed from the batch.
#[derive(Clone, Debug, Row)]
pub struct Line<'a> {
    /// the text
    pub value: &'a str,
}

/// One word of it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Word {
    /// in lower case
    pub word: String,
}

/// The line's words, in order.
#[millstream_sdk::flat_map]
pub fn tokenize(line: Line<'_>) -> impl Iterator<Item = Word> {
    let words = line.value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| Word { word: word.to_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn words_know_the_line_they_came_from() {
        let lines = ["To be, or NOT", "", "Größe 10"].map(|value| Line { value });
        let (origin, words) = testing::flat_map::<tokenize, _, Word>(&[], lines).unwrap();
        let words: Vec<String> = words.to_rows().unwrap().into_iter().map(|row| row.word).collect();
        assert_eq!(words, ["to", "be", "or", "not", "größe", "10"]);
        assert_eq!(origin, [0, 0, 0, 0, 2, 2]);
    }
}
