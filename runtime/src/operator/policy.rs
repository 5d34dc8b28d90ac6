//! What a step's `on_error` makes of rows that the host itself gave up.

use super::{OnError, OperatorError, Output};

impl OnError {
    /// Applies the policy to the dead rows of `out` from number `before` on.
    pub(super) fn judge(self, before: usize, out: &mut Output) -> Result<(), OperatorError> {
        match self {
            Self::DeadLetter => Ok(()),
            Self::Skip => {
                out.skipped_rows += out.dead.drain(before..).len() as u64;
                Ok(())
            }
            Self::Fail => match out.dead.drain(before..).next() {
                None => Ok(()),
                Some(dead) => Err(OperatorError::Row { reason: dead.reason }),
            },
        }
    }
}
