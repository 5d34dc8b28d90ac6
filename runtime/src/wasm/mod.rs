//! The sandbox: components are compiled once, instantiated cheaply, called with columns, and never trusted.
//!
//! ```text
//!   file ──▶ Sandbox::load ──▶ Component ──▶ Component::guest ──▶ Guest ──▶ transform, select, expand, ..
//!            contract, cache    shared         one a task          lower (columns → guest) · call · lift (checked)
//! ```
//!
//! What bounds a guest: its memory (`instance`), the time of a call (the epoch, advanced by a thread of the sandbox),
//! what it may import (`contract`, `host`, `wasi`) and what it may answer (`lift`). A guest that breaks a bound loses
//! its instance, never data: the host holds all state, and the next call gets a fresh instance in microseconds.

mod abi;
mod bits;
mod cache;
mod call;
mod component;
mod contract;
mod digest;
mod error;
mod guest;
mod host;
mod instance;
mod lift;
mod lower;
mod metrics;
mod process;
mod process_abi;
mod sandbox;
mod settings;
mod signature;
mod wasi;
mod watched;
mod window_process;
mod witness;

#[cfg(test)]
mod tests;

pub use call::{Answer, Call, ProcessArguments, ProcessWork};
pub use component::{Component, Origin};
pub use contract::{OperatorKind, PACKAGE, VERSION};
pub use digest::{Digest, ExactVersion};
pub use error::{CallError, DescribeError, GuestError, LoadError, RowFailure, SandboxError};
pub use guest::{Expansion, Guest, GuestOptions};
pub use metrics::{GuestCounts, GuestMetrics};
pub use process::{ProcessCall, Processed, SideRows, Timer, TimerClock, Work};
pub use sandbox::{Sandbox, SandboxOptions};
pub use settings::{Secret, SecretError, Secrets, Setting, Settings, with_secrets};
pub use signature::{ProcessSignature, Signature, StateSchema, Takeover};
pub use window_process::WindowCall;
pub use witness::{FailedCall, Fresh, Gate, Witness, World};
