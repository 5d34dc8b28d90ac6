//! Cuts batches at random places, reproducibly: results must not depend on where batches end.

use crate::record::Batch;
use crate::rng::{STEP, SplitMix};

/// A seeded sequence of cuts.
#[derive(Clone, Debug)]
pub(super) struct Shuffle {
    random: SplitMix,
}

impl Shuffle {
    /// The same seed cuts the same batches at the same places.
    pub(super) fn new(seed: u64, subtask: usize) -> Self {
        Self { random: SplitMix::new(seed ^ (subtask as u64).wrapping_mul(STEP)) }
    }

    /// The rows of `batch` in order, in pieces of 1 to 64 rows or of up to the whole, at random.
    pub(super) fn cut(&mut self, batch: &Batch) -> Vec<Batch> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < batch.rows() {
            let most = if self.random.draw().is_multiple_of(2) { 64 } else { batch.rows() };
            let length = 1 + usize::try_from(self.random.draw() % most as u64).unwrap_or(0);
            pieces.push(batch.slice(at, length));
            at += length;
        }
        pieces
    }
}
