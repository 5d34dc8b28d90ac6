//! How failures are shown: a pipeline's mistakes with their places in the file, the rest as one line; as JSON lines
//! where a machine reads.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use millstream::error::{Diagnostic, PipelineError, line_column};
use serde::Serialize;

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;

/// Shows `failure` and says how to exit.
pub(crate) fn failure(failure: &Failure, json: bool) -> Exit {
    match failure {
        Failure::Pipeline(error) => pipeline(error, json, Stream::Stderr),
        Failure::Scripts(errors) => errors.iter().for_each(|error| script(error, json)),
        failure if json => {
            console::say(json_line(&ErrorLine { event: "error", code: failure.code(), message: failure.to_string() }));
        }
        failure => console::say(format!("{} {failure}", Stream::Stderr.paint().red("error:"))),
    }
    failure.exit()
}

/// All mistakes of a pipeline, in file order.
pub(crate) fn pipeline(error: &PipelineError, json: bool, stream: Stream) {
    let text = if json { lines(error) } else { graphical(error, "pipeline", stream) };
    match stream {
        Stream::Stdout => console::result(text),
        Stream::Stderr => console::say(text),
    }
}

/// All mistakes of a test script, in file order.
fn script(error: &PipelineError, json: bool) {
    console::say(if json { lines(error) } else { graphical(error, "script", Stream::Stderr) });
}

/// One value as a line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"event\":\"error\",\"message\":\"{error}\"}}"))
}

#[derive(Serialize)]
struct ErrorLine {
    event: &'static str,
    code: &'static str,
    message: String,
}

/// A diagnostic for machines. Line and column count from 1; both absent where the mistake has no place.
#[derive(Serialize)]
struct DiagnosticLine<'a> {
    event: &'static str,
    code: &'a str,
    message: &'a str,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    label: &'a str,
    help: Option<&'a str>,
}

fn lines(error: &PipelineError) -> String {
    let line = |diagnostic: &Diagnostic| {
        let place = (!error.text.is_empty()).then(|| line_column(&error.text, diagnostic.span.start));
        json_line(&DiagnosticLine {
            event: "diagnostic",
            code: diagnostic.code,
            message: &diagnostic.message,
            file: error.path.display().to_string(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            label: &diagnostic.label,
            help: diagnostic.help.as_deref(),
        })
    };
    error.diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn graphical(error: &PipelineError, what: &str, stream: Stream) -> String {
    let theme = if stream.is_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false).with_context_lines(1);
    let source = NamedSource::new(error.path.display().to_string(), error.text.to_string());
    let mut text = String::new();
    for diagnostic in &error.diagnostics {
        let shown = Shown { diagnostic, source: &source, has_text: !error.text.is_empty(), path: error };
        if handler.render_report(&mut text, &shown).is_err() {
            text = error.to_string();
            break;
        }
    }
    let number = error.diagnostics.len();
    let refused = if number == 1 { "1 mistake".to_owned() } else { format!("{number} mistakes") };
    text.push_str(&format!("{} {refused}; nothing was started", stream.paint().red(format!("{what} refused:"))));
    text
}

/// A diagnostic as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a NamedSource<String>,
    has_text: bool,
    path: &'a PipelineError,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_text {
            return f.write_str(&self.diagnostic.message);
        }
        write!(f, "{}: {}", self.path.path.display(), self.diagnostic.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.has_text.then_some(self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if !self.has_text {
            return None;
        }
        let span = self.diagnostic.span;
        let label = (!self.diagnostic.label.is_empty()).then(|| self.diagnostic.label.clone());
        let length = span.end.saturating_sub(span.start);
        Some(Box::new(std::iter::once(LabeledSpan::new(label, span.start, length))))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use millstream::error::Span;

    use super::*;

    fn refused() -> PipelineError {
        let text = "name = \"x\"\n[step.upper]\nparallelsm = 2\n";
        let start = text.find("parallelsm").unwrap();
        let diagnostic = Diagnostic {
            code: "unknown_key",
            message: "unknown key `parallelsm` in step `upper`".to_owned(),
            span: Span { start, end: start + 10 },
            label: "no such key".to_owned(),
            help: Some("did you mean `parallelism`?".to_owned()),
        };
        PipelineError { path: PathBuf::from("p.toml"), text: text.into(), diagnostics: vec![diagnostic] }
    }

    #[test]
    fn people_see_place_label_and_help() {
        let text = graphical(&refused(), "pipeline", Stream::Stderr);
        for part in ["unknown_key", "p.toml:3:1", "parallelsm = 2", "no such key", "help: did you mean", "1 mistake"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn machines_get_a_line_each() {
        let line: serde_json::Value = serde_json::from_str(&lines(&refused())).unwrap();
        assert_eq!((&line["code"], &line["line"], &line["column"]), (&"unknown_key".into(), &3.into(), &1.into()));
        assert_eq!((&line["file"], &line["help"]), (&"p.toml".into(), &"did you mean `parallelism`?".into()));
    }

    #[test]
    fn a_place_beyond_the_file_is_shown_without_a_snippet_instead_of_failing() {
        let mut error = refused();
        error.diagnostics[0].span = Span { start: 1_000, end: 2_000 };
        assert!(graphical(&error, "pipeline", Stream::Stderr).contains("unknown key"));
    }
}
