//! Times as text: RFC 3339 and the `2015-07-15 00:00:01.001` of SQL and log files, to milliseconds since the epoch.

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // years begin in March, so that the leap day is the last of its year
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads fixed-width pieces from the front of a text.
struct Pieces<'a>(&'a [u8]);

impl Pieces<'_> {
    fn number(&mut self, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        let mut value = 0;
        for byte in head {
            value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.0 = rest;
        range.contains(&value).then_some(value)
    }

    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        allowed.contains(first).then_some(*first)
    }

    /// `.` and at least one digit; what is finer than a millisecond is cut off.
    fn fraction_ms(&mut self) -> Option<i64> {
        if self.0.first() != Some(&b'.') {
            return Some(0);
        }
        self.0 = self.0.get(1..)?;
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (head, rest) = self.0.split_at_checked(digits).filter(|_| digits > 0)?;
        self.0 = rest;
        let digit = |place: usize| head.get(place).map_or(0, |byte| i64::from(byte - b'0'));
        Some(digit(0) * 100 + digit(1) * 10 + digit(2))
    }

    /// `Z`, `+hh:mm`, `-hh:mm` or nothing, which means UTC; in minutes.
    fn offset_minutes(&mut self) -> Option<i64> {
        if self.0.is_empty() {
            return Some(0);
        }
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2, 0..=23)?;
        self.one_of(b":")?;
        Some(sign * (hours * 60 + self.number(2, 0..=59)?))
    }
}

/// Milliseconds since the epoch of `2023-09-18T14:23:10Z`, `2023-09-18T14:23:10.25+02:00` or
/// `2015-07-15 00:00:01.001`. Without an offset the time is UTC. `None` for anything else, leap seconds included:
/// event time has no place for them.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let mut pieces = Pieces(text);
    let year = pieces.number(4, 0..=9999)?;
    pieces.one_of(b"-")?;
    let month = pieces.number(2, 1..=12)?;
    pieces.one_of(b"-")?;
    let day = pieces.number(2, 1..=days_in_month(year, month))?;
    pieces.one_of(b"Tt ")?;
    let hour = pieces.number(2, 0..=23)?;
    pieces.one_of(b":")?;
    let minute = pieces.number(2, 0..=59)?;
    pieces.one_of(b":")?;
    let second = pieces.number(2, 0..=59)?;
    let fraction_ms = pieces.fraction_ms()?;
    let offset_minutes = pieces.offset_minutes()?;
    if !pieces.0.is_empty() {
        return None;
    }
    let minutes = (days_from_civil(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_accepted_shapes_are_exact() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-09-18T14:23:10Z", 1_695_046_990_000),
            ("2023-09-18t14:23:10z", 1_695_046_990_000),
            ("2023-09-18T14:23:10.5Z", 1_695_046_990_500),
            ("2023-09-18T16:23:10+02:00", 1_695_046_990_000),
            ("2023-09-18T08:53:10-05:30", 1_695_046_990_000),
            ("2015-07-15 00:00:01.001", 1_436_918_401_001),
            ("2015-07-15 00:00:01.0019999999", 1_436_918_401_001),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T00:00:00", 951_782_400_000),
            ("0000-03-01T00:00:00Z", -62_162_035_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2023",
            "2023-09-18",
            "2023-09-18T14:23",
            "2023-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-09-18T24:00:00Z",
            "2023-09-18T14:60:00Z",
            "2023-09-18T23:59:60Z",
            "2023-09-18T14:23:10.Z",
            "2023-09-18T14:23:10+0200",
            "2023-09-18T14:23:10 Z",
            "2023-09-18T14:23:10Zx",
            "+023-09-18T14:23:10Z",
            "2023-09-18T14:23:10+24:00",
            "2023-00-18T14:23:10Z",
            "2023-09-00T14:23:10Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn days_follow_each_other_over_four_centuries() {
        let mut expected = days_from_civil(1900, 1, 1);
        for year in 1900..2300 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_from_civil(year, month, day), expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
    }
}
