//! Filter for benchmarks: keeps lines of a log by their level, which stands at a fixed place.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Line<'a> {
    /// `2026-01-01T00:00:00.000Z WARN ..`
    pub value: &'a str,
}

/// Warnings and errors.
#[millstream_sdk::filter]
pub fn bench_lines(line: Line<'_>) -> bool {
    let level = line.value.as_bytes().get(25..29);
    level == Some(b"WARN") || level == Some(b"ERRO")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn lines_are_kept_by_their_level() {
        let lines =
            ["INFO ready", "WARN slow", "ERROR gone", ""].map(|rest| format!("2026-01-01T00:00:00.000Z {rest}"));
        let kept = testing::filter::<bench_lines, _>(&[], lines.iter().map(|value| Line { value })).unwrap();
        assert_eq!(kept, [false, true, true, false]);
    }
}
