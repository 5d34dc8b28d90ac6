//! Pipeline files: TOML, or the same tables as JSON → [`PipelineSpec`].
//!
//! A parser makes a tree of nodes with places; the walk over the tree takes known keys out of known tables and notes
//! every mistake on the way, so that one run shows all of them. What a file has in common with a built pipeline is
//! checked in [`super::check`], also for the parts of a file that are right while others are wrong.

mod aggregate;
mod capsules;
mod checkpoint;
mod item;
mod join;
mod kafka;
mod keys;
mod node;
mod partition;
mod process;
mod restart;
mod sink;
mod source;
mod state;
mod step;
mod top;
mod trigger;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use self::item::{Item, Table};
use self::node::Node;
use super::check;
use super::problems::{Problems, code};
use super::spec::PipelineSpec;
use super::wiring::{Part, Role, Wiring};
use crate::error::{Diagnostic, PipelineError, Span, Spanned};

/// Reads a pipeline file; `.json` is JSON, anything else TOML. Relative paths in it are relative to its folder.
pub fn read(path: &Path) -> Result<PipelineSpec, PipelineError> {
    let refuse = |code, message: String, help: &str| {
        let mut problems = Problems::default();
        problems.add(code, Span::default(), message, "", help);
        PipelineError { path: path.to_owned(), text: "".into(), diagnostics: problems.into_diagnostics() }
    };
    let bytes = std::fs::read(path)
        .map_err(|error| refuse(code::UNREADABLE, format!("cannot read the pipeline: {error}"), "check the path"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        refuse(code::SYNTAX, format!("byte {position} is not UTF-8"), "save the file as UTF-8")
    })?;
    let base = path.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.extension().is_some_and(|extension| extension == "json") {
        read_json(&text, path, base)
    } else {
        parse(&text, path, base)
    }
}

/// Reads the TOML `text`. `path` is for messages, `base` is what relative paths in it are relative to.
pub fn parse(text: &str, path: &Path, base: &Path) -> Result<PipelineSpec, PipelineError> {
    let text: Arc<str> = text.into();
    let (table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let diagnostics = syntax_errors(&text, &errors);
        return Err(PipelineError { path: path.to_owned(), text, diagnostics });
    }
    let place = node::span(table.span());
    let root = node::from_toml(table.into_inner(), place);
    walk(root, path.to_owned(), Arc::clone(&text), base.to_owned())
}

/// Reads the same tables written as JSON: `{"name": "..", "source": {"lines": {"stdin": {}, ..}}, ..}`. Paths are
/// relative to the working directory. Only syntax errors have a place; the others name tables and keys.
pub fn parse_json(text: &str) -> Result<PipelineSpec, PipelineError> {
    read_json(text, Path::new("<json>"), Path::new("."))
}

fn read_json(text: &str, path: &Path, base: &Path) -> Result<PipelineSpec, PipelineError> {
    let root: Node = serde_json::from_str(text).map_err(|error| {
        let mut problems = Problems::default();
        let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let start = (line_start + error.column().saturating_sub(1)).min(text.len());
        let message = format!("the text is not JSON: {error}");
        problems.add(code::SYNTAX, Span { start, end: start }, message, "", "");
        PipelineError { path: path.to_owned(), text: text.into(), diagnostics: problems.into_diagnostics() }
    })?;
    walk(root, path.to_owned(), "".into(), base.to_owned())
}

/// The parser goes on after an error and may then complain about what follows from it: one a line is told.
fn syntax_errors(text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut problems = Problems::default();
    let mut lines = std::collections::HashSet::new();
    let mut line = 1;
    let mut counted = 0;
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or_default(), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (range, message) in errors {
        let span = Span { start: range.start.min(text.len()), end: range.end.min(text.len()) };
        line += text.as_bytes()[counted..span.start].iter().filter(|&&byte| byte == b'\n').count();
        counted = span.start;
        if lines.insert(line) {
            let (what, expected) = message.split_once(", expected").unwrap_or((message, ""));
            let found = text.get(span.start..span.end).map(str::trim).filter(|found| !found.is_empty());
            let found = found.map(|found| format!("found {}", super::problems::quote(found)));
            let expected = Some(format!("expected{expected}")).filter(|label| label != "expected");
            let label = expected.into_iter().chain(found).collect::<Vec<_>>().join(", ");
            problems.add(code::SYNTAX, span, format!("the text is not TOML: {what}"), label, "");
        }
    }
    problems.into_diagnostics()
}

/// What has been read so far.
struct Walk {
    spec: PipelineSpec,
    wiring: Wiring,
    /// of the step that was read last
    outputs: Vec<Part>,
    problems: Problems,
}

fn walk(root: Node, path: PathBuf, text: Arc<str>, base: PathBuf) -> Result<PipelineSpec, PipelineError> {
    let spec = PipelineSpec {
        path,
        text,
        base,
        name: Spanned::default(),
        parallelism: None,
        sources: Vec::new(),
        steps: Vec::new(),
        sinks: Vec::new(),
        dead_letter: None,
        checkpoint: None,
        restart: None,
        state: None,
        capsules: None,
    };
    let mut walk = Walk { spec, wiring: Wiring::default(), outputs: Vec::new(), problems: Problems::default() };
    let item = Item { what: "the pipeline".to_owned(), key: Span::default(), node: root };
    if let Some(table) = Table::open(item, &keys::PIPELINE, &mut walk.problems) {
        walk.pipeline(table);
        check::check(&walk.spec, &walk.wiring, &mut walk.problems);
    }
    let diagnostics = walk.problems.into_diagnostics();
    if diagnostics.is_empty() {
        return Ok(walk.spec);
    }
    Err(PipelineError { path: walk.spec.path, text: walk.spec.text, diagnostics })
}

impl Walk {
    fn pipeline(&mut self, mut table: Table) {
        let problems = &mut self.problems;
        let name = table.required("name", problems).and_then(|item| item.text(problems));
        // a name that is missing has been noted; one that is good keeps the check from noting it again
        self.spec.name = name.unwrap_or_else(|| "unnamed".to_owned().into());
        self.spec.parallelism = table.take("parallelism").and_then(|item| item.integer(problems));
        self.spec.dead_letter = table.take("dead_letter").and_then(|item| sink::read_dead_letter(item, problems));
        self.spec.checkpoint = table.take("checkpoint").and_then(|item| checkpoint::read(item, problems));
        self.spec.restart = table.take("restart").and_then(|item| restart::read(item, problems));
        self.spec.state = table.take("state").and_then(|item| state::read(item, problems));
        self.spec.capsules = table.take("capsules").and_then(|item| capsules::read(item, problems));
        self.wiring.incomplete = table.refused_instead_of(&["source", "step", "sink"]);
        for role in [Role::Source, Role::Step, Role::Sink] {
            self.section(role, table.take(role.name()));
        }
    }

    /// `[source.*]`, `[step.*]` or `[sink.*]`
    fn section(&mut self, role: Role, item: Option<Item>) {
        let Some(item) = item else { return };
        let help = format!("write `[{}.<name>]`", role.name());
        let Some(parts) = item.entries(&help, &mut self.problems) else {
            self.wiring.incomplete = true;
            return;
        };
        for (name, mut item) in parts {
            item.what = format!("{} {}", role.name(), super::problems::quote(&name.value));
            let from = self.part(role, name.clone(), item);
            self.wiring.parts.push(Part { role, name, from });
            self.wiring.parts.append(&mut self.outputs);
        }
    }

    /// Reads one part and gives what it reads from, if that much is known.
    fn part(&mut self, role: Role, name: Spanned<String>, item: Item) -> Option<Vec<Spanned<String>>> {
        match role {
            Role::Source => {
                self.spec.sources.extend(source::read(name, item, &mut self.problems));
                Some(Vec::new())
            }
            Role::Step => {
                let read = step::read(name.clone(), item, &mut self.problems);
                let output = |output| Part { role: Role::Output, name: output, from: Some(vec![name.clone()]) };
                self.outputs.extend(read.outputs.into_iter().map(output));
                self.spec.steps.extend(read.step);
                read.from
            }
            Role::Sink | Role::Output => {
                let (from, sink) = sink::read(name, item, &mut self.problems);
                self.spec.sinks.extend(sink);
                from
            }
        }
    }
}

#[cfg(test)]
mod documentation;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod wrong_inputs;
