//! Two streams become one: rows of `from` (the left side, input 0) and of `with` (the right side, input 1) that have equal
//! keys stand side by side.
//!
//! - [`WindowJoin`]: in one tumbling or sliding window; [`SessionJoin`]: in one session of both sides.
//! - [`IntervalJoin`]: not further apart than bounds say, or, without bounds, whenever they come.
//! - [`LookupJoin`]: a left row meets the latest right row of its key, as known when the left row comes.
//!
//! Rules of all: a null in a key is equal to nothing; -0.0 is 0.0 and all NaNs are equal, as everywhere in keys; a side that
//! is kept (see [`JoinKind::keeps`]) puts out its rows without partner too, with nulls for the other side.
//!
//! Rows are held as they came, in batches, and are found by number; results are copied together column by column. Nothing
//! is boxed for a row.

mod columns;
mod held;
mod interval;
mod interval_side;
mod keys;
mod lookup;
mod rows;
mod saved;
mod session;
mod spilled;
mod window;

pub use columns::{JoinColumn, JoinColumns, JoinKind};
pub use interval::{Bound, IntervalJoin, JoinBounds};
pub use lookup::LookupJoin;
pub use session::SessionJoin;
pub use window::WindowJoin;

use arrow_schema::ArrowError;

use super::{DeadRow, Operator, OperatorError, Output};
use crate::record::{Batch, NO_EVENT_TIME};
use crate::spill::Spill;
use crate::state::StateError;
use crate::window::WindowSpec;

/// The side of `from`.
const LEFT: usize = 0;
/// The side of `with`.
const RIGHT: usize = 1;

/// Which rows of equal keys meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRule {
    /// those in one window
    Window(WindowSpec),
    /// those that are not further apart than bounds say
    Interval(JoinBounds),
    /// the latest of `with` when the row of `from` comes
    Lookup,
}

/// The operator for a join; `spill` is where rows go that do not fit into memory, if any may. An error is a mistake in the
/// plan.
pub fn join_operator(
    columns: &JoinColumns,
    rule: JoinRule,
    spill: Option<Spill>,
) -> Result<Box<dyn Operator>, OperatorError> {
    let columns = columns.clone();
    Ok(match rule {
        JoinRule::Window(window) if window.is_alike_for_all_keys() => {
            Box::new(WindowJoin::new(columns, window)?.with_spill(spill)?)
        }
        JoinRule::Window(window) => Box::new(SessionJoin::new(columns, window)?.with_spill(spill)?),
        JoinRule::Interval(bounds) => Box::new(IntervalJoin::new(columns, bounds).with_spill(spill)?),
        JoinRule::Lookup => Box::new(LookupJoin::new(columns).with_spill(spill)?),
    })
}

fn internal(error: &StateError) -> OperatorError {
    OperatorError::Internal { reason: error.to_string() }
}

fn arrow(error: &ArrowError) -> OperatorError {
    OperatorError::Internal { reason: error.to_string() }
}

fn wrong(reason: &str) -> OperatorError {
    OperatorError::Internal { reason: reason.to_owned() }
}

/// Rows without an event time cannot be joined by it: they are dead. Those that have one come back.
fn with_event_time(batch: Batch, out: &mut Output) -> Result<Batch, OperatorError> {
    if !batch.times().contains(&NO_EVENT_TIME) {
        return Ok(batch);
    }
    for (row, time) in batch.times().iter().enumerate() {
        if *time == NO_EVENT_TIME {
            let reason = "the row has no event time, so it cannot be joined by it: set event_time on the source";
            let (row, reason) = (batch.columns().slice(row, 1), reason.to_owned());
            out.dead.push(DeadRow { row, time: *time, reason, slot: None });
        }
    }
    let keep = batch.times().iter().map(|time| *time != NO_EVENT_TIME).collect();
    keys::picked(&batch, &keep)
}

#[cfg(test)]
mod tests;
