//! Which components a step has run, as a checkpoint keeps it. Part of the manifest.

use serde::{Deserialize, Serialize};

use crate::record::Field;

/// The versions of one component of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotVersions {
    /// the step
    pub step: String,
    /// position among the step's components
    pub slot: usize,
    /// what the pipeline file named when the run began; SHA-256, hexadecimal
    pub declared: String,
    /// the highest number that was given
    pub numbers: u64,
    /// the number of the version that ran at the cut
    pub current: u64,
    /// oldest first; those after the current one have been rolled back from
    pub versions: Vec<VersionEntry>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// counts from 1 for each component; never given twice
    pub number: u64,
    /// SHA-256 of the component, hexadecimal; names the file in `components/`
    pub digest: String,
    /// the file it was read from
    pub path: String,
    /// when it was put in place first, ms since 1970
    pub since_ms: i64,
    /// a swap put it in place, not the pipeline file
    pub swapped: bool,
    /// versions with one number came together
    pub change: u64,
    /// the columns that it keeps for a key
    pub state: Option<StateEntry>,
}

/// The columns of an accumulator or of a key's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// as the component says
    pub version: u32,
    /// the columns in order
    pub fields: Vec<Field>,
}

impl SlotVersions {
    /// The version that ran at the cut.
    pub fn current(&self) -> Option<&VersionEntry> {
        self.versions.iter().find(|version| version.number == self.current)
    }
}
