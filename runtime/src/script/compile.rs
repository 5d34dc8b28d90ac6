//! A script against a pipeline: names found, rows decoded, expected values read. What is wrong is told before anything runs.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::ScalarBuffer;
use serde_json::{Map, Value};

use super::cell::Cell;
use super::expect::{ExpectedRow, show};
use super::line::{Action, Line, Script, SwapLine};
use super::read::Mistake;
use crate::error::{Diagnostic, PipelineError, near_match};
use crate::format::{Decoder, Format, Frames};
use crate::pipeline::plan::{NodeKind, Plan};
use crate::pipeline::problems::code;
use crate::pipeline::resolve::Components;
use crate::record::{Batch, NO_EVENT_TIME, Schema};

/// The name under which dead letters can be expected.
pub(super) const DEAD_LETTER: &str = "dead_letter";

/// A line, ready to be carried out. Sources and sinks are positions in the specification; the sink behind the last one is
/// the dead-letter output.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) line: usize,
    pub(super) what: Do,
}

/// What is done.
#[derive(Debug)]
pub(super) enum Do {
    Row { source: usize, batch: Batch },
    Watermark { sources: Vec<usize>, time: i64 },
    Idle(usize),
    Active(usize),
    Restore(Option<usize>),
    Swap(Vec<(String, PathBuf)>),
    Clock(i64),
    End,
    Expect { sink: usize, rows: Vec<ExpectedRow> },
    ExpectLate(u64),
    ExpectDead(u64),
}

/// A source, as far as a script is concerned.
#[derive(Debug)]
struct SourceEnd {
    name: String,
    /// all columns of a record
    full: Schema,
    /// those that the pipeline reads
    wanted: Schema,
    /// which of them is the event time
    event_time: Option<usize>,
}

/// Names and columns of what goes in and out.
#[derive(Debug)]
pub(super) struct Ends {
    sources: Vec<SourceEnd>,
    pub(super) sinks: Vec<(String, Schema)>,
}

impl Ends {
    /// Those of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let (mut sources, mut sinks) = (Vec::new(), Vec::new());
        for node in &plan.nodes {
            match &node.kind {
                NodeKind::Source { index, full, event_time, .. } => {
                    let (name, wanted) = (node.name.clone(), node.schema.clone());
                    sources.push((*index, SourceEnd { name, full: full.clone(), wanted, event_time: *event_time }));
                }
                NodeKind::Sink { index } => sinks.push((*index, (node.name.clone(), node.schema.clone()))),
                _ => {}
            }
        }
        sources.sort_by_key(|(index, _)| *index);
        sinks.sort_by_key(|(index, _)| *index);
        let mut sinks: Vec<_> = sinks.into_iter().map(|(_, sink)| sink).collect();
        sinks.push((DEAD_LETTER.to_owned(), crate::pipeline::dead_letter_schema()));
        Self { sources: sources.into_iter().map(|(_, source)| source).collect(), sinks }
    }
}

/// Checks `script` against a pipeline.
pub(super) fn compile(
    script: &Script,
    plan: &Plan,
    components: &Components,
    ends: &Ends,
) -> Result<Vec<Act>, PipelineError> {
    let folder = script.path.parent().unwrap_or(Path::new(""));
    let (mut acts, mut diagnostics) = (Vec::with_capacity(script.lines.len()), Vec::<Diagnostic>::new());
    for line in &script.lines {
        let text = script.text.get(line.span.start..line.span.end).unwrap_or_default();
        let compiler = Compiler { text, folders: [folder, &plan.spec.base], components, ends };
        match compiler.act(line) {
            Ok(what) => acts.push(Act { line: line.number, what }),
            Err(mistake) => diagnostics.push(mistake.at(line.span)),
        }
    }
    if diagnostics.is_empty() {
        return Ok(acts);
    }
    Err(PipelineError { path: script.path.clone(), text: script.text.clone(), diagnostics })
}

/// One line against a pipeline.
struct Compiler<'a> {
    text: &'a str,
    /// where components are looked for
    folders: [&'a Path; 2],
    components: &'a Components,
    ends: &'a Ends,
}

impl Compiler<'_> {
    fn act(&self, line: &Line) -> Result<Do, Mistake> {
        Ok(match &line.action {
            Action::Row { row, time, source } => {
                let source = self.source(source.as_deref())?;
                Do::Row { source, batch: self.row(source, row, *time)? }
            }
            Action::Watermark { time, source: None } => {
                Do::Watermark { sources: (0..self.ends.sources.len()).collect(), time: *time }
            }
            Action::Watermark { time, source } => {
                Do::Watermark { sources: vec![self.source(source.as_deref())?], time: *time }
            }
            Action::Idle { source } => Do::Idle(self.source(source.as_deref())?),
            Action::Active { source } => Do::Active(self.source(source.as_deref())?),
            Action::Restore { parallelism } => Do::Restore(*parallelism),
            Action::Swap(swaps) => Do::Swap(swaps.iter().map(|swap| self.swap(swap)).collect::<Result<_, _>>()?),
            Action::ProcessingTime(time) => Do::Clock(*time),
            Action::End => Do::End,
            Action::Expect { rows, sink } => {
                let sink = self.sink(sink.as_deref())?;
                Do::Expect { sink, rows: rows.iter().map(|row| self.expected(sink, row)).collect::<Result<_, _>>()? }
            }
            Action::ExpectLate(rows) => Do::ExpectLate(*rows),
            Action::ExpectDead(rows) => Do::ExpectDead(*rows),
        })
    }

    fn source(&self, name: Option<&str>) -> Result<usize, Mistake> {
        let known: Vec<&str> = self.ends.sources.iter().map(|source| source.name.as_str()).collect();
        self.position("source", name, &known, known.len())
    }

    fn sink(&self, name: Option<&str>) -> Result<usize, Mistake> {
        let known: Vec<&str> = self.ends.sinks.iter().map(|(name, _)| name.as_str()).collect();
        self.position("sink", name, &known, known.len() - 1)
    }

    /// The one of `known` that is meant; the first `nameless` of them are found without a name if there is one.
    fn position(&self, what: &str, name: Option<&str>, known: &[&str], nameless: usize) -> Result<usize, Mistake> {
        let all = || format!("{what}s: {}", known.join(", "));
        let Some(name) = name else {
            if nameless == 1 {
                return Ok(0);
            }
            let message = format!("the line does not say which {what}");
            return Err(Mistake::new(code::MISSING_KEY, message, format!("expected `{what}`")).help(all()));
        };
        known.iter().position(|known| *known == name).ok_or_else(|| {
            let help = match near_match(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? {}", all()),
                None => all(),
            };
            let message = format!("the pipeline has no {what} `{name}`");
            Mistake::new(code::UNKNOWN_VALUE, message, format!("no such {what}")).help(help).at_key(self.text, name)
        })
    }

    /// The row as the source's decoder would give it, with its time.
    fn row(&self, source: usize, row: &Map<String, Value>, time: Option<i64>) -> Result<Batch, Mistake> {
        let Some(source) = self.ends.sources.get(source) else { return Err(internal("no such source")) };
        if let Some(unknown) = row.keys().find(|name| source.full.index_of(name).is_none()) {
            return Err(self.unknown_column(&format!("source `{}`", source.name), unknown, &source.full));
        }
        let field = source.event_time.and_then(|index| source.wanted.fields().get(index));
        let mut row = row.clone();
        if let (Some(field), Some(time)) = (field, time) {
            row.entry(field.name.clone()).or_insert_with(|| time.into());
        }
        let mut frames = Frames::default();
        frames.push(Value::Object(row).to_string().as_bytes(), 0);
        let decoder = Decoder::new(Format::Json, &source.full, &source.wanted, false);
        let decoded = decoder.map_err(|error| internal(&error.to_string()))?.decode(&mut frames);
        if let Some(bad) = decoded.bad.first() {
            let label = format!("expected the columns of source `{}`: {}", source.name, source.full);
            return Err(Mistake::new(code::WRONG_TYPE, format!("the row cannot be read: {}", bad.reason), label));
        }
        let column = source.event_time.and_then(|index| decoded.columns.columns().get(index));
        let time = time.or_else(|| column.and_then(time_of)).unwrap_or(NO_EVENT_TIME);
        let batch = Batch::new(decoded.columns, ScalarBuffer::from(vec![time]));
        batch.ok_or_else(|| internal("a row became another number of rows"))
    }

    fn expected(&self, sink: usize, row: &Map<String, Value>) -> Result<ExpectedRow, Mistake> {
        let Some((name, schema)) = self.ends.sinks.get(sink) else { return Err(internal("no such sink")) };
        let mut cells = Vec::with_capacity(row.len());
        for (column, value) in row {
            let field = schema.index_of(column).and_then(|index| Some((index, schema.fields().get(index)?)));
            let Some((index, field)) = field else {
                return Err(self.unknown_column(&format!("sink `{name}`"), column, schema));
            };
            let cell = Cell::expected(value, field.kind).map_err(|label| {
                let message = format!("column `{column}` of sink `{name}` cannot have this value");
                Mistake::new(code::WRONG_TYPE, message, label).at_key(self.text, column)
            })?;
            cells.push((index, cell));
        }
        cells.sort_by_key(|(column, _)| *column);
        Ok(ExpectedRow { text: show(schema, cells.iter().map(|(column, cell)| (*column, cell))), cells })
    }

    fn unknown_column(&self, place: &str, name: &str, schema: &Schema) -> Mistake {
        let all = format!("columns: {schema}");
        let names = schema.fields().iter().map(|field| field.name.as_str());
        let help = match near_match(name, names) {
            Some(near) => format!("did you mean `{near}`? {all}"),
            None => all,
        };
        let message = format!("{place} has no column `{name}`");
        Mistake::new(code::MISSING_COLUMN, message, "no such column").help(help).at_key(self.text, name)
    }

    fn swap(&self, swap: &SwapLine) -> Result<(String, PathBuf), Mistake> {
        let step = |name: &str| self.components.keys().any(|slot| slot.step == name);
        let of_entry = swap.step.rsplit_once('.').is_some_and(|(name, _)| step(name));
        if !step(&swap.step) && !of_entry {
            let mut known: Vec<&str> = self.components.keys().map(|slot| slot.step.as_str()).collect();
            known.dedup();
            let help = match (near_match(&swap.step, known.iter().copied()), known.as_slice()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, []) => "no step of this pipeline has a component".to_owned(),
                (None, known) => format!("steps with components: {}", known.join(", ")),
            };
            let message = format!("the pipeline has no step `{}` with a component", swap.step);
            let mistake = Mistake::new(code::UNKNOWN_VALUE, message, "no such step");
            return Err(mistake.help(help).at_key(self.text, &swap.step));
        }
        let places = self.folders.map(|folder| folder.join(&swap.component));
        match places.iter().find(|path| path.is_file()) {
            Some(path) => Ok((swap.step.clone(), path.clone())),
            None => {
                let message = format!("there is no component `{}`", swap.component);
                let mistake = Mistake::new(code::MISSING_COMPONENT, message, "no such file");
                let [script, pipeline] = places.map(|path| path.display().to_string());
                let help = format!("looked for {script} (beside the script) and {pipeline} (beside the pipeline)");
                Err(mistake.help(help).at_key(self.text, &swap.component))
            }
        }
    }
}

fn internal(reason: &str) -> Mistake {
    Mistake::new(code::BAD_VALUE, format!("internal error: {reason}; please report it"), "")
}

/// The first value of a column of times.
fn time_of(column: &ArrayRef) -> Option<i64> {
    if column.is_empty() || column.is_null(0) {
        return None;
    }
    let ints = column.as_primitive_opt::<Int64Type>().map(|column| column.value(0));
    ints.or_else(|| column.as_primitive_opt::<TimestampMillisecondType>().map(|column| column.value(0)))
}
