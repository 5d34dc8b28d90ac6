//! What can go wrong with a component, by the moment at which it goes wrong.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::OperatorKind;

/// The sandbox cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// the engine refuses its settings
    #[error("cannot set up the WebAssembly engine: {reason}")]
    Engine {
        /// what wasmtime said
        reason: String,
    },
    /// the thread that advances the epoch does not start
    #[error("cannot start the thread that measures deadlines of components: {0}")]
    Thread(#[source] std::io::Error),
}

/// A file is no component that can be used. Nothing of it was run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// the file cannot be read
    #[error("cannot read component {}: {source}", path.display())]
    Read {
        /// which file
        path: PathBuf,
        /// why
        source: std::io::Error,
    },
    /// a folder or a device
    #[error("component {} is not a file; give the path of a .wasm file", path.display())]
    NotAFile {
        /// what was given
        path: PathBuf,
    },
    /// larger than any component we know of
    #[error("component {name} has {} and more; at most {} are accepted", Size(*size_bytes), Size(*size_bytes_max))]
    TooLarge {
        /// the component
        name: String,
        /// its size, or as much as was read
        size_bytes: u64,
        /// the bound
        size_bytes_max: u64,
    },
    /// does not begin like WebAssembly
    #[error("{name} is not WebAssembly: expected the bytes `\\0asm` at its start, found {found}")]
    NotWasm {
        /// the component
        name: String,
        /// its first bytes, escaped
        found: String,
    },
    /// WebAssembly, but not a component
    #[error(
        "{name} is a core module, not a component; build it with `millstream build`, \
         or turn it into one with `wasm-tools component new`"
    )]
    CoreModule {
        /// the component
        name: String,
    },
    /// invalid, or uses what the sandbox does not offer
    #[error("component {name} does not compile: {reason}")]
    Compile {
        /// the component
        name: String,
        /// what the compiler said
        reason: String,
    },
    /// imports something that the sandbox does not give
    #[error("component {name} imports `{import}`, which no operator may have; {allowed}")]
    ForbiddenImport {
        /// the component
        name: String,
        /// what it imports
        import: String,
        /// what may be imported
        allowed: &'static str,
    },
    /// built against another version of the contract
    #[error(
        "component {name} was built for `{found}`, this runtime has `{expected}`; \
         rebuild it with the SDK of this version"
    )]
    Version {
        /// the component
        name: String,
        /// the interface and version that it names
        found: String,
        /// the interface and version that this runtime has
        expected: String,
    },
    /// exports no interface of an operator
    #[error("component {name} exports no operator: expected one of {}; found {}", List(known), List(found))]
    NoOperator {
        /// the component
        name: String,
        /// what it exports
        found: Vec<String>,
        /// what is known
        known: Vec<String>,
    },
    /// exports an operator's interface without one of its functions
    #[error("component {name} exports `{interface}` without the function `{function}`; expected `{expected}`")]
    MissingFunction {
        /// the component
        name: String,
        /// the interface
        interface: String,
        /// the missing function
        function: &'static str,
        /// its type
        expected: &'static str,
    },
    /// a function of the contract with another type
    #[error("component {name} has the wrong type for `{function}` in `{interface}`: expected `{expected}`; {reason}")]
    FunctionType {
        /// the component
        name: String,
        /// the interface
        interface: String,
        /// the function
        function: String,
        /// its type in the contract
        expected: &'static str,
        /// where the types part
        reason: String,
    },
    /// imports that cannot be given as they are typed
    #[error("component {name} cannot be linked: {reason}")]
    Link {
        /// the component
        name: String,
        /// what wasmtime said
        reason: String,
    },
}

/// An operator does not say what it reads and produces.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// the component has no such operator
    #[error("component {name} is no {kind}; it exports {}", List(found))]
    Kind {
        /// the component
        name: String,
        /// what was asked for
        kind: OperatorKind,
        /// the kinds that it has
        found: Vec<String>,
    },
    /// the operator refuses its configuration
    #[error("component {name} refuses its config: {reason}")]
    Refused {
        /// the component
        name: String,
        /// what it said
        reason: String,
    },
    /// the signature makes no sense
    #[error("component {name} describes itself wrongly: {reason}")]
    Signature {
        /// the component
        name: String,
        /// what is wrong with it
        reason: String,
    },
    /// the call failed
    #[error("component {name} cannot describe itself: {source}")]
    Call {
        /// the component
        name: String,
        /// how
        source: CallError,
    },
}

/// There is no guest for a task.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// the first thing a guest is asked is its signature
    #[error(transparent)]
    Describe(#[from] DescribeError),
}

/// A row that an operator could not handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFailure {
    /// its index in the batch that was passed
    pub row: u32,
    /// why, in the operator's words
    pub reason: String,
}

/// A call gave no result. The guest's instance is fresh afterwards, unless the guest itself reported the failure.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The guest cannot handle these rows, in ascending order, each once, at least one.
    /// Take them out and call again with the others.
    #[error("{} row(s) cannot be handled, the first: row {}", .0.len(), FirstRow(.0))]
    Rows(Vec<RowFailure>),
    /// the guest cannot handle the batch, or asked for one repetition too many
    #[error("{0}")]
    Batch(String),
    /// the guest crashed: splitting the batch finds the row
    #[error("{reason}")]
    Trap {
        /// what happened, with what the guest said last
        reason: String,
        /// the guest's stack, for people
        backtrace: Option<String>,
    },
    /// the guest took too long: splitting the batch finds the row, if it is one
    #[error(
        "the call took longer than its deadline of {limit:?}; raise `limits.deadline` of the step if it needs more"
    )]
    Deadline {
        /// time allowed for a call
        limit: Duration,
    },
    /// the guest wanted too much memory: smaller batches may do
    #[error(
        "the guest wanted {} of memory, more than its limit of {}; raise `limits.memory` of the step if it needs more",
        Size(*wanted_bytes as u64), Size(*limit_bytes as u64)
    )]
    Memory {
        /// what it would have had
        wanted_bytes: usize,
        /// what it may have
        limit_bytes: usize,
    },
    /// the guest answers against the contract: its author must fix it
    #[error("{reason}")]
    Contract {
        /// what it did
        reason: String,
    },
    /// no instance could be made
    #[error("no instance of the component: {reason}")]
    Instance {
        /// why
        reason: String,
    },
    /// the host passed what the guest's signature does not name: a bug of the host
    #[error("{reason}")]
    Internal {
        /// what did not hold
        reason: String,
    },
}

/// A size in the largest unit that divides it.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Names in backquotes, or `nothing`.
struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

struct FirstRow<'a>(&'a [RowFailure]);

impl fmt::Display for FirstRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |failure| write!(f, "{}: {}", failure.row, failure.reason))
    }
}
