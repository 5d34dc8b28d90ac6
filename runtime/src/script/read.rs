//! Lines of JSON → actions. Wrong lines are collected and told together, each with its place.

use std::path::Path;

use serde_json::{Map, Value};

use super::line::{Action, Line, Script, SwapLine};
use crate::error::{Diagnostic, PipelineError, Span, near_match};
use crate::format::parse_timestamp;
use crate::pipeline::problems::code;

/// The keys that say what a line does.
const ACTIONS: [&str; 11] = [
    "row",
    "watermark",
    "idle",
    "active",
    "restore",
    "swap",
    "processing_time",
    "end",
    "expect",
    "expect_late",
    "expect_dead",
];

/// A line may carry a word for people.
const COMMENTS: [&str; 2] = ["comment", "note"];

/// Reads a file.
pub(super) fn file(path: &Path) -> Result<Script, PipelineError> {
    match std::fs::read_to_string(path) {
        Ok(content) => text(path, &content),
        Err(error) => {
            let message = format!("cannot read the script: {error}");
            let diagnostic =
                Diagnostic { code: code::UNREADABLE, message, span: Span::default(), label: String::new(), help: None };
            Err(PipelineError { path: path.to_owned(), text: "".into(), diagnostics: vec![diagnostic] })
        }
    }
}

/// Reads a text.
pub(super) fn text(path: &Path, text: &str) -> Result<Script, PipelineError> {
    let (mut lines, mut diagnostics) = (Vec::new(), Vec::new());
    let mut start = 0;
    let mut ended = None;
    for (number, whole) in (1..).zip(text.split_inclusive('\n')) {
        let content = whole.trim().trim_start_matches('\u{feff}').trim_start();
        let begin = start + whole.find(content).unwrap_or_default();
        let span = Span { start: begin, end: begin + content.len() };
        start += whole.len();
        if content.is_empty() || content.starts_with('#') || content.starts_with("//") {
            continue;
        }
        match line(content, ended) {
            Ok(None) => {}
            Ok(Some(action)) => {
                ended = ended.or_else(|| (action == Action::End).then_some(number));
                lines.push(Line { number, span, action });
            }
            Err(mistake) => diagnostics.push(mistake.at(span)),
        }
    }
    if diagnostics.is_empty() {
        return Ok(Script { path: path.to_owned(), text: text.into(), lines });
    }
    Err(PipelineError { path: path.to_owned(), text: text.into(), diagnostics })
}

/// Something wrong with one line.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    /// bytes of the line; all of it if none
    pub(super) part: Option<(usize, usize)>,
}

impl Mistake {
    pub(super) fn new(code: &'static str, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { code, message: message.into(), label: label.into(), help: None, part: None }
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at the first `"key"` of the line, if it is there.
    #[must_use]
    pub(super) fn at_key(mut self, line: &str, key: &str) -> Self {
        let quoted = Value::from(key).to_string();
        self.part = line.find(&quoted).map(|start| (start, start + quoted.len()));
        self
    }

    /// The mistake in a line that stands at `span`.
    pub(super) fn at(self, span: Span) -> Diagnostic {
        let span = match self.part {
            Some((start, end)) => Span { start: span.start + start, end: span.start + end },
            None => span,
        };
        Diagnostic { code: self.code, message: self.message, span, label: self.label, help: self.help }
    }
}

/// What a line does; nothing for one that only has a comment.
fn line(content: &str, ended: Option<usize>) -> Result<Option<Action>, Mistake> {
    let object: Map<String, Value> = serde_json::from_str(content).map_err(|error| syntax(content, &error))?;
    let mut named = object.keys().filter(|key| ACTIONS.contains(&key.as_str()));
    let Some(key) = named.next().cloned() else {
        if object.keys().all(|key| COMMENTS.contains(&key.as_str())) && !object.is_empty() {
            return Ok(None);
        }
        return Err(no_action(content, &object));
    };
    if let Some(other) = named.next() {
        let message = format!("the line has `{key}` and `{other}`");
        let mistake = Mistake::new(code::SEVERAL_KINDS, message, "expected one of them");
        return Err(mistake.help("a line does one thing: write two lines").at_key(content, other));
    }
    let mut reader = Reader { content, object, action: key };
    let action = reader.action()?;
    reader.nothing_left()?;
    match (ended, &action) {
        (Some(_), Action::Expect { .. } | Action::ExpectLate(_) | Action::ExpectDead(_) | Action::End) | (None, _) => {
            Ok(Some(action))
        }
        (Some(end), _) => {
            let message = format!("`{}` after the end of the input", reader.action);
            let mistake = Mistake::new(code::CONFLICT, message, format!("the input ended in line {end}"));
            let help = "after `end` there is nothing but `expect`, `expect_late` and `expect_dead`";
            Err(mistake.help(help).at_key(content, &reader.action))
        }
    }
}

fn syntax(content: &str, error: &serde_json::Error) -> Mistake {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
    // an action is one line, so the column is a number of bytes
    let start = error.column().saturating_sub(1).min(content.len().saturating_sub(1));
    let start = (0..=start).rev().find(|&at| content.is_char_boundary(at)).unwrap_or_default();
    let message = if error.is_data() { "the line is not an object" } else { "the line is not JSON" };
    Mistake {
        code: code::SYNTAX,
        message: message.to_owned(),
        label: reason,
        help: Some("a script is one JSON object a line, like {\"watermark\":1999}".to_owned()),
        part: (!error.is_data()).then_some((start, content.len())),
    }
}

fn no_action(content: &str, object: &Map<String, Value>) -> Mistake {
    let near = object.keys().find_map(|key| Some((key, near_match(key, ACTIONS)?)));
    let known = format!("actions: {}", ACTIONS.join(", "));
    let key = near.map(|(key, _)| key).or_else(|| object.keys().next());
    let message = match key {
        Some(key) => format!("unknown action `{key}`"),
        None => "the line says nothing to do".to_owned(),
    };
    let mistake = Mistake::new(code::UNKNOWN_KEY, message, "no such action").help(match near {
        Some((_, near)) => format!("did you mean `{near}`? {known}"),
        None => known,
    });
    match key {
        Some(key) => mistake.at_key(content, key),
        None => mistake,
    }
}

/// Takes the parts of a line one by one; what is left then is unknown.
struct Reader<'a> {
    content: &'a str,
    object: Map<String, Value>,
    action: String,
}

impl Reader<'_> {
    fn action(&mut self) -> Result<Action, Mistake> {
        let name = self.action.clone();
        let value = self.object.remove(&name).unwrap_or_default();
        Ok(match name.as_str() {
            "row" => {
                let row = self.object_of(&name, value)?;
                Action::Row { row, time: self.time_key("time")?, source: self.text_key("source")? }
            }
            "watermark" => Action::Watermark { time: self.time_of(&name, &value)?, source: self.text_key("source")? },
            "idle" => Action::Idle { source: self.source_of(&name, value)? },
            "active" => Action::Active { source: self.source_of(&name, value)? },
            "restore" => self.restore(value)?,
            "swap" => Action::Swap(self.swap(value)?),
            "processing_time" => Action::ProcessingTime(self.time_of(&name, &value)?),
            "end" => {
                self.must_be_true(&name, &value)?;
                Action::End
            }
            "expect" => self.expect(value)?,
            "expect_late" => Action::ExpectLate(self.count_of(&name, &value)?),
            _ => Action::ExpectDead(self.count_of(&name, &value)?),
        })
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Mistake {
        let message = format!("`{key}` is {}", kind_of(found));
        Mistake::new(code::WRONG_TYPE, message, format!("expected {expected}")).at_key(self.content, key)
    }

    fn object_of(&self, key: &str, value: Value) -> Result<Map<String, Value>, Mistake> {
        match value {
            Value::Object(object) => Ok(object),
            other => Err(self.wrong(key, "an object of columns, like {\"word\":\"a\"}", &other)),
        }
    }

    fn time_of(&self, key: &str, value: &Value) -> Result<i64, Mistake> {
        time(value)
            .ok_or_else(|| self.wrong(key, "milliseconds since 1970, or a time like 2024-01-01T00:00:00Z", value))
    }

    fn time_key(&mut self, key: &str) -> Result<Option<i64>, Mistake> {
        match self.object.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.time_of(key, &value).map(Some),
        }
    }

    fn text_key(&mut self, key: &str) -> Result<Option<String>, Mistake> {
        match self.object.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a name", &other)),
        }
    }

    /// `{"idle":"bids"}`, or `{"idle":true}` with or without `source`.
    fn source_of(&mut self, key: &str, value: Value) -> Result<Option<String>, Mistake> {
        match value {
            Value::String(source) => Ok(Some(source)),
            Value::Bool(true) => self.text_key("source"),
            other => Err(self.wrong(key, "the name of a source", &other)),
        }
    }

    fn count_of(&self, key: &str, value: &Value) -> Result<u64, Mistake> {
        let whole = int(value).and_then(|number| u64::try_from(number).ok());
        whole.ok_or_else(|| self.wrong(key, "a number of rows", value))
    }

    fn must_be_true(&self, key: &str, value: &Value) -> Result<(), Mistake> {
        match value {
            Value::Bool(true) => Ok(()),
            other => Err(self.wrong(key, "true", other)),
        }
    }

    /// `{"restore":true,"parallelism":2}`; the number may stand inside too.
    fn restore(&mut self, value: Value) -> Result<Action, Mistake> {
        let mut inner = None;
        match value {
            Value::Object(mut object) => {
                inner = object.remove("parallelism");
                if let Some(key) = object.keys().next() {
                    return Err(unknown_key(self.content, key, "restore", &["parallelism"]));
                }
            }
            other => self.must_be_true("restore", &other)?,
        }
        let Some(value) = self.object.remove("parallelism").or(inner).filter(|value| !value.is_null()) else {
            return Ok(Action::Restore { parallelism: None });
        };
        let parallelism = int(&value).and_then(|number| usize::try_from(number).ok());
        let most = crate::limits::KEY_GROUPS as usize;
        match parallelism.filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(Action::Restore { parallelism: Some(number) }),
            None => Err(self.wrong("parallelism", &format!("a number from 1 to {most}"), &value)),
        }
    }

    fn swap(&self, value: Value) -> Result<Vec<SwapLine>, Mistake> {
        let entries = match value {
            Value::Array(entries) => entries,
            one => vec![one],
        };
        if entries.is_empty() {
            return Err(self.wrong("swap", "at least one component", &Value::Array(entries)));
        }
        entries.into_iter().map(|entry| self.swap_entry(entry)).collect()
    }

    fn swap_entry(&self, entry: Value) -> Result<SwapLine, Mistake> {
        let Value::Object(mut object) = entry else {
            return Err(self.wrong("swap", "an object like {\"step\":\"sum\",\"component\":\"sum-2.wasm\"}", &entry));
        };
        let mut text = |key: &str| match object.remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(key, "text", &other)),
            None => Err(Mistake::new(code::MISSING_KEY, format!("`swap` has no `{key}`"), format!("expected `{key}`"))),
        };
        let (step, component) = (text("step")?, text("component")?);
        match object.keys().next() {
            Some(key) => Err(unknown_key(self.content, key, "swap", &["step", "component"])),
            None => Ok(SwapLine { step, component }),
        }
    }

    fn expect(&mut self, value: Value) -> Result<Action, Mistake> {
        let rows = match value {
            Value::Array(rows) => rows,
            one @ Value::Object(_) => vec![one],
            other => return Err(self.wrong("expect", "a list of rows, like [{\"word\":\"a\"}]", &other)),
        };
        let rows = rows.into_iter().map(|row| self.object_of("expect", row)).collect::<Result<_, _>>()?;
        Ok(Action::Expect { rows, sink: self.text_key("sink")? })
    }

    fn nothing_left(&self) -> Result<(), Mistake> {
        let known: &[&str] = match self.action.as_str() {
            "row" => &["time", "source"],
            "watermark" | "idle" | "active" => &["source"],
            "restore" => &["parallelism"],
            "expect" => &["sink"],
            _ => &[],
        };
        match self.object.keys().find(|key| !COMMENTS.contains(&key.as_str())) {
            Some(key) => Err(unknown_key(self.content, key, &self.action, known)),
            None => Ok(()),
        }
    }
}

fn unknown_key(content: &str, key: &str, action: &str, known: &[&str]) -> Mistake {
    let help = match (near_match(key, known.iter().copied()), known) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => format!("`{action}` stands alone"),
        (None, known) => format!("beside `{action}` there may be: {}", known.join(", ")),
    };
    let message = format!("unknown key `{key}` beside `{action}`");
    Mistake::new(code::UNKNOWN_KEY, message, "no such key").help(help).at_key(content, key)
}

/// A whole number, also where it is written like `5.0`.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // checked by the way back
pub(super) fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        let whole = number as i64;
        (whole as f64 == number && number.abs() < 9.0e15).then_some(whole)
    })
}

/// Milliseconds, as a number or as a time in text.
pub(super) fn time(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => parse_timestamp(text.as_bytes()),
        number => int(number),
    }
}

/// A JSON value in a word.
pub(super) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {}", Value::from(text.chars().take(40).collect::<String>())),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
