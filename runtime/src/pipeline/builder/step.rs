//! Steps of a built pipeline.

use std::sync::Arc;
use std::time::Duration;

use super::join::JoinParts;
use crate::error::{Span, Spanned};
use crate::operator::{AggregateFunction, OnError};
use crate::pipeline::partition::PartitionSpec;
use crate::pipeline::problems::{Problems, code, quote};
use crate::pipeline::spec::{
    AggregateSpec, ComponentSpec, Keep, LimitsSpec, SelectedColumn, StepKind, StepSpec, TopStepSpec,
};
use crate::wasm::{Setting, Settings};
use crate::window::{Emit, Firing, Trigger, WindowSpec};

/// A step in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct Step {
    from: Vec<Spanned<String>>,
    with: Vec<Spanned<String>>,
    late: Option<Spanned<String>>,
    late_with: Option<Spanned<String>>,
    side_outputs: Vec<Spanned<String>>,
    with_key_by: Vec<Spanned<String>>,
    state_ttl: Option<Duration>,
    operation: Operation,
    key_by: Vec<Spanned<String>>,
    window: Option<WindowSpec>,
    allowed_lateness: Duration,
    gap: Option<Spanned<String>>,
    trigger: Option<Trigger>,
    firing: Option<Firing>,
    aggregates: Vec<AggregateSpec>,
    config: Settings,
    parallelism: Option<Spanned<usize>>,
    keep: Option<Spanned<Keep>>,
    on_error: OnError,
    limits: LimitsSpec,
    join: JoinParts,
    partition: Option<Spanned<PartitionSpec>>,
}

#[derive(Clone, Debug)]
enum Operation {
    Map(String),
    Filter(String),
    FlatMap(String),
    Select(Vec<SelectedColumn>),
    Process(String),
    Aggregate,
    Top(TopStepSpec),
    Join,
    Lookup,
}

impl Step {
    fn of(operation: Operation) -> Self {
        Self {
            from: Vec::new(),
            with: Vec::new(),
            late: None,
            late_with: None,
            side_outputs: Vec::new(),
            with_key_by: Vec::new(),
            state_ttl: None,
            operation,
            key_by: Vec::new(),
            window: None,
            allowed_lateness: Duration::ZERO,
            gap: None,
            trigger: None,
            firing: None,
            aggregates: Vec::new(),
            config: Settings::default(),
            parallelism: None,
            keep: None,
            on_error: OnError::default(),
            limits: LimitsSpec::default(),
            join: JoinParts::default(),
            partition: None,
        }
    }

    /// One row out for each row in, by a component.
    pub fn map(component: impl Into<String>) -> Self {
        Self::of(Operation::Map(component.into()))
    }

    /// The rows that a component wants.
    pub fn filter(component: impl Into<String>) -> Self {
        Self::of(Operation::Filter(component.into()))
    }

    /// Any number of rows out for each row in, by a component.
    pub fn flat_map(component: impl Into<String>) -> Self {
        Self::of(Operation::FlatMap(component.into()))
    }

    /// Columns that go on, in this order.
    pub fn select<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter().map(|column| Spanned::from(column.into()));
        let selected = columns.map(|column| SelectedColumn { output: column.clone(), column });
        Self::of(Operation::Select(selected.collect()))
    }

    /// Rows key by key, by a component with state and timers: needs [`Self::key_by`].
    pub fn process(component: impl Into<String>) -> Self {
        Self::of(Operation::Process(component.into()))
    }

    /// Adds key columns of the second input; without any they are those of [`Self::key_by`].
    pub fn with_key_by<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.with_key_by.extend(columns.into_iter().map(|column| Spanned::from(column.into())));
        self
    }

    /// How far apart rows of a join of all rows may be and still meet; after that they are forgotten. The state of a
    /// processor is dropped when it has not been written for so long, by the host's clock.
    pub fn state_ttl(mut self, ttl: Duration) -> Self {
        match self.operation {
            Operation::Process(_) => self.state_ttl = Some(ttl),
            _ => self.join_parts().state_ttl = Some(ttl),
        }
        self
    }

    /// Makes another output of a processor readable, under its name.
    pub fn side_output(mut self, output: impl Into<String>) -> Self {
        self.side_outputs.push(output.into().into());
        self
    }

    /// Results a key and window: needs a window such as [`Self::tumbling`] and at least one result. Without a window results
    /// are over all rows so far, one after every row.
    pub fn aggregate() -> Self {
        Self::of(Operation::Aggregate)
    }

    /// Rows that a component makes of all rows of a window and key: needs a window such as [`Self::tumbling`].
    pub fn window_process(component: impl Into<String>) -> Self {
        let mut step = Self::of(Operation::Aggregate);
        let component = ComponentSpec { path: component.into().into(), config: Settings::default() };
        step.aggregates.push(AggregateSpec::Rows { component });
        step
    }

    pub(super) fn of_top(top: TopStepSpec) -> Self {
        Self::of(Operation::Top(top))
    }

    /// Changes a top-N; other steps have none.
    pub(super) fn with_top(mut self, change: impl FnOnce(&mut TopStepSpec)) -> Self {
        if let Operation::Top(top) = &mut self.operation {
            change(top);
        }
        self
    }

    /// Rows of the other input of a join that come too late leave under this name, to be read like a step.
    pub fn late_with(mut self, output: impl Into<String>) -> Self {
        self.late_with = Some(output.into().into());
        self
    }

    /// Rows that come too late for their window leave under this name, to be read like a step.
    pub fn late(mut self, output: impl Into<String>) -> Self {
        self.late = Some(output.into().into());
        self
    }

    pub(super) fn joining(lookup: bool) -> Self {
        Self::of(if lookup { Operation::Lookup } else { Operation::Join })
    }

    pub(super) fn join_parts(&mut self) -> &mut JoinParts {
        &mut self.join
    }

    /// Adds a source or step to the other input; several are united.
    pub fn with(mut self, input: impl Into<String>) -> Self {
        self.with.push(input.into().into());
        self
    }

    /// All that it reads; what is both inputs, once.
    pub(super) fn reads(&self) -> Vec<Spanned<String>> {
        let other = |with: &&Spanned<String>| !self.from.iter().any(|from| from.value == with.value);
        self.from.iter().chain(self.with.iter().filter(other)).cloned().collect()
    }

    /// Names of its outputs beside its own.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.late.iter().chain(&self.late_with).chain(&self.side_outputs)
    }

    /// Gives a selected column another name.
    pub fn renamed(mut self, column: &str, output: impl Into<String>) -> Self {
        if let Operation::Select(selected) = &mut self.operation
            && let Some(selected) = selected.iter_mut().find(|selected| selected.column.value == column)
        {
            selected.output = output.into().into();
        }
        self
    }

    /// Adds a source or step to read from; several are united.
    pub fn from(mut self, input: impl Into<String>) -> Self {
        self.from.push(input.into().into());
        self
    }

    /// Adds key columns.
    pub fn key_by<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key_by.extend(columns.into_iter().map(|column| Spanned::from(column.into())));
        self
    }

    /// Windows of one length without gaps, from the epoch on.
    pub fn tumbling(self, size: Duration) -> Self {
        self.window(WindowSpec::Tumbling { size, offset_ms: 0 })
    }

    /// Windows of one length that overlap: one starts `every` so often.
    pub fn sliding(self, size: Duration, every: Duration) -> Self {
        self.window(WindowSpec::Sliding { size, every, offset_ms: 0 })
    }

    /// Windows of a key's rows that are not further apart than `gap`.
    pub fn session(self, gap: Duration) -> Self {
        self.window(WindowSpec::Session { gap })
    }

    /// As [`Self::session`], with a gap of as many ms as a row has in an int64 column.
    pub fn session_by(mut self, column: impl Into<String>) -> Self {
        self.gap = Some(column.into().into());
        self.window(WindowSpec::SessionByColumn)
    }

    /// When an open window puts out results; at its end if nothing else is said.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = Some(trigger);
        self
    }

    /// What becomes of the rows of a window that has fired; they stay if nothing else is said.
    pub fn firing(mut self, firing: Firing) -> Self {
        self.firing = Some(firing);
        self
    }

    /// No window, and results when event time advances: for each key that has changed since.
    pub fn latest(self) -> Self {
        self.window(WindowSpec::Rolling { emit: Emit::Latest })
    }

    /// Any window.
    pub fn window(mut self, window: WindowSpec) -> Self {
        self.window = Some(window);
        self
    }

    /// How long after firing a window takes rows: each batch of them makes it fire again.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = lateness;
        self
    }

    /// Adds the number of rows.
    pub fn count(self, output: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Count, None)
    }

    /// Adds the number of rows in which the column is not null.
    pub fn count_of(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Count, Some(column.into()))
    }

    /// Adds a sum.
    pub fn sum(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Sum, Some(column.into()))
    }

    /// Adds a mean.
    pub fn avg(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Avg, Some(column.into()))
    }

    /// Adds the smallest value.
    pub fn min(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Min, Some(column.into()))
    }

    /// Adds the largest value.
    pub fn max(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Max, Some(column.into()))
    }

    /// Adds the value of the row with the earliest event time.
    pub fn first(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::First, Some(column.into()))
    }

    /// Adds the value of the row with the latest event time.
    pub fn last(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::Last, Some(column.into()))
    }

    /// Adds how many different values there are.
    pub fn count_distinct(self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.built_in(output, AggregateFunction::CountDistinct, Some(column.into()))
    }

    /// Adds what a component computes; it gets the step's configuration.
    pub fn component(mut self, output: impl Into<String>, path: impl Into<String>) -> Self {
        let component = ComponentSpec { path: path.into().into(), config: Settings::default() };
        self.aggregates.push(AggregateSpec::Component { output: output.into().into(), component });
        self
    }

    fn built_in(mut self, output: impl Into<String>, function: AggregateFunction, column: Option<String>) -> Self {
        let column = column.map(Spanned::from);
        self.aggregates.push(AggregateSpec::BuiltIn {
            output: output.into().into(),
            function: function.into(),
            column,
        });
        self
    }

    /// Adds a setting that the step's components can read.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<Setting>) -> Self {
        Arc::make_mut(&mut self.config).insert(name.into(), value.into());
        self
    }

    /// Tasks.
    pub fn parallelism(mut self, tasks: usize) -> Self {
        self.parallelism = Some(tasks.into());
        self
    }

    /// How rows get to its tasks; not where they go by key.
    pub fn partition(mut self, partition: PartitionSpec) -> Self {
        self.partition = Some(partition.into());
        self
    }

    /// Carries over all columns of the input that a map or flat_map does not produce itself.
    pub fn keep_all(mut self) -> Self {
        self.keep = Some(Keep::All.into());
        self
    }

    /// Carries over these columns of the input.
    pub fn keep<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter().map(|column| Spanned::from(column.into())).collect();
        self.keep = Some(Keep::Columns(columns).into());
        self
    }

    /// What happens with rows that cannot be handled.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Memory of one guest instance in bytes.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.limits.memory_bytes = bytes;
        self
    }

    /// Time for one call into a guest.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    pub(super) fn into_spec(mut self, name: Spanned<String>, problems: &mut Problems) -> Option<StepSpec> {
        let of = format!("step {}", quote(&name.value));
        let component = |path: String, config| ComponentSpec { path: path.into(), config };
        let config = std::mem::take(&mut self.config);
        let kind = match std::mem::replace(&mut self.operation, Operation::Aggregate) {
            Operation::Aggregate => return self.into_aggregate(name, config, problems),
            operation @ (Operation::Join | Operation::Lookup) => {
                let lookup = matches!(operation, Operation::Lookup);
                return self.into_join(name, lookup, config, problems);
            }
            Operation::Map(path) => StepKind::Map(component(path, config)),
            Operation::Filter(path) => StepKind::Filter(component(path, config)),
            Operation::FlatMap(path) => StepKind::FlatMap(component(path, config)),
            Operation::Select(columns) => StepKind::Select(columns),
            Operation::Process(path) => return Some(self.into_process(name, component(path, config), problems)),
            Operation::Top(top) => {
                let (key_by, window) = (std::mem::take(&mut self.key_by), self.window.take().map(Spanned::from));
                StepKind::Top(TopStepSpec { key_by, window, ..top })
            }
        };
        self.refuse_join(&of, problems);
        if !self.key_by.is_empty() || self.window.is_some() || !self.aggregates.is_empty() {
            let message = format!("{of} has keys, a window or results beside its component");
            let help = "aggregate in a step of its own that reads from this one";
            problems.add(code::CONFLICT, Span::default(), message, "they belong to an aggregate", help);
        }
        Some(self.with_kind(name, kind))
    }

    fn into_process(mut self, name: Spanned<String>, component: ComponentSpec, problems: &mut Problems) -> StepSpec {
        if self.window.is_some() || !self.aggregates.is_empty() {
            let message = format!("step {} has a window or results beside its component", quote(&name.value));
            let help = "aggregate in a step of its own that reads from this one";
            problems.add(code::CONFLICT, Span::default(), message, "they belong to an aggregate", help);
        }
        let key_by = std::mem::take(&mut self.key_by);
        let mut with_key_by = std::mem::take(&mut self.with_key_by);
        if with_key_by.is_empty() {
            with_key_by.clone_from(&key_by);
        }
        let state_ttl = self.state_ttl;
        self.with_kind(name, StepKind::Process { component, key_by, with_key_by, state_ttl })
    }

    fn into_aggregate(mut self, name: Spanned<String>, config: Settings, problems: &mut Problems) -> Option<StepSpec> {
        let of = format!("step {}", quote(&name.value));
        if !config.is_empty() {
            let mut readers = 0;
            for aggregate in &mut self.aggregates {
                if let AggregateSpec::Component { component, .. } | AggregateSpec::Rows { component } = aggregate {
                    component.config = Arc::clone(&config);
                    readers += 1;
                }
            }
            if readers == 0 {
                let message = format!("{of} has `config` and no component");
                let label = "built-in aggregates take none";
                problems.add(code::CONFLICT, Span::default(), message, label, "remove `config`");
            }
        }
        self.refuse_join(&of, problems);
        let window = self.window.take().unwrap_or(WindowSpec::Rolling { emit: Emit::Changes });
        let key_by = std::mem::take(&mut self.key_by);
        let aggregates = std::mem::take(&mut self.aggregates);
        let (window, allowed_lateness) = (window.into(), self.allowed_lateness);
        let (gap, trigger, firing) = (self.gap.take(), self.trigger.map(Spanned::from), self.firing.map(Spanned::from));
        let kind = StepKind::Aggregate { key_by, window, allowed_lateness, gap, trigger, firing, aggregates };
        Some(self.with_kind(name, kind))
    }

    fn into_join(
        mut self,
        name: Spanned<String>,
        lookup: bool,
        config: Settings,
        problems: &mut Problems,
    ) -> Option<StepSpec> {
        let of = format!("step {}", quote(&name.value));
        let lateness = !self.allowed_lateness.is_zero();
        if !config.is_empty() || !self.key_by.is_empty() || !self.aggregates.is_empty() || lateness {
            let message = format!("{of} is a join and has keys, results, lateness or `config`");
            let help = "aggregate in a step of its own that reads from this one";
            problems.add(code::CONFLICT, Span::default(), message, "they belong to other steps", help);
        }
        let join = std::mem::take(&mut self.join);
        let mut join = join.into_spec(&of, lookup, self.window.take(), problems)?;
        join.late = [self.late.as_ref().map(|_| 0), self.late_with.as_ref().map(|_| usize::from(self.late.is_some()))];
        Some(self.with_kind(name, StepKind::Join(Box::new(join))))
    }

    fn refuse_join(&self, of: &str, problems: &mut Problems) {
        if !self.join.is_empty() || self.late_with.is_some() {
            let message = format!("{of} has parts of a join and is none");
            let help = "start it by `Step::join(\"other\")`";
            problems.add(code::CONFLICT, Span::default(), message, "they belong to a join", help);
        }
    }

    fn with_kind(self, name: Spanned<String>, kind: StepKind) -> StepSpec {
        StepSpec {
            name,
            from: self.from,
            with: self.with,
            side_outputs: self.late.into_iter().chain(self.late_with).chain(self.side_outputs).collect(),
            kind: kind.into(),
            parallelism: self.parallelism,
            keep: self.keep,
            on_error: self.on_error,
            limits: self.limits,
            partition: self.partition,
        }
    }
}

impl From<bool> for Setting {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<i64> for Setting {
    fn from(integer: i64) -> Self {
        Self::Int64(integer)
    }
}

impl From<i32> for Setting {
    fn from(integer: i32) -> Self {
        Self::Int64(integer.into())
    }
}

impl From<f64> for Setting {
    fn from(float: f64) -> Self {
        Self::Float64(float)
    }
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
