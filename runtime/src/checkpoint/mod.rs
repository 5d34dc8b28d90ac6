//! What survives: state files, positions and pending commits of one epoch, and a manifest that makes them one checkpoint.
//!
//! ```text
//!   <store>/<pipeline>/
//!     lease                                  locked by the process that writes here
//!     0000000017/                            one epoch; numbers never come again
//!       <attempt>-<step>-<subtask>.state     what one task of a step remembered
//!       manifest                             written last, never replaced: with it the checkpoint exists
//!       committed                            all sinks have shown the epoch
//!     savepoints/<name>/                     the same files; retention leaves them alone
//! ```
//!
//! Everything is written to the disk before what refers to it, so a crash leaves either a whole checkpoint or a folder
//! without manifest, which nobody reads. A manifest is put in place by a link that fails where one exists: of two
//! processes that both believe to own the store only one can write an epoch.

mod fail_point;
mod folder;
mod manifest;
mod protocol;
mod sealed;
mod state_file;
mod store;

pub use fail_point::fail_point;
pub use folder::Folder;
pub use manifest::{Component, Manifest, PreparedEntry, SourceEntry, StateFile, StepEntry, TaskEntry, VERSION};
pub use protocol::{
    Candidate, Choice, Cure, Decision, Facts, Health, Held, HeldBack, Marker, Named, Stored, choose, choose_decided,
    cure,
};
pub use state_file::StateFileError;
pub use store::{Draft, Lease, Listed, Loaded, Savepoint, Store, StoreError};
