//! Flat-mapper for benchmarks: text to words, which are borrowed from the text.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Line<'a> {
    /// the text
    pub value: &'a str,
}

/// What is made of it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Word<'a> {
    /// as it stands in the text
    pub word: &'a str,
}

/// What stands between spaces.
#[millstream_sdk::flat_map]
pub fn bench_words(line: Line<'_>) -> impl Iterator<Item = Word<'_>> {
    line.value.split(' ').filter(|word| !word.is_empty()).map(|word| Word { word })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn spaces_in_a_row_are_one() {
        let lines = [" to  be", ""].map(|value| Line { value });
        let (origin, words) = testing::flat_map::<bench_words, _, Word<'_>>(&[], lines).unwrap();
        assert_eq!(words.to_rows().unwrap(), ["to", "be"].map(|word| Word { word }));
        assert_eq!(origin, [0, 0]);
    }
}
