//! Exchanges whose ranges are cut from a sample: who samples, for whom, how often.

use std::time::Duration;

use super::plan::{Exchange, Plan};
use crate::partition::Sampler;

/// One exchange whose ranges are cut from a sample. Its number among those of a run is its name in a
/// [`Change`](super::change::Change).
#[derive(Debug)]
pub struct SampledRange {
    /// number of the chain that reads, and of its input
    pub(super) reader: usize,
    pub(super) input: usize,
    /// the step that reads
    pub step: String,
    /// what senders see
    pub sampler: Sampler,
    /// tasks that read
    pub tasks: usize,
    /// time from one cut to the next
    pub every: Duration,
}

/// All of a plan.
pub(super) fn sampled_ranges(plan: &Plan) -> Vec<SampledRange> {
    let mut found = Vec::new();
    for (reader, chain) in plan.chains.iter().enumerate() {
        for (input, (_, exchange)) in chain.inputs.iter().enumerate() {
            if let Exchange::SampledRange { kind, values, every, .. } = exchange {
                let node = chain.nodes.first().and_then(|node| plan.nodes.get(*node));
                let step = node.map(|node| node.name.clone()).unwrap_or_default();
                let (sampler, tasks) = (Sampler::new(*kind, *values), chain.parallelism);
                found.push(SampledRange { reader, input, step, sampler, tasks, every: *every });
            }
        }
    }
    found
}
