//! The host's clock. Code that needs the time takes a [`Clock`], so that tests and replays decide what time it is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// the machine's
    System(SystemClock),
    /// set by whoever holds it, see [`Clock::set_ms`]
    Virtual(Arc<watch::Sender<i64>>),
}

/// The machine's clock, monotonic from a wall-clock start, so that time never runs backwards within a process.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let started_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Self::System(SystemClock { started: Instant::now(), started_ms })
    }

    /// A clock that stands still until it is set.
    pub fn virtual_at_ms(now_ms: i64) -> Self {
        Self::Virtual(Arc::new(watch::Sender::new(now_ms)))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System(clock) => {
                let elapsed_ms = i64::try_from(clock.started.elapsed().as_millis()).unwrap_or(i64::MAX);
                clock.started_ms.saturating_add(elapsed_ms)
            }
            Self::Virtual(now_ms) => *now_ms.borrow(),
        }
    }

    /// Sets a virtual clock, and all its clones, forward; the machine's clock goes its own way.
    pub fn set_ms(&self, now_ms: i64) {
        if let Self::Virtual(clock) = self {
            clock.send_if_modified(|now| {
                let later = now_ms > *now;
                *now = (*now).max(now_ms);
                later
            });
        }
    }

    /// Returns once the clock shows `time_ms` or later.
    pub async fn wait_until(&self, time_ms: i64) {
        match self {
            Self::System(_) => {
                // a timer may ring early by its own granularity
                while let Ok(left @ 1..) = u64::try_from(time_ms.saturating_sub(self.now_ms())) {
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
            }
            Self::Virtual(clock) => {
                // the sender is held here, so the channel stays open
                let _ = clock.subscribe().wait_for(|now| *now >= time_ms).await;
            }
        }
    }
}

/// A stopwatch for durations that are reported to people, never decided on.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// `2026-11-23 08:30:00.125` in UTC, by the civil calendar (Hinnant, "chrono-compatible low-level date algorithms").
pub fn utc_text(time_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, ms) = (time_ms.div_euclid(DAY_MS), time_ms.rem_euclid(DAY_MS));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}.{:03}", ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::utc_text;

    #[test]
    fn times_are_shown_in_utc() {
        for (time_ms, shown) in [
            (0, "1970-01-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_795_422_600_125, "2026-11-23 08:30:00.125"),
        ] {
            assert_eq!(utc_text(time_ms), shown);
        }
        for time_ms in [i64::MIN, i64::MAX] {
            assert!(!utc_text(time_ms).is_empty());
        }
    }
}
