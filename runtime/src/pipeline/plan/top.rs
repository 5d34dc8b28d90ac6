//! Top-N steps: where the windows of rows come from, and what rows are ordered by.

use super::{NodeIndex, NodeKind, Planner};
use crate::error::Spanned;
use crate::operator::{OrderBy, TopWindows, top_schema};
use crate::pipeline::problems::code;
use crate::pipeline::spec::{StepSpec, TopStepSpec};
use crate::record::{Kind, Schema};

impl Planner<'_> {
    pub(super) fn top(
        &mut self,
        index: usize,
        step: &StepSpec,
        top: &TopStepSpec,
        from: &[NodeIndex],
        input: &Schema,
    ) -> Option<(NodeKind, Schema)> {
        let place = format!("the input of step `{}`", step.name.value);
        // all of them before any is given up: every mistake is told at once
        let keys: Vec<Option<usize>> = top.key_by.iter().map(|name| self.column(&place, name, input)).collect();
        let by: Vec<Option<usize>> = top.by.iter().map(|by| self.column(&place, &by.column, input)).collect();
        let windows = match &top.window {
            Some(window) => {
                self.check_has_event_time(step, window.span, from);
                Some(TopWindows::Assigned(window.value))
            }
            None => self.bounds(step, input),
        };
        let (keys, windows) = (keys.into_iter().collect::<Option<Vec<_>>>()?, windows?);
        let by = top.by.iter().zip(by).map(|(by, column)| Some(OrderBy { column: column?, descending: by.descending }));
        let by = by.collect::<Option<Vec<_>>>()?;
        let schema = top_schema(input, windows, &top.rank.value);
        for (at, field) in schema.fields().iter().enumerate() {
            if schema.fields().iter().take(at).any(|earlier| earlier.name == field.name) {
                let message = format!("step `{}` puts out the column `{}` twice", step.name.value, field.name);
                let help =
                    "give the rank another name by `rank = \"place\"`; rows that have a window need none".to_owned();
                self.report(code::DUPLICATE_COLUMN, step.kind.span, message, String::new(), Some(help));
                return None;
            }
        }
        Some((NodeKind::Top { index, keys, windows, by }, schema))
    }

    /// The columns that a windowed aggregate puts out.
    fn bounds(&mut self, step: &StepSpec, input: &Schema) -> Option<TopWindows> {
        let mut find = |name: &str| {
            let field = input.field(name);
            if field.is_some_and(|field| field.kind == Kind::TimestampMs && !field.nullable) {
                return input.index_of(name);
            }
            let message = format!("step `{}` has no `window`, and its rows have none", step.name.value);
            let found = field.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let label = format!("expected `{name}: timestamp_ms`, found {found}");
            let help = "read a windowed aggregate, or add `window = { tumbling = \"5s\" }`".to_owned();
            let place = Spanned::new((), step.kind.span);
            self.report(code::MISSING_COLUMN, place.span, message, label, Some(help));
            None
        };
        let start = find("window_start")?;
        Some(TopWindows::Columns { start, end: find("window_end")? })
    }
}
