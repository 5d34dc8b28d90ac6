//! Who keeps the calls that fail: of each kind of failure the smallest call, once in a while.
//!
//! A witness costs a call that succeeds nothing. Of calls that fail it keeps those that cannot be made smaller: about one
//! row, or with rows that the guest named, and of each class of reason only one within [`CLASS_PAUSE_MS`], so that a flood
//! of bad rows stays as quick as it was. What it has kept waits in memory, at most [`WAITING`] calls, for the task to take.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::Call;
use super::error::{CallError, RowFailure};
use super::settings::Settings;
use super::{Digest, OperatorKind};
use crate::clock::Clock;

/// How long nothing more is kept of a class of failures.
const CLASS_PAUSE_MS: i64 = 10_000;

/// Calls of a step that are kept within that time, whatever their classes.
const AT_ONCE: usize = 8;

/// Calls that wait for a task to take them.
const WAITING: usize = 8;

/// Classes that are remembered.
const CLASSES: usize = 256;

/// Rows of one failure that are looked at: a guest may name all rows of a batch.
pub(super) const ROWS_LOOKED_AT: usize = 16;

/// Bytes of a reason that decide on its class.
const CLASS_BYTES: usize = 160;

/// A call that failed, and all that its outcome depended on.
#[derive(Clone, Debug)]
pub struct FailedCall {
    /// names the failure: unique, and later ones sort after earlier ones
    pub name: String,
    /// when, by the host's clock, ms
    pub at_ms: i64,
    /// the step
    pub step: String,
    /// number of the task within the step
    pub task: u32,
    /// path or name of the component
    pub component: String,
    /// SHA-256 of the component
    pub digest: Digest,
    /// number of its version in its place; 0: nobody counts
    pub version: u64,
    /// it was tried beside the version that ran
    pub candidate: bool,
    /// what it was called as
    pub kind: OperatorKind,
    /// the step's configuration
    pub settings: Settings,
    /// memory that the guest may have
    pub memory_bytes: usize,
    /// time that the call may take
    pub deadline: Duration,
    /// clock and random numbers
    pub world: World,
    /// what it was called with
    pub call: Call,
    /// what came of it
    pub error: CallError,
    /// whether an instance that knows of no call before makes the same of it
    pub fresh: Fresh,
}

/// Clock and random numbers as a guest sees them when a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// what the clock shows, ns
    pub clock_ns: u64,
    /// state of the generator (SplitMix64)
    pub random: u64,
}

/// What an instance that knows of no call before makes of a call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// the same failure
    Same,
    /// something else: the guest remembers calls, which operators must not
    Other(String),
    /// not tried: it would have taken the whole deadline again, or there was no instance left
    Untried,
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::Other(other) => write!(f, "other: {other}"),
            Self::Untried => f.write_str("untried"),
        }
    }
}

/// Decides for all tasks of a step which failures are kept, and gives them names.
#[derive(Debug)]
pub struct Gate {
    clock: Clock,
    /// of candidates that are tried
    candidates: bool,
    /// by class of reason
    admitted: Mutex<BTreeMap<u64, Admitted>>,
}

#[derive(Debug)]
struct Admitted {
    digest: Digest,
    at_ms: i64,
    name: String,
}

impl Gate {
    /// Lets the first failures through.
    pub fn new(clock: Clock) -> Self {
        Self { clock, candidates: false, admitted: Mutex::default() }
    }

    /// The same for the candidates of a step, whose failures are bounded by themselves: those of the version that runs are
    /// kept all the same.
    pub fn of_candidates(clock: Clock) -> Self {
        Self { candidates: true, ..Self::new(clock) }
    }

    /// The name of the failure, if it is to be kept.
    fn admit(&self, step: &str, digest: Digest, error: &CallError, reason: &str) -> Option<(String, i64)> {
        let (class, now_ms) = (class(reason), self.clock.now_ms());
        let mut admitted = self.admitted();
        let recent = |known: &Admitted| now_ms.saturating_sub(known.at_ms) < CLASS_PAUSE_MS;
        if admitted.get(&class).is_some_and(|known| known.digest == digest && recent(known))
            || admitted.values().filter(|known| recent(known)).count() >= AT_ONCE
        {
            return None;
        }
        if admitted.len() >= CLASSES {
            let oldest = admitted.iter().min_by_key(|(_, known)| known.at_ms).map(|(class, _)| *class);
            oldest.and_then(|oldest| admitted.remove(&oldest));
        }
        let step: String = step.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
        let whose = if self.candidates { "candidate-" } else { "" };
        let name = format!("{:013}-{step}-{whose}{}-{:08x}", now_ms.max(0), word(error), class as u32);
        admitted.insert(class, Admitted { digest, at_ms: now_ms, name: name.clone() });
        Some((name, now_ms))
    }

    /// The name of the last failure that was kept for a reason of this class.
    pub fn name_for(&self, reason: &str) -> Option<String> {
        self.admitted().get(&class(reason)).map(|known| known.name.clone())
    }

    /// A failure could not be kept after all: nothing is to name it.
    pub fn withdraw(&self, name: &str) {
        self.admitted().retain(|_, known| known.name != name);
    }

    fn admitted(&self) -> MutexGuard<'_, BTreeMap<u64, Admitted>> {
        // each change is one insertion or removal
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's part.
#[derive(Debug)]
pub struct Witness {
    gate: Arc<Gate>,
    kept: Mutex<Vec<FailedCall>>,
    waiting: AtomicUsize,
}

impl Witness {
    /// With what the tasks of the step have in common.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, kept: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// What all tasks of the step share.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether it watches candidates.
    pub(super) fn is_of_candidates(&self) -> bool {
        self.gate.candidates
    }

    /// Whether there is something to take; a look at one number.
    pub fn waits(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What has been kept since the last time.
    pub fn take(&self) -> Vec<FailedCall> {
        let mut kept = self.kept();
        self.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut *kept)
    }

    /// The name for a failure that is to be kept.
    pub(super) fn admit(&self, step: &str, digest: Digest, error: &CallError, reason: &str) -> Option<(String, i64)> {
        if self.waiting.load(Ordering::Relaxed) >= WAITING {
            return None;
        }
        self.gate.admit(step, digest, error, reason)
    }

    pub(super) fn keep(&self, failed: FailedCall) {
        let mut kept = self.kept();
        kept.push(failed);
        self.waiting.store(kept.len(), Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<FailedCall>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failures among those of a call that may be kept, each with the call it is a failure of and why; no more than
/// [`ROWS_LOOKED_AT`]. None where the call will be made again with fewer rows.
pub(super) fn smallest(error: &CallError, count: usize) -> Vec<(Option<usize>, CallError, String)> {
    match error {
        // not the guest's doing
        CallError::Internal { .. } | CallError::Instance { .. } => Vec::new(),
        CallError::Rows(failures) => {
            let one = |failure: &RowFailure| {
                let alone = RowFailure { row: 0, reason: failure.reason.clone() };
                (Some(failure.row as usize), CallError::Rows(vec![alone]), failure.reason.clone())
            };
            failures.iter().take(ROWS_LOOKED_AT).map(one).collect()
        }
        _ if count > 1 => Vec::new(),
        error => vec![(None, error.clone(), error.to_string())],
    }
}

/// In file names.
fn word(error: &CallError) -> &'static str {
    match error {
        CallError::Rows(_) => "row",
        CallError::Batch(_) => "batch",
        CallError::Trap { .. } => "trap",
        CallError::Deadline { .. } => "deadline",
        CallError::Memory { .. } => "memory",
        CallError::Contract { .. } => "contract",
        CallError::Instance { .. } | CallError::Internal { .. } => "host",
    }
}

/// What reasons have in common that differ only in values: digits, and what stands in quotes, do not count.
fn class(reason: &str) -> u64 {
    let mut words = String::with_capacity(CLASS_BYTES);
    let mut quote = None;
    for c in reason.chars() {
        if words.len() >= CLASS_BYTES {
            break;
        }
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => {
                quote = Some(c);
                words.push(c);
            }
            (None, c) if c.is_ascii_digit() => {
                if !words.ends_with('#') {
                    words.push('#');
                }
            }
            (None, c) => words.push(c),
        }
    }
    Digest::of(words.as_bytes()).as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(reason: &str) -> CallError {
        CallError::Batch(reason.to_owned())
    }

    fn admit(gate: &Gate, version: &[u8], reason: &str) -> Option<String> {
        gate.admit("a step", Digest::of(version), &batch(reason), reason).map(|(name, _)| name)
    }

    #[test]
    fn reasons_that_differ_in_values_are_of_one_class() {
        assert_eq!(class("row 17: no price for \"apple\""), class("row 3: no price for \"pear tree\""));
        assert_eq!(class("no `a`, 1.5"), class("no `b`, 22.75"));
        assert_ne!(class("no price for \"apple\""), class("no name for \"apple\""));
        assert_ne!(class(""), class("x"));
    }

    #[test]
    fn one_failure_of_a_class_and_version_is_kept_at_a_time() {
        let clock = Clock::virtual_at_ms(1_000);
        let gate = Gate::new(clock.clone());
        let first = admit(&gate, b"a", "bad row 1").unwrap();
        assert!(first.starts_with("0000000001000-a-step-batch-"), "{first}");
        assert_eq!(admit(&gate, b"a", "bad row 2"), None);
        assert_eq!(gate.name_for("bad row 3"), Some(first.clone()));
        assert_eq!(gate.name_for("worse row 3"), None);
        assert!(admit(&gate, b"b", "bad row 4").is_some(), "another version");
        clock.set_ms(1_000 + CLASS_PAUSE_MS);
        let later = admit(&gate, b"b", "bad row 5").unwrap();
        assert!(later > first, "later ones sort after earlier ones");
        gate.withdraw(&later);
        assert_eq!(gate.name_for("bad row 5"), None);
    }

    #[test]
    fn many_classes_at_once_are_bounded_in_number_and_in_memory() {
        let clock = Clock::virtual_at_ms(0);
        let gate = Gate::new(clock.clone());
        let reason = |i: u32| "x".repeat(i as usize % 150 + 1);
        assert_eq!((0..100).filter(|i| admit(&gate, b"a", &reason(*i)).is_some()).count(), AT_ONCE);
        for i in 0..2_000_u32 {
            clock.set_ms(i64::from(i + 1) * CLASS_PAUSE_MS);
            assert!(
                admit(&gate, &i.to_le_bytes(), &format!("{}{}", reason(i), "y".repeat((i / 150) as usize))).is_some()
            );
        }
        assert!(gate.admitted().len() <= CLASSES);
    }

    #[test]
    fn calls_that_will_be_split_are_not_kept() {
        assert!(smallest(&batch("x"), 2).is_empty());
        assert_eq!(smallest(&batch("x"), 1).len(), 1);
        let named = (0..100).map(|row| RowFailure { row, reason: "no".into() }).collect();
        assert_eq!(smallest(&CallError::Rows(named), 200).len(), ROWS_LOOKED_AT);
        assert!(smallest(&CallError::Internal { reason: "x".into() }, 1).is_empty());
    }
}
