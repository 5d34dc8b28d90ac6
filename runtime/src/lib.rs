//! Millstream: a stream processor whose operators are WebAssembly components.
//!
//! The folders are the way a record goes:
//!
//! ```text
//!   source ──▶ format ──▶ operator (wasm) ──▶ partition ──▶ window + state ──▶ format ──▶ sink
//!   bytes      columns    map/filter/..       key groups    accumulators       bytes      out
//!      ╰──────────── pipeline: spec (as written) → plan (checked) → task (the loop), exchange ─────────────╯
//!                      control: deploys a pipeline, replaces logic while it runs
//! ```
//!
//! A guest keeps nothing between calls; every byte of state is the host's. From that follow hot swap,
//! cheap recovery from traps and tools that read state without the guest.

pub mod record;

pub mod source;

pub mod format;

pub mod partition;

pub mod operator;

pub mod window;

pub mod state;

pub mod spill;

pub mod sink;

pub mod checkpoint;

pub mod objects;

pub mod capsule;

pub mod pipeline;

pub mod wasm;

pub mod control;

pub mod script;

pub mod clock;
mod disk;
pub mod error;
pub mod kafka;
pub mod limits;
pub mod metrics;
mod rng;

#[cfg(test)]
pub(crate) mod restoring;
