//! Candidates that keep other state than the version that runs: which trials they can have.
//!
//! In shadow a candidate takes over a migrated copy, and a promotion migrates what the running version has kept since. A watched
//! swap migrates as any swap; to be taken back the version before must know the candidate's state. In a canary both versions hold keys
//! of one step: each checkpoint, and the trial's end, would have to migrate the candidate's back, where one key that
//! does not migrate stops the step. That is refused.

use std::collections::BTreeMap;

use super::super::judge::{Verdict, judge_state};
use super::super::run::Life;
use super::super::swap::{Offers, SwapError};
use super::{Mode, TrialSpec};
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::Components;

impl Life {
    /// Refuses trials that candidates with other state cannot have.
    pub(super) fn can_migrate_in_trial(
        &self,
        spec: &TrialSpec,
        offers: &Offers,
        running: &Components,
        verdicts: &BTreeMap<SlotId, Verdict>,
    ) -> Result<(), SwapError> {
        for (slot, _) in verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Migrate { .. })) {
            let refused = |reason: &str| SwapError::CannotTry { step: slot.step.clone(), reason: reason.to_owned() };
            match spec.mode {
                Mode::Shadow { .. } => {}
                Mode::Canary { .. } => {
                    return Err(refused(
                        "it keeps other state than the version that runs, and the keys of a canary go back to that; use \
                         shadow or watch, or a `swap` without a trial",
                    ));
                }
                Mode::Watch { .. } => {
                    let mut successors = self.successors(&slot.step, offers, running, verdicts)?;
                    if successors.iter_mut().any(|successor| successor.operator.sweeping().is_none()) {
                        return Err(refused(
                            "its state migrates at the cut alone; use shadow, or a `swap` without a trial",
                        ));
                    }
                    let (before, offered) = (running.get(slot), offers.get(slot));
                    let state = offered.and_then(|offered| offered.signature.state.as_ref());
                    if let (Some(before), Some(state)) = (before, state)
                        && judge_state(state, &before.signature).is_err()
                    {
                        return Err(refused(
                            "the version that runs cannot take the candidate's state back; use shadow, or a `swap` \
                             without a trial",
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
