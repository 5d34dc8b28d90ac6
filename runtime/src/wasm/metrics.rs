//! What guests cost and count, shared by all tasks of a step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::witness::Witness;
use crate::clock::Stopwatch;
use crate::limits;

/// Log lines that a step's guests may write at once before the rate applies.
const LOG_LINES_BURST: u64 = 200;

/// Log lines a second that a step's guests may go on writing. A guest that logs each row must not drown the log.
const LOG_LINES_PER_SECOND: u64 = 50;

/// Counters of a step's guests. Only ever grow; reading is cheap and never blocks a guest for long.
#[derive(Debug)]
pub struct GuestMetrics {
    pub(super) calls: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) rows_in: AtomicU64,
    pub(super) rows_out: AtomicU64,
    pub(super) busy_ns: AtomicU64,
    pub(super) instances: AtomicU64,
    pub(super) traps: AtomicU64,
    pub(super) deadlines: AtomicU64,
    pub(super) memory_denials: AtomicU64,
    pub(super) contract_breaches: AtomicU64,
    log_lines: AtomicU64,
    log_lines_dropped: AtomicU64,
    names_dropped: AtomicU64,
    started: Stopwatch,
    own: Mutex<OwnMetrics>,
    /// who keeps calls that fail
    witness: Option<Witness>,
}

/// What guests themselves count.
#[derive(Clone, Debug, Default)]
struct OwnMetrics {
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
}

/// The values of [`GuestMetrics`] at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuestCounts {
    /// calls into guests, repeated ones included
    pub calls: u64,
    /// calls repeated because the guest asked for it
    pub retries: u64,
    /// rows passed to guests, once for each call
    pub rows_in: u64,
    /// rows accepted from guests; for filters the rows kept
    pub rows_out: u64,
    /// time spent in calls (crossing the boundary and in the guest; not checking the answer)
    pub busy: Duration,
    /// instances made
    pub instances: u64,
    /// calls that trapped for other reasons than the next two
    pub traps: u64,
    /// calls that overran their deadline
    pub deadlines: u64,
    /// calls that failed because they wanted more memory than allowed
    pub memory_denials: u64,
    /// answers that broke the contract
    pub contract_breaches: u64,
    /// log lines written
    pub log_lines: u64,
    /// log lines dropped because there were too many
    pub log_lines_dropped: u64,
    /// calls of `counter` and `gauge` dropped because of their name (too long, or too many names)
    pub names_dropped: u64,
    /// the guests' own counters
    pub counters: BTreeMap<String, u64>,
    /// the guests' own gauges
    pub gauges: BTreeMap<String, f64>,
}

impl GuestMetrics {
    /// All zero.
    pub fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            instances: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            deadlines: AtomicU64::new(0),
            memory_denials: AtomicU64::new(0),
            contract_breaches: AtomicU64::new(0),
            log_lines: AtomicU64::new(0),
            log_lines_dropped: AtomicU64::new(0),
            names_dropped: AtomicU64::new(0),
            started: Stopwatch::start(),
            own: Mutex::default(),
            witness: None,
        }
    }

    /// All zero, with someone to keep the calls that fail.
    pub fn watched(witness: Witness) -> Self {
        Self { witness: Some(witness), ..Self::new() }
    }

    /// All zero, for guests that write no log.
    pub(super) fn silent() -> Self {
        Self { log_lines: AtomicU64::new(u64::MAX), ..Self::new() }
    }

    /// Who keeps calls that fail.
    pub fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    /// The current values. Not one instant: each value is read for itself.
    pub fn counts(&self) -> GuestCounts {
        let OwnMetrics { counters, gauges } = self.own().clone();
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        GuestCounts {
            calls: read(&self.calls),
            retries: read(&self.retries),
            rows_in: read(&self.rows_in),
            rows_out: read(&self.rows_out),
            busy: Duration::from_nanos(read(&self.busy_ns)),
            instances: read(&self.instances),
            traps: read(&self.traps),
            deadlines: read(&self.deadlines),
            memory_denials: read(&self.memory_denials),
            contract_breaches: read(&self.contract_breaches),
            log_lines: read(&self.log_lines),
            log_lines_dropped: read(&self.log_lines_dropped),
            names_dropped: read(&self.names_dropped),
            counters,
            gauges,
        }
    }

    pub(super) fn add(value: &AtomicU64, delta: u64) {
        value.fetch_add(delta, Ordering::Relaxed);
    }

    /// `host.counter`
    pub(super) fn count(&self, name: &str, delta: u64) {
        let counters = &mut self.own().counters;
        if let Some(value) = counters.get_mut(name) {
            *value = value.saturating_add(delta);
        } else if is_room_for(name, counters.len()) {
            counters.insert(name.to_owned(), delta);
        } else {
            Self::add(&self.names_dropped, 1);
        }
    }

    /// `host.gauge`
    pub(super) fn gauge(&self, name: &str, value: f64) {
        let gauges = &mut self.own().gauges;
        if let Some(current) = gauges.get_mut(name) {
            *current = value;
        } else if is_room_for(name, gauges.len()) {
            gauges.insert(name.to_owned(), value);
        } else {
            Self::add(&self.names_dropped, 1);
        }
    }

    /// Whether one more log line may be written now; counts it either way.
    pub(super) fn admit_log_line(&self) -> bool {
        let allowed = LOG_LINES_BURST + self.started.elapsed().as_secs().saturating_mul(LOG_LINES_PER_SECOND);
        let admitted = self
            .log_lines
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lines| (lines < allowed).then_some(lines + 1))
            .is_ok();
        if !admitted {
            Self::add(&self.log_lines_dropped, 1);
        }
        admitted
    }

    fn own(&self) -> MutexGuard<'_, OwnMetrics> {
        // each change is one insertion or assignment: nothing is ever half done
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for GuestMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn is_room_for(name: &str, names: usize) -> bool {
    name.len() <= limits::GUEST_METRIC_NAME_BYTES && names < limits::GUEST_METRIC_NAMES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bounds_are_dropped_and_counted() {
        let metrics = GuestMetrics::new();
        for i in 0..70 {
            metrics.count(&format!("n{i}"), 1);
        }
        metrics.count("n0", 2);
        metrics.gauge(&"g".repeat(65), 1.0);
        metrics.gauge("g", 1.0);
        metrics.gauge("g", 2.0);
        let counts = metrics.counts();
        assert_eq!((counts.counters.len(), counts.counters["n0"]), (64, 3));
        assert_eq!(counts.gauges, BTreeMap::from([("g".to_owned(), 2.0)]));
        assert_eq!(counts.names_dropped, 7);
    }

    #[test]
    fn log_lines_beyond_the_rate_are_dropped_and_counted() {
        let metrics = GuestMetrics::new();
        let admitted = (0..1_000).filter(|_| metrics.admit_log_line()).count() as u64;
        let counts = metrics.counts();
        assert!((LOG_LINES_BURST..LOG_LINES_BURST + 10 * LOG_LINES_PER_SECOND).contains(&admitted));
        assert_eq!((counts.log_lines, counts.log_lines_dropped), (admitted, 1_000 - admitted));
    }
}
