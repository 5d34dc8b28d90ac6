//! Candidates that keep other state than the version that runs: which trials they can have.
//!
//! In shadow a candidate takes over a migrated copy, and a promotion migrates what the running version has kept since. In a canary it
//! takes over a migrated copy of its keys' state, and the running version goes on with these keys unseen: a checkpoint, and a
//! rollback, need no migration back, which a version need not know; a promotion migrates the state of the other keys. A watched swap
//! migrates as any swap; to be taken back the version before must know the candidate's state.

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
                Mode::Shadow { .. } | Mode::Canary { .. } => {}
                Mode::Watch { .. } => {
                    let mut successors = self.successors(&slot.step, offers, running, verdicts)?;
                    if !self.migrates_ahead(&slot.step, &mut successors) {
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
