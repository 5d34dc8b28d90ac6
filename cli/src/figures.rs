//! Numbers as people read them.

use std::time::Duration;

/// `v3 1f2e3d4c5b6a`; without a number where the version has none yet.
pub(crate) fn version(number: Option<u64>, digest: &str) -> String {
    match number.filter(|number| *number > 0) {
        Some(number) => format!("v{number} {}", short(digest)),
        None => short(digest).to_owned(),
    }
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `842`, `1.2k`, `350k`, `2.41M` of something a second.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub(crate) fn rate(number: u64, during: Duration) -> String {
    let seconds = during.as_secs_f64();
    if seconds <= 0.0 {
        return "-".to_owned();
    }
    let per_second = number as f64 / seconds;
    match per_second {
        r if r < 1e3 => format!("{r:.0}/s"),
        r if r < 1e4 => format!("{:.1}k/s", r / 1e3),
        r if r < 1e6 => format!("{:.0}k/s", r / 1e3),
        r => format!("{:.2}M/s", r / 1e6),
    }
}

/// `12.3 s`, `45 ms`, `812 µs`, `90 ns`
pub(crate) fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        1_000_000_000..60_000_000_000 => format!("{:.2} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

/// `12 KiB`, `2.5 MiB`
#[allow(clippy::cast_precision_loss)] // two digits are shown
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The first 12 digits of a digest: enough to tell versions apart.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// `1 task`, `2 tasks`
pub(crate) fn tasks(number: usize) -> String {
    format!("{number} task{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_scaled() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let second = Duration::from_secs(1);
        assert_eq!([842, 1_234, 350_000, 2_410_000].map(|n| rate(n, second)), ["842/s", "1.2k/s", "350k/s", "2.41M/s"]);
        assert_eq!(rate(1, Duration::ZERO), "-");
        assert_eq!(duration(Duration::from_micros(812)), "812 µs");
        assert_eq!(duration(Duration::from_secs(75)), "1 min 15 s");
        assert_eq!((size(900), size(12_288), size(2_621_440)), ("900 B".into(), "12.0 KiB".into(), "2.5 MiB".into()));
    }
}
