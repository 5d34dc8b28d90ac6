//! Cuts batches at random places, reproducibly: results must not depend on where batches end.

use crate::record::Batch;

/// A seeded sequence of cuts.
#[derive(Clone, Debug)]
pub(super) struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// The same seed cuts the same batches at the same places.
    pub(super) fn new(seed: u64, subtask: usize) -> Self {
        Self { state: seed ^ (subtask as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// The rows of `batch` in order, in pieces of 1 to 64 rows or of up to the whole, at random.
    pub(super) fn cut(&mut self, batch: &Batch) -> Vec<Batch> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < batch.rows() {
            let most = if self.next().is_multiple_of(2) { 64 } else { batch.rows() };
            let length = 1 + usize::try_from(self.next() % most as u64).unwrap_or(0);
            pieces.push(batch.slice(at, length));
            at += length;
        }
        pieces
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
