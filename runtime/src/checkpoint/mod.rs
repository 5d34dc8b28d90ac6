//! What survives: state files, positions and pending commits of one epoch, and a manifest that makes them one checkpoint.
//!
//! ```text
//!   <store>/<pipeline>/
//!     lease                                  locked by the process that writes here; in S3 and HDFS, its name
//!     0000000017/                            one epoch
//!       <attempt>-<step>-<subtask>-<n>.state a piece of what one task of a step remembered
//!       manifest                             written last, never replaced: with it the checkpoint exists
//!       committed                            all sinks have shown the epoch
//!     components/<digest>.wasm               a version of a step's component, as long as a manifest names it
//!     savepoints/<name>/                     a manifest under a name; retention leaves alone what it refers to
//! ```
//!
//! Pieces that have not changed since the checkpoint before are not written again: the manifest names them in the folder in
//! which they are.
//!
//! Everything is written to the disk before what refers to it, so a crash leaves either a whole checkpoint or a folder
//! without manifest, which nobody reads. A manifest can be made only where there is none: of two processes that both believe
//! to own the store only one can write an epoch.

mod chunk;
mod component_version;
mod epoch;
mod fail_point;
mod keys;
mod lease;
mod manifest;
mod protocol;
mod sealed;
#[cfg(test)]
mod simulation;
mod state_file;
mod store;
mod store_error;

pub use component_version::{SlotVersions, StateEntry, VersionEntry};
pub use epoch::{Action, is_overtaken, next_epoch};
pub use fail_point::fail_point;
pub use keys::{KeyError, Keys};
pub use lease::Lease;
pub use manifest::{
    Component, KeptEntry, Manifest, PreparedEntry, SourceEntry, StateFile, StepEntry, TaskEntry, VERSION,
};
pub use protocol::{
    Candidate, Choice, Cure, Decision, Facts, Health, Held, HeldBack, Marker, Named, Stored, choose, choose_decided,
    cure,
};
pub(crate) use sealed::{open as open_seal, seal};
pub use state_file::StateFileError;
pub(crate) use state_file::{decode, encode};
pub use store::{Candidates, Draft, Listed, Loaded, Savepoint, Store};
pub use store_error::StoreError;
