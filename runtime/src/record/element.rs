//! What travels between tasks: batches, and in order with them the control elements.

use std::fmt;
use std::sync::Arc;

use super::{Batch, EventTime};

/// "No more rows with time ≤ this one", in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watermark(pub EventTime);

impl Watermark {
    /// Before every row: nothing is known yet.
    pub const MIN: Self = Self(EventTime::MIN);
    /// After every row: a bounded input has ended, all windows fire.
    pub const MAX: Self = Self(EventTime::MAX);
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("none"),
            Self::MAX => f.write_str("end"),
            Self(time) => write!(f, "{time}"),
        }
    }
}

/// Number of a barrier, growing within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarrierId(pub u64);

/// A cut through all streams at one place: sources put it in, tasks align on it, and what it carries takes effect
/// in every task between the same two records.
///
/// `change` is opaque here (record knows nothing of operators); `control` puts a value in and tasks take it out.
#[derive(Clone)]
pub struct Barrier {
    /// which cut
    pub id: BarrierId,
    /// what to do at the cut
    pub change: Arc<dyn std::any::Any + Send + Sync>,
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One thing in a stream. Order between elements of one channel is never changed.
#[derive(Clone, Debug)]
pub enum Element {
    /// rows
    Batch(Batch),
    /// progress of event time
    Watermark(Watermark),
    /// a cut
    Barrier(Barrier),
    /// this input sends nothing for now and does not hold back the watermark
    Idle,
    /// this input sends again
    Active,
    /// nothing follows
    End,
}
