//! Crash capsules: a call into a guest that failed, in a file from which it can be made again.
//!
//! ```text
//!   guest fails ──▶ wasm::Witness ──▶ task ──▶ Folder ──▶ file ──▶ replay
//!                   the smallest call          bounded            the same call, this or another component
//! ```
//!
//! A guest's answer depends on its arguments, its configuration, its limits and the virtual clock and random numbers with
//! which each call begins, and on nothing else: a file with these is all that a replay needs, beside the component. A
//! guest that remembers calls all the same is told apart when the capsule is written: a fresh instance is asked too.
//!
//! Values of secrets are never in a file: settings name the environment variable, reasons are scrubbed, and a call whose rows
//! hold a secret is not written.

mod answer;
mod facts;
mod file;
mod folder;
mod replay;
#[cfg(test)]
mod tests;

pub use answer::answer_tables;
pub use facts::{CallFacts, ComponentFacts, ConfigFact, Facts, Failure, FreshFact, LimitFacts, WorldFacts};
pub use file::{Capsule, CapsuleError};
pub use folder::{EXTENSION, Folder, Listed, list};
pub use replay::{Replay, ReplayError, replay, replay_with};
