//! What users see when something is refused: what, where, expected, got, and the next step.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A piece of a pipeline file, as byte offsets. Empty for what was built through the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// first byte
    pub start: usize,
    /// one past the last byte
    pub end: usize,
}

/// A value and where it was written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// the value
    pub value: T,
    /// its place in the file
    pub span: Span,
}

/// The value alone: what is written twice is the same in two places.
impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Spanned<T> {
    /// A value that stands at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> From<T> for Spanned<T> {
    fn from(value: T) -> Self {
        Self { value, span: Span::default() }
    }
}

/// One thing wrong in a pipeline, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// stable name of the kind of mistake, like `unknown_key`
    pub code: &'static str,
    /// lowercase fragment that names the value: ``unknown key `parallelsm` in step `counts` ``
    pub message: String,
    /// where
    pub span: Span,
    /// what to write at that place, in few words: ``expected an integer, found text``
    pub label: String,
    /// the next step: near matches, the alternatives, a command
    pub help: Option<String>,
}

/// A pipeline was refused. Holds at least one diagnostic; nothing was started.
#[derive(Clone, Debug)]
pub struct PipelineError {
    /// the file, or a name such as `<builder>`
    pub path: PathBuf,
    /// its text, for printing the place; empty for built pipelines
    pub text: Arc<str>,
    /// all that is wrong, in file order
    pub diagnostics: Vec<Diagnostic>,
}

/// Line and column (both from 1, columns in characters) of a byte offset.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

impl fmt::Display for PipelineError {
    /// `path:line:column: message (label); help` a line for each diagnostic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.path.display())?;
            if !self.text.is_empty() {
                let (line, column) = line_column(&self.text, diagnostic.span.start);
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", diagnostic.message)?;
            if !diagnostic.label.is_empty() {
                write!(f, " ({})", diagnostic.label)?;
            }
            if let Some(help) = &diagnostic.help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for PipelineError {}

/// The closest of `known` to `found`, if it is close enough to be what was meant.
pub fn near_match<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count().max(found.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
