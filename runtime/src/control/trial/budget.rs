//! What a candidate may cost before it is taken back: read from `traps>0,p99>2x,diff>0.1%`, judged against figures. Pure.

use std::fmt;

use serde::Serialize;

/// Rows of each version before its cost is judged.
const COST_ROWS: u64 = 1_000;

/// Calls of each version before its cost is judged.
const COST_CALLS: u64 = 20;

/// Rows compared before their difference is judged while a trial runs.
const DIFF_ROWS: u64 = 1_000;

/// One bound on a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// `traps>N`: calls that trapped, overran their deadline, wanted too much memory or broke the contract
    Traps(u64),
    /// `dead>N`: rows that it could not handle
    Dead(u64),
    /// `p99>Fx`: what 99 of 100 rows cost at most, as a multiple of the running version's
    P99(f64),
    /// `diff>P%`: rows that differ, of those compared
    Diff(f64),
}

/// A text is no budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// no such figure
    #[error(
        "`{found}` is no budget; there are `traps>0`, `dead>10`, `p99>2x` and `diff>0.1%`, with commas between them"
    )]
    Unknown {
        /// what stands there
        found: String,
    },
    /// not the number that the figure takes
    #[error("`{found}`: expected {expected} behind `{name}>`, such as `{example}`")]
    Number {
        /// the budget as written
        found: String,
        /// the figure
        name: &'static str,
        /// what should stand there
        expected: &'static str,
        /// how it looks
        example: &'static str,
    },
    /// the same figure twice
    #[error("`{name}` has two budgets; name it once")]
    Twice {
        /// the figure
        name: &'static str,
    },
    /// a figure that this trial does not have
    #[error("`{budget}` cannot be judged here: {reason}")]
    NotMeasured {
        /// the budget
        budget: String,
        /// why
        reason: &'static str,
    },
}

/// What budgets are judged by: both versions over the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// calls of the candidate that trapped
    pub traps: u64,
    /// rows that the candidate could not handle
    pub dead: u64,
    /// rows compared
    pub compared: u64,
    /// of these differ
    pub differing: u64,
    /// cost of the running version
    pub running: CostFacts,
    /// cost of the candidate
    pub candidate: CostFacts,
}

/// Cost of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostFacts {
    /// rows handled
    pub rows: u64,
    /// in so many calls
    pub calls: u64,
    /// what 99 of 100 of them cost at most, ns
    pub p99_ns: Option<f64>,
}

/// A budget that is used up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// as written
    pub budget: String,
    /// what was measured, for people
    pub measured: String,
}

impl Budget {
    /// Reads budgets with commas between them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, BudgetError> {
        let mut budgets: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let budget = Self::parse(part.trim())?;
            if budgets.iter().any(|other| other.name() == budget.name()) {
                return Err(BudgetError::Twice { name: budget.name() });
            }
            budgets.push(budget);
        }
        Ok(budgets)
    }

    fn parse(text: &str) -> Result<Self, BudgetError> {
        let unknown = || BudgetError::Unknown { found: text.to_owned() };
        let (name, number) = text.split_once('>').ok_or_else(unknown)?;
        let (name, number) = (name.trim(), number.trim());
        let wrong = |name, expected, example| BudgetError::Number { found: text.to_owned(), name, expected, example };
        let count = |name, example| number.parse().map_err(|_| wrong(name, "a whole number", example));
        let real = |unit: &str| {
            let number = number.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
            Some(number).filter(|number| number.is_finite() && *number >= 0.0)
        };
        match name {
            "traps" => count("traps", "traps>0").map(Self::Traps),
            "dead" => count("dead", "dead>10").map(Self::Dead),
            "p99" => real("x")
                .filter(|times| *times > 0.0)
                .map(Self::P99)
                .ok_or_else(|| wrong("p99", "a multiple of the running version's", "p99>2x")),
            "diff" => real("%")
                .filter(|percent| *percent <= 100.0)
                .map(Self::Diff)
                .ok_or_else(|| wrong("diff", "a share from 0 to 100 percent", "diff>0.1%")),
            _ => Err(unknown()),
        }
    }

    /// The figure's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traps(_) => "traps",
            Self::Dead(_) => "dead",
            Self::P99(_) => "p99",
            Self::Diff(_) => "diff",
        }
    }

    /// What was measured, where it is over the budget. `is_over`: no more facts will come, so few must do.
    pub fn breach(&self, facts: &Facts, is_over: bool) -> Option<Breach> {
        let measured = match *self {
            Self::Traps(most) if facts.traps > most => format!("{} calls trapped", facts.traps),
            Self::Dead(most) if facts.dead > most => format!("{} rows could not be handled", facts.dead),
            Self::P99(times) => p99(times, &facts.running, &facts.candidate)?,
            Self::Diff(percent) => {
                let enough = facts.compared >= if is_over { 1 } else { DIFF_ROWS };
                let found = share(facts.differing, facts.compared);
                if !enough || found <= percent {
                    return None;
                }
                format!("{} of {} rows differ, {found:.3}%", facts.differing, facts.compared)
            }
            Self::Traps(_) | Self::Dead(_) => return None,
        };
        Some(Breach { budget: self.to_string(), measured })
    }
}

fn p99(times: f64, running: &CostFacts, candidate: &CostFacts) -> Option<String> {
    if [running, candidate].iter().any(|side| side.rows < COST_ROWS || side.calls < COST_CALLS) {
        return None;
    }
    let (before, now) = (running.p99_ns?, candidate.p99_ns?);
    let found = now / before.max(1e-3);
    (found > times).then(|| {
        format!("99 of 100 rows cost up to {now:.0} ns, {found:.1} times the {before:.0} ns of the running version")
    })
}

/// A part in percent; nothing of nothing is 0.
#[allow(clippy::cast_precision_loss)] // shown to people, compared with bounds given in percent
pub(super) fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 * 100.0 }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Traps(most) => write!(f, "traps>{most}"),
            Self::Dead(most) => write!(f, "dead>{most}"),
            Self::P99(times) => write!(f, "p99>{times}x"),
            Self::Diff(percent) => write!(f, "diff>{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_as_they_are_written() {
        let all = Budget::parse_all("traps>0,dead>10, p99>2x ,diff>0.1%").unwrap();
        assert_eq!(all, [Budget::Traps(0), Budget::Dead(10), Budget::P99(2.0), Budget::Diff(0.1)]);
        let text: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(text.join(","), "traps>0,dead>10,p99>2x,diff>0.1%");
    }

    #[test]
    fn what_is_no_budget_is_told_with_what_should_stand_there() {
        for (text, message) in [
            ("", "`` is no budget; there are `traps>0`, `dead>10`, `p99>2x` and `diff>0.1%`, with commas between them"),
            ("traps", "`traps` is no budget; there are"),
            ("errors>0", "`errors>0` is no budget; there are"),
            ("traps>0,", "`` is no budget; there are"),
            ("traps>-1", "`traps>-1`: expected a whole number behind `traps>`, such as `traps>0`"),
            ("dead>1%", "`dead>1%`: expected a whole number behind `dead>`, such as `dead>10`"),
            ("p99>2", "`p99>2`: expected a multiple of the running version's behind `p99>`, such as `p99>2x`"),
            ("p99>0x", "`p99>0x`: expected a multiple"),
            ("p99>infx", "`p99>infx`: expected a multiple"),
            ("diff>1", "`diff>1`: expected a share from 0 to 100 percent behind `diff>`, such as `diff>0.1%`"),
            ("diff>101%", "`diff>101%`: expected a share"),
            ("diff>NaN%", "`diff>NaN%`: expected a share"),
            ("traps>0,traps>1", "`traps` has two budgets; name it once"),
        ] {
            let error = Budget::parse_all(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    fn cost(calls: u64, p99_ns: f64) -> CostFacts {
        CostFacts { rows: calls * 1_000, calls, p99_ns: Some(p99_ns) }
    }

    #[test]
    fn a_budget_is_used_up_by_more_than_it_says() {
        let facts = Facts {
            traps: 1,
            dead: 10,
            compared: 10_000,
            differing: 10,
            running: cost(100, 50.0),
            candidate: cost(100, 125.0),
        };
        let measured = |budget: Budget| budget.breach(&facts, false).map(|breach| breach.measured);
        for (budget, expected) in [
            (Budget::Traps(0), Some("1 calls trapped")),
            (Budget::Traps(1), None),
            (Budget::Dead(9), Some("10 rows could not be handled")),
            (Budget::Dead(10), None),
            (Budget::P99(2.0), Some("99 of 100 rows cost up to 125 ns, 2.5 times the 50 ns of the running version")),
            (Budget::P99(2.5), None),
            (Budget::Diff(0.05), Some("10 of 10000 rows differ, 0.100%")),
            (Budget::Diff(0.1), None),
        ] {
            assert_eq!(measured(budget).as_deref(), expected, "{budget}");
        }
    }

    #[test]
    fn rates_wait_for_enough_rows_and_counts_do_not() {
        let few = Facts {
            traps: 1,
            compared: 10,
            differing: 10,
            running: cost(19, 1.0),
            candidate: cost(19, 100.0),
            ..Facts::default()
        };
        assert!(Budget::Traps(0).breach(&few, false).is_some());
        assert!(Budget::Diff(1.0).breach(&few, false).is_none());
        assert!(Budget::Diff(1.0).breach(&few, true).is_some(), "at the end few rows must do");
        assert!(Budget::P99(2.0).breach(&few, true).is_none());
        let enough = Facts { running: cost(20, 1.0), candidate: cost(20, 100.0), ..few };
        assert!(Budget::P99(2.0).breach(&enough, false).is_some());
        assert!(Budget::Diff(0.0).breach(&Facts::default(), true).is_none(), "nothing compared differs in nothing");
    }

    #[test]
    fn the_cost_of_neither_version_is_judged_by_few_rows_or_few_calls() {
        let side = |rows, calls, p99_ns| CostFacts { rows, calls, p99_ns };
        let (cheap, dear) = (Some(1.0), Some(100.0));
        // rows, calls and cost of the running version and of the candidate; whether it is judged
        let table = [
            ((1_000, 20, cheap), (1_000, 20, dear), true),
            ((999, 20, cheap), (1_000, 20, dear), false),
            ((1_000, 20, cheap), (999, 20, dear), false),
            ((1_000, 19, cheap), (1_000, 20, dear), false),
            ((1_000, 20, cheap), (1_000, 19, dear), false),
            // many rows in few calls, and the other way round
            ((1_000_000, 19, cheap), (1_000_000, 19, dear), false),
            ((999, 999, cheap), (999, 999, dear), false),
            ((1_000, 20, None), (1_000, 20, dear), false),
            ((1_000, 20, cheap), (1_000, 20, None), false),
            // a running version that costs nothing is not divided by
            ((1_000, 20, Some(0.0)), (1_000, 20, dear), true),
        ];
        for (running, candidate, is_judged) in table {
            let of = |(rows, calls, p99_ns)| side(rows, calls, p99_ns);
            let facts = Facts { running: of(running), candidate: of(candidate), ..Facts::default() };
            for is_over in [false, true] {
                let breach = Budget::P99(2.0).breach(&facts, is_over);
                assert_eq!(breach.is_some(), is_judged, "{running:?} {candidate:?}: {breach:?}");
            }
        }
    }

    #[test]
    fn the_share_that_differs_is_of_the_rows_compared() {
        let breach = |compared, differing, percent, is_over| {
            let facts = Facts { compared, differing, ..Facts::default() };
            Budget::Diff(percent).breach(&facts, is_over).map(|breach| (breach.budget, breach.measured))
        };
        assert_eq!(breach(1_000, 1, 0.1, false), None, "as much as it may");
        let over = Some(("diff>0.1%".to_owned(), "2 of 1000 rows differ, 0.200%".to_owned()));
        assert_eq!(breach(1_000, 2, 0.1, false), over);
        assert_eq!(breach(999, 999, 0.1, false), None, "too few so far");
        assert!(breach(999, 2, 0.1, true).is_some(), "no more will come");
        assert_eq!(breach(2_000, 2, 0.1, true), None);
        assert_eq!(breach(1_000, 1_000, 100.0, true), None, "all of them may");
        assert!(breach(1_000, 1, 0.0, false).is_some(), "none may");
        assert_eq!((share(1, 0), share(0, 5), share(1, 4), share(4, 4)), (0.0, 0.0, 25.0, 100.0));
    }
}
