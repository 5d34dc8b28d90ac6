//! Joins: columns of both sides against each other, and what comes out.

use super::{Node, NodeIndex, NodeKind, Planner};
use crate::error::Spanned;
use crate::operator::{Bound, JoinBounds, JoinColumn, JoinColumns, JoinRule};
use crate::pipeline::join::{BoundSpec, JoinSpec, JoinTime};
use crate::pipeline::problems::{alternatives, code, listed};
use crate::pipeline::spec::{StepKind, StepSpec};
use crate::record::{Field, Kind, Schema};

/// A column that could come out, and where it comes from.
struct Candidate {
    field: Field,
    column: JoinColumn,
}

impl Planner<'_> {
    /// The join of a step whose inputs are `from` and `with`.
    pub(super) fn join(
        &mut self,
        index: usize,
        step: &StepSpec,
        left: &Schema,
        from: &[NodeIndex],
        with: &[NodeIndex],
    ) -> Option<(NodeKind, Schema)> {
        let StepKind::Join(join) = &step.kind.value else { return None };
        let right = self.united(&step.name, &step.with, with)?;
        self.check_join_time(step, join, from, with);
        let keys = self.join_keys(step, join, left, &right);
        let rule = self.join_rule(step, join, left);
        let (keys, rule) = (keys?, rule?);
        let candidates = candidates(join, left, &right, &keys, matches!(rule, JoinRule::Window(_)));
        let chosen = match &join.select {
            None => candidates.iter().collect(),
            Some(select) => self.selected(step, select, &candidates)?,
        };
        self.check_join_names(step, join, &chosen)?;
        let output = Schema::new(chosen.iter().map(|candidate| candidate.field.clone()).collect::<Vec<_>>());
        let columns = JoinColumns {
            inputs: [left.clone(), right],
            keys,
            kind: join.kind.value,
            columns: chosen.iter().map(|candidate| candidate.column).collect(),
            output: output.clone(),
            late: join.late,
        };
        Some((NodeKind::Join { index, columns: Box::new(columns), rule }, output))
    }

    fn check_join_time(&mut self, step: &StepSpec, join: &JoinSpec, from: &[NodeIndex], with: &[NodeIndex]) {
        let both: Vec<NodeIndex> = from.iter().chain(with).copied().collect();
        match &join.when {
            JoinTime::Window(window) => self.check_has_event_time(step, "has a window", window.span, &both),
            JoinTime::Between { lower, .. } => {
                self.check_has_event_time(step, "joins rows by their times", lower.span, &both);
            }
            JoinTime::Always { state_ttl: Some(_) } => {
                self.check_has_event_time(step, "forgets rows by their times", step.kind.span, &both);
            }
            JoinTime::Always { state_ttl: None } | JoinTime::Latest => {}
        }
    }

    /// Key columns of both sides, of the same kinds: rows of one key go to one task, by a hash that knows the kind.
    fn join_keys(
        &mut self,
        step: &StepSpec,
        join: &JoinSpec,
        left: &Schema,
        right: &Schema,
    ) -> Option<[Vec<usize>; 2]> {
        let places = ["from", "with"].map(|side| format!("`{side}` of step `{}`", step.name.value));
        let mut found = [Vec::new(), Vec::new()];
        let mut right_kinds = true;
        for key in &join.on {
            let one = self.column(&places[0], &key.left, left);
            let other = self.column(&places[1], &key.right, right);
            let (Some(one), Some(other)) = (one, other) else { continue };
            let (Some(of_left), Some(of_right)) = (left.fields().get(one), right.fields().get(other)) else { continue };
            if of_left.kind != of_right.kind {
                let message = format!(
                    "step `{}` joins `{}` and `{}`, which are of different kinds",
                    step.name.value, of_left.name, of_right.name
                );
                let label = format!("`{}` is {}, `{}` is {}", of_left.name, of_left.kind, of_right.name, of_right.kind);
                let help = "give both the same kind where they come from: in `schema`, or by a map".to_owned();
                self.report(code::WRONG_TYPE, key.left.span, message, label, Some(help));
                right_kinds = false;
            }
            found[0].push(one);
            found[1].push(other);
        }
        (right_kinds && found[0].len() == join.on.len()).then_some(found)
    }

    fn join_rule(&mut self, step: &StepSpec, join: &JoinSpec, left: &Schema) -> Option<JoinRule> {
        match &join.when {
            JoinTime::Window(window) => Some(JoinRule::Window(window.value)),
            JoinTime::Latest => Some(JoinRule::Lookup),
            JoinTime::Always { state_ttl: None } => {
                Some(JoinRule::Interval(JoinBounds { lower: Bound::None, upper: Bound::None, strict: false }))
            }
            JoinTime::Always { state_ttl: Some(ttl) } => {
                let ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
                let (lower, upper) = (Bound::Offset(-ms), Bound::Offset(ms));
                Some(JoinRule::Interval(JoinBounds { lower, upper, strict: false }))
            }
            JoinTime::Between { lower, upper, exclusive } => {
                let lower = self.bound(step, left, lower, if exclusive.lower() { 1 } else { 0 });
                let upper = self.bound(step, left, upper, if exclusive.upper() { -1 } else { 0 });
                Some(JoinRule::Interval(JoinBounds { lower: lower?, upper: upper?, strict: true }))
            }
        }
    }

    /// An end of the interval; times are whole milliseconds, so one that does not count itself is 1 ms away.
    fn bound(&mut self, step: &StepSpec, left: &Schema, bound: &Spanned<BoundSpec>, shift_ms: i64) -> Option<Bound> {
        let name = match &bound.value {
            BoundSpec::Offset(ms) => return Some(Bound::Offset(ms.saturating_add(shift_ms))),
            BoundSpec::Column(name) => Spanned::new(name.clone(), bound.span),
        };
        let index = self.column(&format!("`from` of step `{}`", step.name.value), &name, left)?;
        let kind = left.fields().get(index)?.kind;
        if !matches!(kind, Kind::Int64 | Kind::TimestampMs) {
            let message = format!("`{}` in `between` of step `{}` is not a time", name.value, step.name.value);
            let label = format!("expected timestamp_ms or int64 (milliseconds), found {kind}");
            let times = left.fields().iter().filter(|field| matches!(field.kind, Kind::Int64 | Kind::TimestampMs));
            let times: Vec<&str> = times.map(|field| field.name.as_str()).collect();
            let help = format!("columns of such a kind: {}; or a duration like `10m`", listed(&times));
            self.report(code::WRONG_TYPE, bound.span, message, label, Some(help));
            return None;
        }
        Some(Bound::Column { index, shift_ms })
    }

    /// The columns that `select` names. A name that both sides have is refused later.
    fn selected<'c>(
        &mut self,
        step: &StepSpec,
        select: &[Spanned<String>],
        candidates: &'c [Candidate],
    ) -> Option<Vec<&'c Candidate>> {
        let names: Vec<&str> = candidates.iter().map(|candidate| candidate.field.name.as_str()).collect();
        let (mut chosen, mut all) = (Vec::new(), true);
        for name in select {
            let before = chosen.len();
            chosen.extend(candidates.iter().filter(|candidate| candidate.field.name == name.value));
            if chosen.len() == before {
                all = false;
                let message = format!("step `{}` does not put out the column `{}`", step.name.value, name.value);
                let help = Some(alternatives("columns", &name.value, &names));
                self.report(code::MISSING_COLUMN, name.span, message, "no such column".to_owned(), help);
            }
        }
        all.then_some(chosen)
    }

    /// No two columns may have one name.
    fn check_join_names(&mut self, step: &StepSpec, join: &JoinSpec, chosen: &[&Candidate]) -> Option<()> {
        let names: Vec<&str> = chosen.iter().map(|candidate| candidate.field.name.as_str()).collect();
        let twice = names.iter().enumerate().filter(|(at, name)| names.iter().skip(at + 1).any(|other| other == *name));
        let twice: Vec<&str> = twice.map(|(_, name)| *name).collect();
        let [first, ..] = twice.as_slice() else { return Some(()) };
        let span = join.select.iter().flatten().find(|name| name.value == *first).map_or(step.kind.span, |n| n.span);
        let message = format!("both sides of step `{}` have {}", step.name.value, quoted(&twice));
        let (label, help) = match &join.prefix {
            None => (
                "columns of a stream have different names".to_owned(),
                "add `prefix = \"other_\"`: it stands before the names of columns of `with` that `from` has too; or name \
                 the columns that are to come out in `select`"
                    .to_owned(),
            ),
            Some(prefix) => (
                format!("even with the prefix {:?}", prefix.value),
                "choose another prefix, or give the column another name by a map before the join".to_owned(),
            ),
        };
        self.report(code::DUPLICATE_COLUMN, span, message, label, Some(help));
        None
    }

    /// Inputs whose rows give those of a join their times.
    pub(super) fn timed_inputs(node: &Node) -> Vec<NodeIndex> {
        let inputs = node.inputs.iter().zip(&node.ports);
        match &node.kind {
            // results of a window carry a time of their own
            NodeKind::Join { rule: JoinRule::Window(_), .. } => Vec::new(),
            NodeKind::Join { rule: JoinRule::Lookup, .. } => {
                inputs.filter(|(_, port)| **port == 0).map(|(input, _)| *input).collect()
            }
            _ => node.inputs.clone(),
        }
    }
}

/// Left columns, right columns, bounds of the window. Key columns of one name come once.
fn candidates(
    join: &JoinSpec,
    left: &Schema,
    right: &Schema,
    keys: &[Vec<usize>; 2],
    windowed: bool,
) -> Vec<Candidate> {
    let kind = join.kind.value;
    let same_name = |left_index: usize, right_index: usize| {
        left.fields().get(left_index).map(|field| &field.name)
            == right.fields().get(right_index).map(|field| &field.name)
    };
    let pairs: Vec<(usize, usize)> = keys[0].iter().copied().zip(keys[1].iter().copied()).collect();
    let mut all = Vec::new();
    for (index, field) in left.fields().iter().enumerate() {
        let key = pairs.iter().find(|(one, other)| *one == index && same_name(*one, *other));
        all.push(match key {
            Some((left, other)) => {
                let of_right = right.fields().get(*other).is_some_and(|field| field.nullable);
                let nullable = kind.keeps(0) && field.nullable || kind.keeps(1) && of_right;
                let field = Field { nullable, ..field.clone() };
                Candidate { field, column: JoinColumn::Key { left: *left, right: *other } }
            }
            None => Candidate { field: beside(field, kind.keeps(1)), column: JoinColumn::Left(index) },
        });
    }
    for (index, field) in right.fields().iter().enumerate() {
        if pairs.iter().any(|(one, other)| *other == index && same_name(*one, *other)) {
            continue;
        }
        let mut field = beside(field, kind.keeps(0));
        let own = windowed && matches!(field.name.as_str(), "window_start" | "window_end");
        if let Some(prefix) = join.prefix.as_ref().filter(|_| own || left.index_of(&field.name).is_some()) {
            field.name.insert_str(0, &prefix.value);
        }
        all.push(Candidate { field, column: JoinColumn::Right(index) });
    }
    if windowed {
        let bound = |name: &str| Field::new(name, Kind::TimestampMs);
        all.push(Candidate { field: bound("window_start"), column: JoinColumn::WindowStart });
        all.push(Candidate { field: bound("window_end"), column: JoinColumn::WindowEnd });
    }
    all
}

/// A column of one side, which may be null where the other side is kept without it.
fn beside(field: &Field, may_miss: bool) -> Field {
    Field { nullable: field.nullable || may_miss, ..field.clone() }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
