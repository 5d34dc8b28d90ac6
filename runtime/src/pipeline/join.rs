//! Joins as written.

use std::time::Duration;

use crate::error::Spanned;
use crate::operator::JoinKind;
use crate::window::WindowSpec;

/// `join = { .. }` or `lookup = { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct JoinSpec {
    /// `on`, at least one
    pub on: Vec<JoinKey>,
    /// `kind`
    pub kind: Spanned<JoinKind>,
    /// `prefix`: stands before the names of columns of `with` that `from` has too
    pub prefix: Option<Spanned<String>>,
    /// `select`: columns of the result, in this order; none: all
    pub select: Option<Vec<Spanned<String>>>,
    /// which rows of equal keys meet
    pub when: JoinTime,
    /// by which of the step's further outputs late rows of `from` and of `with` leave
    pub late: [Option<usize>; 2],
}

/// `"seller = id"`, or `"id"` for one name on both sides
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinKey {
    /// the column of `from`
    pub left: Spanned<String>,
    /// the column of `with`
    pub right: Spanned<String>,
}

/// Which rows of equal keys meet.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinTime {
    /// `window`: those in one window
    Window(Spanned<WindowSpec>),
    /// `between`: those of `with` that are not further from that of `from`
    Between {
        /// the earliest
        lower: Spanned<BoundSpec>,
        /// the latest
        upper: Spanned<BoundSpec>,
        /// `exclusive`
        exclusive: Exclusive,
    },
    /// neither: all of them
    Always {
        /// `state_ttl`: those that are further apart do not meet, and rows are forgotten
        state_ttl: Option<Duration>,
    },
    /// `lookup`: the latest of `with` when the row of `from` comes
    Latest,
}

/// An end of `between`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundSpec {
    /// `"-10m"`: so many ms after the row of `from`
    Offset(i64),
    /// `"expires"`: the time in this column of `from`
    Column(String),
}

/// `exclusive = ".."`: which ends do not count themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusive {
    /// both count
    #[default]
    Neither,
    /// `lower`
    Lower,
    /// `upper`
    Upper,
    /// `both`
    Both,
}

impl Exclusive {
    /// Whether the earliest time is not among them.
    pub fn lower(self) -> bool {
        matches!(self, Self::Lower | Self::Both)
    }

    /// Whether the latest time is not among them.
    pub fn upper(self) -> bool {
        matches!(self, Self::Upper | Self::Both)
    }
}

impl BoundSpec {
    /// Reads an end: what begins like a number is a duration, anything else a column.
    pub fn parse(text: &str) -> Result<Self, super::duration::DurationError> {
        if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
            super::duration::parse_signed_ms(text).map(Self::Offset)
        } else {
            Ok(Self::Column(text.to_owned()))
        }
    }
}

impl JoinKey {
    /// Reads `"seller = id"` or `"id"`: the names on the left and on the right.
    pub fn parse(text: &str) -> Option<(&str, &str)> {
        let (left, right) = text.split_once('=').unwrap_or((text, text));
        let (left, right) = (left.trim(), right.trim());
        (!left.is_empty() && !right.is_empty() && !right.contains('=')).then_some((left, right))
    }
}

impl JoinSpec {
    /// The key columns of input 0 or 1.
    pub fn keys(&self, port: usize) -> impl Iterator<Item = &Spanned<String>> {
        self.on.iter().map(move |key| if port == 0 { &key.left } else { &key.right })
    }

    /// Columns of `from` that bounds name.
    pub fn bound_columns(&self) -> impl Iterator<Item = Spanned<String>> {
        let ends = match &self.when {
            JoinTime::Between { lower, upper, .. } => vec![lower, upper],
            _ => Vec::new(),
        };
        ends.into_iter().filter_map(|end| match &end.value {
            BoundSpec::Column(name) => Some(Spanned::new(name.clone(), end.span)),
            BoundSpec::Offset(_) => None,
        })
    }

    /// Whether rows of `with` reach all tasks.
    pub fn is_lookup(&self) -> bool {
        self.when == JoinTime::Latest
    }
}
