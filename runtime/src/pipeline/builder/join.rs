//! Joins of a built pipeline.

use std::time::Duration;

use super::step::Step;
use crate::error::{Span, Spanned};
use crate::operator::JoinKind;
use crate::pipeline::join::{BoundSpec, Exclusive, JoinKey, JoinSpec, JoinTime};
use crate::pipeline::problems::{Problems, code, quote};
use crate::window::WindowSpec;

/// What is said of a join, in the words of a pipeline file.
#[derive(Clone, Debug, Default)]
pub(super) struct JoinParts {
    on: Vec<String>,
    kind: JoinKind,
    between: Option<[String; 2]>,
    exclusive: Option<Exclusive>,
    pub(super) state_ttl: Option<Duration>,
    prefix: Option<String>,
    select: Option<Vec<String>>,
}

impl Step {
    /// Rows of `from` and of `with` that have equal keys: needs [`Self::on`], and a window such as [`Self::tumbling`],
    /// [`Self::between`], or neither of both to join all rows.
    pub fn join(with: impl Into<String>) -> Self {
        Self::joining(false).with(with)
    }

    /// For each row of `from` the latest of `with` that has its key: needs [`Self::on`].
    pub fn lookup(with: impl Into<String>) -> Self {
        Self::joining(true).with(with)
    }

    /// Adds pairs of key columns: `"seller = id"`, or `"id"` for a name that both have.
    pub fn on<C: Into<String>>(mut self, pairs: impl IntoIterator<Item = C>) -> Self {
        self.join_parts().on.extend(pairs.into_iter().map(Into::into));
        self
    }

    /// Which rows without partner come out; none unless this is called.
    pub fn join_kind(mut self, kind: JoinKind) -> Self {
        self.join_parts().kind = kind;
        self
    }

    /// Joins rows of `with` from `lower` to `upper`, each a duration after the row of `from` like `-10m`, or a column of it.
    pub fn between(mut self, lower: impl Into<String>, upper: impl Into<String>) -> Self {
        self.join_parts().between = Some([lower.into(), upper.into()]);
        self
    }

    /// Which ends of [`Self::between`] do not count themselves.
    pub fn exclusive(mut self, ends: Exclusive) -> Self {
        self.join_parts().exclusive = Some(ends);
        self
    }

    /// What stands before the names of columns of `with` that `from` has too.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.join_parts().prefix = Some(prefix.into());
        self
    }

    /// The columns of a join that come out, in this order.
    pub fn joined<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.join_parts().select = Some(columns.into_iter().map(Into::into).collect());
        self
    }
}

impl JoinParts {
    /// Whether anything was said.
    pub(super) fn is_empty(&self) -> bool {
        let Self { on, kind, between, exclusive, state_ttl, prefix, select } = self;
        on.is_empty()
            && *kind == JoinKind::Inner
            && between.is_none()
            && exclusive.is_none()
            && state_ttl.is_none()
            && prefix.is_none()
            && select.is_none()
    }

    /// The join, and what is wrong with it.
    pub(super) fn into_spec(
        self,
        of: &str,
        lookup: bool,
        window: Option<WindowSpec>,
        problems: &mut Problems,
    ) -> Option<JoinSpec> {
        let mut refuse = |message: String, label: &str, help: &str| {
            problems.add(code::CONFLICT, Span::default(), message, label, help);
        };
        let mut on = Vec::with_capacity(self.on.len());
        for pair in &self.on {
            let Some((left, right)) = JoinKey::parse(pair) else {
                let message = format!("{} in `on` of {of} is no pair of columns", quote(pair));
                refuse(message, "expected `left = right`", "write it like `seller = id`");
                return None;
            };
            on.push(JoinKey { left: left.to_owned().into(), right: right.to_owned().into() });
        }
        let limited = self.between.is_some() || self.state_ttl.is_some() || self.exclusive.is_some();
        if lookup && (window.is_some() || limited) {
            refuse(format!("{of} looks up and has a window or bounds"), "they belong to a join", "call `Step::join`");
            return None;
        }
        if usize::from(window.is_some()) + usize::from(self.between.is_some()) + usize::from(self.state_ttl.is_some())
            > 1
        {
            let help = "keep one: a window, `between` or `state_ttl`";
            refuse(format!("{of} has several ways to tell which rows meet"), "they exclude each other", help);
            return None;
        }
        if self.exclusive.is_some() && self.between.is_none() {
            refuse(format!("{of} has `exclusive` and no `between`"), "there are no ends", "call `between`");
            return None;
        }
        let when = match (self.between, window) {
            _ if lookup => JoinTime::Latest,
            (None, Some(window)) => JoinTime::Window(window.into()),
            (None, None) => JoinTime::Always { state_ttl: self.state_ttl },
            (Some([lower, upper]), _) => {
                let mut end = |text: &str| match BoundSpec::parse(text) {
                    Ok(end) => Some(Spanned::from(end)),
                    Err(error) => {
                        refuse(
                            format!("{} of {of} is no duration", quote(text)),
                            &error.to_string(),
                            "write it like `-10m`",
                        );
                        None
                    }
                };
                let (lower, upper) = (end(&lower), end(&upper));
                JoinTime::Between { lower: lower?, upper: upper?, exclusive: self.exclusive.unwrap_or_default() }
            }
        };
        let select = self.select.map(|names| names.into_iter().map(Spanned::from).collect());
        Some(JoinSpec {
            on,
            kind: self.kind.into(),
            prefix: self.prefix.map(Spanned::from),
            select,
            when,
            late: [None; 2],
        })
    }
}
