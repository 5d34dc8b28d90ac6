//! Who reads whom, without what is done: found also for parts of a file that are wrong in other ways, so that one
//! mistake does not hide another or cause false ones.

use std::collections::{HashMap, HashSet};

use super::problems::{Problems, alternatives, code, listed, quote};
use super::spec::{PipelineSpec, StepSpec};
use crate::error::{Span, Spanned};

/// Names that the message about a circle lists.
const CYCLE_NAMES_MAX: usize = 24;

/// What a part of a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Step,
    /// another output of a step; it reads that step
    Output,
    Sink,
}

impl Role {
    /// As messages and section headers name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Step => "step",
            Self::Output => "output",
            Self::Sink => "sink",
        }
    }
}

/// A source, step or sink by name, and what it reads.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) name: Spanned<String>,
    /// empty for sources; `None` where it could not be read
    pub(super) from: Option<Vec<Spanned<String>>>,
}

/// All parts in file order.
#[derive(Clone, Debug, Default)]
pub(super) struct Wiring {
    pub(super) parts: Vec<Part>,
    /// parts may be missing because their section could not be read: nothing is concluded from absence
    pub(super) incomplete: bool,
}

impl Wiring {
    /// The wiring of a pipeline that was read as a whole.
    pub(super) fn of(spec: &PipelineSpec) -> Self {
        let sources = spec.sources.iter().map(|s| (Role::Source, &s.name, Vec::new()));
        // one stream may be both inputs
        let other = |step: &StepSpec, name: &String| !step.from.iter().any(|from| from.value == *name);
        let all = |step: &StepSpec| {
            step.inputs()
                .filter(|(port, name)| *port == 0 || other(step, &name.value))
                .map(|(_, name)| name.clone())
                .collect()
        };
        let steps = spec.steps.iter().map(|s| (Role::Step, &s.name, all(s)));
        let outputs = spec
            .steps
            .iter()
            .flat_map(|step| step.side_outputs.iter().map(|output| (Role::Output, output, vec![step.name.clone()])));
        let sinks = spec.sinks.iter().map(|s| (Role::Sink, &s.name, s.from.clone()));
        let parts = sources.chain(steps).chain(outputs).chain(sinks);
        let parts = parts.map(|(role, name, from)| Part { role, name: name.clone(), from: Some(from) }).collect();
        Self { parts, incomplete: false }
    }

    /// Everything that can be wrong with names and inputs. `text` is the file, for naming a second place.
    pub(super) fn check(&self, text: &str, problems: &mut Problems) {
        self.check_names(text, problems);
        let all_found = self.check_inputs(problems);
        self.check_cycles(problems);
        if !self.incomplete {
            self.check_ends(problems);
        }
        // an input that was misspelt may have meant any of those that seem unused
        if !self.incomplete && all_found && self.parts.iter().all(|part| part.from.is_some()) {
            self.check_unused(problems);
        }
    }

    /// Sources and steps share one namespace, since `from` names both; sinks have their own.
    fn check_names(&self, text: &str, problems: &mut Problems) {
        let mut first: HashMap<(bool, &str), &Part> = HashMap::new();
        for part in &self.parts {
            super::check::name(part.role.name(), &part.name, problems);
            let Some(other) = first.insert((part.role == Role::Sink, &part.name.value), part) else { continue };
            let name = quote(&part.name.value);
            problems.add(
                code::DUPLICATE_NAME,
                part.name.span,
                format!("{} {name} has the name of a {}", part.role.name(), other.role.name()),
                format!("the {} {name} stands at {}", other.role.name(), place(text, other.name.span)),
                "give one of them another name: `from` must name exactly one",
            );
        }
    }

    /// Whether every `from` names a source or step.
    fn check_inputs(&self, problems: &mut Problems) -> bool {
        let mut all_found = true;
        let names = self.outputs();
        let known: Vec<&str> = self.parts.iter().filter(|p| p.role != Role::Sink).map(|p| &*p.name.value).collect();
        let sinks: HashSet<&str> = self.parts.iter().filter(|p| p.role == Role::Sink).map(|p| &*p.name.value).collect();
        for part in &self.parts {
            let reader = format!("{} {}", part.role.name(), quote(&part.name.value));
            let mut seen = HashSet::new();
            for input in part.from.iter().flatten() {
                let name = quote(&input.value);
                if !seen.insert(&*input.value) {
                    let message = format!("{reader} reads {name} twice");
                    problems.add(code::DUPLICATE_NAME, input.span, message, "named before", "remove one of them");
                } else if names.contains_key(&*input.value) {
                    // found
                } else if sinks.contains(&*input.value) {
                    all_found = false;
                    problems.add(
                        code::SINK_AS_INPUT,
                        input.span,
                        format!("{reader} reads from the sink {name}"),
                        "a sink puts nothing out",
                        format!("read what the sink reads, one of: {}", listed(&known)),
                    );
                } else if !self.incomplete {
                    all_found = false;
                    problems.add(
                        code::UNKNOWN_INPUT,
                        input.span,
                        format!("{reader} reads from {name}, which does not exist"),
                        "no source or step has this name",
                        alternatives("known names", &input.value, &known),
                    );
                }
            }
        }
        all_found
    }

    /// Names each circle once. Takes away, again and again, what has all its inputs; what remains hangs on a circle.
    fn check_cycles(&self, problems: &mut Problems) {
        let names = self.outputs();
        let inputs: Vec<Vec<usize>> = self.parts.iter().map(|part| part.inputs(&names)).collect();
        let mut readers = vec![Vec::new(); self.parts.len()];
        let mut open: Vec<usize> = inputs.iter().map(Vec::len).collect();
        for (reader, from) in inputs.iter().enumerate() {
            for &input in from {
                readers[input].push(reader);
            }
        }
        let mut done = vec![false; self.parts.len()];
        let mut ready: Vec<usize> = (0..self.parts.len()).filter(|&part| open[part] == 0).collect();
        let mut start = 0;
        loop {
            while let Some(part) = ready.pop() {
                if !std::mem::replace(&mut done[part], true) {
                    for &reader in &readers[part] {
                        open[reader] -= 1;
                        if open[reader] == 0 {
                            ready.push(reader);
                        }
                    }
                }
            }
            let Some(next) = (start..done.len()).find(|&part| !done[part]) else { return };
            start = next;
            let cycle = find_cycle(start, &inputs, &done);
            self.report_cycle(&cycle, problems);
            ready.extend(cycle);
        }
    }

    /// `cycle` is in reading order: each part reads the one after it.
    fn report_cycle(&self, cycle: &[usize], problems: &mut Problems) {
        let mut flow: Vec<&Part> = cycle.iter().rev().map(|&part| &self.parts[part]).collect();
        let first = (0..flow.len()).min_by_key(|&i| (flow[i].name.span.start, i)).unwrap_or_default();
        flow.rotate_left(first);
        let Some(first) = flow.first() else { return };
        let mut names: Vec<&str> = flow.iter().chain([first]).map(|part| &*part.name.value).collect();
        if names.len() > CYCLE_NAMES_MAX {
            names.splice(CYCLE_NAMES_MAX - 2..names.len() - 1, [".."]);
        }
        problems.add(
            code::CYCLE,
            first.name.span,
            format!("steps feed each other in a circle: {}", names.join(" -> ")),
            "rows would never leave",
            "let one of them read from a source or an earlier step",
        );
    }

    fn check_ends(&self, problems: &mut Problems) {
        for (role, code, example) in [
            (Role::Source, code::NO_SOURCE, "add one: `[source.lines]` with `stdin = {}` and `format = \"text\"`"),
            (Role::Sink, code::NO_SINK, "add one: `[sink.out]` with `from = \"..\"` and `print = {}`"),
        ] {
            if !self.parts.iter().any(|part| part.role == role) {
                let message = format!("the pipeline has no {}", role.name());
                problems.add(code, Span::default(), message, "nothing would flow", example);
            }
        }
    }

    fn check_unused(&self, problems: &mut Problems) {
        let read = self.parts.iter().flat_map(|part| part.from.iter().flatten()).map(|name| &*name.value);
        let read: HashSet<&str> = read.collect();
        // what leaves by another output is counted either way, so that nobody need read it
        let wanted = |role| matches!(role, Role::Source | Role::Step);
        for part in self.parts.iter().filter(|p| wanted(p.role) && !read.contains(&*p.name.value)) {
            if part.name.value.is_empty() {
                continue; // refused as a name, and nobody could read it
            }
            let name = quote(&part.name.value);
            problems.add(
                code::UNUSED,
                part.name.span,
                format!("nobody reads {} {name}", part.role.name()),
                "its rows go nowhere",
                format!("add a sink with `from = \"{}\"` or remove it", part.name.value),
            );
        }
    }

    /// What can be named in `from`. Of two with one name the first counts.
    fn outputs(&self) -> HashMap<&str, usize> {
        let mut names = HashMap::new();
        for (i, part) in self.parts.iter().enumerate().filter(|(_, part)| part.role != Role::Sink) {
            names.entry(&*part.name.value).or_insert(i);
        }
        names
    }
}

impl Part {
    fn inputs(&self, names: &HashMap<&str, usize>) -> Vec<usize> {
        self.from.iter().flatten().filter_map(|name| names.get(&*name.value).copied()).collect()
    }
}

/// Follows unfinished inputs from `start` until a part comes again. Every unfinished part has one: that is why it
/// is unfinished.
fn find_cycle(start: usize, inputs: &[Vec<usize>], done: &[bool]) -> Vec<usize> {
    let mut path = Vec::new();
    let mut position = HashMap::new();
    let mut part = start;
    loop {
        if let Some(first) = position.insert(part, path.len()) {
            return path.split_off(first);
        }
        path.push(part);
        match inputs[part].iter().find(|&&input| !done[input]) {
            Some(&input) => part = input,
            None => return path,
        }
    }
}

/// `line 3, column 9`, or nothing better than `another place` for what was not read from a file.
fn place(text: &str, span: Span) -> String {
    if text.is_empty() {
        return "another place".to_owned();
    }
    let (line, column) = crate::error::line_column(text, span.start);
    format!("line {line}, column {column}")
}
