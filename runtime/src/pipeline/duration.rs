//! Durations as users write them: `500ms`, `5s`, `1.5s`, `1h30m`.
//!
//! ```text
//!   duration = part { part }          parts from the largest unit to the smallest, each unit once
//!   part     = digits [ "." digits ] unit
//!   unit     = "d" | "h" | "m" | "s" | "ms" | "us" | "ns"
//! ```
//!
//! No spaces, no sign (see [`parse_signed_ms`] for the one key that takes a sign), no bare numbers: a number
//! without a unit is what people mistake most.

/// Longest duration: 100 years of 365 days. Far from the ends of `i64` in nanoseconds, so sums stay exact.
pub const NANOSECONDS_MAX: u64 = 36_500 * 86_400 * 1_000_000_000;

/// Units by name with their length in nanoseconds, largest first.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Digits after the point that are read; the rest could only be finer than a nanosecond.
const FRACTION_DIGITS_MAX: usize = 15;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// nothing there
    #[error("it is empty")]
    Empty,
    /// a part that does not begin with a digit
    #[error("`{found}` is not a number")]
    NoNumber {
        /// what stands there
        found: String,
    },
    /// a number without a unit
    #[error("`{number}` has no unit")]
    NoUnit {
        /// the number
        number: String,
    },
    /// a unit that does not exist
    #[error("`{unit}` is no unit")]
    UnknownUnit {
        /// what stands there
        unit: String,
    },
    /// units not from large to small
    #[error("unit `{unit}` is out of order")]
    OutOfOrder {
        /// the unit that came too late
        unit: String,
    },
    /// longer than [`NANOSECONDS_MAX`]
    #[error("it is longer than 36500d")]
    TooLong,
    /// not a whole number of the finest unit that the key knows
    #[error("it is not a whole number of {unit}")]
    TooFine {
        /// `ms` or `ns`
        unit: &'static str,
    },
}

/// Reads a duration, exact to the nanosecond.
pub fn parse_ns(text: &str) -> Result<u64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut larger = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit() && c != '.');
        if number.is_empty() {
            return Err(DurationError::NoNumber { found: start_of(rest) });
        }
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let scale = scale_of(number, unit)?;
        if scale >= larger {
            return Err(DurationError::OutOfOrder { unit: unit.to_owned() });
        }
        larger = scale;
        total = total.checked_add(scaled(number, scale)?).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    if total > NANOSECONDS_MAX { Err(DurationError::TooLong) } else { Ok(total) }
}

/// Reads a duration that is a whole number of milliseconds.
pub fn parse_ms(text: &str) -> Result<u64, DurationError> {
    let ns = parse_ns(text)?;
    if ns.is_multiple_of(1_000_000) { Ok(ns / 1_000_000) } else { Err(DurationError::TooFine { unit: "ms" }) }
}

/// Reads a whole number of milliseconds with an optional sign: `-1s`.
pub fn parse_signed_ms(text: &str) -> Result<i64, DurationError> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let ms = i64::try_from(parse_ms(magnitude)?).map_err(|_| DurationError::TooLong)?;
    Ok(if negative { -ms } else { ms })
}

/// Writes nanoseconds in the largest unit that leaves a whole number: `90m`, never `1h30m`.
pub fn display_ns(ns: u64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, scale)| ns.is_multiple_of(*scale))
        .map_or_else(|| format!("{ns}ns"), |(unit, scale)| format!("{}{unit}", ns / scale))
}

/// Splits before the first character that is `end`.
fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// The first characters of what could not be read.
fn start_of(text: &str) -> String {
    text.chars().take(16).collect()
}

fn scale_of(number: &str, unit: &str) -> Result<u64, DurationError> {
    if unit.is_empty() {
        return Err(DurationError::NoUnit { number: start_of(number) });
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, scale)| *scale).ok_or_else(|| DurationError::UnknownUnit { unit: start_of(unit) })
}

/// `number` × `scale` in nanoseconds, exactly.
fn scaled(number: &str, scale: u64) -> Result<u64, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::NoNumber { found: start_of(number) });
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::TooLong)?;
    let whole = whole.checked_mul(scale).ok_or(DurationError::TooLong)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(DurationError::TooFine { unit: "ns" });
    }
    let (mut numerator, mut denominator) = (0_u128, 1_u128);
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    let numerator = numerator * u128::from(scale);
    if numerator % denominator != 0 {
        return Err(DurationError::TooFine { unit: "ns" });
    }
    let fraction = u64::try_from(numerator / denominator).map_err(|_| DurationError::TooLong)?;
    whole.checked_add(fraction).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        let cases = [
            ("500ms", 500_000_000),
            ("5s", 5_000_000_000),
            ("1m", 60_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1d", 86_400_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.25ms", 250_000),
            ("200ns", 200),
            ("1us", 1_000),
            ("1d2h3m4s5ms6us7ns", 93_784_005_006_007),
            ("0s", 0),
            ("1.50000000000000000000s", 1_500_000_000),
        ];
        for (text, ns) in cases {
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        let cases = [
            ("", "it is empty"),
            ("5", "`5` has no unit"),
            ("s", "`s` is not a number"),
            ("-1s", "`-1s` is not a number"),
            ("5 s", "` s` is no unit"),
            ("5sec", "`sec` is no unit"),
            ("1..5s", "`1..5` is not a number"),
            (".5s", "`.5` is not a number"),
            ("5.s", "`5.` is not a number"),
            ("30m1h", "unit `h` is out of order"),
            ("1s1s", "unit `s` is out of order"),
            ("99999999999999999999s", "it is longer than 36500d"),
            ("36500d1ns", "it is longer than 36500d"),
            ("0.5ns", "it is not a whole number of ns"),
            ("1.0000000000000001s", "it is not a whole number of ns"),
        ];
        for (text, reason) in cases {
            assert_eq!(parse_ns(text).map_err(|error| error.to_string()), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(parse_ms("1.5ms"), Err(DurationError::TooFine { unit: "ms" }));
    }

    #[test]
    fn only_signed_durations_take_a_sign() {
        assert_eq!(parse_signed_ms("-1.5s"), Ok(-1_500));
        assert_eq!(parse_signed_ms("+1s"), Ok(1_000));
        assert_eq!(parse_signed_ms("1s"), Ok(1_000));
        assert!(parse_signed_ms("--1s").is_err());
    }

    proptest! {
        #[test]
        fn what_is_displayed_reads_back(ns in 0..=NANOSECONDS_MAX) {
            prop_assert_eq!(parse_ns(&display_ns(ns)), Ok(ns));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.dhmsun -]{0,24}|\\PC{0,24}") {
            let _ = parse_ns(&text);
            let _ = parse_signed_ms(&text);
        }
    }
}
