//! How a candidate is to be tried, as it is asked for: read and checked before anything is touched. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, BudgetError};
use crate::pipeline::duration::{DurationError, parse_ns};

/// How a candidate is to be tried, as written: one of `shadow`, `canary` and `watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrialRequest {
    /// beside the running version for so long, such as `30s`; its output is compared and dropped
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// in the place of the running version for so much of the keys, such as `10%`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// in the place of the running version, and watched for so long
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<String>,
    /// the columns whose values say which rows of a step without keys are the canary's; all columns if there are none
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// what takes it back, such as `traps>0,p99>2x,diff>0.1%`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_on: Option<String>,
}

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialSpec {
    /// where its rows come from and go to
    pub mode: Mode,
    /// columns that divide the rows of steps without keys
    pub by: Vec<String>,
    /// what takes it back
    pub budgets: Vec<Budget>,
}

/// Where a candidate's rows come from and go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// it gets all rows, and its output is compared and dropped
    Shadow {
        /// until then; none: until it is ended
        during: Option<Duration>,
    },
    /// it gets a share of the keys, and its output goes on
    Canary {
        /// of the key groups
        percent: f64,
    },
    /// it has taken the place of the running version
    Watch {
        /// until then
        during: Duration,
    },
}

/// A trial that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialSpecError {
    /// none or several ways
    #[error("expected one of shadow, canary and watch, got {found}")]
    Mode {
        /// what was asked for
        found: String,
    },
    /// no duration
    #[error("{name} = `{found}`: {source}; expected a duration such as `30s` or `5m`")]
    Duration {
        /// which
        name: &'static str,
        /// what stands there
        found: String,
        /// why
        #[source]
        source: DurationError,
    },
    /// no time at all
    #[error("{name} = `{found}`: there is nothing to be seen in no time; expected a duration such as `30s`")]
    NoTime {
        /// which
        name: &'static str,
        /// what stands there
        found: String,
    },
    /// no share
    #[error("canary = `{found}`: expected a share above 0% and below 100%, such as `10%`")]
    Share {
        /// what stands there
        found: String,
    },
    /// columns for what has no use for them
    #[error("`by` says which rows are a canary's; this is no canary")]
    By,
    /// no budgets
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

impl TrialRequest {
    /// Whether a plain swap is meant.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is asked for.
    pub fn read(&self) -> Result<TrialSpec, TrialSpecError> {
        let mode = match (&self.shadow, &self.canary, &self.watch) {
            (Some(text), None, None) => Mode::Shadow { during: Some(duration("shadow", text)?) },
            (None, Some(text), None) => Mode::Canary { percent: percent(text)? },
            (None, None, Some(text)) => Mode::Watch { during: duration("watch", text)? },
            asked => return Err(TrialSpecError::Mode { found: named(asked) }),
        };
        if !self.by.is_empty() && !matches!(mode, Mode::Canary { .. }) {
            return Err(TrialSpecError::By);
        }
        let budgets = self.rollback_on.as_deref().map(Budget::parse_all).transpose()?.unwrap_or_default();
        for budget in &budgets {
            if let Some(reason) = not_measured(budget, &mode) {
                return Err(BudgetError::NotMeasured { budget: budget.to_string(), reason }.into());
            }
        }
        Ok(TrialSpec { mode, by: self.by.clone(), budgets })
    }
}

fn named((shadow, canary, watch): (&Option<String>, &Option<String>, &Option<String>)) -> String {
    let asked = [("shadow", shadow), ("canary", canary), ("watch", watch)];
    let asked: Vec<&str> = asked.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| *name).collect();
    if asked.is_empty() { "none of them".to_owned() } else { asked.join(" and ") }
}

fn not_measured(budget: &Budget, mode: &Mode) -> Option<&'static str> {
    match (budget, mode) {
        (Budget::Diff(_), Mode::Canary { .. }) => Some("no row of a canary goes to both versions; use shadow"),
        (Budget::Diff(_), Mode::Watch { .. }) => Some("behind a swap there is one version only; use shadow"),
        _ => None,
    }
}

fn duration(name: &'static str, text: &str) -> Result<Duration, TrialSpecError> {
    let ns =
        parse_ns(text.trim()).map_err(|source| TrialSpecError::Duration { name, found: text.to_owned(), source })?;
    if ns == 0 {
        return Err(TrialSpecError::NoTime { name, found: text.to_owned() });
    }
    Ok(Duration::from_nanos(ns))
}

fn percent(text: &str) -> Result<f64, TrialSpecError> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let within = number.filter(|percent| *percent > 0.0 && *percent < 100.0);
    within.ok_or_else(|| TrialSpecError::Share { found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(shadow: &str, canary: &str, watch: &str, rollback_on: &str) -> TrialRequest {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (shadow, canary, watch) = (text(shadow), text(canary), text(watch));
        TrialRequest { shadow, canary, watch, by: Vec::new(), rollback_on: text(rollback_on) }
    }

    #[test]
    fn a_trial_is_read_as_it_is_asked_for() {
        let shadow = request("1m30s", "", "", "diff>1%").read().unwrap();
        assert_eq!(shadow.mode, Mode::Shadow { during: Some(Duration::from_secs(90)) });
        assert_eq!(shadow.budgets, [Budget::Diff(1.0)]);
        assert_eq!(request("", "2.5%", "", "").read().unwrap().mode, Mode::Canary { percent: 2.5 });
        let watch = request("", "", "5s", "traps>0").read().unwrap();
        assert_eq!(watch.mode, Mode::Watch { during: Duration::from_secs(5) });
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_with_what_can() {
        for (request, message) in [
            (request("", "", "", "traps>0"), "expected one of shadow, canary and watch, got none of them"),
            (request("1s", "10%", "", ""), "expected one of shadow, canary and watch, got shadow and canary"),
            (request("30", "", "", ""), "shadow = `30`: `30` has no unit; expected a duration such as `30s` or `5m`"),
            (request("", "", "0s", ""), "watch = `0s`: there is nothing to be seen in no time"),
            (request("", "10", "", ""), "canary = `10`: expected a share above 0% and below 100%, such as `10%`"),
            (request("", "0%", "", ""), "canary = `0%`: expected a share"),
            (request("", "100%", "", ""), "canary = `100%`: expected a share"),
            (request("", "NaN%", "", ""), "canary = `NaN%`: expected a share"),
            (
                request("", "10%", "", "diff>1%"),
                "`diff>1%` cannot be judged here: no row of a canary goes to both versions; use shadow",
            ),
            (request("", "", "1s", "diff>1%"), "`diff>1%` cannot be judged here: behind a swap"),
            (request("1s", "", "", "p98>1x"), "`p98>1x` is no budget"),
            (TrialRequest { by: vec!["k".into()], ..request("1s", "", "", "") }, "`by` says which rows"),
        ] {
            let error = request.read().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
