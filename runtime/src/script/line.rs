//! A script as written: one action a line, nothing checked against a pipeline yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{PipelineError, Span};

/// A script, read from a file of JSON lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// the file it came from, for messages
    pub path: PathBuf,
    /// its text
    pub text: Arc<str>,
    /// what it does, in order
    pub lines: Vec<Line>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// from 1
    pub number: usize,
    /// its place in the text, without the spaces round it
    pub span: Span,
    /// what it does
    pub action: Action,
}

/// What a line does. Sources and sinks may be left out where a pipeline has only one.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// a row comes in
    Row {
        /// its columns
        row: Map<String, Value>,
        /// its event time, ms; that of the source's `event_time` column if none is given
        time: Option<i64>,
        /// where
        source: Option<String>,
    },
    /// event time has advanced
    Watermark {
        /// to here, ms
        time: i64,
        /// where; all sources if none is named
        source: Option<String>,
    },
    /// a source sends nothing for now
    Idle {
        /// which
        source: Option<String>,
    },
    /// a source sends again
    Active {
        /// which
        source: Option<String>,
    },
    /// all state is put away, everything is dropped, and a new run goes on from the state
    Restore {
        /// tasks of each source and step that does not fix its own; as before if none is given
        parallelism: Option<usize>,
    },
    /// components change, all at one cut
    Swap(Vec<SwapLine>),
    /// the host's clock comes to here (ms)
    ProcessingTime(i64),
    /// all input ends: all windows fire
    End,
    /// the rows that a sink got since it was asked last, in any order; only the columns named here count
    Expect {
        /// the rows, each with the columns that are to be compared
        rows: Vec<Map<String, Value>>,
        /// which sink
        sink: Option<String>,
    },
    /// how many rows were late since the last such line
    ExpectLate(u64),
    /// how many rows were dead letters since the last such line
    ExpectDead(u64),
}

/// A component that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapLine {
    /// the step, or `step.entry` where it has several components
    pub step: String,
    /// the file, relative to the script or to the pipeline
    pub component: String,
}

impl Script {
    /// Reads a script from a file.
    ///
    /// # Errors
    /// All lines that are wrong, with their places.
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        super::read::file(path)
    }

    /// Reads a script from text; `path` is for messages and for the paths of components.
    ///
    /// # Errors
    /// All lines that are wrong, with their places.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PipelineError> {
        super::read::text(path, text)
    }
}
