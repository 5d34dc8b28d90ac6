//! A component that was checked and compiled, ready to be instantiated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::InstancePre;

use super::contract::{Export, Exports};
use super::error::{CallError, DescribeError, GuestError};
use super::guest::{Guest, GuestOptions};
use super::instance::{Conditions, Live, State};
use super::metrics::GuestMetrics;
use super::settings::{Secrets, Settings};
use super::{Digest, OperatorKind, Signature};
use crate::limits;

/// A checked and compiled component. Cheap to clone, shared by all tasks.
#[derive(Clone)]
pub struct Component {
    parts: Arc<Parts>,
}

/// How compiled code was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// compiled now
    Compiled {
        /// how long it took
        took: Duration,
    },
    /// read from the cache
    Cached {
        /// how long it took
        took: Duration,
    },
}

/// What a component consists of.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) digest: Digest,
    /// the file, for whoever keeps it
    pub(super) bytes: Arc<[u8]>,
    pub(super) imports: Vec<String>,
    pub(super) exports: Exports,
    pub(super) origin: Origin,
    pub(super) pre: InstancePre<State>,
}

impl Component {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The path or name under which it was loaded.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> &Digest {
        &self.parts.digest
    }

    /// Size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.parts.bytes.len() as u64
    }

    /// The file's content.
    pub fn bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.parts.bytes)
    }

    /// The operators that it exports, each once.
    pub fn kinds(&self) -> Vec<OperatorKind> {
        self.parts.exports.operators.iter().map(|export| export.kind).collect()
    }

    /// The interfaces that it imports, by their full names.
    pub fn imports(&self) -> &[String] {
        &self.parts.imports
    }

    /// Whether it was compiled or taken from the cache, and how long that took.
    pub fn origin(&self) -> Origin {
        self.parts.origin
    }

    /// Asks an operator under `settings` what it reads, produces and remembers, in an instance made for the question
    /// with the default bounds. (Under others: make a guest, it knows its signature.)
    pub fn describe(&self, kind: OperatorKind, settings: &Settings) -> Result<Signature, DescribeError> {
        let conditions = Conditions {
            settings: Arc::clone(settings),
            memory_bytes: limits::GUEST_MEMORY_BYTES,
            deadline: limits::GUEST_DEADLINE,
            step: "describe".into(),
            task: 0,
            version: 0,
            digest: self.digest().short(),
            metrics: Arc::new(GuestMetrics::new()),
            world: None,
        };
        self.describe_under(kind, &conditions).map(|(signature, _)| signature)
    }

    /// Makes a guest for one task. Its instance is made here and asked for its signature under these settings.
    pub fn guest(&self, kind: OperatorKind, options: GuestOptions) -> Result<Guest, GuestError> {
        let GuestOptions { settings, memory_bytes, deadline, step, task, version, counters, world } = options;
        let digest = self.digest().short();
        let metrics = counters;
        let conditions = Conditions { settings, memory_bytes, deadline, step, task, version, digest, metrics, world };
        let (signature, live) = self.describe_under(kind, &conditions)?;
        Ok(Guest::new(self.clone(), kind, signature, conditions, Some(live)))
    }

    fn describe_under(&self, kind: OperatorKind, conditions: &Conditions) -> Result<(Signature, Live), DescribeError> {
        let name = || self.name().to_owned();
        if self.export(kind).is_none() {
            let found = self.kinds().into_iter().map(|kind| kind.to_string()).collect();
            return Err(DescribeError::Kind { name: name(), kind, found });
        }
        let mut live =
            self.instantiate(kind, conditions).map_err(|source| DescribeError::Call { name: name(), source })?;
        let answer = live.describe().map_err(|error| {
            let source = live.explain(&error, conditions);
            DescribeError::Call { name: name(), source }
        })?;
        let said = answer.map_err(|reason| DescribeError::Refused {
            name: name(),
            reason: super::host::clean(&Secrets::of(&conditions.settings).scrub(&reason), limits::GUEST_REASON_BYTES),
        })?;
        let wrong = |reason| DescribeError::Signature { name: name(), reason };
        let mut signature = Signature::check(kind, said).map_err(wrong)?;
        if signature.state.is_some() && self.parts.exports.migrator.is_some() {
            live.begin_call();
            let answer = live.sources().map_err(|error| {
                let source = live.explain(&error, conditions);
                DescribeError::Call { name: name(), source }
            })?;
            let said = answer.map_err(|reason| {
                let reason = super::host::clean(&reason, limits::GUEST_REASON_BYTES);
                DescribeError::Refused { name: name(), reason }
            })?;
            signature.takes_over(said).map_err(wrong)?;
        }
        Ok((signature, live))
    }

    /// Makes an instance with the functions of `kind`.
    pub(super) fn instantiate(&self, kind: OperatorKind, conditions: &Conditions) -> Result<Live, CallError> {
        let export =
            self.export(kind).ok_or_else(|| CallError::Internal { reason: format!("the component is no {kind}") })?;
        Live::new(&self.parts.pre, (export, self.parts.exports.migrator.as_deref()), conditions)
    }

    fn export(&self, kind: OperatorKind) -> Option<&Export> {
        self.parts.exports.operators.iter().find(|export| export.kind == kind)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.parts.name)
            .field("digest", &self.parts.digest.short())
            .field("kinds", &self.kinds())
            .finish_non_exhaustive()
    }
}
