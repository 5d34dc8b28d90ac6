//! State that does not fit into memory: a scratch store on disk behind the state of operators.
//!
//! A pipeline with `state = { memory, spill }` has one [`SpillStore`]; each task of a step that keeps state has an [`Area`]
//! in it and a share of the memory. What is here is lost when the process ends, and nobody misses it: the truth about
//! state is the last checkpoint, which holds spilled rows as it holds all others. So nothing is ever flushed for its own
//! sake, and the folder is emptied at a start.
//!
//! An error of the store fails the task: rows that cannot be written or read again are never dropped.

mod rows;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use rows::{RowCodec, RowReader};
pub use store::{Area, SpillStore};
pub(crate) use store::{FrozenArea, Put, Value};

use crate::metrics::NodeCounters;

/// The scratch store does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// the folder cannot be made or emptied
    #[error("cannot {action} `{}`, which state is to spill to: {source}; give `state.spill` a folder that can be written", path.display())]
    Folder {
        /// `make`, `empty`, ..
        action: &'static str,
        /// which
        path: PathBuf,
        /// what the system said
        source: std::io::Error,
    },
    /// the store refused
    #[error(
        "cannot {action} state that was spilled to `{}`: {reason}; is its disk full? make room or raise `state.memory`",
        path.display()
    )]
    Store {
        /// `write`, `read`, ..
        action: &'static str,
        /// its folder
        path: PathBuf,
        /// what it said
        reason: String,
    },
    /// what was read is not what was written
    #[error("state that was spilled to `{}` came back damaged: {reason}; check the disk", path.display())]
    Damaged {
        /// the store's folder
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
}

/// What lets one operator in one task spill.
#[derive(Clone, Debug)]
pub struct Spill {
    /// its place in the store
    pub area: Area,
    /// bytes that it may hold in memory
    pub memory_bytes: usize,
    /// where it tells how much it holds
    pub counters: Arc<NodeCounters>,
}

#[cfg(test)]
pub(crate) mod testing {
    //! One scratch store for all tests of this process.

    use std::sync::OnceLock;

    use super::*;

    /// For an operator that may hold `memory_bytes`.
    pub(crate) fn spill(memory_bytes: usize) -> Spill {
        static STORE: OnceLock<(tempfile::TempDir, Arc<SpillStore>)> = OnceLock::new();
        let (_, store) = STORE.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let store = SpillStore::open(folder.path(), "tests", 1 << 20).unwrap();
            (folder, store)
        });
        Spill { area: store.area(), memory_bytes, counters: Arc::default() }
    }
}

#[cfg(test)]
mod tests;
