//! Mistakes as they are found: all of a file are collected, then reported together.

use crate::error::{Diagnostic, Span, near_match};

/// The stable names of what can be wrong with a pipeline as written. `docs/pipeline.md` explains each.
pub mod code {
    /// the text is not TOML (or JSON)
    pub const SYNTAX: &str = "syntax";
    /// the file cannot be read
    pub const UNREADABLE: &str = "unreadable";
    /// a key that nobody reads
    pub const UNKNOWN_KEY: &str = "unknown_key";
    /// a key that has to be there
    pub const MISSING_KEY: &str = "missing_key";
    /// the same key twice (JSON; in TOML this is a syntax error)
    pub const DUPLICATE_KEY: &str = "duplicate_key";
    /// text where a number belongs and the like
    pub const WRONG_TYPE: &str = "wrong_type";
    /// a word that is not among the possible ones
    pub const UNKNOWN_VALUE: &str = "unknown_value";
    /// right type, impossible value
    pub const BAD_VALUE: &str = "bad_value";
    /// a name with characters that names may not have
    pub const BAD_NAME: &str = "bad_name";
    /// two things of the same name
    pub const DUPLICATE_NAME: &str = "duplicate_name";
    /// two columns of the same name
    pub const DUPLICATE_COLUMN: &str = "duplicate_column";
    /// not a duration, or one that does not fit the key
    pub const BAD_DURATION: &str = "bad_duration";
    /// not a number of bytes
    pub const BAD_SIZE: &str = "bad_size";
    /// not `function(column)` and no component
    pub const BAD_AGGREGATE: &str = "bad_aggregate";
    /// a source or sink without a place, a step without an operation
    pub const NO_KIND: &str = "no_kind";
    /// a source or sink with several places, a step with several operations
    pub const SEVERAL_KINDS: &str = "several_kinds";
    /// two keys that exclude each other
    pub const CONFLICT: &str = "conflict";
    /// known, but not in this version
    pub const NOT_AVAILABLE: &str = "not_available";
    /// `from` names nothing that exists
    pub const UNKNOWN_INPUT: &str = "unknown_input";
    /// `from` names a sink
    pub const SINK_AS_INPUT: &str = "sink_as_input";
    /// steps feed each other in a circle
    pub const CYCLE: &str = "cycle";
    /// a source or step whose rows nobody takes
    pub const UNUSED: &str = "unused";
    /// no source at all
    pub const NO_SOURCE: &str = "no_source";
    /// no sink at all
    pub const NO_SINK: &str = "no_sink";

    /// a component's file that is not there
    pub const MISSING_COMPONENT: &str = "missing_component";
    /// a file that is no component of this runtime's contract
    pub const BAD_COMPONENT: &str = "bad_component";
    /// a component of another kind than the step needs
    pub const WRONG_OPERATOR: &str = "wrong_operator";
    /// a component refuses its `config`
    pub const BAD_CONFIG: &str = "bad_config";
    /// a column that the stream does not have
    pub const MISSING_COLUMN: &str = "missing_column";
    /// a column with nulls where none are accepted
    pub const NULLABLE: &str = "nullable";
    /// a source whose columns nobody says
    pub const SCHEMA_NEEDED: &str = "schema_needed";
    /// a window over rows without event time
    pub const NO_EVENT_TIME: &str = "no_event_time";
    /// `from` unites streams with different columns
    pub const UNION_MISMATCH: &str = "union_mismatch";

    /// All of them.
    pub const ALL: [&str; 33] = [
        SYNTAX,
        UNREADABLE,
        UNKNOWN_KEY,
        MISSING_KEY,
        DUPLICATE_KEY,
        WRONG_TYPE,
        UNKNOWN_VALUE,
        BAD_VALUE,
        BAD_NAME,
        DUPLICATE_NAME,
        DUPLICATE_COLUMN,
        BAD_DURATION,
        BAD_SIZE,
        BAD_AGGREGATE,
        NO_KIND,
        SEVERAL_KINDS,
        CONFLICT,
        NOT_AVAILABLE,
        UNKNOWN_INPUT,
        SINK_AS_INPUT,
        CYCLE,
        UNUSED,
        NO_SOURCE,
        NO_SINK,
        MISSING_COMPONENT,
        BAD_COMPONENT,
        WRONG_OPERATOR,
        BAD_CONFIG,
        MISSING_COLUMN,
        NULLABLE,
        SCHEMA_NEEDED,
        NO_EVENT_TIME,
        UNION_MISMATCH,
    ];
}

/// Characters of a user's text that a message repeats; a hostile file must not make endless messages.
const QUOTED_CHARS_MAX: usize = 80;

/// Names that a help lists.
const LISTED_NAMES_MAX: usize = 24;

/// Shorter words are near to everything.
const NEAR_CHARS_MIN: usize = 3;

/// Above this many candidates, or this many bytes, no near match is sought: it costs the product of both.
const NEAR_CANDIDATES_MAX: usize = 256;
const NEAR_BYTES_MAX: usize = 128;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Diagnostic>,
}

impl Problems {
    /// Notes a mistake. An empty `help` is none.
    pub(super) fn add(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into()).filter(|help| !help.is_empty());
        self.found.push(Diagnostic { code, message: message.into(), span, label: label.into(), help });
    }

    /// All that is wrong, in file order.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.span.start);
        self.found
    }
}

/// A user's text as messages repeat it: in backquotes, on one line, cut when long.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        quoted.push_str("..");
    }
    // escapes are for line breaks and control characters; quotes are harmless between backquotes
    format!("`{}`", quoted.replace("\\\"", "\"").replace("\\'", "'"))
}

/// ``did you mean `x`? `` when something known is near, then the list under `heading`.
pub(super) fn alternatives(heading: &str, found: &str, known: &[&str]) -> String {
    let list = listed(known);
    match nearest(found, known) {
        Some(near) => format!("did you mean `{near}`? {heading}: {list}"),
        None => format!("{heading}: {list}"),
    }
}

/// The nearest of `known`, unless looking for it would be too costly.
pub(super) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    if found.chars().count() < NEAR_CHARS_MIN || found.len() > NEAR_BYTES_MAX || known.len() > NEAR_CANDIDATES_MAX {
        return None;
    }
    near_match(found, known.iter().copied().filter(|name| name.len() <= NEAR_BYTES_MAX))
}

/// `a, b, c`, cut when there are many.
pub(super) fn listed(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(LISTED_NAMES_MAX).collect();
    let rest = names.len() - shown.len();
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}
