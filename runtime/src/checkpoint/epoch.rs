//! What is done to make an epoch happen, in which order. Pure: the one who takes checkpoints does it, the simulation tries
//! every place at which it can be cut off.

/// One action; the next begins only when it has been done for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// write state files, then the manifest: with it the epoch has happened
    Write,
    /// make what sinks prepared visible, this one of all
    Show(usize),
    /// note that all of it is visible
    Note,
    /// remove old checkpoints
    Tidy,
}

impl Action {
    /// What a start does first with the checkpoint that it goes on from, unless all of it is noted as visible.
    pub fn to_finish(prepared: usize) -> Self {
        if prepared == 0 { Self::Note } else { Self::Show(0) }
    }

    /// What follows, where sinks have prepared `prepared` parts; none once all is done.
    #[must_use]
    pub fn next(self, prepared: usize) -> Option<Self> {
        match self {
            Self::Write => Some(Self::to_finish(prepared)),
            Self::Show(part) if part + 1 < prepared => Some(Self::Show(part + 1)),
            Self::Show(_) => Some(Self::Note),
            Self::Note => Some(Self::Tidy),
            Self::Tidy => None,
        }
    }
}

/// The epoch that a start begins: the one after the newest that has a manifest, whole or not, or is shown.
///
/// A folder without a manifest does not count: where no lock keeps two processes apart, both must want the same number, so
/// that only one of them gets its manifest. (If each had its own, both would show the same rows.)
pub fn next_epoch(manifest: Option<u64>, shown: Option<u64>) -> u64 {
    manifest.max(shown).map_or(1, |newest| newest.saturating_add(1))
}

/// Whether a process that has just put the manifest of `epoch` in place must stop: where no lock keeps two apart, another one
/// may have gone on so far meanwhile that it has cleared away its own manifest of this number.
pub fn is_overtaken(epoch: u64, newest_manifest: Option<u64>) -> bool {
    newest_manifest.is_some_and(|newest| newest > epoch)
}
