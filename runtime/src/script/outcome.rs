//! What came of a script.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A script was run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// rows that went in
    pub rows: u64,
    /// expectations that held
    pub held: usize,
    /// how long it took
    pub elapsed: Duration,
    /// the first line that did not go as expected; the rest was not run
    pub failure: Option<Failure>,
}

/// A line did not go as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// the line, from 1
    pub line: usize,
    /// what went wrong
    #[serde(flatten)]
    pub what: What,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum What {
    /// a sink got other rows
    Rows(RowsDiffer),
    /// another number of rows was late
    Late {
        /// as the script says
        expected: u64,
        /// as it was
        found: u64,
    },
    /// another number of rows could not be handled
    Dead {
        /// as the script says
        expected: u64,
        /// as it was
        found: u64,
        /// why each of them could not be handled
        reasons: Vec<String>,
    },
    /// a component was refused
    Swap {
        /// why
        reason: String,
    },
    /// the pipeline could not be taken up again from its state
    Restore {
        /// why
        reason: String,
    },
    /// the pipeline stopped, or could not be started
    Stopped {
        /// why
        reason: String,
    },
}

/// What came from a sink is not what was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowsDiffer {
    /// the sink
    pub sink: String,
    /// how many rows the script expects
    pub expected_rows: usize,
    /// how many came
    pub found_rows: usize,
    /// rows that did not come
    pub missing: Vec<Missing>,
    /// rows that nobody expects, as JSON
    pub unexpected: Vec<String>,
}

/// A row that did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// as the script has it
    pub row: String,
    /// the most similar of the unexpected rows
    pub nearest: Option<Nearest>,
}

/// A row that came and is nearly what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// the row, as JSON
    pub row: String,
    /// columns that differ: name, expected, found
    pub differing: Vec<(String, String, String)>,
}

impl Outcome {
    /// Whether everything was as expected.
    pub fn ok(&self) -> bool {
        self.failure.is_none()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// A heading, then the rows one a line: `-` for those that are missing, `+` for those that are too many.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.heading())?;
        match self {
            Self::Rows(differ) => {
                for missing in &differ.missing {
                    write!(f, "\n  - {}", missing.row)?;
                }
                for row in &differ.unexpected {
                    write!(f, "\n  + {row}")?;
                }
                Ok(())
            }
            Self::Dead { reasons, .. } => reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}")),
            _ => Ok(()),
        }
    }
}

impl What {
    /// What went wrong, in one line.
    pub fn heading(&self) -> String {
        match self {
            Self::Rows(RowsDiffer { sink, expected_rows: 0, found_rows, .. }) => {
                format!("sink `{sink}`: expected nothing, {} came", rows(*found_rows as u64))
            }
            Self::Rows(RowsDiffer { sink, expected_rows, found_rows, missing, unexpected }) => format!(
                "sink `{sink}`: expected {}, {found_rows} came: {} missing, {} unexpected",
                rows(*expected_rows as u64),
                missing.len(),
                unexpected.len()
            ),
            Self::Late { expected, found } => format!("expected {}, there were {found}", late(*expected)),
            Self::Dead { expected, found, .. } => format!("expected {}, there were {found}", dead(*expected)),
            Self::Swap { reason } => format!("the swap was refused: {reason}"),
            Self::Restore { reason } => format!("the restore failed: {reason}"),
            Self::Stopped { reason } => format!("the pipeline stopped: {reason}"),
        }
    }
}

fn rows(number: u64) -> String {
    format!("{number} row{}", if number == 1 { "" } else { "s" })
}

fn late(number: u64) -> String {
    format!("{number} late row{}", if number == 1 { "" } else { "s" })
}

fn dead(number: u64) -> String {
    format!("{number} dead row{}", if number == 1 { "" } else { "s" })
}
