//! What is to run where: compiled, described and judged with the stream untouched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Offers, SwapError, Swapped};
use crate::control::judge::{Verdict, judge, judge_process};
use crate::control::kept;
use crate::control::run::Life;
use crate::control::versions::Earlier;
use crate::operator::Replacement;
use crate::pipeline::build::instantiate_for;
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::Resolved;
use crate::wasm::{GuestMetrics, OperatorKind};

impl Life {
    /// What a swap would do, without doing it: everything is compiled and judged, the stream is not touched.
    pub(in crate::control) async fn plan_swap(
        &self,
        requests: &[(String, PathBuf)],
    ) -> Result<Vec<Swapped>, SwapError> {
        self.judged(&self.offers(requests).await?).await
    }

    /// What these offers would mean.
    pub(in crate::control) async fn judged(&self, offers: &Offers) -> Result<Vec<Swapped>, SwapError> {
        let components = self.shared.components.lock().await;
        let mut planned = Vec::with_capacity(offers.len());
        for (slot, offered) in offers {
            let running = components.get(slot).ok_or_else(|| self.unknown(&slot.step))?;
            let (verdict, _) = self.replacements(slot, running, offered)?;
            let (from, to) = (running.component.digest().to_string(), offered.component.digest().to_string());
            let (step, slot, from_version) = (slot.step.clone(), slot.slot, running.number);
            planned.push(Swapped { step, slot, from, from_version, to, to_version: None, verdict });
        }
        Ok(planned)
    }

    /// Compiles and describes what is asked for, with the stream untouched and no lock held.
    pub(in crate::control) async fn offers(&self, requests: &[(String, PathBuf)]) -> Result<Offers, SwapError> {
        let mut offers = Offers::new();
        for (name, path) in requests {
            let slot = self.slot(name)?;
            if let Some(Resolved { path: first, .. }) = offers.get(&slot) {
                return Err(SwapError::Twice { step: name.clone(), first: first.clone(), second: path.clone() });
            }
            // what runs now: its configuration and limits may have been set since the life began
            let running = self.shared.components.lock().await.get(&slot).cloned();
            let running = running.ok_or_else(|| self.unknown(name))?;
            offers.insert(slot, self.offered(&running, path).await?);
        }
        Ok(offers)
    }

    /// Versions that ran before; those that no life of this process has run come from the checkpoint store.
    pub(super) async fn ready(&self, before: Vec<(SlotId, Earlier)>) -> Result<Offers, SwapError> {
        let mut offers = Offers::new();
        for (slot, earlier) in before {
            let resolved = match earlier {
                Earlier::Ready(resolved) => *resolved,
                Earlier::Stored(version) => {
                    let gone = |reason| SwapError::Version { step: slot.step.clone(), number: version.number, reason };
                    let like = self.shared.components.lock().await.get(&slot).cloned();
                    let like = like.ok_or_else(|| self.unknown(&slot.step))?;
                    let store =
                        self.shared.store.as_ref().ok_or_else(|| gone("there is no checkpoint store".into()))?;
                    let loaded = kept::load(store, &self.shared.sandbox, &version, &like).await;
                    loaded.map_err(|error| gone(error.to_string()))?
                }
            };
            offers.insert(slot, resolved);
        }
        Ok(offers)
    }

    /// Compiles and describes the file, off the threads that run the pipeline.
    async fn offered(&self, running: &Resolved, path: &Path) -> Result<Resolved, SwapError> {
        let (sandbox, kind, settings) = (self.shared.sandbox.clone(), running.kind, running.settings.clone());
        let limits = running.limits;
        let path = path.to_owned();
        let load = move || {
            let component = sandbox
                .load(&path)
                .map_err(|source| SwapError::Load { path: path.clone(), source: Box::new(source) })?;
            let signature = component
                .describe(kind, &settings)
                .map_err(|source| SwapError::Describe { path: path.clone(), source })?;
            Ok(Resolved { component, kind, signature, settings, path, limits, number: 0 })
        };
        tokio::task::spawn_blocking(load).await.map_err(|_| SwapError::Ended)?
    }

    pub(in crate::control) fn replacements(
        &self,
        slot: &SlotId,
        running: &Resolved,
        offered: &Resolved,
    ) -> Result<(Verdict, Vec<Replacement>), SwapError> {
        let available = self.input_schema(&slot.step).ok_or_else(|| self.unknown(&slot.step))?;
        let refused = |source| {
            let (path, step, source) = (offered.path.clone(), slot.step.clone(), Box::new(source));
            SwapError::Refused { path, step, source }
        };
        let verdict = match judge(&running.signature, &offered.signature, &available) {
            Verdict::Refused(source) => return Err(refused(source)),
            verdict => verdict,
        };
        let (second, keys) = self.second_and_keys(&slot.step);
        judge_process(&running.signature, &offered.signature, second.as_ref(), &keys).map_err(refused)?;
        Ok((verdict, self.guests(slot, offered, self.guest_metrics(&slot.step))?))
    }

    /// Where the guests of a step count, by subtask.
    pub(in crate::control) fn guest_metrics(&self, step: &str) -> &[Arc<GuestMetrics>] {
        let node = self.place(step).and_then(|index| self.shared.nodes.get(index));
        node.map(|node| node.guests.as_slice()).unwrap_or_default()
    }

    /// A guest for each task of a step; they count in `tasks`.
    pub(in crate::control) fn guests(
        &self,
        slot: &SlotId,
        offered: &Resolved,
        tasks: &[Arc<GuestMetrics>],
    ) -> Result<Vec<Replacement>, SwapError> {
        let available = self.input_schema(&slot.step).ok_or_else(|| self.unknown(&slot.step))?;
        let fields = offered.signature.inputs.fields();
        let inputs: Vec<usize> = fields.iter().filter_map(|field| available.index_of(&field.name)).collect();
        let mut replacements = Vec::with_capacity(tasks.len());
        for (subtask, metrics) in tasks.iter().enumerate() {
            let mut guest = instantiate_for(offered, &slot.step, subtask, Arc::clone(metrics))
                .map_err(|source| SwapError::Guest { path: offered.path.clone(), source })?;
            if offered.kind == OperatorKind::Aggregator {
                // the window asks for the empty accumulator at the cut, where it must not fail any more
                let path = offered.path.clone();
                guest.create().map_err(|source| SwapError::Create { path, source: Box::new(source) })?;
            }
            replacements.push(Replacement { guest, inputs: inputs.clone() });
        }
        Ok(replacements)
    }
}
