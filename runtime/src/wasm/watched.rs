//! What a guest does with a call that failed: has it kept, as small as it can be made, with what a fresh instance says of it.

use std::sync::Arc;

use super::call::Call;
use super::error::CallError;
use super::guest::Guest;
use super::instance::Conditions;
use super::metrics::GuestMetrics;
use super::witness::{FailedCall, Fresh, smallest};

impl Guest {
    /// What came of a call, which is kept if it failed and there is someone to keep it.
    pub(super) fn watched<T>(&self, done: Result<T, CallError>, call: impl FnOnce() -> Call) -> Result<T, CallError> {
        if let Err(error) = &done
            && self.conditions.metrics.witness().is_some()
        {
            self.tell(error, &call());
        }
        done
    }

    /// Has those of the call's failures kept that cannot be made smaller.
    #[cold]
    fn tell(&self, error: &CallError, whole: &Call) {
        let Conditions { step, task, version, settings, memory_bytes, deadline, metrics, .. } = &self.conditions;
        let Some(witness) = metrics.witness() else { return };
        let digest = *self.component.digest();
        for (row, expected, reason) in smallest(error, whole.count()) {
            let Some((name, at_ms)) = witness.admit(step, digest, &expected, &reason) else { continue };
            let alone = row.and_then(|row| whole.only(row)).map(|call| (call, expected));
            let (call, error, fresh) = self.retried(whole, error, alone);
            witness.keep(FailedCall {
                name,
                at_ms,
                step: step.clone(),
                task: *task,
                component: self.component.name().to_owned(),
                digest,
                version: *version,
                candidate: witness.is_of_candidates(),
                kind: self.kind,
                settings: Arc::clone(settings),
                memory_bytes: *memory_bytes,
                deadline: *deadline,
                world: self.conditions.world(),
                call,
                error,
                fresh,
            });
        }
    }

    /// The call with the row at fault alone, where it fails alone in the same way; else the whole call. And what a fresh
    /// instance makes of it.
    fn retried(&self, whole: &Call, error: &CallError, alone: Option<(Call, CallError)>) -> (Call, CallError, Fresh) {
        if let Some((alone, expected)) = alone
            && self.fresh(&alone, &expected) == Fresh::Same
        {
            return (alone, expected, Fresh::Same);
        }
        (whole.clone(), error.clone(), self.fresh(whole, error))
    }

    /// Makes a call in an instance of its own, whose log lines and figures nobody sees.
    fn fresh(&self, call: &Call, expected: &CallError) -> Fresh {
        if matches!(expected, CallError::Deadline { .. }) {
            return Fresh::Untried;
        }
        let conditions = Conditions { metrics: Arc::new(GuestMetrics::silent()), ..self.conditions.clone() };
        let mut other = Self::new(self.component.clone(), self.kind, self.signature.clone(), conditions, None);
        match other.make(call) {
            Err(CallError::Instance { .. }) => Fresh::Untried,
            Err(error) if error == *expected => Fresh::Same,
            Err(error) => Fresh::Other(error.to_string()),
            Ok(_) => Fresh::Other("the call succeeds".to_owned()),
        }
    }
}
