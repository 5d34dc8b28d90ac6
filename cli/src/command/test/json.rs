//! The report for machines: a line a script, then one for all.

use std::time::Duration;

use millstream::script::{Failure, Outcome, Script};
use serde::Serialize;

/// What came of a script.
#[derive(Serialize)]
pub(super) struct ScriptLine<'a> {
    event: &'static str,
    script: String,
    ok: bool,
    rows: u64,
    /// expectations that held
    held: usize,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureLine<'a>>,
}

#[derive(Serialize)]
struct FailureLine<'a> {
    message: String,
    #[serde(flatten)]
    failure: &'a Failure,
}

/// What came of all scripts.
#[derive(Serialize)]
pub(super) struct Summary {
    event: &'static str,
    ok: bool,
    scripts: usize,
    failed: usize,
    ms: f64,
}

impl<'a> ScriptLine<'a> {
    pub(super) fn of(script: &Script, outcome: &'a Outcome) -> Self {
        let failure = outcome.failure.as_ref();
        Self {
            event: "script",
            script: script.path.display().to_string(),
            ok: outcome.ok(),
            rows: outcome.rows,
            held: outcome.held,
            ms: milliseconds(outcome.elapsed),
            failure: failure.map(|failure| FailureLine { message: failure.what.heading(), failure }),
        }
    }
}

impl Summary {
    pub(super) fn of(scripts: usize, failed: usize, ms: f64) -> Self {
        Self { event: "summary", ok: failed == 0, scripts, failed, ms }
    }
}

/// To the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
