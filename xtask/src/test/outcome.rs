//! What came of each part, and the verdict over all.

use std::time::Duration;

/// How a part ended that is one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// A part of the run: one check, or the tests of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) passed: u64,
    /// names, or reasons where there is only one check
    pub(super) failed: Vec<String>,
    /// names with reasons
    pub(super) skipped: Vec<String>,
    pub(super) took: Duration,
}

impl Part {
    /// A part that is one check.
    pub(super) fn single(name: &str, outcome: Outcome, took: Duration) -> Self {
        let part = Self { name: name.to_owned(), took, ..Self::default() };
        match outcome {
            Outcome::Passed => Self { passed: 1, ..part },
            Outcome::Failed(reason) => Self { failed: vec![reason], ..part },
            Outcome::Skipped(reason) => Self { skipped: vec![reason], ..part },
        }
    }

    /// A part that could not be tried.
    pub(super) fn skipped(name: &str, reason: &str) -> Self {
        Self::single(name, Outcome::Skipped(reason.to_owned()), Duration::ZERO)
    }

    /// Whether nothing failed and something passed.
    pub(super) fn has_passed(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }
}

/// The end of a run.
pub(super) struct Verdict {
    pub(super) table: String,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

/// A line for each part, and below it one for each failure and each skipped test by name.
pub(super) fn verdict(parts: &[Part]) -> Verdict {
    let width = parts.iter().map(|part| part.name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for part in parts {
        let word = match (part.failed.is_empty(), part.skipped.is_empty(), part.passed) {
            (false, ..) => "FAILED",
            (true, false, 0) => "skipped",
            _ => "passed",
        };
        lines.push(format!(
            "{:<width$}  {word:<7}  {:>4} passed {:>3} failed {:>3} skipped  {:>6.1} s",
            part.name,
            part.passed,
            part.failed.len(),
            part.skipped.len(),
            part.took.as_secs_f64()
        ));
        lines.extend(part.failed.iter().map(|name| format!("{:<width$}  failed:  {name}", "")));
        lines.extend(part.skipped.iter().map(|name| format!("{:<width$}  skipped: {name}", "")));
    }
    let count = |of: fn(&Part) -> usize| parts.iter().map(|part| of(part) as u64).sum();
    Verdict {
        table: lines.join("\n"),
        passed: parts.iter().map(|part| part.passed).sum(),
        failed: count(|part| part.failed.len()),
        skipped: count(|part| part.skipped.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_names_what_failed_and_what_was_skipped() {
        let tests = Part {
            name: "millstream".to_owned(),
            passed: 7,
            failed: vec!["window::late".to_owned()],
            skipped: vec!["kafka: no Java".to_owned()],
            took: Duration::from_millis(1_500),
        };
        let parts = [Part::single("format", Outcome::Passed, Duration::ZERO), tests];
        let Verdict { table, passed, failed, skipped } = verdict(&parts);
        assert_eq!((passed, failed, skipped), (8, 1, 1));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "format      passed      1 passed   0 failed   0 skipped     0.0 s");
        assert_eq!(lines[1], "millstream  FAILED      7 passed   1 failed   1 skipped     1.5 s");
        assert_eq!(lines[2].trim(), "failed:  window::late");
        assert_eq!(lines[3].trim(), "skipped: kafka: no Java");
    }
}
