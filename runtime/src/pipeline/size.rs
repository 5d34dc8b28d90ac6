//! Sizes as users write them: `64MiB`, `1GB`, `4096`.

/// Units by name in bytes. Decimal and binary ones are told apart as their names say; a bare number is bytes.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// does not begin with digits
    #[error("it does not begin with a whole number")]
    NoNumber,
    /// a unit that does not exist
    #[error("`{unit}` is no unit")]
    UnknownUnit {
        /// what stands there
        unit: String,
    },
    /// more than 2^64 bytes
    #[error("it is too large")]
    TooLarge,
}

/// Reads a number of bytes.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if number.is_empty() {
        return Err(SizeError::NoNumber);
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, scale) = known.ok_or_else(|| SizeError::UnknownUnit { unit: unit.chars().take(16).collect() })?;
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(*scale).ok_or(SizeError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        for (text, bytes) in [("4096", 4096), ("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("2KB", 2_000), ("7B", 7)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        assert_eq!(parse_bytes(""), Err(SizeError::NoNumber));
        assert_eq!(parse_bytes("-1"), Err(SizeError::NoNumber));
        assert_eq!(parse_bytes("64 MiB"), Err(SizeError::UnknownUnit { unit: " MiB".to_owned() }));
        assert_eq!(parse_bytes("1.5GiB"), Err(SizeError::UnknownUnit { unit: ".5GiB".to_owned() }));
        assert_eq!(parse_bytes("64mb"), Err(SizeError::UnknownUnit { unit: "mb".to_owned() }));
        assert_eq!(parse_bytes("99999999999999999999"), Err(SizeError::TooLarge));
        assert_eq!(parse_bytes("99999999999999999GiB"), Err(SizeError::TooLarge));
    }
}
