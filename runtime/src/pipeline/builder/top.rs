//! Top-N steps of a built pipeline.

use super::step::Step;
use crate::error::Spanned;
use crate::operator::Ties;
use crate::pipeline::spec::{OrderBySpec, TopStepSpec};

impl Step {
    /// The first `rows` rows of every window by the column `by`, the largest first. Rows have their windows as columns, as
    /// those of an aggregate do, unless a window is given.
    pub fn top(rows: usize, by: impl Into<String>) -> Self {
        let by = vec![OrderBySpec { column: by.into().into(), descending: true }];
        let rank = Spanned::from("rank".to_owned());
        Self::of_top(TopStepSpec { key_by: Vec::new(), window: None, rows: rows.into(), by, ties: Ties::Cut, rank })
    }

    /// Adds a column that top-N rows are ordered by, the largest first.
    pub fn then_by(self, column: impl Into<String>) -> Self {
        let by = OrderBySpec { column: column.into().into(), descending: true };
        self.with_top(|top| top.by.push(by))
    }

    /// The last column that top-N rows are ordered by goes the other way: the smallest first.
    pub fn ascending(self) -> Self {
        self.with_top(|top| top.by.last_mut().into_iter().for_each(|by| by.descending = false))
    }

    /// What becomes of rows that tie with the last of a top-N.
    pub fn ties(self, ties: Ties) -> Self {
        self.with_top(|top| top.ties = ties)
    }

    /// The name of the column with the rank; `rank` unless given.
    pub fn rank(self, column: impl Into<String>) -> Self {
        let rank = Spanned::from(column.into());
        self.with_top(|top| top.rank = rank)
    }
}
