//! What one checkpoint consists of. MessagePack with field names under a seal; new fields get defaults, other changes
//! a new version.

use serde::{Deserialize, Serialize};

use super::component_version::SlotVersions;
use super::sealed::{self, SealError};
use crate::record::{Position, Watermark};

/// The version that is written.
pub const VERSION: u32 = 2;

const MAGIC: [u8; 4] = *b"MSCK";

/// One checkpoint of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// the pipeline's name
    pub pipeline: String,
    /// which of its epochs ends here
    pub epoch: u64,
    /// the process that wrote it
    pub attempt: String,
    /// when, ms since 1970 by that process's clock
    pub written_ms: i64,
    /// the input had ended: nothing follows
    pub finished: bool,
    /// how far sources had been read
    pub sources: Vec<SourceEntry>,
    /// what steps remembered
    pub steps: Vec<StepEntry>,
    /// what sinks had written of the epoch; visible once it is committed
    pub prepared: Vec<PreparedEntry>,
    /// the id of the transaction that decides whether the epoch has happened; none where this manifest does
    #[serde(default)]
    pub transactional_id: Option<String>,
    /// which components steps have run; their files lie in `components/`
    #[serde(default)]
    pub versions: Vec<SlotVersions>,
    /// steps whose state a change of the pipeline's shape gives up here, as was approved: a start with the shape before has it
    /// still, one with the new shape begins without
    #[serde(default)]
    pub given_up: Vec<String>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// its name
    pub source: String,
    /// every partition that had been seen
    pub positions: Vec<Position>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEntry {
    /// its name
    pub step: String,
    /// the components that it ran, in its order
    pub components: Vec<Component>,
    /// its tasks that had not ended
    pub tasks: Vec<TaskEntry>,
    /// what its state is; none where it has none, and in checkpoints of before
    #[serde(default)]
    pub kept: Option<KeptEntry>,
}

/// What the state of a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEntry {
    /// in words; of another kind it cannot be read
    pub kind: String,
    /// all that it hangs on, as this release writes it: the same text, the same shape
    pub shape: String,
}

/// A component by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// position among the step's components
    pub slot: usize,
    /// SHA-256, hexadecimal
    pub digest: String,
}

/// One task of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// which one
    pub subtask: usize,
    /// how far event time had come, ms
    pub watermark_ms: i64,
    /// what it remembered, in pieces: their tables, one after the other
    pub state: Vec<StateFile>,
}

/// A file with state, written at this checkpoint or at an earlier one where nothing in it has changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// the checkpoint in whose folder it is
    pub epoch: u64,
    /// its name there
    pub name: String,
    /// its size, before it was encrypted
    pub bytes: u64,
    /// CRC-32 of the whole file, before it was encrypted
    pub crc32: u32,
    /// the first 16 bytes of BLAKE3 over the same, hexadecimal
    pub digest: String,
}

/// What a sink had prepared in one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedEntry {
    /// the sink's name
    pub sink: String,
    /// what becomes visible, for people
    pub shown: String,
    /// for the sink
    pub bytes: Vec<u8>,
}

impl TaskEntry {
    /// How far event time had come.
    pub fn watermark(&self) -> Watermark {
        Watermark(self.watermark_ms)
    }
}

impl Manifest {
    /// As it is stored.
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        let content = rmp_serde::to_vec_named(self).map_err(|error| error.to_string())?;
        Ok(sealed::seal(MAGIC, VERSION, &content))
    }

    /// From what was stored.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let content = sealed::open(MAGIC, VERSION, bytes).map_err(|error: SealError| error.to_string())?;
        rmp_serde::from_slice(content).map_err(|error| error.to_string())
    }

    /// All state files, with the step and task they belong to.
    pub fn state_files(&self) -> impl Iterator<Item = (&str, usize, &StateFile)> {
        let tasks = self.steps.iter().flat_map(|step| step.tasks.iter().map(|task| (step.step.as_str(), task)));
        tasks.flat_map(|(step, task)| task.state.iter().map(move |file| (step, task.subtask, file)))
    }

    /// Digests of all components that can be gone on with.
    pub fn component_files(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().flat_map(|slot| slot.versions.iter().map(|version| version.digest.as_str()))
    }

    /// Bytes of all state.
    pub fn state_bytes(&self) -> u64 {
        self.state_files().map(|(.., file)| file.bytes).sum()
    }

    /// Bytes of the state that was written at this checkpoint; the rest had not changed.
    pub fn new_state_bytes(&self) -> u64 {
        self.state_files().filter(|(.., file)| file.epoch == self.epoch).map(|(.., file)| file.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::component_version::{StateEntry, VersionEntry};
    use super::*;
    use crate::record::{Field, Kind};

    #[test]
    fn what_is_written_is_read_again() {
        let manifest = Manifest {
            pipeline: "orders".into(),
            epoch: 7,
            attempt: "a1".into(),
            written_ms: 12,
            finished: false,
            sources: vec![SourceEntry { source: "in".into(), positions: vec![Position::new("a.txt", 9, true)] }],
            steps: vec![StepEntry {
                step: "sum".into(),
                components: vec![Component { slot: 0, digest: "ff".into() }],
                tasks: vec![TaskEntry {
                    subtask: 1,
                    watermark_ms: i64::MIN,
                    state: vec![
                        StateFile { epoch: 7, name: "x".into(), bytes: 3, crc32: 4, digest: "ab".into() },
                        StateFile { epoch: 5, name: "y".into(), bytes: 9, crc32: 4, digest: "cd".into() },
                    ],
                }],
                kept: Some(KeptEntry { kind: "a top".into(), shape: "n = 3".into() }),
            }],
            given_up: vec!["gone".into()],
            prepared: vec![PreparedEntry { sink: "out".into(), shown: "rows".into(), bytes: vec![1, 200] }],
            transactional_id: Some("t".into()),
            versions: vec![SlotVersions {
                step: "sum".into(),
                slot: 0,
                declared: "ff".into(),
                numbers: 3,
                current: 3,
                versions: vec![VersionEntry {
                    number: 3,
                    digest: "ff".into(),
                    path: "sum.wasm".into(),
                    since_ms: 5,
                    swapped: true,
                    change: 1,
                    state: Some(StateEntry { version: 2, fields: vec![Field::new("sum", Kind::Int64).nullable()] }),
                }],
            }],
        };
        let bytes = manifest.encode().unwrap();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        assert!(Manifest::decode(&bytes[..bytes.len() - 1]).unwrap_err().contains("torn"));
        assert_eq!(manifest.state_files().count(), 2);
        assert_eq!((manifest.state_bytes(), manifest.new_state_bytes()), (12, 3));
    }
}
